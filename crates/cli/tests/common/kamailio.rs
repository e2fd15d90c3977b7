//! A Kamailio of our own, registrar or presence server, with digest, one free port for UDP and TCP.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{
    PATIENCE, Process, UdpClient, free_port, options_request, peer, peer_is_installed, write,
};

pub struct Kamailio {
    pub process: Process,
    pub port: u16,
    pub files: tempfile::TempDir,
}

impl Kamailio {
    /// Starts it; call [`peer_is_installed`](super::peer_is_installed) first. The password of each user is
    /// [`password_of`](super::password_of) it. OPTIONS gets 200, but 404 where the Request-URI names `nobody`.
    pub fn start() -> Self {
        Self::start_with(CONFIGURATION)
    }

    /// Starts a presence server (events `presence` and `message-summary`) without a registrar; call
    /// [`presence_is_installed`] first. The password of each user is [`password_of`](super::password_of) it.
    pub fn start_presence() -> Self {
        Self::start_with(PRESENCE_CONFIGURATION)
    }

    fn start_with(configuration: &str) -> Self {
        // Kamailio cannot pick a port and say which: another process may take ours first, so there is a second try.
        for _ in 0..3 {
            if let Some(kamailio) = Self::try_start(configuration) {
                return kamailio;
            }
        }
        panic!("Kamailio does not start");
    }

    fn try_start(configuration: &str) -> Option<Self> {
        let files = tempfile::tempdir().expect("a temporary directory");
        let port = free_port();
        for table in TABLES {
            let schema = Path::new(SCHEMAS).join(table);
            // Who needs one looks for it in `presence_is_installed`.
            let _ = std::fs::copy(schema, files.path().join(table));
        }
        let folder = files.path().to_str().expect("it is UTF-8");
        let configuration = configuration
            .replace("@PORT@", &port.to_string())
            .replace("@FOLDER@", folder);
        let configuration = write(files.path(), "kamailio.cfg", &configuration);
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

    /// Requests of this method that passed authentication, as the presence server's script logs them, in order.
    pub fn handled(&self, method: &str) -> Vec<Handled> {
        let lines = self.process.lines();
        let handled = lines.iter().filter_map(|line| Handled::from_log(line));
        handled.filter(|handled| handled.method == method).collect()
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

/// A SUBSCRIBE or PUBLISH, as the script of the presence server logs it. What is absent is empty.
#[derive(Debug)]
pub struct Handled {
    pub method: String,
    pub call_id: String,
    pub expires: String,
    pub if_match: String,
    pub body_length: usize,
}

impl Handled {
    fn from_log(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once("handled|")?;
        let mut fields = fields.split('|').map(|field| match field {
            "<null>" => String::new(),
            field => field.to_owned(),
        });
        Some(Self {
            method: fields.next()?,
            call_id: fields.next()?,
            expires: fields.next()?,
            if_match: fields.next()?,
            body_length: fields.next()?.trim().parse().ok()?,
        })
    }
}

/// Whether Kamailio is there with its presence modules. If not, says that the test is skipped, or panics where
/// `SIPORA_REQUIRE_PEERS` is set.
pub fn presence_is_installed() -> bool {
    if !peer_is_installed("kamailio") {
        return false;
    }
    let libraries = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/local/lib64",
    ]
    .map(Path::new);
    let multiarch = std::fs::read_dir("/usr/lib").into_iter().flatten();
    let multiarch = multiarch.flatten().map(|entry| entry.path());
    let has_module = libraries
        .into_iter()
        .map(Path::to_owned)
        .chain(multiarch)
        .any(|folder| folder.join("kamailio/modules/presence_xml.so").is_file());
    if has_module
        && TABLES
            .iter()
            .all(|table| Path::new(SCHEMAS).join(table).is_file())
    {
        return true;
    }
    assert!(
        std::env::var_os("SIPORA_REQUIRE_PEERS").is_none(),
        "Kamailio's presence modules are not installed, and SIPORA_REQUIRE_PEERS is set; scripts/install-test-peers.sh installs them"
    );
    eprintln!(
        "skipped: Kamailio's presence modules are not installed (scripts/install-test-peers.sh installs them)"
    );
    false
}

/// Empty tables for `db_text`, which come with Kamailio.
const SCHEMAS: &str = "/usr/share/kamailio/dbtext/kamailio";

/// What the presence modules look for.
const TABLES: [&str; 5] = [
    "version",
    "presentity",
    "active_watchers",
    "watchers",
    "xcap",
];

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

/// What is published lies in text files of the test's own folder (with `publ_cache` 2, all in memory, Kamailio 5.6.3 loses
/// the document when it is refreshed), subscriptions in memory. Whoever is let in may watch everybody (`force_active`).
const PRESENCE_CONFIGURATION: &str = r#"#!KAMAILIO
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
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "auth.so"
loadmodule "xlog.so"
loadmodule "db_text.so"
loadmodule "presence.so"
loadmodule "presence_xml.so"
loadmodule "presence_mwi.so"
modparam("presence|presence_xml", "db_url", "text://@FOLDER@")
modparam("presence", "server_address", "sip:127.0.0.1:@PORT@")
modparam("presence", "subs_db_mode", 0)
modparam("presence", "publ_cache", 0)
modparam("presence", "min_expires", 4)
modparam("presence", "min_expires_action", 1)
modparam("presence", "max_expires", 7200)
modparam("presence", "clean_period", 1)
modparam("presence_xml", "force_active", 1)
modparam("presence_xml", "disable_xcapdiff", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_expire", 300)

request_route {
    xlog("L_NOTICE", "received $rm $ru call $ci cseq $cs\n");
    if (!mf_process_maxfwd_header("10")) {
        sl_send_reply("483", "Too Many Hops");
        exit;
    }
    if (is_method("OPTIONS")) {
        sl_send_reply("200", "OK");
        exit;
    }
    if (!pv_www_authenticate("127.0.0.1", "secret-$fU", "0")) {
        www_challenge("127.0.0.1", "1");
        exit;
    }
    xlog("L_NOTICE", "handled|$rm|$ci|$hdr(Expires)|$hdr(SIP-If-Match)|$(rb{s.len})\n");
    if (!t_newtran()) {
        sl_reply_error();
        exit;
    }
    if (is_method("SUBSCRIBE")) {
        handle_subscribe();
        t_release();
        exit;
    }
    if (is_method("PUBLISH")) {
        handle_publish();
        t_release();
        exit;
    }
    t_reply("405", "Method Not Allowed");
    exit;
}
"#;
