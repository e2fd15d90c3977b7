//! Why a notifier ends a subscription (RFC 6665 §4.1.3).

use std::fmt;
use std::time::Duration;

/// The `reason` of a `terminated` subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TerminationReason {
    /// `deactivated`: subscribe again at once; the notifier moves.
    Deactivated,
    /// `probation`: subscribe again later.
    Probation,
    /// `rejected`: not allowed, or no longer.
    Rejected,
    /// `timeout`: it was not refreshed, or was ended or fetched by the subscriber.
    Timeout,
    /// `giveup`: nobody decided whether it is allowed.
    GiveUp,
    /// `noresource`: what was watched is gone.
    NoResource,
    /// `invariant`: what was watched will not change.
    Invariant,
    /// A reason that RFC 6665 does not define.
    Other(Box<str>),
    /// No reason was given.
    Unspecified,
}

/// What a subscriber may do after the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resubscribe {
    /// Subscribe again, with a new Call-ID, as soon as it likes.
    Now,
    /// The same, after this time.
    After(Duration),
    /// Not without a new reason.
    Never,
}

impl TerminationReason {
    pub(super) fn read(reason: Option<&str>) -> Self {
        let Some(text) = reason else {
            return Self::Unspecified;
        };
        KNOWN
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
            .map_or_else(|| Self::Other(text.into()), |(_, reason)| reason.clone())
    }

    /// The word as it stands in Subscription-State; empty where there is none.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            Self::Unspecified => "",
            known => KNOWN
                .iter()
                .find(|(_, reason)| reason == known)
                .map_or("", |(name, _)| name),
        }
    }

    /// Tells when to subscribe again, given the `retry-after` that came with the reason; RFC 6665 §4.1.3 says for which
    /// reasons it counts. After `probation` without it: a minute.
    pub fn resubscribe(&self, retry_after: Option<Duration>) -> Resubscribe {
        match self {
            Self::Deactivated | Self::Timeout => Resubscribe::Now,
            Self::Probation => Resubscribe::After(retry_after.unwrap_or(Duration::from_secs(60))),
            Self::GiveUp | Self::Other(_) | Self::Unspecified => {
                retry_after.map_or(Resubscribe::Now, Resubscribe::After)
            }
            Self::Rejected | Self::NoResource | Self::Invariant => Resubscribe::Never,
        }
    }
}

impl fmt::Display for TerminationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.write_str("no reason given"),
            other => f.write_str(other.as_str()),
        }
    }
}

static KNOWN: [(&str, TerminationReason); 7] = [
    ("deactivated", TerminationReason::Deactivated),
    ("probation", TerminationReason::Probation),
    ("rejected", TerminationReason::Rejected),
    ("timeout", TerminationReason::Timeout),
    ("giveup", TerminationReason::GiveUp),
    ("noresource", TerminationReason::NoResource),
    ("invariant", TerminationReason::Invariant),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_says_whether_to_come_again() {
        let minute = Some(Duration::from_secs(60));
        let after = Resubscribe::After(Duration::from_secs(60));
        let cases = [
            ("deactivated", Resubscribe::Now, Resubscribe::Now),
            ("probation", after, after),
            ("rejected", Resubscribe::Never, Resubscribe::Never),
            ("Timeout", Resubscribe::Now, Resubscribe::Now),
            ("giveup", Resubscribe::Now, after),
            ("noresource", Resubscribe::Never, Resubscribe::Never),
            ("invariant", Resubscribe::Never, Resubscribe::Never),
            ("expired", Resubscribe::Now, after),
        ];
        for (text, without, with) in cases {
            let reason = TerminationReason::read(Some(text));
            assert_eq!(reason.resubscribe(None), without, "{text}");
            assert_eq!(reason.resubscribe(minute), with, "{text}");
            assert!(reason.as_str().eq_ignore_ascii_case(text));
        }
        assert_eq!(
            TerminationReason::read(None),
            TerminationReason::Unspecified
        );
        assert_eq!(TerminationReason::Unspecified.as_str(), "");
    }
}
