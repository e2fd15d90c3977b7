//! What the tests of the program share: running it, running other people's programs, and bare sockets to talk to it.
//!
//! Every process belongs to a [`Process`], which stops it when it goes out of scope; every wait has a limit; every port
//! is one that the system picked; nothing leaves the loopback interface.

#![allow(dead_code)] // each test file uses its own part
#![allow(clippy::print_stderr)] // what is skipped is said where the test runner shows it

pub mod kamailio;
pub mod sipp;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The program under test.
pub const SIPORA: &str = env!("CARGO_BIN_EXE_sipora");

/// Long enough for a debug build on a loaded machine, short enough to fail while somebody watches.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The domain that the test servers serve, and so their realm.
pub const DOMAIN: &str = "127.0.0.1";

/// Configuration of a server that grants what is asked for, from one second up.
pub const SHORT_EXPIRES: &str = "[expires]\nminimum = 1\n";

// ---- other people's programs ----

/// Whether `program` can be run. If not, says that the test is skipped, or panics where `SIPORA_REQUIRE_PEERS` is set.
pub fn peer_is_installed(program: &str) -> bool {
    if find_program(program).is_some() {
        return true;
    }
    assert!(
        std::env::var_os("SIPORA_REQUIRE_PEERS").is_none(),
        "{program} is not installed, and SIPORA_REQUIRE_PEERS is set; scripts/install-test-peers.sh installs it"
    );
    eprintln!("skipped: {program} is not installed (scripts/install-test-peers.sh installs it)");
    false
}

/// A command for a peer found by [`peer_is_installed`].
pub fn peer(program: &str) -> Command {
    Command::new(find_program(program).expect("asked for with peer_is_installed first"))
}

fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// The folder where `scripts/install-test-peers.sh` put the phones from npm, in `node_modules`. If they are not there, says
/// that the test is skipped, or panics where `SIPORA_REQUIRE_PEERS` is set.
pub fn npm_packages() -> Option<PathBuf> {
    let folder = match std::env::var_os("SIPORA_TEST_PEERS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
            cache.or_else(home)?.join("sipora/test-peers")
        }
    };
    if folder.join("jssip.bundle.js").is_file() {
        return Some(folder);
    }
    assert!(
        std::env::var_os("SIPORA_REQUIRE_PEERS").is_none(),
        "no phones from npm in {}, and SIPORA_REQUIRE_PEERS is set; scripts/install-test-peers.sh installs them",
        folder.display()
    );
    eprintln!(
        "skipped: no phones from npm in {} (scripts/install-test-peers.sh installs them)",
        folder.display()
    );
    None
}

// ---- processes ----

/// A running program whose output is read line by line as it comes.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    exited: Option<ExitStatus>,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Vec<(Stream, String)>>,
    /// Streams that the program has closed, of its two.
    closed: AtomicU32,
    grown: Condvar,
}

/// Where a line of output was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What a program left behind when it ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The exit status, or a panic with everything that was printed if a signal ended the program.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("ended by signal {:?}: {self}", self.status.signal()))
    }

    /// Lines on standard error that say something.
    pub fn error_lines(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

impl Process {
    /// Starts `command` with nothing to read and in a process group of its own, so that its children can be stopped.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Output::default());
        collect(&output, Stream::Stdout, child.stdout.take().expect("piped"));
        collect(&output, Stream::Stderr, child.stderr.take().expect("piped"));
        Self {
            name,
            child,
            output,
            exited: None,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line, of those printed so far or to come, for which `pick` finds a value.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut lines = self.output.lines.lock().expect("no reader panics");
        loop {
            if let Some(value) = lines.iter().find_map(|(_, line)| pick(line)) {
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.output.is_complete() {
                drop(lines);
                let why = if left.is_zero() {
                    "in time"
                } else {
                    "before its end"
                };
                panic!(
                    "{}: no {what} {why}; it printed:\n{}",
                    self.name,
                    self.printed()
                );
            }
            lines = self
                .output
                .grown
                .wait_timeout(lines, left)
                .expect("no reader panics")
                .0;
        }
    }

    /// All output so far, both streams in the order in which it came.
    pub fn printed(&self) -> String {
        self.lines().join("\n")
    }

    pub fn lines(&self) -> Vec<String> {
        let lines = self.output.lines.lock().expect("no reader panics");
        lines.iter().map(|(_, line)| line.clone()).collect()
    }

    fn printed_on(&self, stream: Stream) -> String {
        let lines = self.output.lines.lock().expect("no reader panics");
        lines
            .iter()
            .filter(|(from, _)| *from == stream)
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    }

    pub fn is_running(&mut self) -> bool {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().expect("our own child");
        }
        self.exited.is_none()
    }

    /// Sends a signal by its name, to this process alone.
    pub fn signal(&mut self, signal: &str) {
        if self.is_running() {
            send_signal(signal, &self.id().to_string());
        }
    }

    /// Waits for the end; what is still running when patience ends is killed and fails the test.
    pub fn wait(mut self, patience: Duration) -> Outcome {
        let Some(status) = self.wait_status(patience) else {
            let printed = self.printed();
            panic!(
                "{} did not end within {patience:?}; it printed:\n{printed}",
                self.name
            );
        };
        self.wait_for_readers();
        Outcome {
            status,
            stdout: self.printed_on(Stream::Stdout),
            stderr: self.printed_on(Stream::Stderr),
        }
    }

    /// Asks for an orderly end and waits for it.
    pub fn terminate(mut self, patience: Duration) -> Outcome {
        self.signal("TERM");
        self.wait(patience)
    }

    fn wait_status(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        while self.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.exited
    }

    /// Waits until all output is here: a child of the program may still hold the pipes, so not for ever.
    fn wait_for_readers(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.output.is_complete() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_running() {
            return;
        }
        let group = format!("-{}", self.id());
        send_signal("TERM", &group);
        if self.wait_status(Duration::from_secs(5)).is_none() {
            send_signal("KILL", &group);
            let _ = self.child.wait();
        }
    }
}

fn send_signal(signal: &str, target: &str) {
    // A shell's own `kill`: it is everywhere, and needs neither unsafe code nor another crate.
    let script = format!("kill -s {signal} -- {target}");
    let _ = Command::new("sh")
        .arg("-c")
        .arg(script)
        .stderr(Stdio::null())
        .status();
}

impl Output {
    fn is_complete(&self) -> bool {
        self.closed.load(Ordering::SeqCst) == 2
    }
}

fn collect(output: &Arc<Output>, stream: Stream, source: impl Read + Send + 'static) {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            output
                .lines
                .lock()
                .expect("no reader panics")
                .push((stream, text));
            output.grown.notify_all();
        }
        let _lines = output.lines.lock().expect("no reader panics");
        output.closed.fetch_add(1, Ordering::SeqCst);
        output.grown.notify_all();
    });
}

/// Runs `command` to its end.
pub fn run(command: &mut Command, patience: Duration) -> Outcome {
    Process::start(command).wait(patience)
}

/// Runs `sipora` with these arguments to its end.
pub fn sipora<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    run(Command::new(SIPORA).args(arguments), PATIENCE)
}

// ---- the server ----

/// A running `sipora serve` with a UDP and a TCP listener on free ports.
pub struct Server {
    pub process: Process,
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    /// Holds the users and configuration files for as long as the server runs.
    pub files: tempfile::TempDir,
}

impl Server {
    /// Serves [`DOMAIN`] for these users; the password of each is [`password_of`] it.
    pub fn start<S: AsRef<str>>(users: impl IntoIterator<Item = S>) -> Self {
        Self::start_with(users, "", &[])
    }

    /// As [`Server::start`], with a configuration file and further arguments.
    pub fn start_with<S: AsRef<str>>(
        users: impl IntoIterator<Item = S>,
        configuration: &str,
        arguments: &[&str],
    ) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let lines: String = users
            .into_iter()
            .map(|user| format!("{}:{}\n", user.as_ref(), password_of(user.as_ref())))
            .collect();
        let mut command = Command::new(SIPORA);
        command.args([
            "serve",
            "--listen",
            "udp:127.0.0.1:0",
            "--listen",
            "tcp:127.0.0.1:0",
            "--domain",
            DOMAIN,
        ]);
        if !lines.is_empty() {
            let users_file = write(files.path(), "users", &lines);
            command.arg("--users").arg(users_file);
        }
        if !configuration.is_empty() {
            let configuration_file = write(files.path(), "sipora.toml", configuration);
            command.arg("--config").arg(configuration_file);
        }
        command.args(arguments);
        let process = Process::start(&mut command);
        let udp = listener(&process, "udp");
        let tcp = listener(&process, "tcp");
        Self {
            process,
            udp,
            tcp,
            files,
        }
    }

    /// Resident memory in KiB, as the kernel counts it.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the server runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("Linux tells it");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of kB")
    }

    /// Panics unless the server answers an OPTIONS over UDP with 200.
    pub fn assert_answers(&self, after: &str) {
        let socket = UdpClient::connect(self.udp);
        let answer = socket.exchange(&options_request(&socket.local(), "UDP", self.udp));
        assert!(
            answer
                .as_deref()
                .is_some_and(|answer| answer.starts_with("SIP/2.0 200 ")),
            "after {after} OPTIONS got {answer:?}; the server printed:\n{}",
            self.process.printed()
        );
    }
}

/// The address that `sipora serve` says it listens on: one line a listener, `listening on udp 127.0.0.1:5060`.
pub fn listener(process: &Process, transport: &str) -> SocketAddr {
    let prefix = format!("listening on {transport} ");
    process.wait_for(&prefix, PATIENCE, |line| {
        line.strip_prefix(&prefix)?.trim().parse().ok()
    })
}

pub fn password_of(user: &str) -> String {
    format!("secret-{user}")
}

/// Writes a file and returns its path.
pub fn write(directory: &Path, name: &str, content: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, content).expect("the temporary directory is writable");
    path
}

// ---- bare sockets ----

/// A UDP socket that talks to one server.
pub struct UdpClient {
    pub socket: UdpSocket,
}

impl UdpClient {
    pub fn connect(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(server).expect("loopback");
        Self { socket }
    }

    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// Sends, and sends again as RFC 3261 §17.1.2 asks, until something final comes back or patience ends.
    pub fn exchange(&self, request: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut interval = Duration::from_millis(500);
        let mut buffer = vec![0; 65_535];
        while Instant::now() < deadline {
            // A refused port shows as an error of the next call; sending again is the answer to that too.
            let _ = self.socket.send(request.as_bytes());
            self.socket
                .set_read_timeout(Some(interval))
                .expect("not zero");
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if !text.starts_with("SIP/2.0 1") {
                    return Some(text);
                }
            }
            interval = (interval * 2).min(Duration::from_secs(4));
        }
        None
    }
}

/// A 200 to a request, from somebody who has a tag.
pub fn ok_to(request: &str) -> String {
    let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
    for line in request.lines() {
        match line.split(':').next().unwrap_or_default() {
            "Via" | "From" | "Call-ID" | "CSeq" => answer.push_str(line),
            "To" => answer.push_str(&format!("{line};tag=phone")),
            _ => continue,
        }
        answer.push_str("\r\n");
    }
    answer + "Content-Length: 0\r\n\r\n"
}

/// An OPTIONS request of our own making, with identifiers that no other request of this run has.
pub fn options_request(local: &SocketAddr, transport: &str, server: SocketAddr) -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(1);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let run = std::process::id();
    format!(
        "OPTIONS sip:{server} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {local};branch=z9hG4bK-{run}-{serial};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:tester@{local}>;tag=t{serial}\r\n\
         To: <sip:{server}>\r\n\
         Call-ID: {run}-{serial}@{local}\r\n\
         CSeq: {serial} OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A loopback port that is free for UDP and for TCP: for programs that cannot pick one and say which.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let stream = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = stream.local_addr().expect("bound").port();
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(_) => return port,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("cannot bind UDP: {error}"),
        }
    }
    panic!("no port is free for both UDP and TCP");
}
