//! Bodies with structure of their own: multipart (RFC 5621, RFC 2046) and fragments of messages (RFC 3420).

mod builder;
mod fragment;
mod multipart;

pub use builder::MultipartBuilder;
pub use fragment::{Fragment, FragmentStart};
pub use multipart::{Multipart, MultipartError, MultipartErrorKind, MultipartLimits, Part};
