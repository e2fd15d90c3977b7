//! [`CallOptions`]: what an INVITE says, beside whom it calls.

use sipora_message::{DialogId, HeaderName};

use crate::{Credentials, Error, Result};

/// Says how a call is made. Every setting is optional.
///
/// | setting | default | why |
/// | --- | --- | --- |
/// | [`with_sdp`](Self::with_sdp) | none: the peer makes the offer | RFC 3261 §13.2.1 |
/// | [`with_from`](Self::with_from) | the builder's identity | |
/// | [`with_display_name`](Self::with_display_name) | none | |
/// | [`with_credentials`](Self::with_credentials) | the builder's | |
/// | [`with_header`](Self::with_header) | none | |
/// | [`replacing`](Self::replacing) | nothing: it is a call beside others | |
/// | [`follow_redirects`](Self::follow_redirects) | 0: a redirection ends the call | who redirects chooses whom we call, and who pays |
///
/// ```
/// use sipora_session_core::CallOptions;
///
/// let options = CallOptions::new()
///     .with_sdp("v=0\r\n...")
///     .with_display_name("Alice")
///     .with_header("Subject", "Lunch")
///     .follow_redirects(5);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until a call is made with them"]
pub struct CallOptions {
    pub(super) sdp: Option<String>,
    pub(super) from: Option<String>,
    pub(super) display: Option<String>,
    pub(super) credentials: Option<Credentials>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) redirects: usize,
}

impl CallOptions {
    /// Begins with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Offers this session. It is sent as it is: what it says is the application's.
    pub fn with_sdp(mut self, sdp: impl Into<String>) -> Self {
        self.sdp = Some(sdp.into());
        self
    }

    /// Calls from this address, a `sip:` or `sips:` URI.
    pub fn with_from(mut self, uri: impl Into<String>) -> Self {
        self.from = Some(uri.into());
        self
    }

    /// Shows this name beside the address.
    pub fn with_display_name(mut self, name: impl Into<String>) -> Self {
        self.display = Some(name.into());
        self
    }

    /// Answers challenges to this call, and to the requests within it, with these first.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Adds a header field to the INVITE. Those that make it one cannot be: Via, Record-Route, Contact, From, To, Call-ID, CSeq,
    /// Max-Forwards, Allow, Recv-Info, User-Agent, and Content-Type and the others of the body. The call then fails with
    /// [`Error::InvalidRequest`].
    pub fn with_header(mut self, name: impl Into<HeaderName>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Refuses what would say twice what the INVITE says by itself.
    pub(super) fn check(&self) -> Result<()> {
        let own = |name: &HeaderName| OWN.contains(name) || *name == HeaderName::from("Recv-Info");
        match self.headers.iter().find(|(name, _)| own(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let reason = "belongs to the call, and cannot be set";
                Err(Error::request(name.as_str(), reason))
            }
        }
    }

    /// Takes the place of another call of whom is called (RFC 3891), or picks up one that rings elsewhere: the dialog as the one
    /// who is called sees it. Who does not understand that refuses with 420.
    ///
    /// ```
    /// use sipora_session_core::CallOptions;
    /// use sipora_session_core::message::DialogId;
    ///
    /// // Not any more once somebody has answered it.
    /// let rings: DialogId = "425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only".parse()?;
    /// let options = CallOptions::new().replacing(&rings);
    /// # let _ = options;
    /// # Ok::<(), sipora_session_core::message::InvalidDialogId>(())
    /// ```
    pub fn replacing(self, call: &DialogId) -> Self {
        self.with_header(HeaderName::Replaces, call.to_string())
            .with_header(HeaderName::Require, "replaces")
    }

    /// Calls up to `places` other places where a 300, 301 or 302 says so (RFC 3261 §8.1.3.4): best first, one after the other,
    /// none twice, until one accepts or refuses for all (6xx). From a `sips` URI it follows to `sips` URIs alone, and never
    /// to one with header fields in it. Each place is told as [`CallEvent::Redirected`](crate::CallEvent::Redirected).
    pub fn follow_redirects(mut self, places: usize) -> Self {
        self.redirects = places;
        self
    }
}

/// What an INVITE has from the call, the transaction and the coordinator.
const OWN: [HeaderName; 14] = [
    HeaderName::Via,
    HeaderName::RecordRoute,
    HeaderName::Contact,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::MaxForwards,
    HeaderName::Allow,
    HeaderName::UserAgent,
    HeaderName::ContentType,
    HeaderName::ContentLength,
    HeaderName::ContentEncoding,
    HeaderName::ContentDisposition,
];
