//! An engine on a simulated network, and a phone that says exactly what it is told to.
#![allow(dead_code, unreachable_pub)]

pub mod watcher;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sipora_auth::{ClientAuthenticator, Credentials};
use sipora_call_engine::{CallCenterConfig, CallCenterEngine};
use sipora_message::{HeaderName, Limits, Message, Request, Response, StatusCode};
use sipora_testkit::{SimHost, SimNetwork};
use sipora_transport::{Datagram, DatagramSocket, Network};

pub const SERVER: &str = "192.0.2.1:5060";
pub const PHONE: &str = "192.0.2.7:5060";

/// An engine at [`SERVER`], and a phone at [`PHONE`].
pub struct Lab {
    pub network: SimNetwork,
    pub engine: Arc<CallCenterEngine>,
    pub phone: Phone,
}

/// A lab without authentication that serves example.com.
pub async fn open_lab() -> Lab {
    lab(|config| config.with_domain("example.com").without_authentication()).await
}

pub async fn lab(settings: impl FnOnce(CallCenterConfig) -> CallCenterConfig) -> Lab {
    let network = SimNetwork::new(1);
    let engine = engine(&network, settings).await;
    let phone = Phone::new(&network, PHONE);
    Lab {
        network,
        engine,
        phone,
    }
}

pub async fn engine(
    network: &SimNetwork,
    settings: impl FnOnce(CallCenterConfig) -> CallCenterConfig,
) -> Arc<CallCenterEngine> {
    let address: SocketAddr = SERVER.parse().unwrap();
    let config = CallCenterConfig::new()
        .with_udp_listener(SERVER)
        .with_tcp_listener(SERVER)
        .with_network(Arc::new(network.host(address.ip())));
    CallCenterEngine::new(settings(config)).await.unwrap()
}

/// A UDP socket that sends requests and waits for their answers.
pub struct Phone {
    socket: DatagramSocket,
    address: SocketAddr,
    branches: u64,
}

impl Phone {
    pub fn new(network: &SimNetwork, address: &str) -> Phone {
        let ip: IpAddr = address.parse::<SocketAddr>().unwrap().ip();
        Phone::on(&network.host(ip), address)
    }

    pub fn on(host: &SimHost, address: &str) -> Phone {
        let address: SocketAddr = address.parse().unwrap();
        let socket = host.bind_datagram(address, 1).unwrap().remove(0);
        Phone {
            socket,
            address,
            branches: 0,
        }
    }

    pub fn send(&self, bytes: &[u8]) {
        self.send_to(bytes, SERVER);
    }

    pub fn send_to(&self, bytes: &[u8], address: &str) {
        let address = address.parse().unwrap();
        self.socket.sender.try_send_to(bytes, address).unwrap();
    }

    /// The answer that comes within two seconds.
    pub async fn receive(&mut self) -> Option<Response> {
        match self.next(Duration::from_secs(2)).await? {
            Message::Response(response) => Some(response),
            Message::Request(request) => panic!("a request: {}", request.method()),
        }
    }

    /// The request that comes within two seconds.
    pub async fn receive_request(&mut self) -> Option<Request> {
        match self.next(Duration::from_secs(2)).await? {
            Message::Request(request) => Some(request),
            Message::Response(response) => panic!("an answer: {}", text(&response)),
        }
    }

    /// The final answer that comes within that time.
    pub async fn receive_final(&mut self, time: Duration) -> Option<Response> {
        loop {
            match self.next(time).await? {
                Message::Response(response) if response.status().is_final() => {
                    return Some(response);
                }
                Message::Response(_) => {}
                Message::Request(request) => panic!("a request: {}", request.method()),
            }
        }
    }

    /// Answers a request.
    pub fn reply(&self, request: &Request, status: u16, lines: &[&str]) {
        let status = StatusCode::new(status).unwrap();
        let mut answer = Response::for_request(request, status).to_tag("phone");
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            answer = answer.header(name, value);
        }
        self.send(answer.build().unwrap().as_bytes());
    }

    /// Whatever comes within that time.
    pub async fn next(&mut self, time: Duration) -> Option<Message> {
        let mut buffer = vec![0; 65_535];
        let received = tokio::time::timeout(time, async {
            loop {
                if let Datagram::Received { length, .. } =
                    poll_fn(|cx| self.socket.receiver.poll_recv(cx, &mut buffer))
                        .await
                        .unwrap()
                {
                    return length;
                }
            }
        });
        let length = received.await.ok()?;
        Some(Message::parse(buffer[..length].to_vec(), &Limits::default()).unwrap())
    }

    /// Sends a request under a branch of its own and gives the answer.
    pub async fn ask(&mut self, asked: &Ask) -> Response {
        let request = self.request(asked);
        self.send(request.as_bytes());
        self.receive().await.expect("an answer")
    }

    /// The request as it goes out.
    pub fn request(&mut self, asked: &Ask) -> Request {
        self.branches += 1;
        let via = format!(
            "SIP/2.0/UDP {};branch=z9hG4bK{};rport",
            self.address, self.branches
        );
        Request::parse(asked.text(&via), &Limits::default()).unwrap()
    }

    /// Asks, answers the challenge, and gives the second answer. CSeq goes up by one.
    pub async fn ask_as(&mut self, asked: &Ask, user: &str, password: &str) -> Response {
        let mut client = ClientAuthenticator::new(Credentials::new(user, password));
        let first = self.request(asked);
        self.send(first.as_bytes());
        let challenge = self.receive().await.expect("a challenge");
        assert!(
            [401, 407].contains(&status(&challenge)),
            "{}",
            text(&challenge)
        );
        let mut again = asked.clone();
        again.cseq += 1;
        let headers = client
            .answer(&self.request(&again), &challenge, "0a4f113b")
            .unwrap();
        for (name, value) in headers {
            again = again.with(&format!("{}: {value}", name.as_str()));
        }
        self.ask(&again).await
    }
}

/// A request to be written.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub uri: String,
    pub to: String,
    pub from: String,
    pub call_id: String,
    pub cseq: u32,
    pub lines: Vec<String>,
    pub body: String,
}

/// A REGISTER of alice's.
pub fn register(cseq: u32) -> Ask {
    Ask {
        method: "REGISTER",
        uri: "sip:example.com".into(),
        to: "<sip:alice@example.com>".into(),
        from: "<sip:alice@example.com>".into(),
        call_id: "a84b4c76e66710".into(),
        cseq,
        lines: Vec::new(),
        body: String::new(),
    }
}

/// A MESSAGE of alice's.
pub fn message(uri: &str, body: &str) -> Ask {
    Ask {
        method: "MESSAGE",
        uri: uri.into(),
        to: format!("<{uri}>"),
        call_id: "message".into(),
        lines: vec!["Content-Type: text/plain".into()],
        body: body.into(),
        ..register(1)
    }
}

pub fn options(uri: &str) -> Ask {
    Ask {
        method: "OPTIONS",
        uri: uri.into(),
        to: format!("<{uri}>"),
        ..register(1)
    }
}

impl Ask {
    pub fn with(mut self, line: &str) -> Ask {
        self.lines.push(line.into());
        self
    }

    pub fn contact(self, value: &str) -> Ask {
        self.with(&format!("Contact: {value}"))
    }

    pub fn call_id(mut self, call_id: &str) -> Ask {
        self.call_id = call_id.into();
        self
    }

    pub fn uri(mut self, uri: &str) -> Ask {
        self.uri = uri.into();
        self
    }

    pub fn to(mut self, to: &str) -> Ask {
        self.to = format!("<{to}>");
        self
    }

    pub fn from(mut self, from: &str) -> Ask {
        self.from = format!("<{from}>");
        self
    }

    /// Puts it in a dialog that there is not.
    pub fn within_nothing(mut self) -> Ask {
        self.to.push_str(";tag=nothing");
        self
    }

    pub fn text(&self, via: &str) -> String {
        let Ask {
            method,
            uri,
            to,
            from,
            call_id,
            cseq,
            lines,
            body,
        } = self;
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nTo: {to}\r\nFrom: {from};tag=1928301774\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
        );
        if !lines.iter().any(|line| line.starts_with("Max-Forwards")) {
            text.push_str("Max-Forwards: 70\r\n");
        }
        for line in lines {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        text
    }
}

pub fn status(response: &Response) -> u16 {
    response.status().as_u16()
}

pub fn header(response: &Response, name: HeaderName) -> Option<String> {
    response.headers().text(&name).map(|text| text.into_owned())
}

/// The Contacts of an answer, as written.
pub fn contacts(response: &Response) -> Vec<String> {
    let values = response.headers();
    let values = values.list(&HeaderName::Contact);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

pub fn text(response: &Response) -> String {
    String::from_utf8_lossy(response.as_bytes()).into_owned()
}

pub async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
