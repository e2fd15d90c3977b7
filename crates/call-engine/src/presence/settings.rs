//! The settings of the presence agent.

use std::time::Duration;

use sipora_dialog_core::NotifierConfig;

use super::publications::Limits;
use crate::Result;
use crate::policy::Expiry;

/// Says how long subscriptions and publications last, and how many there may be.
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`with_expires`](Self::with_expires) | 3600 s, from 60 s to 3600 s | RFC 3856 §6.4 has an hour as its default; below a minute, refreshes are all that a server does |
/// | [`with_notify_interval`](Self::with_notify_interval) | 5 s | RFC 3856 §6.10 |
/// | [`with_max_subscriptions`](Self::with_max_subscriptions) | 100,000; 5,000 from one address | at some 2 KB each, and no more than some 6 KB, that is 200 MB; an office behind one address fits, a flood does not |
/// | [`with_max_publications`](Self::with_max_publications) | 100,000; 5,000 from one address | the same; a user has ten at most, as contacts |
/// | [`with_max_document_bytes`](Self::with_max_document_bytes) | 16 KiB | some hundred tuples; more is no presence |
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "settings do nothing until they are given to CallCenterConfig::with_presence"]
pub struct PresenceConfig {
    expires: (u32, u32, u32),
    notify_interval: Duration,
    subscriptions: (usize, usize),
    publications: (usize, usize),
    document_bytes: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            expires: (3600, 60, 3600),
            notify_interval: Duration::from_secs(5),
            subscriptions: (100_000, 5_000),
            publications: (100_000, 5_000),
            document_bytes: 16 * 1024,
        }
    }
}

impl PresenceConfig {
    /// Begins with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the seconds that SUBSCRIBE and PUBLISH are granted who ask for none, the fewest that are accepted, and the most
    /// that are granted.
    ///
    /// Who asks for fewer than `minimum` gets 423 and is told the minimum; who asks for more than `maximum` gets `maximum`.
    /// The minimum is at most 3600: RFC 6665 §4.2.1.1 lets nobody refuse an hour.
    pub fn with_expires(mut self, default: u32, minimum: u32, maximum: u32) -> Self {
        self.expires = (default, minimum, maximum);
        self
    }

    /// Sets the least time between two NOTIFYs of one subscription. The one that a SUBSCRIBE wants, and the last one, leave
    /// at once; what changes in between is told in one.
    pub fn with_notify_interval(mut self, interval: Duration) -> Self {
        self.notify_interval = interval;
        self
    }

    /// Sets how many subscriptions there may be, and how many of them from one address of the network; an IPv6 address
    /// counts by its first 64 bits. Beyond, SUBSCRIBE is answered with 503 and Retry-After.
    pub fn with_max_subscriptions(mut self, total: usize, from_one_address: usize) -> Self {
        self.subscriptions = (total, from_one_address);
        self
    }

    /// Sets how many publications there may be, and how many of them from one address of the network, counted as
    /// subscriptions are. Their documents may have 1 KiB each on average. Beyond, PUBLISH is answered with 503 and
    /// Retry-After.
    pub fn with_max_publications(mut self, total: usize, from_one_address: usize) -> Self {
        self.publications = (total, from_one_address);
        self
    }

    /// Sets how many bytes a document may have that is published, as it is sent and as it is passed on, where quotes and
    /// line ends are escaped and namespaces declared where they are used. A larger one is refused with 413. All of a user's
    /// together may have twice as many, since each watcher gets all of them; beyond, 503.
    pub fn with_max_document_bytes(mut self, bytes: usize) -> Self {
        self.document_bytes = bytes;
        self
    }

    pub(crate) fn expiry(&self) -> Result<Expiry> {
        let (default, minimum, maximum) = self.expires;
        Expiry::checked("presence expires", default, minimum, maximum)
    }

    pub(super) fn notify_interval(&self) -> Duration {
        self.notify_interval
    }

    pub(super) fn notifier(&self) -> NotifierConfig {
        let (default_expires, min_expires, max_expires) = self.expires;
        let (max_subscriptions, max_per_source) = self.subscriptions;
        NotifierConfig {
            min_expires,
            max_expires,
            default_expires,
            max_subscriptions,
            max_per_source,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let (total, per_source) = self.publications;
        Limits {
            total,
            per_source,
            per_address: crate::config::DEFAULT_MAX_CONTACTS,
            document_bytes: self.document_bytes,
            bytes: total.saturating_mul(USUAL_BYTES),
        }
    }
}

/// Bytes of a document where all are published that may be: a few tuples.
const USUAL_BYTES: usize = 1024;
