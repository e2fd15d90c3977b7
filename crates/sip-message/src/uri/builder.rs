//! SIP URIs from their parts, each escaped for its place (RFC 3261 §19.1.2).

use super::{Uri, UriError, escape, host_port};
use crate::classes::{PASSWORD, URI_HEADER, URI_PARAM, USER};

/// Builds a SIP or SIPS URI. Parts are given as they are meant; what may not stand in its place as it is gets escaped.
/// Only a host cannot be escaped: one that is none makes [`UriBuilder::build`] fail.
///
/// ```
/// use sipora_message::Uri;
///
/// let uri = Uri::builder("atlanta.com")
///     .user("alice;day=tuesday@home")
///     .password("a:b")
///     .port(5070)
///     .param("transport", Some("tcp"))
///     .header("Subject", "project x?&")
///     .build()?;
/// assert_eq!(uri.as_str(), "sip:alice;day=tuesday%40home:a%3Ab@atlanta.com:5070;transport=tcp?Subject=project%20x?%26");
/// assert_eq!(uri.header("subject").as_deref(), Some("project x?&"));
/// # Ok::<(), sipora_message::UriError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct UriBuilder {
    scheme: &'static str,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: Option<u16>,
    params: String,
    headers: String,
}

impl UriBuilder {
    pub(super) fn new(host: &str) -> UriBuilder {
        // IPv6 addresses come with or without their brackets.
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        UriBuilder {
            scheme: "sip:",
            user: None,
            password: None,
            host,
            port: None,
            params: String::new(),
            headers: String::new(),
        }
    }

    /// Makes it a SIPS URI.
    pub fn secure(mut self) -> UriBuilder {
        self.scheme = "sips:";
        self
    }

    /// Sets the user.
    pub fn user(mut self, user: &str) -> UriBuilder {
        self.user = Some(escaped(user, USER));
        self
    }

    /// Sets the password, for the peers that want one: "NOT RECOMMENDED" (RFC 3261 §19.1.1).
    pub fn password(mut self, password: &str) -> UriBuilder {
        self.password = Some(escaped(password, PASSWORD));
        self
    }

    /// Sets the port.
    pub fn port(mut self, port: u16) -> UriBuilder {
        self.port = Some(port);
        self
    }

    /// Appends a parameter.
    pub fn param(mut self, name: &str, value: Option<&str>) -> UriBuilder {
        self.params.push(';');
        escape::encode(name, URI_PARAM, &mut self.params);
        if let Some(value) = value {
            self.params.push('=');
            escape::encode(value, URI_PARAM, &mut self.params);
        }
        self
    }

    /// Appends a header: a header field of the request that is to be made from the URI. A name of `body` is its body.
    pub fn header(mut self, name: &str, value: &str) -> UriBuilder {
        self.headers
            .push(if self.headers.is_empty() { '?' } else { '&' });
        escape::encode(name, URI_HEADER, &mut self.headers);
        self.headers.push('=');
        escape::encode(value, URI_HEADER, &mut self.headers);
        self
    }

    /// Puts the parts together.
    pub fn build(self) -> Result<Uri, UriError> {
        // The host must not bring a port or parameters of its own.
        let is_host =
            host_port(self.host.as_bytes()).is_ok_and(|found| found.host_len == self.host.len());
        if !is_host {
            return Err(UriError::new("invalid host", self.scheme.len()));
        }
        let mut text = String::from(self.scheme);
        if let Some(user) = &self.user {
            text.push_str(user);
            if let Some(password) = &self.password {
                text.push(':');
                text.push_str(password);
            }
            text.push('@');
        }
        text.push_str(&self.host);
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        text.push_str(&self.params);
        text.push_str(&self.headers);
        Uri::parse(&text)
    }
}

fn escaped(text: &str, class: u8) -> String {
    let mut out = String::with_capacity(text.len());
    escape::encode(text, class, &mut out);
    out
}
