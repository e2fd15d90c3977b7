//! Counters.

/// Holds what one endpoint has counted since it began, and what it holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Server transactions held, completed ones included.
    pub server_transactions: u64,
    /// Of those, the ones that wait for their final answer.
    pub unanswered: u64,
    /// Requests of our own in flight.
    pub requests: u64,
    /// Client transactions held, CANCELs and abandoned attempts included.
    pub client_transactions: u64,
    /// Requests by which merged ones are known, at most as many as server transactions.
    pub origins: u64,
    /// Entries in the timer queue, stale ones included.
    pub timer_entries: u64,
    /// Requests received that began a server transaction.
    pub requests_received: u64,
    /// Requests received again and absorbed.
    pub retransmissions_received: u64,
    /// Requests that had come by another way before, refused with 482.
    pub merged: u64,
    /// Requests of ours sent, each once.
    pub requests_sent: u64,
    /// Requests and answers sent again.
    pub retransmissions_sent: u64,
    /// Final answers sent.
    pub answers_sent: u64,
    /// Answers sent without keeping a transaction.
    pub stateless_answers_sent: u64,
    /// Responses that matched a request of ours.
    pub responses_received: u64,
    /// Responses that matched nothing and were dropped.
    pub responses_unmatched: u64,
    /// Messages that could not be parsed.
    pub malformed_received: u64,
    /// Requests refused because [`Config::max_server_transactions`](crate::Config) was reached.
    pub refused_for_lack_of_room: u64,
    /// Requests of ours refused because [`Config::max_requests`](crate::Config) or
    /// [`Config::max_client_transactions`](crate::Config) was reached.
    pub overloaded: u64,
    /// Attempts that gave way to the next target.
    pub attempts_advanced: u64,
    /// INVITEs of ours that rang for too long and were cancelled (Timer C).
    pub rang_too_long: u64,
    /// Targets that are remembered as failed, those included whose time is over and that nothing has swept out yet.
    pub targets_avoided: u64,
    /// Targets that were passed over because they had failed a short while before.
    pub targets_passed_over: u64,
    /// Requests of ours that timed out.
    pub timeouts: u64,
    /// Failures to hand bytes to a flow.
    pub transport_errors: u64,
    /// Requests that no user answered before their client gave up, or an INVITE within
    /// [`Timers::forgotten`](crate::Timers::forgotten).
    pub never_answered: u64,
    /// Answers given too late.
    pub gone: u64,
}
