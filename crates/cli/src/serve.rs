//! `sipora serve`: runs a registrar until it is told to stop.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use sipora_call_engine::{Algorithm, CallCenterConfig, CallCenterEngine, Users};

use crate::arguments::EXIT_STATUSES;
use crate::config::{ConfigFile, Digest, Expires, Listen};
use crate::exit::{Failure, chain};
use crate::signals::Signals;

#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUSES)]
pub(crate) struct ServeArguments {
    /// Configuration file in TOML; flags come before what it says
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen: udp:HOST:PORT or tcp:HOST:PORT, may repeat; port 0 takes a free one
    /// [default: udp:0.0.0.0:5060 and tcp:0.0.0.0:5060]
    #[arg(long, value_name = "LISTENER")]
    listen: Vec<Listen>,

    /// Host that clients reach this server by, for its Via headers
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,

    /// Domain to serve, whatever the port, may repeat [default: the addresses it listens at]
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,

    /// Users who may register, a line each: user:password
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    users: Option<PathBuf>,

    /// Let any user of a served domain register, without a password
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

    /// Log more on standard error; RUST_LOG, where set, decides instead
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Runs `sipora serve`.
pub(crate) async fn run(arguments: ServeArguments) -> Result<(), Failure> {
    let settings = Settings::from_arguments(arguments)?;
    // From the first line of output on, a signal is an orderly end.
    let mut signals = Signals::listen()?;
    let engine = CallCenterEngine::new(settings.into_config())
        .await
        .map_err(|error| Failure::Local(chain(&error)))?;
    if engine.users().is_some_and(Users::is_empty) {
        tracing::warn!("the users file names nobody, so nobody can register");
    }
    announce(&engine)?;
    let signal = signals.next().await;
    tracing::info!("{signal}: ending");
    tokio::select! {
        () = engine.shutdown() => Ok(()),
        signal = signals.next() => Err(Failure::Local(format!("{signal} again: ended at once"))),
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
struct Settings {
    listen: Vec<Listen>,
    advertise: Option<String>,
    domain: Vec<String>,
    /// None: without authentication.
    users: Option<PathBuf>,
    digest: Vec<Digest>,
    expires: Expires,
    maximum_contacts: Option<usize>,
}

impl Settings {
    fn from_arguments(arguments: ServeArguments) -> Result<Settings, Failure> {
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
        Ok(Settings {
            listen: first_given(arguments.listen, file.listen),
            advertise: arguments.advertise.or(file.advertise),
            domain: first_given(arguments.domain, file.domain),
            users,
            digest: first_given(arguments.digest, file.digest),
            expires: file.expires,
            maximum_contacts: file.maximum_contacts,
        })
    }

    fn into_config(self) -> CallCenterConfig {
        let Expires {
            default,
            minimum,
            maximum,
        } = self.expires;
        let mut config = CallCenterConfig::new().with_expires(default, minimum, maximum);
        if let Some(maximum) = self.maximum_contacts {
            config = config.with_max_contacts(maximum);
        }
        for listen in &self.listen {
            config = match listen {
                Listen::Udp(address) => config.with_udp_listener(address),
                Listen::Tcp(address) => config.with_tcp_listener(address),
            };
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
            file("listen = [\"tcp:127.0.0.1:2\"]\nusers = \"u.txt\"\nmaximum_contacts = 2\nexpires.maximum = 600\n"),
        )
        .unwrap();
        assert_eq!(settings.listen, [Listen::Tcp("127.0.0.1:2".to_owned())]);
        assert_eq!(settings.users, Some(PathBuf::from("u.txt")));
        assert_eq!(settings.expires.maximum, 600);
        assert_eq!(settings.maximum_contacts, Some(2));
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
    fn an_unknown_digest_is_wrong_usage() {
        let words = ["sipora", "serve", "--no-auth", "--digest", "SHA-1"];
        let line = crate::exit::usage(&Arguments::try_parse_from(words).unwrap_err()).to_string();
        assert!(
            line.contains("SHA-1") && line.contains("SHA-512-256"),
            "{line}"
        );
    }
}
