//! The command line: the commands, and what the client commands have in common.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sipora_session_core::UdpKeepAlive;

use crate::message::MessageArguments;
use crate::names;
use crate::options::OptionsArguments;
use crate::publish::PublishArguments;
use crate::register::RegisterArguments;
use crate::serve::ServeArguments;
use crate::subscribe::SubscribeArguments;
use crate::tls::ClientTls;
use crate::trace::TraceArguments;

/// A SIP server that registers users, carries their messages and tells of their presence, and a SIP client for the command line.
#[derive(Debug, Parser)]
#[command(name = "sipora", version, after_help = EXIT_STATUSES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a registrar, message relay and presence agent
    Serve(ServeArguments),
    /// Ask a SIP server or user what it can do (OPTIONS)
    Options(OptionsArguments),
    /// Register an address-of-record, list its bindings, or remove them (REGISTER)
    Register(RegisterArguments),
    /// Send an instant message (MESSAGE)
    Message(MessageArguments),
    /// Watch an event of a user, such as presence, until told to stop (SUBSCRIBE)
    Subscribe(SubscribeArguments),
    /// Publish the state of a user, such as presence, until told to stop (PUBLISH)
    Publish(PublishArguments),
}

/// What the client commands share.
#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// User name for digest authentication; register and publish take the user of URI unless given
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// File whose first line is the password; without it, the environment variable SIPORA_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// Transport to use where the URI does not name one
    #[arg(long, value_name = "TRANSPORT")]
    pub(crate) transport: Option<TransportChoice>,

    #[command(flatten)]
    pub(crate) tls: ClientTls,

    /// Proxy to send every request to first, as in sip:proxy.example.com
    #[arg(long, value_name = "URI")]
    pub(crate) proxy: Option<String>,

    /// Name server to ask in place of the system's, may repeat
    #[arg(long, value_name = "HOST:PORT", value_parser = names::name_server)]
    pub(crate) dns_server: Vec<SocketAddr>,

    /// Ping over connections this often, 0 for never [default: where a registration or subscription lives, every 120 s]
    #[arg(long, value_name = "SECONDS", value_parser = pings)]
    pub(crate) keep_alive: Option<Duration>,

    /// Seconds to wait for the final answer, all attempts and retries included
    #[arg(long, value_name = "SECONDS", default_value = "32", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Print JSON on standard output in place of text: one object; subscribe, one more for each notification
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) trace: TraceArguments,

    /// Show each message on standard error; twice: the library's log too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportChoice {
    Udp,
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl TransportChoice {
    /// Gives the value of the `transport` URI parameter.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TransportChoice::Udp => "udp",
            TransportChoice::Tcp => "tcp",
            TransportChoice::Tls => "tls",
            TransportChoice::Ws => "ws",
            TransportChoice::Wss => "wss",
        }
    }
}

/// Reads a number of seconds, which may have decimals, up to an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds above 0 and up to 3600".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(wrong());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Reads seconds between pings, of which 0 are none.
fn pings(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ => seconds(text),
    }
}

/// Reads how a way over UDP is kept open: SECONDS between line ends, or stun:SECONDS.
pub(crate) fn udp_keep_alive(text: &str) -> Result<UdpKeepAlive, String> {
    let wrong = |_| "expected a number of seconds, or stun: before it, as in stun:29".to_owned();
    match text.strip_prefix("stun:") {
        Some(text) => seconds(text).map(UdpKeepAlive::Stun).map_err(wrong),
        None => seconds(text).map(UdpKeepAlive::LineEnds).map_err(wrong),
    }
}

/// Reads a token (RFC 3261 §25.1), which names of events and entity tags are.
pub(crate) fn token(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_fit) {
        return Err("expected letters and digits, and -.!%*_+`'~ between them".to_owned());
    }
    Ok(text.to_owned())
}

pub(crate) const EXIT_STATUSES: &str = "\
Exit status:
  0  success
  1  the final answer was not a 2xx
  2  wrong usage, or a local error
  3  no answer, or stopped by a signal before it came";

pub(crate) const SUBSCRIBER_EXIT_STATUSES: &str = "\
Exit status:
  0  ended by --count, SIGINT or SIGTERM, and unsubscribed; with --expires 0, told the state
  1  the final answer was not a 2xx, or the notifier ended the subscription for good or before --count
  2  wrong usage, or a local error
  3  no answer or no notification, or stopped by a signal before the answer came";

pub(crate) const PUBLISHER_EXIT_STATUSES: &str = "\
Exit status:
  0  published with --once or --etag; else ended by SIGINT or SIGTERM, and removed
  1  the final answer was not a 2xx
  2  wrong usage, or a local error
  3  no answer, or stopped by a signal before it came";

pub(crate) const SERVER_EXIT_STATUSES: &str = "\
Exit status:
  0  ended by SIGTERM or SIGINT
  2  wrong usage, a local error, or a second signal";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_manual_has_every_flag() {
        let manual = include_str!("../README.md");
        let command = Arguments::command();
        let flags = command.get_subcommands().flat_map(|command| {
            command
                .get_arguments()
                .filter_map(|argument| argument.get_long())
                .map(str::to_owned)
        });
        for flag in flags.filter(|flag| flag != "verbose") {
            assert!(manual.contains(&format!("`--{flag}")), "--{flag}");
        }
    }

    #[test]
    fn a_timeout_may_have_decimals() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("32"), Ok(Duration::from_secs(32)));
    }

    #[test]
    fn a_timeout_that_is_no_time_is_refused() {
        for text in ["0", "-1", "NaN", "inf", "3601", "soon", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ways_are_kept_open_by_line_ends_or_by_stun() {
        let (half, stun) = (Duration::from_millis(500), Duration::from_secs(29));
        assert_eq!(udp_keep_alive("0.5"), Ok(UdpKeepAlive::LineEnds(half)));
        assert_eq!(udp_keep_alive("stun:29"), Ok(UdpKeepAlive::Stun(stun)));
        for text in ["", "0", "stun:", "stun:0", "ice:29", "stun:stun:1"] {
            assert!(udp_keep_alive(text).is_err(), "{text}");
        }
        assert_eq!(pings("0"), Ok(Duration::ZERO));
        assert!(pings("-1").is_err());
    }

    #[test]
    fn a_token_has_no_room_for_other_header_fields() {
        for text in [
            "presence",
            "presence.winfo",
            "a.1795412588.21868.2.0",
            "dx200-_`'~!%*+",
        ] {
            assert_eq!(token(text).as_deref(), Ok(text));
        }
        for text in ["", "a b", "a;b", "a,b", "\"a\"", "a\r\nb", "ä"] {
            assert!(token(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_client_command_takes_the_common_flags() {
        let flags = [
            "--user",
            "alice",
            "--password-file",
            "p",
            "--transport",
            "tcp",
            "--proxy",
            "sip:p.example",
            "--dns-server",
            "192.0.2.53",
            "--keep-alive",
            "30",
            "--timeout",
            "5",
            "--json",
            "--trace",
            "-",
            "--pcap",
            "t.pcap",
            "--hep",
            "127.0.0.1:9060",
            "--hep-id",
            "7",
            "-vv",
        ];
        let uri = "sip:alice@example.com";
        for command in [
            &["options", uri][..],
            &["register", uri],
            &["message", uri, "hello"],
            &["subscribe", uri],
            &["publish", uri, "--status", "open"],
        ] {
            let words = std::iter::once(&"sipora").chain(command);
            Arguments::try_parse_from(words.chain(&flags)).unwrap();
        }
    }
}
