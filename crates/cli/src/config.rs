//! The configuration of `sipora serve`: its file, and the values that file and flags share.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use sipora_call_engine::Algorithm;
use sipora_call_engine::message::Uri;

use crate::exit::Failure;
use crate::expires::Expires;
use crate::listen::Listen;
use crate::names;
use crate::presence_settings::PresenceSettings;
use crate::tls::Demand;
use crate::trace::STANDARD_ERROR;

/// Is the configuration file. Each flag of `sipora serve` has its key here, with `_` for `-`.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    #[serde(deserialize_with = "at_least_one")]
    pub(crate) listen: Vec<Listen>,
    #[serde(deserialize_with = "host")]
    pub(crate) advertise: Option<String>,
    #[serde(deserialize_with = "hosts")]
    pub(crate) domain: Vec<String>,
    pub(crate) users: Option<PathBuf>,
    pub(crate) no_auth: bool,
    #[serde(deserialize_with = "digests")]
    pub(crate) digest: Vec<Digest>,
    pub(crate) expires: Expires,
    #[serde(deserialize_with = "contacts")]
    pub(crate) maximum_contacts: Option<usize>,
    #[serde(deserialize_with = "shards")]
    pub(crate) shards: Option<usize>,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) tls_client_auth: Option<Demand>,
    #[serde(deserialize_with = "name_servers")]
    pub(crate) dns_server: Vec<SocketAddr>,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) pcap: Option<PathBuf>,
    pub(crate) hep: Option<String>,
    pub(crate) hep_id: Option<u32>,
    pub(crate) hep_password_file: Option<PathBuf>,
    pub(crate) no_presence: bool,
    pub(crate) presence: Option<PresenceSettings>,
}

impl ConfigFile {
    /// Reads the file at `path`; a relative file name counts from the folder that the file is in.
    pub(crate) fn read(path: &Path) -> Result<ConfigFile, Failure> {
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::Local(format!(
                "cannot read the configuration file {}: {error}",
                path.display()
            ))
        })?;
        let mut config = ConfigFile::parse(&text)
            .map_err(|problem| Failure::Local(format!("{}:{problem}", path.display())))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let system = config.tls_ca.take_if(|ca| crate::tls::is_system(ca));
        let files = [
            &mut config.users,
            &mut config.tls_cert,
            &mut config.tls_key,
            &mut config.tls_ca,
            &mut config.trace,
            &mut config.pcap,
            &mut config.hep_password_file,
        ];
        let is_file = |path: &&mut PathBuf| path.as_os_str() != STANDARD_ERROR;
        for file in files.into_iter().flatten().filter(is_file) {
            *file = folder.join(&*file);
        }
        config.tls_ca = system.or(config.tls_ca);
        Ok(config)
    }

    /// Reads TOML. The error begins with line and column.
    fn parse(text: &str) -> Result<ConfigFile, String> {
        let config: ConfigFile = toml::from_str(text).map_err(|error| {
            let start = at_key(text, error.message()).or(error.span().map(|span| span.start));
            let (line, column) = position(text, start.unwrap_or_default());
            format!("{line}:{column}: {}", error.message().replace('\n', ", "))
        })?;
        if config.no_auth && config.users.is_some() {
            return Err(" users and no_auth exclude each other".to_owned());
        }
        if config.no_presence && config.presence.is_some() {
            return Err(" no_presence and [presence] exclude each other".to_owned());
        }
        Ok(config)
    }
}

/// Names an algorithm that the registrar may challenge with.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
pub(crate) enum Digest {
    #[serde(rename = "MD5")]
    #[value(name = "MD5")]
    Md5,
    #[serde(rename = "SHA-256")]
    #[value(name = "SHA-256")]
    Sha256,
    #[serde(rename = "SHA-512-256")]
    #[value(name = "SHA-512-256")]
    Sha512_256,
}

impl From<Digest> for Algorithm {
    fn from(digest: Digest) -> Algorithm {
        match digest {
            Digest::Md5 => Algorithm::Md5,
            Digest::Sha256 => Algorithm::Sha256,
            Digest::Sha512_256 => Algorithm::Sha512_256,
        }
    }
}

/// Checks that no algorithm is there twice: two challenges with it would contradict each other.
pub(crate) fn distinct(digests: &[Digest]) -> Result<(), String> {
    for (index, digest) in digests.iter().enumerate() {
        if digests.iter().take(index).any(|earlier| earlier == digest) {
            let name = digest.to_possible_value();
            let name = name.as_ref().map_or("an algorithm", |name| name.get_name());
            return Err(format!("{name} is there twice"));
        }
    }
    Ok(())
}

/// Checks that `text` is a host name or an address, and gives it back.
pub(crate) fn host_name(text: &str) -> Result<String, String> {
    let uri = Uri::sip(None, text, None).ok();
    match uri.filter(|uri| uri.port().is_none() && uri.params().next().is_none()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a host name or an address, without a port".to_owned()),
    }
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct HostName(String);

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<HostName, String> {
        match host_name(&text) {
            Ok(name) => Ok(HostName(name)),
            Err(problem) => Err(format!("'{text}': {problem}")),
        }
    }
}

fn host<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(Some(HostName::deserialize(value)?.0))
}

fn hosts<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<String>, D::Error> {
    let names: Vec<HostName> = at_least_one(list)?;
    Ok(names.into_iter().map(|name| name.0).collect())
}

fn name_servers<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<SocketAddr>, D::Error> {
    let read = |text: &String| {
        let problem = |problem| D::Error::custom(format!("'{text}': {problem}"));
        names::name_server(text).map_err(problem)
    };
    at_least_one(list)?.iter().map(read).collect()
}

fn digests<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<Digest>, D::Error> {
    let digests: Vec<Digest> = at_least_one(list)?;
    distinct(&digests).map_err(D::Error::custom)?;
    Ok(digests)
}

/// Reads the one limit that has no flag; the server has the same bounds.
fn contacts<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    match usize::deserialize(value)? {
        limit @ 1..=100 => Ok(Some(limit)),
        other => Err(D::Error::custom(format!(
            "maximum_contacts is from 1 to 100, and not {other}"
        ))),
    }
}

fn shards<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    match usize::deserialize(value)? {
        shards @ 1..=128 => Ok(Some(shards)),
        other => Err(D::Error::custom(format!(
            "shards is from 1 to 128, and not {other}"
        ))),
    }
}

/// Reads a list. An empty one is refused: it would mean the default, which is the opposite of nothing.
fn at_least_one<'de, D, T>(list: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Vec::deserialize(list)?;
    if list.is_empty() {
        return Err(D::Error::custom(
            "the list is empty; without the key, the default holds",
        ));
    }
    Ok(list)
}

/// Where the value is that a message begins with the path of, as in `presence.minimum`: the error itself is at the table.
fn at_key(text: &str, message: &str) -> Option<usize> {
    let (table, key) = message.split(' ').next()?.split_once('.')?;
    let document = toml::de::DeTable::parse(text).ok()?;
    let table = document.get_ref().get(table)?.get_ref().as_table()?;
    Some(table.get(key)?.span().start)
}

/// Gives line and column, both from 1, of a byte of `text`.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).map_or(0, |rest| rest.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use sipora_call_engine::PresenceConfig;

    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = ConfigFile::parse("").unwrap();
        assert_eq!(config, ConfigFile::default());
        assert_eq!(
            config.expires,
            Expires {
                default: 3600,
                minimum: 60,
                maximum: 7200,
            }
        );
    }

    #[test]
    fn the_manual_shows_the_defaults() {
        let manual = include_str!("../README.md");
        let (_, rest) = manual.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let config = ConfigFile::parse(example).unwrap();
        assert_eq!(config.expires, Expires::default());
        let presence = config.presence.map(PresenceConfig::from);
        assert_eq!(presence, Some(PresenceConfig::default()));
        let without_auth = example
            .replace("users =", "# users =")
            .replace("# no_auth", "no_auth");
        assert!(ConfigFile::parse(&without_auth).unwrap().no_auth);
    }

    #[test]
    fn every_key_is_read() {
        let config = ConfigFile::parse(
            r#"
            listen = ["udp:127.0.0.1:0", "tcp:[::1]:5060"]
            advertise = "sip.example.com"
            domain = ["example.com", "example.org"]
            users = "users.txt"
            digest = ["SHA-256", "MD5"]
            maximum_contacts = 3
            trace = "-"
            pcap = "t.pcap"
            hep = "127.0.0.1:9060"
            hep_id = 7
            hep_password_file = "p"
            no_presence = true
            [expires]
            minimum = 30
            "#,
        )
        .unwrap();
        assert_eq!(
            config.listen,
            [
                Listen::Udp("127.0.0.1:0".to_owned()),
                Listen::Tcp("[::1]:5060".to_owned())
            ]
        );
        assert_eq!(config.advertise.as_deref(), Some("sip.example.com"));
        assert_eq!(config.domain, ["example.com", "example.org"]);
        assert_eq!(config.users, Some(PathBuf::from("users.txt")));
        assert_eq!(config.digest, [Digest::Sha256, Digest::Md5]);
        assert_eq!(config.maximum_contacts, Some(3));
        assert_eq!(config.trace, Some(PathBuf::from("-")));
        assert_eq!(config.pcap, Some(PathBuf::from("t.pcap")));
        assert_eq!(config.hep.as_deref(), Some("127.0.0.1:9060"));
        assert_eq!(config.hep_id, Some(7));
        assert_eq!(config.hep_password_file, Some(PathBuf::from("p")));
        assert!(config.no_presence);
        assert_eq!((config.expires.minimum, config.expires.default), (30, 3600));
    }

    #[test]
    fn an_unknown_key_is_named_with_line_and_column() {
        let problem = ConfigFile::parse("advertise = \"a\"\n  lisen = []\n").unwrap_err();
        assert!(
            problem.starts_with("2:3: unknown field `lisen`"),
            "{problem}"
        );
        let problem = ConfigFile::parse("[expires]\nmin = 3\n").unwrap_err();
        assert!(problem.starts_with("2:1: unknown field `min`"), "{problem}");
    }

    #[test]
    fn a_bad_value_is_named_with_line_and_column() {
        let problem =
            ConfigFile::parse("\nlisten = [\"udp:0.0.0.0:0\", \"udp:here\"]\n").unwrap_err();
        assert!(
            problem.starts_with("2:10: 'udp:here': the port is missing; expected udp:"),
            "{problem}"
        );
        let problem = ConfigFile::parse("digest = [\"SHA-1\"]\n").unwrap_err();
        assert!(
            problem.starts_with("1:11: unknown variant `SHA-1`"),
            "{problem}"
        );
    }

    #[test]
    fn a_value_that_cannot_be_used_is_named_with_line_and_column() {
        for (text, start) in [
            ("listen = []", "1:10: the list is empty"),
            ("\ndomain = []", "2:10: the list is empty"),
            ("digest = []", "1:10: the list is empty"),
            (
                "digest = [\"MD5\", \"SHA-256\", \"MD5\"]",
                "1:10: MD5 is there twice",
            ),
            (
                "domain = [\"a.example\", \"b:5060\"]",
                "1:10: 'b:5060': expected a host name",
            ),
            ("advertise = \"a b\"", "1:13: 'a b': expected a host name"),
            (
                "maximum_contacts = 0",
                "1:20: maximum_contacts is from 1 to 100",
            ),
            (
                "maximum_contacts = 101",
                "1:20: maximum_contacts is from 1 to 100",
            ),
            ("shards = 0", "1:10: shards is from 1 to 128"),
            ("shards = 129", "1:10: shards is from 1 to 128"),
            (
                "\n[expires]\nminimum = 4000",
                "3:11: expires.minimum is from 1",
            ),
            ("[expires]\nminimum = 0", "2:11: expires.minimum is from 1"),
            (
                "[expires]\nmaximum = 59",
                "2:11: expires.maximum is 59, below",
            ),
            (
                "[expires]\nmaximum = 100",
                "1:1: expires.default lies between",
            ),
        ] {
            let problem = ConfigFile::parse(text).unwrap_err();
            assert!(problem.starts_with(start), "{text}: {problem}");
        }
    }

    #[test]
    fn broken_toml_is_named_with_line_and_column_on_one_line() {
        let problem = ConfigFile::parse("domain = [\"é\", \n").unwrap_err();
        assert!(
            problem
                .split(':')
                .take(2)
                .all(|part| part.parse::<u32>().is_ok()),
            "{problem}"
        );
        assert!(!problem.contains('\n'), "{problem}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("é = 1\nö = x", 12), (2, 5));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a", 99), (1, 2));
    }

    #[test]
    fn users_and_no_auth_exclude_each_other() {
        let problem = ConfigFile::parse("users = \"u\"\nno_auth = true\n").unwrap_err();
        assert!(problem.contains("exclude each other"), "{problem}");
    }

    #[test]
    fn presence_is_switched_off_or_set_up() {
        let problem = ConfigFile::parse("no_presence = true\n[presence]\n").unwrap_err();
        assert!(problem.contains("exclude each other"), "{problem}");
        let problem = ConfigFile::parse("\n[presence]\nminimum = 0\n").unwrap_err();
        assert!(problem.starts_with("3:11: presence.minimum"), "{problem}");
    }

    #[test]
    fn a_value_out_of_range_is_pointed_at_where_it_stands() {
        for (text, place) in [
            (
                "no_auth = true\nexpires = { maximum = 30 }",
                "2:23: expires.maximum",
            ),
            ("expires.minimum = 9999", "1:19: expires.minimum"),
            (
                "[presence]\n\nnotify_interval = 9999",
                "3:19: presence.notify_interval",
            ),
            // Here the key that is wrong is not there: it is the default that does not fit.
            (
                "\n[expires]\nminimum = 3600\nmaximum = 3600\ndefault = 60",
                "5:11: expires.default",
            ),
            ("\n[presence]\nmaximum = 600", "2:1: presence.default"),
        ] {
            let problem = ConfigFile::parse(text).unwrap_err();
            assert!(problem.starts_with(place), "{problem}");
        }
    }

    #[test]
    fn the_users_file_is_relative_to_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sipora.toml");
        fs::write(&path, "users = \"users.txt\"\n").unwrap();
        let config = ConfigFile::read(&path).unwrap();
        assert_eq!(config.users, Some(folder.path().join("users.txt")));
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = ConfigFile::read(Path::new("/nonexistent/sipora.toml")).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(
            failure.to_string().contains("/nonexistent/sipora.toml"),
            "{failure}"
        );
    }
}
