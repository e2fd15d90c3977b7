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
    /// Messages that were handed to the shard they belong to by the one that received them.
    pub passed_on: u64,
    /// Messages that were not, because that shard's queue was full: dropped, or over a connection refused with 503.
    pub not_passed_on: u64,
    /// Answers and ACKs over a connection that waited until that queue had room; nothing was read from connections meanwhile.
    pub held_back: u64,
    /// Reports of the network that a datagram did not arrive which another shard was not told, because its queue was nearly
    /// full: its requests to that peer fail later.
    pub reports_not_passed_on: u64,
}

impl Metrics {
    /// Adds what another shard has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        // Taken apart, so that no counter is forgotten.
        let Self {
            server_transactions,
            unanswered,
            requests,
            client_transactions,
            origins,
            timer_entries,
            requests_received,
            retransmissions_received,
            merged,
            requests_sent,
            retransmissions_sent,
            answers_sent,
            stateless_answers_sent,
            responses_received,
            responses_unmatched,
            malformed_received,
            refused_for_lack_of_room,
            overloaded,
            attempts_advanced,
            rang_too_long,
            targets_avoided,
            targets_passed_over,
            timeouts,
            transport_errors,
            never_answered,
            gone,
            passed_on,
            not_passed_on,
            held_back,
            reports_not_passed_on,
        } = other;
        for (sum, part) in [
            (&mut self.server_transactions, server_transactions),
            (&mut self.unanswered, unanswered),
            (&mut self.requests, requests),
            (&mut self.client_transactions, client_transactions),
            (&mut self.origins, origins),
            (&mut self.timer_entries, timer_entries),
            (&mut self.requests_received, requests_received),
            (&mut self.retransmissions_received, retransmissions_received),
            (&mut self.merged, merged),
            (&mut self.requests_sent, requests_sent),
            (&mut self.retransmissions_sent, retransmissions_sent),
            (&mut self.answers_sent, answers_sent),
            (&mut self.stateless_answers_sent, stateless_answers_sent),
            (&mut self.responses_received, responses_received),
            (&mut self.responses_unmatched, responses_unmatched),
            (&mut self.malformed_received, malformed_received),
            (&mut self.refused_for_lack_of_room, refused_for_lack_of_room),
            (&mut self.overloaded, overloaded),
            (&mut self.attempts_advanced, attempts_advanced),
            (&mut self.rang_too_long, rang_too_long),
            (&mut self.targets_avoided, targets_avoided),
            (&mut self.targets_passed_over, targets_passed_over),
            (&mut self.timeouts, timeouts),
            (&mut self.transport_errors, transport_errors),
            (&mut self.never_answered, never_answered),
            (&mut self.gone, gone),
            (&mut self.passed_on, passed_on),
            (&mut self.not_passed_on, not_passed_on),
            (&mut self.held_back, held_back),
            (&mut self.reports_not_passed_on, reports_not_passed_on),
        ] {
            *sum = sum.saturating_add(*part);
        }
    }
}
