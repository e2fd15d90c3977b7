//! What is no setting of a coordinator is refused before a socket is opened.

use std::collections::HashSet;
use std::time::Duration;

use sipora_message::Uri;
use sipora_transport::{Advertised, Tls};

use super::SessionManagerBuilder;
use crate::{Error, Result, uri};

impl SessionManagerBuilder {
    pub(super) fn check_tls_listener(&self) -> Result<()> {
        let has_certificate = self.tls.as_ref().is_some_and(Tls::has_certificate);
        if self.tls_port.is_some() && !has_certificate {
            let reason = "needs with_tls, with a certificate of our own";
            return Err(Error::setting("with_tls_listener", reason));
        }
        Ok(())
    }

    pub(super) fn check_packages(&self) -> Result<()> {
        let wrong = |reason: &str| Err(Error::setting("with_event_package", reason));
        if !self.packages.is_empty() && self.handler.is_none() {
            return wrong("needs a handler, whose on_subscribe decides");
        }
        if !self.packages.iter().all(|one| is_token(one.name())) {
            return wrong("has a name that is no token (RFC 6665 §8.4)");
        }
        let names = self.packages.iter().map(|one| one.name());
        if names.collect::<HashSet<_>>().len() < self.packages.len() {
            return wrong("is called twice for one event");
        }
        Ok(())
    }

    pub(super) fn check_info_packages(&self) -> Result<()> {
        match self.info_packages.iter().all(|name| is_token(name)) {
            true => Ok(()),
            false => {
                let reason = "has a name that is no token (RFC 6086 §9.2)";
                Err(Error::setting("with_info_package", reason))
            }
        }
    }

    pub(super) fn proxy(&self) -> Result<Option<Uri>> {
        let Some(text) = &self.proxy else {
            return Ok(None);
        };
        let proxy = uri::next_hop("with_outbound_proxy", text)?;
        uri::supported_transport(&proxy, self.tls.is_some())?;
        if proxy.is_loose_router() {
            return Ok(Some(proxy));
        }
        let proxy = proxy.with_param("lr", None).map_err(|error| {
            Error::uri("with_outbound_proxy", text, error.offset(), error.reason())
        })?;
        Ok(Some(proxy))
    }

    pub(super) fn advertised(&self) -> Result<Option<Advertised>> {
        let Some(text) = &self.advertised else {
            return Ok(None);
        };
        let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
        let bracketed = if bare_v6 {
            format!("[{text}]")
        } else {
            text.clone()
        };
        let wrong =
            |reason: &str| Error::setting("with_advertised_address", format!("`{text}` {reason}"));
        let uri = Uri::parse(&format!("sip:{bracketed}")).map_err(|error| wrong(error.reason()))?;
        let is_host = uri.user().is_none() && uri.params().next().is_none() && !uri.has_headers();
        if !is_host
            || uri
                .host()
                .ip()
                .is_some_and(|address| address.is_unspecified())
        {
            return Err(wrong("is no host or host:port that a peer could reach"));
        }
        Ok(Some(Advertised {
            host: uri.host_str().into(),
            port: uri.port(),
        }))
    }

    pub(super) fn check_user_agent(&self) -> Result<()> {
        if self.user_agent.trim().is_empty() || self.user_agent.chars().any(char::is_control) {
            let reason = "must be a line of text without control characters";
            return Err(Error::setting("with_user_agent", reason));
        }
        Ok(())
    }

    pub(super) fn timeout(&self) -> Result<Duration> {
        if self.timers.t1.is_zero() {
            return Err(Error::setting("with_timers", "T1 must be above zero"));
        }
        if self.backoff.base.is_zero() || self.backoff.max < self.backoff.base {
            let reason = "the base must be above zero, and the maximum no less than the base";
            return Err(Error::setting("with_registration_backoff", reason));
        }
        let timeout = self
            .request_timeout
            .unwrap_or(self.timers.transaction_timeout());
        if timeout.is_zero() {
            return Err(Error::setting("with_request_timeout", "must be above zero"));
        }
        // So that times never overflow.
        Ok(timeout.min(Duration::from_secs(86_400)))
    }
}

fn is_token(name: &str) -> bool {
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-.!%*_+`'~".contains(c);
    !name.is_empty() && name.chars().all(is_of_token)
}
