//! `sipora serve`: runs a registrar until it is told to stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sipora_call_engine::trace::Tracer;
use sipora_call_engine::{
    Algorithm, CallCenterConfig, CallCenterEngine, PresenceConfig, Tls, TransportConfig, Users,
};

use crate::arguments::SERVER_EXIT_STATUSES;
use crate::config::{self, ConfigFile, Digest};
use crate::exit::{Failure, chain};
use crate::expires::Expires;
use crate::listen::Listen;
use crate::names;
use crate::open_files;
use crate::signals::{Hangups, Signals};
use crate::tls::ServerTls;
use crate::trace::{self, TraceArguments};

#[derive(Debug, Args)]
#[command(after_help = SERVER_EXIT_STATUSES)]
pub(crate) struct ServeArguments {
    /// Configuration file in TOML; flags come before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen: udp:HOST:PORT, or tcp:, tls:, ws:, wss: in its place, may repeat; port 0 takes a free one
    /// [default: udp:0.0.0.0:5060 and tcp:0.0.0.0:5060]
    #[arg(long, value_name = "LISTENER")]
    listen: Vec<Listen>,

    /// Host that clients reach this server by, for its Via headers
    #[arg(long, value_name = "HOST", value_parser = config::host_name)]
    advertise: Option<String>,

    /// Domain to serve, whatever the port, may repeat [default: the addresses it listens at]
    #[arg(long, value_name = "NAME", value_parser = config::host_name)]
    domain: Vec<String>,

    /// Users who may register, a line each: user:password; read again on SIGHUP
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    users: Option<PathBuf>,

    /// Let anybody register any user of a served domain, send messages to them, watch and publish, without a password
    #[arg(long)]
    no_auth: bool,

    /// Algorithms to challenge with, in this order, separated by commas [default: MD5]
    #[arg(
        long,
        value_name = "ALGORITHM",
        value_delimiter = ',',
        ignore_case = true
    )]
    digest: Vec<Digest>,

    #[command(flatten)]
    tls: ServerTls,

    /// Name server to ask in place of the system's, may repeat
    #[arg(long, value_name = "HOST:PORT", value_parser = names::name_server)]
    dns_server: Vec<SocketAddr>,

    /// Answer neither SUBSCRIBE nor PUBLISH
    #[arg(long)]
    no_presence: bool,

    #[command(flatten)]
    trace: TraceArguments,

    /// Log more on standard error; RUST_LOG, where set, decides instead
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Runs `sipora serve`.
pub(crate) async fn run(settings: Settings) -> Result<(), Failure> {
    let users_file = settings.users.clone();
    let tls = settings.tls.read()?;
    settings.check_listeners(tls.is_some())?;
    // From the first line of output on, a signal is an orderly end.
    let mut signals = Signals::listen()?;
    let mut hangups = Hangups::listen()?;
    let open_files = open_files::raise_limit();
    let names = names::resolver(&settings.dns_server, tls.is_some())?;
    let tracer = settings.trace.start(false)?;
    let mut config = settings.into_config(tls.clone()).with_resolver(names);
    if let Some(tracer) = &tracer {
        config = config.with_tracer(tracer.clone());
    }
    let engine = CallCenterEngine::new(config)
        .await
        .map_err(|error| Failure::Local(chain(&error)))?;
    warn(&engine, users_file.is_none(), open_files);
    announce(&engine)?;
    let signal = loop {
        tokio::select! {
            signal = signals.next() => break signal,
            () = hangups.next() => {
                open_traces_again(tracer.as_deref());
                read_certificate_again(tls.clone()).await;
                read_users_again(&engine, users_file.as_deref()).await;
            }
        }
    };
    tracing::info!("{signal}: ending");
    let ended = tokio::select! {
        () = engine.shutdown() => Ok(()),
        signal = signals.next() => Err(Failure::Local(format!("{signal} again: ended at once"))),
    };
    trace::finish(tracer.as_ref());
    ended
}

/// Says what is allowed, and yet seldom meant.
fn warn(engine: &CallCenterEngine, is_open: bool, open_files: Option<u64>) {
    if engine.users().is_some_and(Users::is_empty) {
        tracing::warn!("the users file names nobody, so nobody can register");
    }
    let listeners = engine.listeners();
    let mut reachable = listeners
        .iter()
        .filter(|listener| !listener.address.ip().is_loopback());
    if let Some(listener) = reachable.next().filter(|_| is_open) {
        tracing::warn!(
            "without authentication, whoever reaches {listener} may register as anybody"
        );
    }
    let connections = TransportConfig::default().max_connections;
    if let Some(limit) = open_files.filter(|_| !open_files::suffice(open_files, connections)) {
        tracing::warn!(
            "{limit} open files are too few for {connections} connections: raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
}

/// Opens the files of traces by their names, which whoever rotates them has moved away. What goes wrong is told by the trace.
fn open_traces_again(tracer: Option<&Tracer>) {
    let Some(tracer) = tracer else { return };
    match tracer.reopen() {
        true => tracing::info!("SIGHUP: traces opened again"),
        false => {
            tracing::error!("SIGHUP: the traces stay as they were, as they are written too slowly")
        }
    }
}

/// Shows the certificate, as its files have it now, to those who come from now on; one that is wrong changes nothing.
async fn read_certificate_again(tls: Option<Tls>) {
    let Some(tls) = tls else { return };
    match tokio::task::spawn_blocking(move || tls.reload()).await {
        Ok(Ok(())) => tracing::info!("SIGHUP: certificate read again"),
        Ok(Err(error)) => {
            tracing::error!("SIGHUP: the certificate stays as it was: {}", chain(&error));
        }
        Err(_) => tracing::error!("SIGHUP: the certificate stays as it was"),
    }
}

/// Puts the users file, as it is now, in the place of the users that there are; one that is wrong changes nothing.
async fn read_users_again(engine: &Arc<CallCenterEngine>, file: Option<&Path>) {
    let Some(file) = file.map(Path::to_owned) else {
        tracing::info!("SIGHUP: there is no users file to read again");
        return;
    };
    let engine = Arc::clone(engine);
    let read = tokio::task::spawn_blocking(move || engine.users().map(|users| users.reload(file)));
    match read.await {
        Ok(Some(Ok(0))) => tracing::warn!("SIGHUP: the users file names nobody any more"),
        Ok(Some(Ok(count))) => tracing::info!("SIGHUP: users read again, there are {count}"),
        Ok(Some(Err(error))) => {
            tracing::error!("SIGHUP: the users stay as they were: {}", chain(&error));
        }
        Ok(None) | Err(_) => tracing::error!("SIGHUP: the users stay as they were"),
    }
}

/// Says on standard output where the server listens, a line each, once it does. Scripts wait for these lines.
fn announce(engine: &CallCenterEngine) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for listener in engine.listeners() {
        writeln!(out, "listening on {listener}")?;
    }
    out.flush()
}

/// What the server runs with: the flags, the file behind them, the defaults behind both.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    listen: Vec<Listen>,
    advertise: Option<String>,
    domain: Vec<String>,
    /// None: without authentication.
    users: Option<PathBuf>,
    digest: Vec<Digest>,
    expires: Expires,
    maximum_contacts: Option<usize>,
    shards: usize,
    tls: ServerTls,
    /// Empty: the system's.
    dns_server: Vec<SocketAddr>,
    trace: TraceArguments,
    /// None: without presence.
    presence: Option<PresenceConfig>,
}

impl Settings {
    pub(crate) fn from_arguments(arguments: ServeArguments) -> Result<Settings, Failure> {
        let file = match &arguments.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        Settings::merge(arguments, file)
    }

    fn merge(arguments: ServeArguments, file: ConfigFile) -> Result<Settings, Failure> {
        let users = match (arguments.users, arguments.no_auth) {
            (Some(users), _) => Some(users),
            (None, true) => None,
            (None, false) => match (file.users, file.no_auth) {
                (Some(users), _) => Some(users),
                (None, true) => None,
                (None, false) => {
                    return Err(Failure::Local(
                        "who may register? give --users FILE, or --no-auth to let anybody"
                            .to_owned(),
                    ));
                }
            },
        };
        config::distinct(&arguments.digest)
            .map_err(|problem| Failure::Local(format!("--digest: {problem}")))?;
        Ok(Settings {
            listen: first_given(arguments.listen, file.listen),
            advertise: arguments.advertise.or(file.advertise),
            domain: first_given(arguments.domain, file.domain),
            users,
            digest: first_given(arguments.digest, file.digest),
            expires: file.expires,
            maximum_contacts: file.maximum_contacts,
            shards: file.shards.unwrap_or(1),
            tls: ServerTls {
                tls_cert: arguments.tls.tls_cert.or(file.tls_cert),
                tls_key: arguments.tls.tls_key.or(file.tls_key),
                tls_ca: arguments.tls.tls_ca.or(file.tls_ca),
                tls_client_auth: arguments.tls.tls_client_auth.or(file.tls_client_auth),
            },
            dns_server: first_given(arguments.dns_server, file.dns_server),
            trace: arguments.trace.or(TraceArguments {
                trace: file.trace,
                pcap: file.pcap,
                hep: file.hep,
                hep_id: file.hep_id,
                hep_password_file: file.hep_password_file,
            }),
            presence: match arguments.no_presence || file.no_presence {
                true => None,
                false => Some(file.presence.map_or_else(PresenceConfig::new, Into::into)),
            },
        })
    }

    /// Says whether one thread is all that the server needs: a second one has nothing to do but to wake the first.
    pub(crate) fn is_one_task(&self) -> bool {
        self.shards == 1
    }

    fn check_listeners(&self, has_tls: bool) -> Result<(), Failure> {
        let is_secure = |listen: &Listen| matches!(listen, Listen::Tls(_) | Listen::Wss(_));
        if !has_tls && self.listen.iter().any(is_secure) {
            return Err(Failure::Local(
                "tls: and wss: need a certificate: give --tls-cert FILE and --tls-key FILE"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn into_config(self, tls: Option<Tls>) -> CallCenterConfig {
        let Expires {
            default,
            minimum,
            maximum,
        } = self.expires;
        let mut config = CallCenterConfig::new()
            .with_expires(default, minimum, maximum)
            .with_shards(self.shards);
        if let Some(maximum) = self.maximum_contacts {
            config = config.with_max_contacts(maximum);
        }
        config = match self.presence {
            Some(presence) => config.with_presence(presence),
            None => config.without_presence(),
        };
        for listen in &self.listen {
            config = match listen {
                Listen::Udp(address) => config.with_udp_listener(address),
                Listen::Tcp(address) => config.with_tcp_listener(address),
                Listen::Tls(address) => config.with_tls_listener(address),
                Listen::Ws(address) => config.with_ws_listener(address),
                Listen::Wss(address) => config.with_wss_listener(address),
            };
        }
        if let Some(tls) = tls {
            config = config.with_tls(tls);
        }
        for domain in &self.domain {
            config = config.with_domain(domain);
        }
        if let Some(host) = &self.advertise {
            config = config.with_advertised_host(host);
        }
        if !self.digest.is_empty() {
            config = config.with_digest_algorithms(self.digest.into_iter().map(Algorithm::from));
        }
        match self.users {
            Some(users) => config.with_users_file(users),
            None => config.without_authentication(),
        }
    }
}

/// A list on the command line replaces the file's list; the two do not add up.
fn first_given<T>(flags: Vec<T>, file: Vec<T>) -> Vec<T> {
    if flags.is_empty() { file } else { flags }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn arguments(flags: &[&str]) -> ServeArguments {
        let words = ["sipora", "serve"].iter().chain(flags);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Serve(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    fn file(text: &str) -> ConfigFile {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_come_before_the_file() {
        let settings = Settings::merge(
            arguments(&[
                "--listen",
                "udp:127.0.0.1:1",
                "--domain",
                "flag.example",
                "--users",
                "flag.txt",
                "--digest",
                "sha-256,MD5",
                "--advertise",
                "flag.example",
            ]),
            file(
                r#"
                listen = ["tcp:127.0.0.1:2", "udp:127.0.0.1:3"]
                domain = ["file.example"]
                no_auth = true
                digest = ["SHA-512-256"]
                advertise = "file.example"
                "#,
            ),
        )
        .unwrap();
        assert_eq!(settings.listen, [Listen::Udp("127.0.0.1:1".to_owned())]);
        assert_eq!(settings.domain, ["flag.example"]);
        assert_eq!(settings.users, Some(PathBuf::from("flag.txt")));
        assert_eq!(settings.digest, [Digest::Sha256, Digest::Md5]);
        assert_eq!(settings.advertise.as_deref(), Some("flag.example"));
    }

    #[test]
    fn the_file_counts_where_no_flag_is_given() {
        let settings = Settings::merge(
            arguments(&[]),
            file("listen = [\"tcp:127.0.0.1:2\"]\nusers = \"u.txt\"\nmaximum_contacts = 2\nshards = 3\nexpires = { default = 300, maximum = 600 }\n"),
        )
        .unwrap();
        assert_eq!(settings.listen, [Listen::Tcp("127.0.0.1:2".to_owned())]);
        assert_eq!(settings.users, Some(PathBuf::from("u.txt")));
        assert_eq!(settings.expires.maximum, 600);
        assert_eq!(settings.maximum_contacts, Some(2));
        assert_eq!(settings.shards, 3);
    }

    #[test]
    fn presence_is_there_unless_it_is_switched_off() {
        let presence = |flags: &[&str], text: &str| {
            let flags = [&["--no-auth"], flags].concat();
            let settings = Settings::merge(arguments(&flags), file(text)).unwrap();
            settings.presence
        };
        assert_eq!(presence(&[], ""), Some(PresenceConfig::default()));
        let few = PresenceConfig::new().with_expires(300, 60, 3600);
        assert_eq!(presence(&[], "[presence]\ndefault = 300"), Some(few));
        assert_eq!(presence(&["--no-presence"], "[presence]"), None);
        assert_eq!(presence(&[], "no_presence = true"), None);
    }

    #[test]
    fn a_secure_listener_needs_a_certificate() {
        let flags = ["--no-auth", "--listen", "tls:127.0.0.1:0"];
        let settings = Settings::merge(arguments(&flags), file("")).unwrap();
        let failure = settings.check_listeners(false).unwrap_err();
        assert!(failure.to_string().contains("--tls-cert"), "{failure}");
        let of_file =
            file("tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\ntls_client_auth = \"required\"");
        let settings = Settings::merge(arguments(&flags), of_file).unwrap();
        assert_eq!(settings.tls.tls_cert, Some(PathBuf::from("c.pem")));
        assert_eq!(
            settings.tls.tls_client_auth,
            Some(crate::tls::Demand::Required)
        );
    }

    #[test]
    fn no_auth_on_the_command_line_beats_users_in_the_file() {
        let settings =
            Settings::merge(arguments(&["--no-auth"]), file("users = \"u.txt\"")).unwrap();
        assert_eq!(settings.users, None);
    }

    #[test]
    fn who_may_register_has_to_be_said() {
        let failure = Settings::merge(arguments(&[]), file("")).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(failure.to_string().contains("--users FILE"), "{failure}");
    }

    #[test]
    fn users_and_no_auth_together_are_wrong_usage() {
        let words = ["sipora", "serve", "--users", "u.txt", "--no-auth"];
        assert!(Arguments::try_parse_from(words).is_err());
    }

    #[test]
    fn a_digest_named_twice_is_wrong_usage() {
        let twice = arguments(&["--no-auth", "--digest", "MD5,md5"]);
        let failure = Settings::merge(twice, file("")).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert_eq!(failure.to_string(), "--digest: MD5 is there twice");
    }

    #[test]
    fn an_unknown_digest_is_wrong_usage() {
        let words = ["sipora", "serve", "--no-auth", "--digest", "SHA-1"];
        let line = crate::exit::usage(&Arguments::try_parse_from(words).unwrap_err()).to_string();
        assert!(
            line.contains("SHA-1") && line.contains("SHA-512-256"),
            "{line}"
        );
    }
}
