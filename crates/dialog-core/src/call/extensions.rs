//! Option tags: what we understand, and what the peer does (RFC 3261 §8.2.2.3, §19.2).

use sipora_message::{HeaderName, Headers, Method, Request, RequestBuilder};

use super::CallConfig;
use super::config::Reliability;
use super::timer::TIMER;

/// Reliable provisional answers (RFC 3262).
pub(super) const RELIABLE: &str = "100rel";

/// What a peer says of an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// Nothing: it must not be used.
    No,
    Supported,
    Required,
}

impl Support {
    pub(super) fn of(headers: Headers<'_>, option: &str) -> Self {
        let lists = |tag: &str| tag.eq_ignore_ascii_case(option);
        if headers.require().any(lists) {
            return Self::Required;
        }
        match headers.supported().any(lists) {
            true => Self::Supported,
            false => Self::No,
        }
    }
}

impl CallConfig {
    /// The extensions of SIP that calls by these settings understand: option tags, as Supported lists them.
    pub fn supported(&self) -> Vec<&'static str> {
        let mut options = Vec::new();
        if self.reliability != Reliability::Never {
            options.push(RELIABLE);
        }
        options.extend([TIMER, "tdialog"]);
        if self.takes_replaces {
            options.push("replaces");
        }
        options
    }

    /// Adds Supported, and Require where it is wanted, to an INVITE of ours (RFC 3262 §4).
    pub(super) fn add_options(&self, builder: RequestBuilder) -> RequestBuilder {
        let required = self.reliability == Reliability::Required;
        let options = self.supported();
        let options: Vec<&str> = match required {
            // What is required need not be listed twice.
            true => options.into_iter().filter(|tag| *tag != RELIABLE).collect(),
            false => options,
        };
        let builder = match required {
            true => builder.header(HeaderName::Require, RELIABLE),
            false => builder,
        };
        match options.is_empty() {
            true => builder,
            false => builder.header(HeaderName::Supported, options.join(", ")),
        }
    }

    /// What a request requires and we do not understand, as Unsupported lists it; none where all is well.
    pub(super) fn not_understood(&self, request: &Request) -> Option<String> {
        let mut required = request.headers().require().peekable();
        required.peek()?;
        let mut supported = self.supported();
        if *request.method() == Method::Refer && self.knows_refer() {
            // RFC 4488 §4, RFC 7614 §5.
            supported.extend(["norefersub", "nosub"]);
        }
        let is_unknown = |tag: &&str| {
            !supported
                .iter()
                .any(|known| known.eq_ignore_ascii_case(tag))
        };
        let unknown: Vec<&str> = required.filter(is_unknown).collect();
        match unknown.is_empty() {
            true => None,
            false => Some(unknown.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::Uri;

    fn requires(tags: &str) -> Request {
        Request::builder(Method::Invite, &Uri::parse("sip:h").unwrap())
            .from("<sip:a@h>;tag=1")
            .to("<sip:h>")
            .call_id("c")
            .cseq(1)
            .header(HeaderName::Require, tags)
            .build()
            .unwrap()
    }

    #[test]
    fn what_is_not_understood_is_listed_and_nothing_else() {
        let config = CallConfig::default();
        assert_eq!(config.not_understood(&requires("100REL")), None);
        let unknown = config.not_understood(&requires("100rel, foo, bar"));
        assert_eq!(unknown.as_deref(), Some("foo, bar"));
    }

    #[test]
    fn who_never_answers_reliably_does_not_understand_100rel() {
        let config = CallConfig {
            reliability: Reliability::Never,
            ..CallConfig::default()
        };
        let unknown = config.not_understood(&requires("100rel"));
        assert_eq!(unknown.as_deref(), Some("100rel"));
        assert!(!config.supported().contains(&RELIABLE));
    }

    #[test]
    fn the_peer_requires_what_it_also_supports() {
        let request = requires("100rel");
        assert_eq!(Support::of(request.headers(), RELIABLE), Support::Required);
        assert_eq!(Support::of(request.headers(), "timer"), Support::No);
    }
}
