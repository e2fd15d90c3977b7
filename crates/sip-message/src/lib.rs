//! SIP messages: parsing, typed header fields, URIs, building, editing and stream framing. No I/O, no clock.
//!
//! The two main types are [`Message`] (a [`Request`] or a [`Response`]: one buffer and an index into it) and
//! [`Headers`], the typed view of its header fields, which parses what it is asked for and nothing else.
//!
//! ```
//! use sipora_message::{Limits, Message, Method, Request, Response, StatusCode, Uri};
//!
//! // Out: a request from scratch. Each attempt to send it prints its own Via.
//! let request = Request::builder(Method::Options, &Uri::parse("sip:bob@example.com")?)
//!     .from("<sip:alice@example.com>;tag=88sja8x")
//!     .to("<sip:bob@example.com>")
//!     .call_id("987asjd97y7atg")
//!     .cseq(63104)
//!     .build()?
//!     .with_top_via("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKhjhs8ass877;rport");
//!
//! // In: the same bytes, parsed and checked.
//! let received = Request::parse(request.to_bytes(), &Limits::default())?;
//! received.check()?;
//! assert_eq!(received.headers().cseq()?.number, 63104);
//!
//! // Back: an answer that copies what RFC 3261 §8.2.6.2 asks for.
//! let answer = Response::for_request(&received, StatusCode::OK).to_tag("93810874").build()?;
//! assert_eq!(answer.headers().to()?.tag(), Some("93810874"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two kinds of wrong
//!
//! [`Message::parse`] refuses only what it cannot represent, and even then [`ParseError::request`] holds what could be
//! read. [`Request::check`] names the status that a readable but unsound request is owed. A malformed header field that
//! neither needs is an error of its own accessor alone.
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `sdp` | `sdp`: session descriptions (RFC 8866) with the attributes that calls need typed. Off by default: it takes the crate sdp-types |
//!
//! # Where the RFCs are
//!
//! | section | where |
//! | --- | --- |
//! | RFC 2046 §5.1, RFC 5621 multipart bodies | [`Multipart`], [`MultipartBuilder`] |
//! | RFC 3261 §7.1, §7.2 start lines | [`Request`], [`Response`], [`Method`], [`StatusCode`] |
//! | RFC 3261 §7.3 header fields | [`Headers`], [`HeaderName`] |
//! | RFC 3261 §7.5, §18.3 framing; RFC 5626 §3.5.1 keep-alive | [`Message::parse`], [`StreamFramer`] |
//! | RFC 3261 §8.1.1, §8.2 what a request must have | [`RequestBuilder`], [`Request::check`] |
//! | RFC 3261 §8.2.6 responses | [`Response::for_request`] |
//! | RFC 3261 §10.3 address-of-record | [`Aor`] |
//! | RFC 3261 §16.6 what proxies change | [`Request::edit`], [`Edit`] |
//! | RFC 3261 §19.1 URIs, §19.1.2 escaping, §19.1.4 equality | [`Uri`], [`UriRef`], [`UriBuilder`] |
//! | RFC 3261 §20 header fields | [`Headers`], one method each; [`HeaderValue`], [`Address`], [`AuthBuf`], [`ViaBuf`] print them |
//! | RFC 3261 §20.7, §20.44, RFC 7235 §2.1 challenges and credentials; RFC 7615 | [`AuthValue`], [`AuthenticationInfo`] |
//! | RFC 3261 §20.10, RFC 3840 feature tags, RFC 5626 §4, RFC 5627 §5.1 GRUUs | [`ContactRef`], [`Feature`] |
//! | RFC 3261 §20.42, RFC 3581 Via | [`Via`], [`ViaBuf`] |
//! | RFC 3262 RAck, RSeq | [`RAck`], [`Headers::rseq`] |
//! | RFC 3323, RFC 3325 privacy and identity | [`Privacy`], [`Headers::p_asserted_identity`] |
//! | RFC 3326 Reason | [`ReasonRef`], [`Reason`] |
//! | RFC 3327 Path, RFC 3608 Service-Route | [`Headers::path`], [`Headers::service_route`] |
//! | RFC 3420 `message/sipfrag` | [`Fragment`] |
//! | RFC 3515 Refer-To, RFC 3892 Referred-By | [`Headers::refer_to`], [`Headers::referred_by`] |
//! | RFC 3841 caller preferences | [`ContactPreferenceRef`], [`Disposition`] |
//! | RFC 3891 Replaces, RFC 3911 Join, RFC 4538 Target-Dialog | [`DialogIdRef`], [`DialogId`], [`TargetDialogRef`] |
//! | RFC 3903 SIP-ETag, SIP-If-Match | [`Headers::sip_etag`], [`Headers::sip_if_match`] |
//! | RFC 3966 `tel:` | [`TelRef`], [`Uri::tel`] |
//! | RFC 4028 session timers | [`SessionExpires`], [`Headers::min_se`] |
//! | RFC 4475, RFC 5118 torture messages | `tests/torture.rs` |
//! | RFC 5626 §5.4 Flow-Timer | [`Headers::flow_timer`] |
//! | RFC 5954 IPv6 in URIs | [`Host`] |
//! | RFC 6665 events | [`EventRef`], [`SubscriptionState`], [`SubscriptionStateRef`] |
//! | RFC 7044 History-Info | [`HistoryInfoRef`] |
//! | RFC 7989 Session-ID | [`SessionId`] |
//! | RFC 8141 `urn:` | [`UrnRef`] |
//! | RFC 8866 session descriptions | `sdp`, with the feature of that name |
#![forbid(unsafe_code)]

mod body;
#[cfg(test)]
mod bounded;
mod builder;
mod check;
mod classes;
mod cursor;
mod edit;
mod error;
mod grammar;
mod header_name;
mod headers;
mod index;
mod limits;
mod message;
mod method;
mod params;
mod request;
mod response;
mod scan;
#[cfg(feature = "sdp")]
pub mod sdp;
mod shown;
mod status;
mod stream;
mod uri;

pub use body::{
    Fragment, FragmentStart, Multipart, MultipartBuilder, MultipartError, MultipartErrorKind,
    MultipartLimits, Part,
};
pub use builder::{
    Address, AuthBuf, HeaderValue, PrintedResponse, RequestBuilder, ResponseBuilder, ViaBuf,
};
pub use edit::Edit;
pub use error::{BuildError, HeaderError, ParseError, ParseErrorKind, Rejection};
pub use header_name::HeaderName;
pub use headers::{
    AcceptedRef, AuthValue, AuthenticationInfo, CSeq, ContactPreference, ContactPreferenceRef,
    ContactRef, Contacts, ContentDispositionRef, DialogId, DialogIdRef, Disposition, EventRef,
    Feature, FeatureValue, Header, Headers, HistoryInfoRef, InvalidDialogId, InvalidQ, MediaType,
    NameAddr, Priority, Privacy, Q, RAck, Reason, ReasonRef, Refresher, RetryAfter, SessionExpires,
    SessionId, SubscriptionPhase, SubscriptionState, SubscriptionStateRef, TargetChange,
    TargetDialog, TargetDialogRef, Timestamp, Via, Warning, WarningValue, format_date,
};
pub use limits::Limits;
pub use message::Message;
pub use method::{Method, NotAToken};
pub use params::{Param, Params};
pub use request::Request;
pub use response::Response;
pub use status::{InvalidStatusCode, StatusCode};
pub use stream::{Frame, FrameError, StreamFramer};
pub use uri::{Aor, Host, Scheme, TelRef, Uri, UriBuilder, UriError, UriRef, UrnRef};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
