//! [`Dialog`]: what two user agents remember of each other (RFC 3261 §12).

use sipora_message::{
    CSeq, HeaderError, Headers, Method, Request, RequestBuilder, Response, Scheme, Uri,
};

use crate::check::MAX_CSEQ;
pub(crate) use peer::unfolded;
use peer::{Route, asks_securely, only_target, routes, target};

mod peer;
#[cfg(feature = "serde")]
pub(crate) mod saved;
#[cfg(test)]
mod tests;

/// Names a dialog, as one side sees it (RFC 3261 §12): on the other side local and remote tag change places.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: Box<str>,
    /// Our tag.
    pub local_tag: Box<str>,
    /// The peer's tag; empty where an RFC 2543 peer has none.
    pub remote_tag: Box<str>,
}

impl DialogId {
    /// Reads the dialog that a request from the peer names: its To tag is ours. `None` where To has no tag, so that it
    /// stands outside any dialog, or where a field cannot be read.
    pub fn of_incoming(request: &Request) -> Option<Self> {
        let headers = request.headers();
        Some(Self {
            call_id: headers.call_id().ok()?.into(),
            local_tag: headers.to().ok()?.tag()?.into(),
            remote_tag: headers.from().ok()?.tag().unwrap_or_default().into(),
        })
    }
}

/// Holds the state of a dialog (RFC 3261 §12): ids, sequence numbers, route set, remote target. No I/O, no clock.
///
/// Made from the message that creates the dialog: by the side that asked, from a response ([`of_response`]) or, as
/// subscriptions want it, from a NOTIFY ([`of_notify`]); by the side that was asked, from the request ([`of_request`]).
/// Requests within it begin with [`request`], go to [`next_hop`], and what comes in passes [`receive`].
///
/// [`of_response`]: Dialog::of_response
/// [`of_notify`]: Dialog::of_notify
/// [`of_request`]: Dialog::of_request
/// [`request`]: Dialog::request
/// [`next_hop`]: Dialog::next_hop
/// [`receive`]: Dialog::receive
///
/// ```
/// use sipora_dialog_core::Dialog;
/// use sipora_message::{Method, Request};
///
/// let invite = "INVITE sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
///     From: <sip:alice@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\
///     Max-Forwards: 70\r\nRecord-Route: <sip:proxy.example.com;lr>\r\nContact: <sip:alice@192.0.2.1>\r\n\r\n";
/// let invite = Request::parse(invite, &Default::default())?;
/// let mut dialog = Dialog::of_request(&invite, "b")?;
/// let bye = dialog.request(Method::Bye, 1).expect("numbers are left").build()?;
/// assert_eq!(bye.uri_text(), "sip:alice@192.0.2.1");
/// assert_eq!(dialog.next_hop().as_str(), "sip:proxy.example.com;lr");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dialog {
    id: DialogId,
    local_uri: Box<str>,
    remote_uri: Box<str>,
    /// The number last sent, or promised to a request.
    local_cseq: Option<u32>,
    /// The number last received.
    remote_cseq: Option<u32>,
    remote_target: Uri,
    route_set: Vec<Route>,
    /// The "secure" flag: the request that made it was for a SIPS URI. Its target is one too, then and ever.
    is_secure: bool,
}

/// Says why a message makes no dialog, or has no place in one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialogError {
    /// A header field that a dialog needs cannot be read: 400.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A header field that a dialog needs is missing: 400.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The CSeq number is not above that of the request before: 500 (RFC 3261 §12.2.2).
    #[error("CSeq {received} is not above {last}")]
    OutOfOrder {
        /// The number that came.
        received: u32,
        /// The number that came before.
        last: u32,
    },
}

impl Dialog {
    /// Makes the dialog of the side that sent `request` and got `response` (RFC 3261 §12.1.2).
    ///
    /// The route set is Record-Route in reverse order; the remote target is Contact.
    ///
    /// # Errors
    ///
    /// [`DialogError`] when To, From, Contact or Record-Route of the response cannot be read or, To tag and Contact, are
    /// not there.
    pub fn of_response(request: &Request, response: &Response) -> Result<Self, DialogError> {
        let cseq = request.headers().cseq()?.number;
        let target = target(response.headers())?;
        let route_set = routes(response.headers())?;
        let is_secure = asks_securely(request);
        let dialog = Self::of_answer(cseq, response, target, route_set, is_secure)?;
        match dialog.id.remote_tag.is_empty() {
            true => Err(DialogError::Missing("the tag of To")),
            false => Ok(dialog),
        }
    }

    /// Makes the dialog of the side that sent an INVITE with this number. Its answer may lack the Contact, as provisional
    /// answers often do: the target is then `uri`, which the INVITE was sent to. It may lack the tag, of an RFC 2543 peer:
    /// "a UAC MUST be prepared to receive a response without a tag in the To field" (RFC 3261 §12.1.2). Where its Record-Route cannot
    /// be read, it is taken for none: a 2xx wants its ACK whatever it says.
    pub(crate) fn of_invite(
        cseq: u32,
        response: &Response,
        uri: &Uri,
    ) -> Result<Self, DialogError> {
        let target = target(response.headers()).unwrap_or_else(|_| uri.clone());
        let route_set = routes(response.headers()).unwrap_or_default();
        let is_secure = uri.scheme() == Scheme::Sips;
        Self::of_answer(cseq, response, target, route_set, is_secure)
    }

    fn of_answer(
        cseq: u32,
        response: &Response,
        remote_target: Uri,
        mut route_set: Vec<Route>,
        is_secure: bool,
    ) -> Result<Self, DialogError> {
        let headers = response.headers();
        let (from, to) = (headers.from()?, headers.to()?);
        route_set.reverse();
        let mut dialog = Self {
            id: DialogId {
                call_id: headers.call_id()?.into(),
                local_tag: from.tag().unwrap_or_default().into(),
                remote_tag: to.tag().unwrap_or_default().into(),
            },
            local_uri: from.uri().as_str().into(),
            remote_uri: to.uri().as_str().into(),
            local_cseq: Some(cseq),
            remote_cseq: None,
            remote_target,
            route_set,
            is_secure,
        };
        dialog.secure();
        Ok(dialog)
    }

    /// Takes the 2xx that makes an early dialog a confirmed one: "the route set of the dialog MUST be recomputed based on the
    /// 2xx response", and nothing else but the target changes (RFC 3261 §13.2.2.4).
    pub(crate) fn confirm(&mut self, response: &Response) {
        if let Ok(mut route_set) = routes(response.headers()) {
            route_set.reverse();
            self.route_set = route_set;
            self.secure();
        }
        self.refresh_target(response.headers());
    }

    /// Makes the dialog of the side that got `request` and answers it with `local_tag` in To (RFC 3261 §12.1.1).
    ///
    /// The route set is Record-Route in its order; the remote target is Contact.
    ///
    /// # Errors
    ///
    /// [`DialogError`] when From, To, CSeq, Contact or Record-Route cannot be read, or Contact is not there.
    pub fn of_request(request: &Request, local_tag: &str) -> Result<Self, DialogError> {
        let headers = request.headers();
        let (from, to) = (headers.from()?, headers.to()?);
        let mut dialog = Self {
            id: DialogId {
                call_id: headers.call_id()?.into(),
                local_tag: local_tag.into(),
                remote_tag: from.tag().unwrap_or_default().into(),
            },
            local_uri: to.uri().as_str().into(),
            remote_uri: from.uri().as_str().into(),
            local_cseq: None,
            remote_cseq: Some(headers.cseq()?.number),
            remote_target: only_target(headers)?,
            route_set: routes(headers)?,
            is_secure: asks_securely(request),
        };
        dialog.secure();
        Ok(dialog)
    }

    /// Makes the dialog of a subscriber, which is the one that the first NOTIFY names (RFC 6665 §4.4.1): "the route set at
    /// the subscriber is taken from the NOTIFY request itself". `cseq` is the number last sent.
    ///
    /// # Errors
    ///
    /// As [`of_request`](Self::of_request), and when To has no tag.
    pub fn of_notify(notify: &Request, cseq: u32) -> Result<Self, DialogError> {
        let to = notify.headers().to()?;
        let tag = to.tag().ok_or(DialogError::Missing("the tag of To"))?;
        let mut dialog = Self::of_request(notify, tag)?;
        dialog.local_cseq = Some(cseq);
        Ok(dialog)
    }

    /// The name of the dialog.
    pub fn id(&self) -> &DialogId {
        &self.id
    }

    /// The number last sent.
    pub fn local_cseq(&self) -> Option<u32> {
        self.local_cseq
    }

    /// Who we are: our From or To, without display name and tag, as text.
    pub fn local_uri(&self) -> &str {
        &self.local_uri
    }

    /// Who the peer is: its From or To, without display name and tag, as text.
    pub fn remote_uri(&self) -> &str {
        &self.remote_uri
    }

    /// Where requests of the dialog end up: the peer's newest Contact.
    pub fn remote_target(&self) -> &Uri {
        &self.remote_target
    }

    /// The first URI of the route set, else the remote target: what a request of this dialog is sent to, whether its first
    /// router is loose or strict (RFC 3261 §12.2.1.1, §8.1.2).
    pub fn next_hop(&self) -> &Uri {
        self.route_set
            .first()
            .map_or(&self.remote_target, |route| &route.uri)
    }

    /// Tells whether the peer is reached directly, by no route.
    pub fn is_direct(&self) -> bool {
        self.route_set.is_empty()
    }

    /// Begins a request within the dialog, with the next CSeq number (RFC 3261 §12.2.1.1); the first of a side that was
    /// asked has `first_cseq`. `None` when the numbers are used up.
    pub fn request(&mut self, method: Method, first_cseq: u32) -> Option<RequestBuilder> {
        let cseq = match self.local_cseq {
            Some(last) => last.checked_add(1)?,
            None => first_cseq,
        };
        if cseq > MAX_CSEQ {
            return None;
        }
        self.local_cseq = Some(cseq);
        Some(self.numbered(method, cseq))
    }

    /// Begins the ACK to a 2xx: "the sequence number of the CSeq header field MUST be the same as the INVITE being
    /// acknowledged" (RFC 3261 §13.2.2.4), whatever has been sent since.
    pub(crate) fn ack(&self, cseq: u32) -> RequestBuilder {
        self.numbered(Method::Ack, cseq)
    }

    fn numbered(&self, method: Method, cseq: u32) -> RequestBuilder {
        let DialogId {
            call_id,
            local_tag,
            remote_tag,
        } = &self.id;
        let remote = match remote_tag.is_empty() {
            true => format!("<{}>", self.remote_uri),
            false => format!("<{}>;tag={remote_tag}", self.remote_uri),
        };
        let mut builder = match self.route_set.split_first() {
            // §12.2.1.1: "If the route set is not empty, and its first URI does not contain the lr parameter, the UAC MUST
            // place the first URI from the route set into the Request-URI", the rest and then the target into Route.
            Some((strict, rest)) if !strict.uri.is_loose_router() => {
                let mut builder = Request::builder(method, &strict.uri);
                for route in rest {
                    builder = builder.route(&route.text);
                }
                builder.route(format!("<{}>", self.remote_target))
            }
            _ => {
                let mut builder = Request::builder(method, &self.remote_target);
                for route in &self.route_set {
                    builder = builder.route(&route.text);
                }
                builder
            }
        };
        builder = builder
            .from(format!("<{}>;tag={local_tag}", self.local_uri))
            .to(remote)
            .call_id(call_id);
        builder.cseq(cseq)
    }

    /// Tells that requests up to this number were sent: a retry with credentials uses numbers of its own.
    pub fn sent(&mut self, cseq: u32) {
        self.local_cseq = self.local_cseq.max(Some(cseq));
    }

    /// Checks the order of a request from the peer (RFC 3261 §12.2.2): numbers may be left out, but must go up.
    ///
    /// ACK and CANCEL repeat the number of their INVITE and are not checked. A number that is repeated by another request is
    /// refused as one that is lower: retransmissions end in their transaction and are not seen here.
    ///
    /// # Errors
    ///
    /// [`DialogError::OutOfOrder`], to be answered with 500; [`DialogError::Header`], with 400.
    pub fn receive(&mut self, request: &Request) -> Result<(), DialogError> {
        let CSeq { number, method } = request.headers().cseq()?;
        if matches!(method, Method::Ack | Method::Cancel) {
            return Ok(());
        }
        if let Some(last) = self.remote_cseq
            && number <= last
        {
            let received = number;
            return Err(DialogError::OutOfOrder { received, last });
        }
        self.remote_cseq = Some(number);
        Ok(())
    }

    /// Takes the Contact of a target refresh request or of its 2xx as the remote target (RFC 3261 §12.2.1.2, §12.2.2);
    /// without a Contact that can be read, the target stays. The route set never changes.
    pub fn refresh_target(&mut self, headers: Headers<'_>) {
        if let Ok(target) = target(headers) {
            self.remote_target = target;
            self.secure();
        }
    }

    /// What began with a SIPS URI does not go on in clear, whatever Contact the peer gives (RFC 5630 §5.1.1.3). And of requests to
    /// a SIPS URI: "if the route set included any SIP URI, the UAC MUST change the SIP URIs to SIPS URIs simply by changing the
    /// scheme" (RFC 5630 §5.1.1).
    fn secure(&mut self) {
        if self.is_secure {
            self.remote_target = self.remote_target.to_sips();
        }
        if self.remote_target.scheme() != Scheme::Sips {
            return;
        }
        for route in &mut self.route_set {
            let secure = route.uri.to_sips();
            let (sip, sips) = (format!("<{}", route.uri), format!("<{secure}"));
            route.text = route.text.replacen(&sip, &sips, 1).into();
            route.uri = secure;
        }
    }
}
