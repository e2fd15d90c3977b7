//! A name server for tests, on the loopback interface: a zone and the questions that were asked.
#![allow(dead_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const A: u16 = 1;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

/// Records, by name and type.
#[derive(Default, Clone)]
pub(crate) struct Zone {
    records: HashMap<(String, u16), Vec<Vec<u8>>>,
    /// Types that get no answer but that something is wrong.
    failing: Vec<u16>,
    ttl: u32,
}

impl Zone {
    pub(crate) fn new() -> Zone {
        Zone {
            ttl: 300,
            ..Zone::default()
        }
    }

    pub(crate) fn ttl(mut self, seconds: u32) -> Zone {
        self.ttl = seconds;
        self
    }

    pub(crate) fn address(self, name: &str, ip: &str) -> Zone {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => self.with(name, A, ip.octets().into()),
            IpAddr::V6(ip) => self.with(name, AAAA, ip.octets().into()),
        }
    }

    pub(crate) fn srv(self, name: &str, priority: u16, weight: u16, port: u16, to: &str) -> Zone {
        let mut data = Vec::new();
        for number in [priority, weight, port] {
            data.extend(number.to_be_bytes());
        }
        data.extend(labels(to));
        self.with(name, SRV, data)
    }

    pub(crate) fn naptr(self, name: &str, order: u16, services: &str, to: &str) -> Zone {
        let mut data = Vec::new();
        data.extend(order.to_be_bytes());
        data.extend(50_u16.to_be_bytes());
        for text in ["s", services, ""] {
            data.push(u8::try_from(text.len()).unwrap());
            data.extend(text.as_bytes());
        }
        data.extend(labels(to));
        self.with(name, NAPTR, data)
    }

    /// Answers questions for NAPTR records by a failure, as some name servers do that do not know them.
    pub(crate) fn without_naptr(mut self) -> Zone {
        self.failing.push(NAPTR);
        self
    }

    pub(crate) fn failing_srv(mut self) -> Zone {
        self.failing.push(SRV);
        self
    }

    fn with(mut self, name: &str, kind: u16, data: Vec<u8>) -> Zone {
        let key = (name.to_owned(), kind);
        self.records.entry(key).or_default().push(data);
        self
    }

    fn answer(&self, query: &[u8], asked: &Mutex<Vec<String>>) -> Vec<u8> {
        let (name, end) = question(query);
        let kind = u16::from_be_bytes([query[end - 4], query[end - 3]]);
        let type_name = match kind {
            A => "A",
            AAAA => "AAAA",
            SRV => "SRV",
            NAPTR => "NAPTR",
            _ => "other",
        };
        asked.lock().unwrap().push(format!("{type_name} {name}"));
        let found = self.records.get(&(name.clone(), kind));
        let exists = self.records.keys().any(|(known, _)| *known == name);
        let code = match (found, exists) {
            _ if self.failing.contains(&kind) => 2,
            (None, false) => 3,
            _ => 0,
        };
        let found = found.map_or(&[][..], Vec::as_slice);
        let mut answer = query[..2].to_vec();
        answer.extend([0x85, 0x80 | code, 0, 1]);
        answer.extend(u16::try_from(found.len()).unwrap().to_be_bytes());
        let has_authority = found.is_empty() && code != 2;
        answer.extend([0, u8::from(has_authority), 0, 0]);
        answer.extend(&query[12..end]);
        for data in found {
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend(rest(self.ttl, data));
        }
        if has_authority {
            // Negative answers are remembered for as long as the zone's start of authority says (RFC 2308).
            answer.push(0);
            answer.extend(SOA.to_be_bytes());
            let mut data = vec![0, 0];
            for number in [1, 3_600, 600, 86_400, self.ttl] {
                data.extend(number.to_be_bytes());
            }
            answer.extend(rest(self.ttl, &data));
        }
        answer
    }
}

fn rest(ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// The name in lower case, and where the question ends.
fn question(query: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    (labels.join("."), at + 5)
}

/// A name server that runs until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl NameServer {
    pub(crate) async fn of(zone: Zone) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            while let Ok((length, source)) = socket.recv_from(&mut buffer).await {
                let answer = zone.answer(&buffer[..length], &seen);
                let _ = socket.send_to(&answer, source).await;
            }
        });
        NameServer {
            address,
            asked,
            task,
        }
    }

    /// What was asked since the last call, sorted.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
