//! SIP messages: parsing, typed headers, URIs, building, editing and stream framing. No I/O, no clock.
#![forbid(unsafe_code)]

mod builder;
mod check;
mod classes;
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
mod status;
mod stream;
mod uri;

pub use builder::{Address, RequestBuilder, ResponseBuilder};
pub use edit::Edit;
pub use error::{BuildError, HeaderError, ParseError, ParseErrorKind, Rejection};
pub use header_name::HeaderName;
pub use headers::{
    AuthValue, CSeq, ContactRef, Contacts, Header, Headers, InvalidQ, MediaType, NameAddr, Q,
    RetryAfter, Via, WarningValue, format_date,
};
pub use limits::Limits;
pub use message::Message;
pub use method::{Method, NotAToken};
pub use params::{Param, Params};
pub use request::Request;
pub use response::Response;
pub use status::{InvalidStatusCode, StatusCode};
pub use stream::{Frame, FrameError, StreamFramer};
pub use uri::{Aor, Host, Scheme, Uri, UriError, UriRef};
