//! What applications say and hear of REFER (RFC 3515).

use sipora_message::{
    DialogId, Fragment, HeaderName, Headers, Limits, Request, RequestBuilder, Response, Scheme,
    StatusCode, TargetDialog, Uri,
};

use super::core::CallKey;
use super::event::Invite;
use super::handle::Call;

/// Names a REFER of a call's, ours or the peer's. Never used twice by one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReferId(pub(super) u64);

/// Asks the peer of a call to call somebody else: a blind transfer (RFC 5589 §6), for [`Call::refer`](crate::Call::refer).
///
/// ```
/// use sipora_dialog_core::Refer;
/// use sipora_message::Uri;
///
/// let carol = Uri::parse("sip:carol@chicago.example.com")?;
/// let refer = Refer::to(carol).referred_by("<sip:alice@atlanta.example.com>");
/// # let _ = refer;
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Refer {
    pub(super) to: ReferTo,
    pub(super) subscribes: bool,
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Refer {
    /// Refers the peer to a URI. Its `method` parameter is what is wanted, INVITE without one, and its headers go into that
    /// request (RFC 3515 §2.1).
    pub fn to(uri: Uri) -> Self {
        Self::new(ReferTo::Uri(format!("<{uri}>")))
    }

    /// Refers the peer to whom we are in another call with, which its call there is to replace: an attended transfer
    /// (RFC 5589 §7). Both are calls of the same endpoint, and the other is up when the REFER is sent.
    pub fn to_call(other: &Call) -> Self {
        Self::new(ReferTo::Call(other.key(), None))
    }

    /// Does what [`to_call`](Self::to_call) does, for a peer of the other call whose Contact leads to it from within that call alone:
    /// the peer of this one calls `address`, and whoever else answers there must understand what is to be replaced (RFC 5589 §7.5).
    pub fn to_call_at(other: &Call, address: Uri) -> Self {
        Self::new(ReferTo::Call(other.key(), Some(address)))
    }

    fn new(to: ReferTo) -> Self {
        Self {
            to,
            subscribes: true,
            headers: Vec::new(),
        }
    }

    /// Says who refers (RFC 3892 §3), as an address: `<sip:alice@atlanta.example.com>`.
    pub fn referred_by(self, address: impl Into<String>) -> Self {
        self.header(HeaderName::ReferredBy, address)
    }

    /// Does not want to hear what comes of it (RFC 4488): `Refer-Sub: false`. A peer that does not know that tells all the same.
    pub fn without_subscription(mut self) -> Self {
        self.subscribes = false;
        self
    }

    /// Says which dialog with the same user agent it belongs to, where it goes outside of that (RFC 4538, RFC 7647 §4):
    /// [`DialogId::target_dialog`](crate::DialogId::target_dialog) names it.
    pub fn target_dialog(self, dialog: &TargetDialog) -> Self {
        self.header(HeaderName::TargetDialog, dialog.to_string())
    }

    /// Adds a header field.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds what it says to a request that names this.
    pub(super) fn add_to(&self, mut builder: RequestBuilder, refer_to: String) -> RequestBuilder {
        builder = builder.header(HeaderName::ReferTo, refer_to);
        if !self.subscribes {
            builder = builder
                .header(refer_sub(), "false")
                .header(HeaderName::Supported, "norefersub");
        }
        for (name, value) in &self.headers {
            builder = builder.header(name.clone(), value);
        }
        builder
    }
}

/// Whom a REFER names.
#[derive(Debug, Clone)]
pub(super) enum ReferTo {
    Uri(String),
    /// Whom a call is with, and where to call it if not at its Contact.
    Call(CallKey, Option<Uri>),
}

/// What was answered to a REFER of ours.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReferAnswer {
    /// What its [`ReferReport`]s are named by; none where it was refused, or where nothing will be told of it (RFC 4488).
    pub id: Option<ReferId>,
    /// The final answer.
    pub response: Response,
}

/// The peer wants us to call somebody else: [`Call::accept_refer`](crate::Call::accept_refer) or
/// [`Call::reject_refer`](crate::Call::reject_refer) it, and then tell what came of it:
/// [`Call::report_refer`](crate::Call::report_refer).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Referral {
    /// What to answer by.
    pub id: ReferId,
    /// The REFER. It has one Refer-To that can be read.
    pub request: Request,
}

impl Referral {
    /// Whom to call, as the peer has written it: the parameter `method` and the headers of the URI are still there.
    pub fn refer_to(&self) -> Option<Uri> {
        let address = self.request.headers().refer_to().ok().flatten()?;
        Some(address.uri().to_owned())
    }

    /// The Request-URI of the INVITE that the REFER asks for: Refer-To without the parameter `method` and without headers (RFC
    /// 3261 §19.1.1). A SIPS call leads to a SIPS call alone: "the UAC MUST NOT establish a new one using SIP, unless there is an
    /// explicit authorization" (RFC 5630 §5.1.1.3). None where Refer-To is no SIP URI.
    pub fn request_uri(&self) -> Option<Uri> {
        let refer_to = self.refer_to().filter(Uri::is_sip)?.to_request_uri();
        let asked = self.request.uri().ok()?;
        Some(match asked.scheme() {
            Scheme::Sips => refer_to.to_sips(),
            _ => refer_to,
        })
    }

    /// Makes the INVITE that the REFER asks for, from `from`, to be reached at `contact`: to Refer-To, with its Replaces, where it
    /// has one, with the Referred-By of the REFER (RFC 3892 §2.2), and with what of the URI's headers does no harm
    /// ([`header_fields`](Self::header_fields)). None where Refer-To asks for another method, or is no SIP URI.
    pub fn invite(&self, from: Uri, contact: Uri) -> Option<Invite> {
        let refer_to = self.refer_to()?;
        let method = refer_to.param("method").flatten().unwrap_or("INVITE");
        if method != "INVITE" {
            return None;
        }
        let mut invite = Invite::new(self.request_uri()?, from, contact);
        if let Some(replaces) = refer_to.header("Replaces") {
            let replaces: DialogId = replaces.parse().ok()?;
            invite = invite.replaces(&replaces);
        }
        if let Some(referrer) = self.referred_by() {
            invite = invite.header(HeaderName::ReferredBy, referrer);
        }
        for (name, value) in self.header_fields() {
            invite = invite.header(name, value);
        }
        Some(invite)
    }

    /// The header fields that Refer-To wants in the INVITE, beside Replaces, and that it may have: Subject, and User-to-User (RFC
    /// 7433). "not all of them should be honored" (RFC 3261 §19.1.5): the peer does not say who calls, which way, and with what rights.
    pub fn header_fields(&self) -> Vec<(HeaderName, String)> {
        let Some(refer_to) = self.refer_to() else {
            return Vec::new();
        };
        let wanted = HONOURED.into_iter().filter_map(|name| {
            let value = refer_to.header(name)?;
            let is_line = !value.trim().is_empty() && !value.chars().any(char::is_control);
            is_line.then(|| (HeaderName::from(name), value.into_owned()))
        });
        wanted.collect()
    }

    /// Who refers, as it says itself (RFC 3892 §3). It is to be copied into the request that is sent.
    pub fn referred_by(&self) -> Option<String> {
        let headers = self.request.headers();
        Some(headers.text(&HeaderName::ReferredBy)?.into_owned())
    }
}

/// What came of a REFER of ours, as the peer tells it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReferReport {
    /// Which REFER.
    pub id: ReferId,
    /// How the request stands that the peer has sent: the status of its newest answer. None where the peer did not say, or has
    /// fallen silent.
    pub status: Option<StatusCode>,
    /// The NOTIFY, whose body has more, perhaps; none where the peer has fallen silent.
    pub notify: Option<Request>,
    /// Nothing more will be told.
    pub is_over: bool,
}

impl ReferReport {
    /// Says whether the peer has reached whom we referred it to.
    pub fn has_succeeded(&self) -> bool {
        self.status.is_some_and(StatusCode::is_success)
    }
}

/// The status in a NOTIFY: "the body of a NOTIFY MUST begin with a SIP Response Status-Line" (RFC 3515 §2.4.5).
pub(super) fn reported(body: &[u8]) -> Option<StatusCode> {
    let fragment = Fragment::parse(body.to_vec(), &Limits::default());
    let status = fragment.ok().and_then(|fragment| fragment.status());
    status.or_else(|| lone_status_line(body))
}

/// A Status-Line whose end is none: baresip sends LF alone, others send nothing.
fn lone_status_line(body: &[u8]) -> Option<StatusCode> {
    let line = body.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("SIP/2.0 ")?;
    let (status, _) = rest.split_once(' ').unwrap_or((rest, ""));
    match status.len() {
        3 => StatusCode::new(status.parse().ok()?),
        _ => None,
    }
}

/// Says whether an answer or request asks for no subscription (RFC 4488 §4).
pub(super) fn without_subscription(headers: Headers<'_>) -> bool {
    let value = headers.text(&refer_sub());
    value.is_some_and(|value| {
        let word = value.split(';').next().unwrap_or_default().trim();
        word.eq_ignore_ascii_case("false")
    })
}

pub(super) fn refer_sub() -> HeaderName {
    HeaderName::Other("Refer-Sub".into())
}

/// Headers of Refer-To that go into the INVITE.
const HONOURED: [&str; 2] = ["Subject", "User-to-User"];

/// The event package of REFER.
pub(super) const REFER: &str = "refer";

/// REFERs at once in a dialog, each way, whose outcome is still told. A transfer is one, a second attempt another.
pub(super) const MOST_REFERS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_refer_names_is_called_and_securely_where_the_call_is() {
        let cases = [
            ("sip:us", "sip:carol@h", "sip:carol@h"),
            ("sip:us", "sip:a?b@h;method=INVITE?Replaces=a", "sip:a?b@h"),
            ("sips:us", "sip:carol@h;x=1", "sips:carol@h;x=1"),
            ("sips:us", "sips:carol@h", "sips:carol@h"),
        ];
        for (us, refer_to, called) in cases {
            let referral = referral(us, refer_to);
            assert_eq!(referral.request_uri().unwrap().as_str(), called);
        }
    }

    fn referral(us: &str, refer_to: &str) -> Referral {
        let us = Uri::parse(us).unwrap();
        let request = Request::builder(sipora_message::Method::Refer, &us)
            .from("<sip:bob@h>;tag=b")
            .to("<sip:alice@h>;tag=a")
            .call_id("c")
            .cseq(1)
            .header(HeaderName::ReferTo, format!("<{refer_to}>"))
            .build()
            .unwrap();
        let id = ReferId(1);
        Referral { id, request }
    }

    #[test]
    fn what_is_told_begins_with_a_status_line_however_it_ends() {
        let reported = |body: &str| reported(body.as_bytes()).map(StatusCode::as_u16);
        for end in ["\r\n", "\n", "", "\r\nTo: <sip:a@h>\r\n", "\n\n"] {
            assert_eq!(
                reported(&format!("SIP/2.0 180 Ringing{end}")),
                Some(180),
                "{end:?}"
            );
        }
        assert_eq!(reported("SIP/2.0 200\n"), Some(200));
        for wrong in [
            "",
            "\n",
            "SIP/2.0",
            "SIP/2.0 20",
            "SIP/2.0 2000 OK\n",
            "SIP/2.0 +20 OK\n",
            "SIP/2.0 099 X\n",
            "HTTP/1.1 200 OK\n",
            "OK\nSIP/2.0 200 OK\n",
        ] {
            assert_eq!(reported(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn of_the_headers_of_refer_to_those_are_taken_that_do_no_harm() {
        let taken = |headers: &str| {
            let referral = referral("sip:us", &format!("sip:carol@h?{headers}"));
            let taken = referral.header_fields().into_iter();
            taken
                .map(|(name, value)| format!("{}: {value}", name.as_str()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            taken("Replaces=a&subject=A%20lunch&User-to-User=56a390%3Bencoding%3Dhex"),
            ["Subject: A lunch", "User-to-User: 56a390;encoding=hex"]
        );
        for harmful in [
            "From=x&Call-ID=x&Route=x&Via=x&Contact=x&CSeq=x&Authorization=x&P-Asserted-Identity=x",
            "Subject=a%0D%0ARoute%3A%20x",
            "Subject=",
        ] {
            assert!(taken(harmful).is_empty(), "{harmful}");
        }
    }
}
