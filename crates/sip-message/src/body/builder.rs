//! Multipart bodies from scratch.

use std::fmt::Display;

use bytes::Bytes;

use super::multipart::is_boundary;
use crate::builder::{HeaderValue, print_checked};
use crate::error::BuildError;
use crate::header_name::HeaderName;
use crate::scan;

/// Builds a `multipart/*` body. The boundary comes from the caller, since this crate knows no randomness; one that
/// occurs in a part is refused.
///
/// ```
/// use sipora_message::MultipartBuilder;
///
/// let (content_type, body) = MultipartBuilder::new("mixed", "b1")
///     .part("text/plain", "hello")
///     .part("application/octet-stream", vec![0, 255])
///     .header("Content-ID", "<x@y>")
///     .build()?;
/// assert_eq!(content_type, "multipart/mixed;boundary=b1");
/// assert!(body.ends_with(b"\r\nContent-ID: <x@y>\r\n\r\n\x00\xff\r\n--b1--\r\n"));
/// # Ok::<(), sipora_message::BuildError>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct MultipartBuilder {
    subtype: Box<str>,
    boundary: Box<str>,
    parts: Vec<(Vec<u8>, Bytes)>,
    error: Option<BuildError>,
}

impl MultipartBuilder {
    /// Begins a body of a subtype (`mixed`, `alternative`, `related`) with the boundary between its parts.
    pub fn new(subtype: &str, boundary: &str) -> MultipartBuilder {
        MultipartBuilder {
            subtype: subtype.into(),
            boundary: boundary.into(),
            parts: Vec::new(),
            error: (!is_boundary(boundary)).then_some(BuildError::Boundary),
        }
    }

    /// Adds a part.
    pub fn part(mut self, content_type: &str, body: impl Into<Bytes>) -> MultipartBuilder {
        let body = body.into();
        let delimiter = format!("--{}", self.boundary);
        if scan::find_text(delimiter.as_bytes(), &body).is_some() {
            self.error.get_or_insert(BuildError::Boundary);
        }
        self.parts.push((Vec::new(), body));
        self.header(HeaderName::ContentType, content_type)
    }

    /// Adds a header field to the last part.
    pub fn header(mut self, name: impl Into<HeaderName>, value: impl Display) -> MultipartBuilder {
        let name = name.into();
        let result = match self.parts.last_mut() {
            Some((lines, _)) => print_checked(lines, &name, format_args!("{value}")),
            None => Err(BuildError::Missing(HeaderName::ContentType)),
        };
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Prints the body; gives the value of Content-Type with it.
    pub fn build(self) -> Result<(String, Bytes), BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.parts.is_empty() {
            return Err(BuildError::Missing(HeaderName::ContentType));
        }
        let kind = HeaderValue::media_type("multipart", &self.subtype)
            .and_then(|kind| kind.with_param("boundary", Some(&self.boundary)))
            .map_err(|_| BuildError::HeaderName(self.subtype.to_string()))?;
        let mut out = Vec::new();
        for (lines, body) in &self.parts {
            out.extend_from_slice(b"--");
            out.extend_from_slice(self.boundary.as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(lines);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"--");
        out.extend_from_slice(self.boundary.as_bytes());
        out.extend_from_slice(b"--\r\n");
        Ok((kind.to_string(), out.into()))
    }
}

/// Bodies may hold what does not belong into a log.
impl std::fmt::Debug for MultipartBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (subtype, parts) = (&self.subtype, self.parts.len());
        write!(f, "MultipartBuilder({subtype}, {parts} parts)")
    }
}
