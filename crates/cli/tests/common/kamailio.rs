//! A Kamailio of our own: registrar with digest, bindings in memory, one free port for UDP and TCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{PATIENCE, Process, UdpClient, free_port, options_request, peer, write};

pub struct Kamailio {
    pub process: Process,
    pub port: u16,
    pub files: tempfile::TempDir,
}

impl Kamailio {
    /// Starts it; call [`peer_is_installed`](super::peer_is_installed) first. The password of each user is
    /// [`password_of`](super::password_of) it. OPTIONS gets 200, but 404 where the Request-URI names `nobody`.
    pub fn start() -> Self {
        // Kamailio cannot pick a port and say which: another process may take ours first, so there is a second try.
        for _ in 0..3 {
            if let Some(kamailio) = Self::try_start() {
                return kamailio;
            }
        }
        panic!("Kamailio does not start");
    }

    fn try_start() -> Option<Self> {
        let files = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        let configuration = write(
            files.path(),
            "kamailio.cfg",
            &CONFIGURATION.replace("@PORT@", &port.to_string()),
        );
        // In the foreground, log to standard error, work and runtime directories of its own, a small memory.
        let mut command = peer("kamailio");
        command
            .arg("-f")
            .arg(configuration)
            .args(["-DD", "-E", "-m", "64", "-M", "8"]);
        command
            .arg("-w")
            .arg(files.path())
            .arg("-Y")
            .arg(files.path());
        let mut process = Process::start(&mut command);

        let deadline = Instant::now() + PATIENCE;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let client = UdpClient::connect(address);
        client
            .socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("not zero");
        let mut buffer = [0; 2048];
        while Instant::now() < deadline {
            let _ = client
                .socket
                .send(options_request(&client.local(), "UDP", address).as_bytes());
            if client.socket.recv(&mut buffer).is_ok() {
                return Some(Self {
                    process,
                    port,
                    files,
                });
            }
            if !process.is_running() {
                eprintln!("Kamailio ended early:\n{}", process.printed());
                return None;
            }
        }
        panic!("Kamailio does not answer:\n{}", process.printed());
    }

    /// What Kamailio stored, in order.
    pub fn saves(&self) -> Vec<Save> {
        self.process
            .lines()
            .iter()
            .filter_map(|line| Save::from_log(line))
            .collect()
    }

    pub fn wait_for_saves(&self, wanted: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.saves().len() < wanted {
            assert!(
                Instant::now() < deadline,
                "fewer than {wanted} saves:\n{}",
                self.process.printed()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many requests of this method came in.
    pub fn requests(&self, method: &str) -> usize {
        let mark = format!("received {method} ");
        self.process
            .lines()
            .iter()
            .filter(|line| line.contains(&mark))
            .count()
    }
}

/// A REGISTER that Kamailio accepted, as its script logs it.
#[derive(Debug)]
pub struct Save {
    pub call_id: String,
    pub cseq: u32,
}

impl Save {
    fn from_log(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once("saved call ")?;
        let (call_id, cseq) = fields.split_once(" cseq ")?;
        Some(Self {
            call_id: call_id.to_owned(),
            cseq: cseq.trim().parse().ok()?,
        })
    }
}

/// No database: passwords are derived from the user's name, and `usrloc` keeps bindings in memory alone (mode 0).
const CONFIGURATION: &str = r#"#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
dns=off
rev_dns=off
listen=udp:127.0.0.1:@PORT@
listen=tcp:127.0.0.1:@PORT@
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
loadmodule "xlog.so"
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "timer_interval", 1)
modparam("registrar", "min_expires", 1)
modparam("registrar", "default_expires", 3600)
modparam("registrar", "max_expires", 7200)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_expire", 300)

request_route {
    xlog("L_NOTICE", "received $rm $ru call $ci cseq $cs\n");
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("OPTIONS")) {
        if ($rU == "nobody") {
            sl_send_reply("404", "Not Found");
        } else {
            sl_send_reply("200", "OK");
        }
        exit;
    }
    if (!is_method("REGISTER")) {
        sl_send_reply("405", "Method Not Allowed");
        exit;
    }
    if (!pv_www_authenticate("$td", "secret-$tU", "0")) {
        www_challenge("$td", "1");
        exit;
    }
    if ($au != $tU) {
        sl_send_reply("403", "Not Your Address");
        exit;
    }
    if (save("location")) {
        xlog("L_NOTICE", "saved call $ci cseq $cs\n");
    } else {
        sl_reply_error();
    }
    exit;
}
"#;
