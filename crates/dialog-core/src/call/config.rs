//! Settings of calls.

use std::sync::Arc;
use std::time::Duration;

use crate::Authorizer;

/// Holds the settings of the calls of one endpoint. They begin as the defaults, and are set one by one:
///
/// ```
/// use sipora_dialog_core::CallConfig;
/// use std::time::Duration;
///
/// let mut config = CallConfig::default();
/// config.session_expires = Some(Duration::from_secs(1800));
/// config.info_packages = vec!["g.example".to_owned()];
/// config.takes_messages = true;
/// config.product = Some("gateway/1.0".to_owned());
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallConfig {
    /// The first interval between copies of a 2xx (RFC 3261 §13.3.1.4). Default 500 ms; it should be the endpoint's T1.
    pub t1: Duration,
    /// The longest interval between copies of a 2xx. Default 4 s.
    pub t2: Duration,
    /// Calls at once, those that ring included; more get 503. Default 100,000, as many as an endpoint has requests in flight. Of
    /// several shards each has an equal part, rounded up.
    pub max_calls: usize,
    /// Calls that came in and wait for the application to take them; more get 503. Default 256: who has not taken the first of
    /// them is stuck.
    pub backlog: usize,
    /// How long a call that came in may ring before it is refused with 480. Default 15 minutes; the transaction layer would
    /// give it up after half an hour ([`Timers::forgotten`](sipora_transaction_core::Timers::forgotten)). A re-INVITE that nobody
    /// answers is refused after that time too, with 487, or accepted, where it has changed the session already, and the call goes on.
    pub max_ringing: Duration,
    /// How long a request within a dialog may take, with every retry. Default 32 s, 64*T1.
    pub request_timeout: Duration,
    /// The packages of INFO that the application takes (RFC 6086); INFO of others gets 469. None by default. INFO without a
    /// package is always passed to it.
    pub info_packages: Vec<String>,
    /// Content types of INVITE, UPDATE and PRACK that the application understands, beside `application/sdp` and multipart bodies:
    /// `application/pidf+xml`, for example. None by default. A body of another type gets 415, unless its Content-Disposition says
    /// `handling=optional` (RFC 3261 §8.2.3).
    pub body_types: Vec<String>,
    /// Whether a MESSAGE within a call is passed to the application, which has to show it. Default no: it gets 405, since its 200
    /// says that somebody reads it.
    pub takes_messages: bool,
    /// Whether a REFER within a call is offered to the application ([`CallEvent::Referred`](crate::CallEvent::Referred)), which
    /// has to follow or refuse it. Default no: it gets 405, since who refers us has us call strangers (RFC 3515 §5).
    pub takes_refers: bool,
    /// REFERs outside of calls that are followed at once ([`IncomingRefers`](crate::IncomingRefers)); more get 503. Default none: they
    /// get 405, or 403 where [`takes_refers`](Self::takes_refers) is set, since anybody can send one. 1,000 is plenty for a user agent.
    /// Of several shards each has an equal part, rounded up.
    pub max_refers_outside: usize,
    /// How long the peer is told of a REFER that it sent, unless it subscribes for longer. Default 5 minutes: a call that rings
    /// for longer is given up as a rule.
    pub refer_expires: Duration,
    /// Whether an INVITE with Replaces (RFC 3891) is offered as what it is ([`Call::replaces`](crate::Call::replaces)), for
    /// [`Call::accept_replacing`](crate::Call::accept_replacing), which ends the call that it names. Default no, since the application "MUST verify that the initiator of the new INVITE is
    /// authorized to replace the matched dialog": such INVITEs are calls like others, and get 420 where they require it.
    pub takes_replaces: bool,
    /// How long a session lasts that nobody refreshes (RFC 4028). Our INVITEs ask for it, and our 2xx to who knows session timers
    /// but does not ask; 1800 s is usual. Default none: no timer is asked for, but one that the peer or a proxy asks for is kept,
    /// since a call whose timer only one side wants is refreshed for its benefit alone.
    pub session_expires: Option<Duration>,
    /// The shortest session that we agree to: less gets 422. Default, and at least, 90 s (RFC 4028 §9).
    pub min_session_expires: Duration,
    /// Whether a re-INVITE or UPDATE that offers what the peer has said last, as who refreshes the session does, is answered with what
    /// we have said last, which each call then remembers. The application does not hear of it. Default yes: nothing changes, and it
    /// could only say the same. Without it such offers are told of as others are.
    pub answers_refreshes: bool,
    /// Whether OPTIONS outside of calls is answered, by which trunks and proxies ask whether anybody is there: with 200 and what calls
    /// are capable of, or with 503 where there is no room for another (RFC 3261 §11.2). Default no: a user of the endpoint that knows
    /// more of the program takes it (session-core does), or it gets 405. OPTIONS within a call is always answered.
    pub answers_options: bool,
    /// Whether provisional answers are sent and taken reliably. Default [`Reliability::Supported`], since "the UAC SHOULD include
    /// this in all INVITE requests" (RFC 3262 §4).
    pub reliability: Reliability,
    /// What answers challenges to our requests within calls that others began; those that we begin have their own
    /// ([`UnifiedDialogApi::invite`](crate::UnifiedDialogApi::invite)). Default none: the challenge is the answer.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Value of `User-Agent` and `Server`; none by default.
    pub product: Option<String>,
}

/// Says when provisional answers are reliable (RFC 3262): repeated until the peer acknowledges them with PRACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Never. An INVITE that requires it gets 420.
    Never,
    /// Where the peer supports it: its own are acknowledged; ours are reliable where they carry a session description
    /// (RFC 6337 §3.1.1), where the peer requires it, and where the application asks for it.
    #[default]
    Supported,
    /// Always: our INVITEs require it, and one that does not support it gets 421. Only a provisional answer that would owe an
    /// offer and has none is unreliable.
    Required,
}

impl CallConfig {
    /// Whether the application takes any REFER.
    pub(super) fn knows_refer(&self) -> bool {
        self.takes_refers || self.max_refers_outside > 0
    }

    /// Says that an answer is on its way to who referred: a REFER is decided within half of the time that its client waits.
    pub(super) fn refer_patience(&self) -> Duration {
        self.t1 * 32
    }
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            max_calls: 100_000,
            backlog: 256,
            max_ringing: Duration::from_secs(15 * 60),
            request_timeout: Duration::from_secs(32),
            info_packages: Vec::new(),
            body_types: Vec::new(),
            takes_messages: false,
            answers_options: false,
            takes_refers: false,
            max_refers_outside: 0,
            refer_expires: Duration::from_secs(5 * 60),
            takes_replaces: false,
            session_expires: None,
            min_session_expires: Duration::from_secs(90),
            answers_refreshes: true,
            reliability: Reliability::Supported,
            authorizer: None,
            product: None,
        }
    }
}
