//! Requests on their way out: what they all carry, and where they go.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sipora_auth::{AuthError, Credentials};
use sipora_dialog_core::{
    ApiError, ApiResult, Authorizer, DigestAuthorizer, Exchange, SubscriberApi, Target,
    UnifiedDialogApi, next_hop,
};
use sipora_message::{HeaderName, Method, Request, RequestBuilder, Response, Scheme, Uri};
use sipora_transaction_core::{CallId, IdSource, Tag};

use crate::contacts::Contacts;
use crate::flows::Flows;
use crate::registration::{Backoff, Jitter};
use crate::turns::Turns;
use crate::{Error, Result, uri};

/// What every request of one coordinator shares.
pub(crate) struct Outbound {
    pub(crate) dialogs: UnifiedDialogApi,
    /// `None`: the client was not enabled.
    pub(crate) subscriber: Option<SubscriberApi>,
    pub(crate) user_agent: String,
    /// From of requests that name nobody.
    pub(crate) identity: Uri,
    pub(crate) proxy: Option<Uri>,
    pub(crate) has_tls: bool,
    pub(crate) credentials: Vec<Credentials>,
    /// Answers challenges to everything but registrations with credentials of their own.
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) ids: Mutex<IdSource>,
    /// One MESSAGE at a time to each target.
    pub(crate) turns: Turns,
    pub(crate) flows: Flows,
    pub(crate) contacts: Contacts,
}

/// From, To and Call-ID of a request, and its place in their order.
pub(crate) struct Identity<'a> {
    pub(crate) from: &'a Uri,
    pub(crate) from_tag: &'a Tag,
    pub(crate) to: &'a Uri,
    pub(crate) call_id: &'a CallId,
    pub(crate) cseq: u32,
}

impl Outbound {
    /// Begins a request with everything that RFC 3261 §8.1.1 requires but Via.
    pub(crate) fn begin(
        &self,
        method: Method,
        target: &Uri,
        identity: &Identity<'_>,
    ) -> RequestBuilder {
        let Identity {
            from,
            from_tag,
            to,
            call_id,
            cseq,
        } = identity;
        let mut builder = Request::builder(method, target);
        if let Some(proxy) = self.proxy_towards(target.scheme()) {
            builder = builder.header(HeaderName::Route, format!("<{proxy}>"));
        }
        builder
            .from(format!("<{from}>;tag={from_tag}"))
            .to(format!("<{to}>"))
            .call_id(call_id.as_str())
            .cseq(*cseq)
            .header(HeaderName::UserAgent, self.user_agent.as_str())
    }

    /// Sends a request to where its Route and Request-URI lead, and answers challenges.
    pub(crate) async fn send(
        &self,
        request: Request,
        authorizer: Arc<dyn Authorizer>,
        timeout: Duration,
    ) -> ApiResult<Exchange> {
        let target = Target::Uri(next_hop(&request)?);
        self.dialogs
            .send_authorized(request, target, authorizer, timeout)
            .await
    }

    /// Sends a REGISTER that binds, with the offer to keep its way alive unless that is unwanted (RFC 6223).
    pub(crate) async fn send_binding(
        &self,
        request: Request,
        authorizer: Arc<dyn Authorizer>,
        timeout: Duration,
    ) -> ApiResult<Exchange> {
        if !self.flows.offers_keep_alives() {
            return self.send(request, authorizer, timeout).await;
        }
        let target = Target::Uri(next_hop(&request)?);
        self.dialogs
            .send_offering_keep_alives(request, target, authorizer, timeout)
            .await
    }

    /// Refuses targets that this version cannot reach, before anything is sent.
    pub(crate) fn check_next_hop(&self, target: &Uri) -> Result<()> {
        match self.proxy_towards(target.scheme()) {
            Some(proxy) => uri::supported_transport(&proxy, self.has_tls),
            None => uri::supported_transport(target, self.has_tls),
        }
    }

    /// The outbound proxy, as the Route of a request whose URI has this scheme: RFC 5630 §5.1.1, "if the route set included any
    /// SIP URI, the UAC MUST change the SIP URIs to SIPS URIs".
    fn proxy_towards(&self, scheme: Scheme) -> Option<Cow<'_, Uri>> {
        let proxy = self.proxy.as_ref()?;
        Some(match scheme {
            Scheme::Sips => Cow::Owned(proxy.to_sips()),
            _ => Cow::Borrowed(proxy),
        })
    }

    /// Makes the contact by which `target` can reach `user` here.
    pub(crate) async fn contact(&self, user: &str, target: &Uri) -> Result<Uri> {
        self.check_next_hop(target)?;
        let next = self.proxy.as_ref().unwrap_or(target);
        let is_secure = next.scheme() == Scheme::Sips || target.scheme() == Scheme::Sips;
        let made = self.contacts.leading_to(user, next, is_secure);
        let made = tokio::time::timeout(self.timeout, made).await;
        made.map_err(|_| Error::Timeout {
            after: self.timeout,
        })?
    }

    /// Begins a request of our own identity, with a Call-ID of its own.
    pub(crate) fn begin_new(&self, method: Method, target: &Uri) -> RequestBuilder {
        let identity = Identity {
            from: &self.identity,
            from_tag: &self.tag(),
            to: target,
            call_id: &self.call_id(),
            cseq: 1,
        };
        self.begin(method, target, &identity)
    }

    /// Asks `target` what it can do.
    pub(crate) async fn options(&self, target: &Uri) -> Result<Response> {
        // RFC 3261 §11.1: "An Accept header field SHOULD be included to indicate the type of message body the UAC wishes
        // to receive in the response. Typically, this is […] SDP".
        let request = self
            .begin_new(Method::Options, target)
            .header(HeaderName::Accept, "application/sdp")
            .build()
            .map_err(|error| Error::request("OPTIONS", error.to_string()))?;
        let exchange = self
            .send(request, self.authorizer.clone(), self.timeout)
            .await?;
        Ok(exchange.response)
    }

    /// Sends an instant message to `target`. It carries no Contact (RFC 3428 §4), as it makes no dialog.
    pub(crate) async fn message(
        &self,
        target: &Uri,
        body: &str,
        content_type: Option<&str>,
    ) -> Result<Response> {
        let wrong = |error: String| Error::request("Content-Type", error);
        let request = self
            .begin_new(Method::Message, target)
            .body(content_type.unwrap_or(PLAIN_TEXT), body.as_bytes().to_vec())
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        // The builder prints any line; whether it is a type, its grammar says.
        match request.headers().content_type() {
            Ok(Some(_)) => {}
            Ok(None) => return Err(wrong("it is empty".to_owned())),
            Err(error) => return Err(wrong(error.to_string())),
        }
        let begun = tokio::time::Instant::now();
        let turn = tokio::time::timeout(self.timeout, self.turns.wait(target.as_str()));
        let _turn = turn.await.map_err(|_| Error::Timeout {
            after: self.timeout,
        })?;
        let left = self.timeout.saturating_sub(begun.elapsed());
        let exchange = self.send(request, self.authorizer.clone(), left).await?;
        Ok(exchange.response)
    }

    /// Sends a request of the caller's making, with what it lacks.
    pub(crate) async fn raw(&self, request: Request, timeout: Duration) -> Result<Response> {
        let request = self.completed(request)?;
        let next = next_hop(&request)?;
        uri::supported_transport(&next, self.has_tls)?;
        let own = request
            .headers()
            .first(&HeaderName::Authorization)
            .is_some()
            || request
                .headers()
                .first(&HeaderName::ProxyAuthorization)
                .is_some();
        if own {
            return Ok(self
                .dialogs
                .send_request_to(request, Target::Uri(next), timeout)
                .await?);
        }
        let authorizer = self.authorizer.clone();
        let exchange = self
            .dialogs
            .send_authorized(request, Target::Uri(next), authorizer, timeout)
            .await?;
        Ok(exchange.response)
    }

    /// Adds what RFC 3261 §8.1.1 requires; what is there stays as it is, but for a From without a tag.
    fn completed(&self, request: Request) -> Result<Request> {
        let headers = request.headers();
        let lacks = |name: HeaderName| headers.first(&name).is_none();
        let mut edit = request.edit();
        if lacks(HeaderName::To) {
            if *request.method() == Method::Register {
                let reason = "names the address-of-record of a REGISTER (RFC 3261 §10.2); it cannot be guessed";
                return Err(Error::request("To", reason));
            }
            edit = edit.append(HeaderName::To, format!("<{}>", request.uri_text()));
        }
        match headers.first(&HeaderName::From) {
            None => {
                let from = format!("<{}>;tag={}", self.identity, self.tag());
                edit = edit.append(HeaderName::From, &from);
            }
            Some(value) if headers.from().is_ok_and(|from| from.tag().is_none()) => {
                let from = format!("{};tag={}", String::from_utf8_lossy(value), self.tag());
                edit = edit.set(HeaderName::From, &from);
            }
            Some(_) => {}
        }
        if lacks(HeaderName::CallId) {
            edit = edit.append(HeaderName::CallId, self.call_id().as_str());
        }
        if lacks(HeaderName::CSeq) {
            edit = edit.append(HeaderName::CSeq, format!("1 {}", request.method()));
        }
        if lacks(HeaderName::MaxForwards) {
            edit = edit.append(HeaderName::MaxForwards, "70");
        }
        if lacks(HeaderName::UserAgent) {
            edit = edit.append(HeaderName::UserAgent, &self.user_agent);
        }
        let scheme = request.uri().map_or(Scheme::Other, |uri| uri.scheme());
        if let (Some(proxy), true) = (self.proxy_towards(scheme), lacks(HeaderName::Route)) {
            edit = edit.append(HeaderName::Route, format!("<{proxy}>"));
        }
        edit.build()
            .map_err(|error| Error::request("request", error.to_string()))
    }

    /// Makes what answers the challenges to one registration.
    ///
    /// Credentials given for the registration come first. Kept for a realm, they stand before the coordinator's; for any
    /// realm, they answer the registrar whatever the coordinator has, and proxies are answered from the coordinator's.
    pub(crate) fn authorizer_for(&self, own: Option<Credentials>) -> (Arc<dyn Authorizer>, bool) {
        let shared = self.credentials.iter().cloned();
        match own {
            None => (authorizer(shared), !self.credentials.is_empty()),
            Some(own) if own.realm().is_some() => {
                (authorizer(std::iter::once(own).chain(shared)), true)
            }
            Some(own) => {
                let proxies = shared.map(Credentials::for_proxies);
                (authorizer(std::iter::once(own).chain(proxies)), true)
            }
        }
    }

    pub(crate) fn tag(&self) -> Tag {
        self.ids().tag()
    }

    pub(crate) fn call_id(&self) -> CallId {
        self.ids().call_id()
    }

    pub(crate) fn jitter(&self) -> Jitter {
        Jitter::new(self.ids().number())
    }

    fn ids(&self) -> MutexGuard<'_, IdSource> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a message is unless the caller says otherwise: a `&str` is UTF-8.
const PLAIN_TEXT: &str = "text/plain;charset=UTF-8";

/// Makes what answers challenges from a list of credentials, which may be empty.
pub(crate) fn authorizer(
    credentials: impl IntoIterator<Item = Credentials>,
) -> Arc<dyn Authorizer> {
    match DigestAuthorizer::new(credentials) {
        Some(authorizer) => Arc::new(authorizer),
        None => Arc::new(NoCredentials),
    }
}

/// Answers no challenge.
struct NoCredentials;

impl Authorizer for NoCredentials {
    fn authorize(
        &self,
        _: &Request,
        _: &Response,
        _: &str,
    ) -> std::result::Result<Vec<(HeaderName, String)>, AuthError> {
        Err(AuthError::NoCredentials {
            realm: String::new(),
        })
    }
}

/// The CSeq number that the next request of the same Call-ID must be above.
pub(crate) fn last_cseq(result: &ApiResult<Exchange>, sent: u32) -> u32 {
    let used = match result {
        Ok(exchange) => Some(exchange.cseq),
        Err(error) => ApiError::cseq(error),
    };
    used.map_or(sent, |used| used.max(sent))
}
