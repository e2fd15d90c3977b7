//! Settings of a [`Notifier`](super::Notifier).

/// Settings of a [`Notifier`](super::Notifier).
#[derive(Debug, Clone)]
pub struct NotifierConfig {
    /// Shorter wishes get 423, if they are below an hour and above zero (RFC 6665 §4.2.1.1). Default 60 s.
    pub min_expires: u32,
    /// Longer ones are granted this. Default an hour.
    pub max_expires: u32,
    /// What a SUBSCRIBE without Expires gets. Default an hour.
    pub default_expires: u32,
    /// Subscriptions at once; beyond, 503 with Retry-After. Default 100,000.
    pub max_subscriptions: usize,
    /// Subscriptions from one address at once; beyond, 503 with Retry-After. Default 5,000: an office behind one address
    /// fits, a flood does not. Proxies in front want more. IPv6 addresses count by their first 64 bits.
    pub max_per_source: usize,
}

impl Default for NotifierConfig {
    fn default() -> Self {
        Self {
            min_expires: 60,
            max_expires: 3600,
            default_expires: 3600,
            max_subscriptions: 100_000,
            max_per_source: 5_000,
        }
    }
}
