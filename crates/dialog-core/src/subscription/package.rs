//! What an event package adds to the framework (RFC 6665 §5).

use std::time::Duration;

use sipora_message::{MediaType, Request, StatusCode};

/// Says what is particular to one event package. [`PresencePackage`] and [`MessageSummaryPackage`] are two; an event
/// without a package of its own is treated as one that takes any body and makes one dialog.
pub trait EventPackage: Send + Sync + 'static {
    /// Its name, as in Event: `presence`. Compared byte by byte (RFC 6665 §8.2.1).
    fn name(&self) -> &str;

    /// The content types that notifications may have, as in Accept; none for any.
    fn accept(&self) -> &[&str] {
        &[]
    }

    /// The content types that bodies of SUBSCRIBEs may have, such as filters (RFC 4660): whoever is told of a SUBSCRIBE reads them. None
    /// by default, and then a body that is not optional gets 415.
    fn filters(&self) -> &[&str] {
        &[]
    }

    /// What a SUBSCRIBE that was forked makes (RFC 6665 §5.4.9).
    fn forking(&self) -> Forking {
        Forking::OneDialog
    }

    /// The least time between two NOTIFYs of one subscription (RFC 6665 §5.4.10); zero, the default, for none. Changes in
    /// between become one NOTIFY. The one that a SUBSCRIBE wants, and the last one, leave at once. A notifier asks for it
    /// when a subscription begins.
    fn notify_interval(&self) -> Duration {
        Duration::ZERO
    }

    /// Looks at the body of a NOTIFY, which is there and of an accepted type, before it is answered.
    ///
    /// It runs inside the endpoint's task: it computes and never waits.
    ///
    /// # Errors
    ///
    /// The status that a body which makes no sense gets; the subscription goes on as if the NOTIFY had not come.
    fn check(&self, content_type: &str, body: &[u8]) -> Result<(), BodyRefusal> {
        let _ = (content_type, body);
        Ok(())
    }
}

/// How many subscriptions one SUBSCRIBE may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forking {
    /// One: the notifier that is heard first; NOTIFYs of others get 481.
    OneDialog,
    /// One for each notifier that answers in time.
    EveryDialog,
}

/// Refuses the body of a NOTIFY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyRefusal {
    /// The status, as a rule 400.
    pub status: StatusCode,
    /// What is wrong, for the reason phrase.
    pub reason: String,
}

/// `presence` (RFC 3856): PIDF bodies, one dialog (§6.9), five seconds from one NOTIFY to the next (§6.10).
///
/// What a presentity publishes and how its watchers are chosen is the application's.
#[derive(Debug, Clone, Copy, Default)]
pub struct PresencePackage;

impl EventPackage for PresencePackage {
    fn name(&self) -> &str {
        "presence"
    }

    fn accept(&self) -> &[&str] {
        &["application/pidf+xml"]
    }

    fn notify_interval(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// `message-summary` (RFC 3842): who waits in a mailbox; every notifier counts (§3.10).
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageSummaryPackage;

impl EventPackage for MessageSummaryPackage {
    fn name(&self) -> &str {
        "message-summary"
    }

    fn accept(&self) -> &[&str] {
        &["application/simple-message-summary"]
    }

    fn forking(&self) -> Forking {
        Forking::EveryDialog
    }
}

/// A package of one's own, as far as a name, types and a pace describe it.
///
/// ```
/// # use sipora_dialog_core::{CustomPackage, EventPackage};
/// use std::time::Duration;
///
/// let weather = CustomPackage::new("weather").with_type("text/plain").with_interval(Duration::from_secs(60));
/// # assert_eq!(weather.name(), "weather");
/// ```
#[derive(Debug, Clone)]
pub struct CustomPackage {
    name: &'static str,
    types: Vec<&'static str>,
    filters: Vec<&'static str>,
    interval: Duration,
    forking: Forking,
}

impl CustomPackage {
    /// Begins with any body, no interval, and one dialog of a SUBSCRIBE that was forked.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            types: Vec::new(),
            filters: Vec::new(),
            interval: Duration::ZERO,
            forking: Forking::OneDialog,
        }
    }

    /// Adds a content type that its notifications may have.
    #[must_use]
    pub fn with_type(mut self, content_type: &'static str) -> Self {
        self.types.push(content_type);
        self
    }

    /// Adds a content type that bodies of its SUBSCRIBEs may have.
    #[must_use]
    pub fn with_filter(mut self, content_type: &'static str) -> Self {
        self.filters.push(content_type);
        self
    }

    /// Sets the least time between two NOTIFYs of one subscription.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Says what a SUBSCRIBE that was forked makes.
    #[must_use]
    pub fn with_forking(mut self, forking: Forking) -> Self {
        self.forking = forking;
        self
    }
}

impl EventPackage for CustomPackage {
    fn name(&self) -> &str {
        self.name
    }

    fn accept(&self) -> &[&str] {
        &self.types
    }

    fn filters(&self) -> &[&str] {
        &self.filters
    }

    fn forking(&self) -> Forking {
        self.forking
    }

    fn notify_interval(&self) -> Duration {
        self.interval
    }
}

/// The package of an event that nobody described.
pub(super) struct Undescribed(pub(super) Box<str>);

impl EventPackage for Undescribed {
    fn name(&self) -> &str {
        &self.0
    }
}

/// Checks type and body of a NOTIFY: 415 for a type that was not asked for.
pub(super) fn check(package: &dyn EventPackage, notify: &Request) -> Result<(), BodyRefusal> {
    let body = notify.body();
    if body.is_empty() {
        return Ok(());
    }
    let content_type = match notify.headers().content_type() {
        Ok(Some(content_type)) => content_type,
        Ok(None) => return refuse(StatusCode::BAD_REQUEST, "Content-Type is missing"),
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "Content-Type cannot be read"),
    };
    let accepted = package.accept();
    if !accepted.is_empty() && !accepted.iter().any(|one| is(&content_type, one)) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "");
    }
    let name = format!("{}/{}", content_type.kind(), content_type.subtype()).to_lowercase();
    package.check(&name, body)
}

fn is(content_type: &MediaType<'_>, accepted: &str) -> bool {
    accepted
        .split_once('/')
        .is_some_and(|(kind, subtype)| content_type.is(kind, subtype))
}

fn refuse(status: StatusCode, reason: &str) -> Result<(), BodyRefusal> {
    Err(BodyRefusal {
        status,
        reason: reason.to_owned(),
    })
}
