//! Event, Allow-Events and Subscription-State (RFC 6665 §8.2).

use std::borrow::Cow;
use std::fmt;

use super::Headers;
use super::item::Item;
use crate::builder::HeaderValue;
use crate::classes::decimal;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::method::NotAToken;
use crate::params::Params;

/// The event package of a subscription, with its parameters.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a>(Item<'a>);

/// What a notifier says about a subscription.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionStateRef<'a>(Item<'a>);

/// The state in Subscription-State, compared without case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionPhase {
    /// `active`: accepted.
    Active,
    /// `pending`: received, not yet decided.
    Pending,
    /// `terminated`: over.
    Terminated,
    /// Any extension; [`SubscriptionStateRef::text`] has the word.
    Other,
}

/// Subscription-State to be printed.
///
/// ```
/// use sipora_message::SubscriptionState;
///
/// assert_eq!(SubscriptionState::active(3600).to_string(), "active;expires=3600");
/// let over = SubscriptionState::terminated("probation")?.with_retry_after(60);
/// assert_eq!(over.to_string(), "terminated;reason=probation;retry-after=60");
/// # Ok::<(), sipora_message::NotAToken>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState(HeaderValue);

impl<'a> EventRef<'a> {
    /// The event type, templates and all: `presence.winfo`.
    pub fn package(&self) -> &'a str {
        self.0.value()
    }

    /// The event type without its templates: `presence` of `presence.winfo`.
    pub fn base(&self) -> &'a str {
        let package = self.package();
        package.split_once('.').map_or(package, |(base, _)| base)
    }

    /// The templates applied to the package, innermost first.
    pub fn templates(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.package().split('.').skip(1)
    }

    /// The `id` that tells subscriptions in one dialog apart.
    pub fn id(&self) -> Option<Cow<'a, str>> {
        self.0.params().get("id")
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.0.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }

    /// Whether both name the same subscription: event type and `id` compare byte by byte, other parameters do not
    /// count (RFC 6665 §8.2.1).
    pub fn matches(&self, other: &EventRef<'_>) -> bool {
        self.package() == other.package() && self.id() == other.id()
    }
}

impl<'a> SubscriptionStateRef<'a> {
    /// The state.
    pub fn phase(&self) -> SubscriptionPhase {
        let text = self.text();
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        if is("active") {
            SubscriptionPhase::Active
        } else if is("pending") {
            SubscriptionPhase::Pending
        } else if is("terminated") {
            SubscriptionPhase::Terminated
        } else {
            SubscriptionPhase::Other
        }
    }

    /// The state as written.
    pub fn text(&self) -> &'a str {
        self.0.value()
    }

    /// The seconds that are left.
    pub fn expires(&self) -> Option<u32> {
        self.number("expires")
    }

    /// Why the subscription is over: `deactivated`, `probation`, `rejected`, `timeout`, `giveup`, `noresource`,
    /// `invariant` or an extension.
    pub fn reason(&self) -> Option<&'a str> {
        self.0.params().token("reason")
    }

    /// After how many seconds a new subscription may be tried.
    pub fn retry_after(&self) -> Option<u32> {
        self.number("retry-after")
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.0.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0.as_bytes()
    }

    fn number(&self, name: &str) -> Option<u32> {
        decimal(self.0.params().find(name)?.raw_value()?)
    }
}

impl SubscriptionState {
    /// An accepted subscription and the seconds that are left of it.
    pub fn active(expires: u32) -> SubscriptionState {
        SubscriptionState(HeaderValue::from_text(format!("active;expires={expires}")))
    }

    /// A subscription that nobody has decided on yet.
    pub fn pending(expires: u32) -> SubscriptionState {
        SubscriptionState(HeaderValue::from_text(format!("pending;expires={expires}")))
    }

    /// A subscription that is over, and why.
    pub fn terminated(reason: &str) -> Result<SubscriptionState, NotAToken> {
        let mut value = HeaderValue::from_text("terminated".into());
        value.push_token("reason", reason)?;
        Ok(SubscriptionState(value))
    }

    /// Adds after how many seconds a new subscription may be tried.
    pub fn with_retry_after(mut self, seconds: u32) -> SubscriptionState {
        self.0.push_number("retry-after", seconds);
        self
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'a> Headers<'a> {
    /// The event package of SUBSCRIBE, NOTIFY and PUBLISH.
    pub fn event(&self) -> Result<Option<EventRef<'a>>, HeaderError> {
        self.one(HeaderName::Event, |value| Item::token(value).map(EventRef))
    }

    /// The event packages that the sender supports.
    pub fn allow_events(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.tokens(&const { HeaderName::AllowEvents })
    }

    /// The state of the subscription that a NOTIFY belongs to.
    pub fn subscription_state(&self) -> Result<Option<SubscriptionStateRef<'a>>, HeaderError> {
        self.one(HeaderName::SubscriptionState, |value| {
            Item::token(value).map(SubscriptionStateRef)
        })
    }
}
