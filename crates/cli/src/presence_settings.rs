//! The table `[presence]` of the configuration file.

use std::time::Duration;

use serde::Deserialize;
use sipora_call_engine::PresenceConfig;

use crate::expires::Expires;

/// How long subscriptions and publications last, how often watchers are told, and how many there may be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "PresenceTable")]
pub(crate) struct PresenceSettings(PresenceTable);

/// What stands in the file, whether or not it can be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
struct PresenceTable {
    default: u32,
    minimum: u32,
    maximum: u32,
    notify_interval: u64,
    maximum_subscriptions: usize,
    maximum_subscriptions_from_one_address: usize,
    maximum_publications: usize,
    maximum_publications_from_one_address: usize,
    maximum_document_bytes: usize,
}

/// The engine's own; a test compares the two.
impl Default for PresenceTable {
    fn default() -> PresenceTable {
        PresenceTable {
            default: 3600,
            minimum: 60,
            maximum: 3600,
            notify_interval: 5,
            maximum_subscriptions: 100_000,
            maximum_subscriptions_from_one_address: 5_000,
            maximum_publications: 100_000,
            maximum_publications_from_one_address: 5_000,
            maximum_document_bytes: 16_384,
        }
    }
}

impl TryFrom<PresenceTable> for PresenceSettings {
    type Error = String;

    fn try_from(table: PresenceTable) -> Result<PresenceSettings, String> {
        // RFC 6665 §4.2.1.1 lets nobody refuse an hour.
        Expires::checked("presence", table.default, table.minimum, table.maximum)?;
        let within = |key: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!(
                "presence.{key} is from {least} to {most}, and not {value}"
            ))
        };
        let interval = usize::try_from(table.notify_interval).unwrap_or(usize::MAX);
        within("notify_interval", interval, 0, 3600)?;
        for (key, value) in [
            ("maximum_subscriptions", table.maximum_subscriptions),
            (
                "maximum_subscriptions_from_one_address",
                table.maximum_subscriptions_from_one_address,
            ),
            ("maximum_publications", table.maximum_publications),
            (
                "maximum_publications_from_one_address",
                table.maximum_publications_from_one_address,
            ),
        ] {
            within(key, value, 1, MOST)?;
        }
        let bytes = table.maximum_document_bytes;
        within("maximum_document_bytes", bytes, 1, LONGEST)?;
        Ok(PresenceSettings(table))
    }
}

impl From<PresenceSettings> for PresenceConfig {
    fn from(PresenceSettings(table): PresenceSettings) -> PresenceConfig {
        PresenceConfig::new()
            .with_expires(table.default, table.minimum, table.maximum)
            .with_notify_interval(Duration::from_secs(table.notify_interval))
            .with_max_subscriptions(
                table.maximum_subscriptions,
                table.maximum_subscriptions_from_one_address,
            )
            .with_max_publications(
                table.maximum_publications,
                table.maximum_publications_from_one_address,
            )
            .with_max_document_bytes(table.maximum_document_bytes)
    }
}

/// At some 2 KB each that is 20 GB: more is a slip of the hand.
const MOST: usize = 10_000_000;

/// Larger bodies are no messages here.
const LONGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<PresenceConfig, String> {
        let settings = toml::from_str::<PresenceSettings>(text);
        settings
            .map(PresenceConfig::from)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn an_empty_table_is_the_engine_s_defaults() {
        assert_eq!(read("").unwrap(), PresenceConfig::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = read(
            "default = 300\nminimum = 30\nmaximum = 600\nnotify_interval = 0\n\
             maximum_subscriptions = 10\nmaximum_subscriptions_from_one_address = 2\n\
             maximum_publications = 20\nmaximum_publications_from_one_address = 4\n\
             maximum_document_bytes = 1000\n",
        );
        let expected = PresenceConfig::new()
            .with_expires(300, 30, 600)
            .with_notify_interval(Duration::ZERO)
            .with_max_subscriptions(10, 2)
            .with_max_publications(20, 4)
            .with_max_document_bytes(1000);
        assert_eq!(config, Ok(expected));
    }

    #[test]
    fn a_value_that_cannot_be_used_is_named() {
        for (text, start) in [
            ("minimum = 3601", "presence.minimum is from 1 to 3600"),
            (
                "maximum = 59",
                "presence.maximum is 59, below presence.minimum",
            ),
            ("default = 4000", "presence.default lies between"),
            (
                "notify_interval = 3601",
                "presence.notify_interval is from 0",
            ),
            (
                "maximum_subscriptions = 0",
                "presence.maximum_subscriptions is from 1",
            ),
            (
                "maximum_document_bytes = 1048577",
                "presence.maximum_document_bytes",
            ),
            ("maximum_watchers = 1", "unknown field `maximum_watchers`"),
        ] {
            let problem = read(text).unwrap_err();
            assert!(problem.starts_with(start), "{text}: {problem}");
        }
    }
}
