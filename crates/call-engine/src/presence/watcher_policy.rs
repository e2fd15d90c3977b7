//! Who may watch whom.

use crate::AddressOfRecord;

/// Decides who may watch a user's presence (RFC 3856 §6.6.2).
///
/// Without one, every user of a served domain may watch every other. Give one with
/// [`with_watcher_policy`](crate::CallCenterConfig::with_watcher_policy). When it comes to another mind,
/// [`CallCenterEngine::reconsider_watchers`](crate::CallCenterEngine::reconsider_watchers) lets it decide again about those
/// who watch already.
///
/// ```
/// use sipora_call_engine::{AddressOfRecord, WatcherDecision, WatcherPolicy};
///
/// /// Colleagues may watch, the rest waits until somebody is asked.
/// struct Colleagues;
///
/// impl WatcherPolicy for Colleagues {
///     fn decide(&self, watcher: Option<&AddressOfRecord>, watched: &AddressOfRecord) -> WatcherDecision {
///         match watcher {
///             Some(watcher) if watcher.domain() == watched.domain() => WatcherDecision::Allow,
///             Some(_) => WatcherDecision::Pending,
///             None => WatcherDecision::Refuse,
///         }
///     }
/// }
/// ```
pub trait WatcherPolicy: Send + Sync + 'static {
    /// Decides whether `watcher` may watch `watched`, who is a user. Users who watch themselves are not asked about.
    ///
    /// `watcher` has proven who it is; without authentication it is what From says, `None` for nobody of a served domain.
    /// Called inside the task that moves messages: it computes and never waits. Who has to ask somebody says
    /// [`WatcherDecision::Pending`].
    fn decide(
        &self,
        watcher: Option<&AddressOfRecord>,
        watched: &AddressOfRecord,
    ) -> WatcherDecision;
}

/// What a [`WatcherPolicy`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatcherDecision {
    /// The subscription is active.
    Allow,
    /// 403; a subscription that is there already ends with the reason `rejected`.
    Refuse,
    /// The subscription is pending: its NOTIFY tells nothing. One that is active already stays so.
    Pending,
}

/// Lets everybody watch who has passed the gate.
pub(super) struct Everybody;

impl WatcherPolicy for Everybody {
    fn decide(&self, _: Option<&AddressOfRecord>, _: &AddressOfRecord) -> WatcherDecision {
        WatcherDecision::Allow
    }
}
