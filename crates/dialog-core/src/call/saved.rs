//! How a [`CallState`] is written: as plain values, with the version of their shape before them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use sipora_message::{HeaderName, Limits, Method, NameAddr, Request, Uri};

use super::handover::MOST_ACKS;
use super::packages::{MOST, Packages};
use super::state::{AckState, CallState, TimerState};
use super::timer::{LONGEST, Left};
use crate::dialog::saved::{InvalidDialog, SavedDialog};
use crate::{Body, Dialog};

/// A call, as it is written. Every field is always there, so that formats without names of fields can do it too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedCall {
    version: Version,
    dialog: SavedDialog,
    is_caller: bool,
    contact: String,
    allows_update: bool,
    info_packages: Option<Vec<String>>,
    was_referred: bool,
    has_session: bool,
    is_direct: bool,
    late_prack: Option<SavedPrack>,
    timer: Option<SavedTimer>,
    acks: Vec<SavedAck>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SavedPrack {
    rseq: u32,
    cseq: u32,
}

/// Times are milliseconds that are left.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedTimer {
    interval_seconds: u32,
    we_refresh: bool,
    due: u64,
    ends: u64,
    min_se: u32,
    takes_update: bool,
    description: Option<SavedBody>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedAck {
    cseq: u32,
    body: Option<SavedBody>,
}

/// Session descriptions are text (RFC 8866 §4).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedBody {
    content_type: String,
    text: String,
}

/// The version of the shape. A later one that has to say more than this gives it a higher number, and reads this one too.
#[derive(Debug, Clone, Copy, Serialize)]
struct Version(u32);

const CURRENT: Version = Version(1);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = u32::deserialize(deserializer)?;
        match version == CURRENT.0 {
            true => Ok(Self(version)),
            false => Err(de::Error::custom(format_args!(
                "calls of version {version} cannot be read, but those of {}",
                CURRENT.0
            ))),
        }
    }
}

/// A value that no call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidCall {
    #[error(transparent)]
    Dialog(#[from] InvalidDialog),
    #[error("the Contact of the call cannot be used")]
    Contact,
    #[error("the session timer of the call cannot be used")]
    Timer,
    #[error("a body of the call cannot be used")]
    Body,
    #[error("too many {0} of the call")]
    TooMany(&'static str),
}

impl From<CallState> for SavedCall {
    fn from(state: CallState) -> Self {
        Self {
            version: CURRENT,
            dialog: SavedDialog::from(&state.dialog),
            is_caller: state.is_caller,
            contact: state.contact.into(),
            allows_update: state.allows_update,
            info_packages: state.packages.map(Packages::into_names),
            was_referred: state.was_referred,
            has_session: state.has_session,
            is_direct: state.is_direct,
            late_prack: state
                .late_prack
                .map(|(rseq, cseq)| SavedPrack { rseq, cseq }),
            timer: state.timer.map(SavedTimer::from),
            acks: state.acks.into_iter().filter_map(SavedAck::new).collect(),
        }
    }
}

impl TryFrom<SavedCall> for CallState {
    type Error = InvalidCall;

    fn try_from(saved: SavedCall) -> Result<Self, InvalidCall> {
        let packages = saved.info_packages;
        if packages.as_ref().is_some_and(|names| names.len() > MOST) {
            return Err(InvalidCall::TooMany("packages"));
        }
        if saved.acks.len() > MOST_ACKS {
            return Err(InvalidCall::TooMany("ACKs"));
        }
        if !is_contact(&saved.contact) {
            return Err(InvalidCall::Contact);
        }
        let timer = saved.timer.map(TimerState::try_from).transpose()?;
        let acks = saved.acks.into_iter().map(AckState::try_from);
        Ok(Self {
            dialog: Dialog::try_from(saved.dialog)?,
            is_caller: saved.is_caller,
            contact: saved.contact.into(),
            allows_update: saved.allows_update,
            packages: packages.map(Packages::of_names),
            was_referred: saved.was_referred,
            has_session: saved.has_session,
            is_direct: saved.is_direct,
            late_prack: saved.late_prack.map(|late| (late.rseq, late.cseq)),
            timer,
            acks: acks.collect::<Result<_, _>>()?,
        })
    }
}

impl From<TimerState> for SavedTimer {
    fn from(timer: TimerState) -> Self {
        let left = timer.left;
        Self {
            interval_seconds: left.interval,
            we_refresh: left.is_ours,
            due: milliseconds(left.due),
            ends: milliseconds(left.ends),
            min_se: left.min_se,
            takes_update: left.takes_update,
            // What cannot be written is asked for when it is needed (`CallEvent::RefreshDue`).
            description: timer.description.and_then(SavedBody::new),
        }
    }
}

impl TryFrom<SavedTimer> for TimerState {
    type Error = InvalidCall;

    fn try_from(saved: SavedTimer) -> Result<Self, InvalidCall> {
        let (due, ends) = (
            Duration::from_millis(saved.due),
            Duration::from_millis(saved.ends),
        );
        if due > ends || ends > Duration::from_secs(LONGEST.into()) {
            return Err(InvalidCall::Timer);
        }
        let description = saved.description.map(Body::try_from).transpose()?;
        Ok(Self {
            left: Left {
                interval: saved.interval_seconds,
                is_ours: saved.we_refresh,
                due,
                ends,
                min_se: saved.min_se,
                takes_update: saved.takes_update,
            },
            description,
        })
    }
}

impl SavedAck {
    /// None where its answer cannot be written, without which it says nothing.
    fn new(ack: AckState) -> Option<Self> {
        let body = match ack.body {
            Some(body) => Some(SavedBody::new(body)?),
            None => None,
        };
        Some(Self {
            cseq: ack.cseq,
            body,
        })
    }
}

impl TryFrom<SavedAck> for AckState {
    type Error = InvalidCall;

    fn try_from(saved: SavedAck) -> Result<Self, InvalidCall> {
        Ok(Self {
            cseq: saved.cseq,
            body: saved.body.map(Body::try_from).transpose()?,
        })
    }
}

impl SavedBody {
    fn new(body: Body) -> Option<Self> {
        Some(Self {
            content_type: body.content_type,
            text: String::from_utf8(body.bytes.to_vec()).ok()?,
        })
    }
}

impl TryFrom<SavedBody> for Body {
    type Error = InvalidCall;

    fn try_from(saved: SavedBody) -> Result<Self, InvalidCall> {
        let body = Body::new(&saved.content_type, saved.text);
        let probe = probe(None, Some(&body)).ok_or(InvalidCall::Body)?;
        let is_same = matches!(probe.headers().content_type(), Ok(Some(_)));
        match is_same && probe.body() == &body.bytes[..] {
            true => Ok(body),
            false => Err(InvalidCall::Body),
        }
    }
}

/// Says whether a text is one Contact, which every request and answer may carry.
fn is_contact(text: &str) -> bool {
    let Some(probe) = probe(Some(text), None) else {
        return false;
    };
    let mut contacts = probe.headers().addresses(&HeaderName::Contact);
    let first = contacts.next();
    let is_same = |contact: NameAddr<'_>| contact.as_bytes() == text.as_bytes();
    first.is_some_and(|first| first.is_ok_and(is_same)) && contacts.next().is_none()
}

/// Prints what a request of the call would carry, and reads it as the peer would.
fn probe(contact: Option<&str>, body: Option<&Body>) -> Option<Request> {
    let mut builder = Request::builder(Method::Options, &Uri::parse("sip:peer.invalid").ok()?)
        .from("<sip:us.invalid>;tag=1")
        .to("<sip:peer.invalid>;tag=2")
        .call_id("probe")
        .cseq(1);
    if let Some(contact) = contact {
        builder = builder.contact(contact);
    }
    if let Some(body) = body {
        builder = builder.body(&body.content_type, body.bytes.clone());
    }
    let printed = builder.build().ok()?.as_bytes().to_vec();
    Request::parse(printed, &Limits::default()).ok()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
