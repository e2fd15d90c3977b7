//! What a registrar granted, and when to refresh: arithmetic without a clock.

use std::time::Duration;

use sipora_message::{HeaderName, Q, Response, Uri};

/// Reads off a 2xx to REGISTER how long `contact` is bound, in seconds. RFC 3261 §10.2.4.
///
/// 1. our Contact among those listed (§19.1.4), or the only Contact listed where none equals ours, as registrars exist
///    that rewrite it: its `expires` parameter;
/// 2. else the Expires header field;
/// 3. else, where several others are listed, the longest of them that is no longer than what was asked for: the newest
///    binding lasts longest as a rule, and a refresh too many does no harm;
/// 4. else what was asked for.
pub(crate) fn granted(response: &Response, contact: &Uri, asked: u32) -> u32 {
    let bindings = bindings(response);
    let ours = bindings
        .iter()
        .find(|binding| binding.uri.equivalent(contact))
        .or(match bindings.as_slice() {
            [only] => Some(only),
            _ => None,
        });
    let Some(ours) = ours else {
        let listed = bindings.iter().filter_map(|binding| binding.expires);
        let longest = || listed.filter(|expires| (1..=asked).contains(expires)).max();
        return expires_header(response).or_else(longest).unwrap_or(asked);
    };
    ours.expires
        .or_else(|| expires_header(response))
        .unwrap_or(asked)
}

/// One Contact of a 2xx to REGISTER.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) uri: Uri,
    pub(crate) expires: Option<u32>,
    pub(crate) q: Option<f32>,
}

/// Reads every Contact that can be read; what cannot be costs the lines beside it nothing.
pub(crate) fn bindings(response: &Response) -> Vec<Listed> {
    response
        .headers()
        .addresses(&HeaderName::Contact)
        .filter_map(std::result::Result::ok)
        .map(|contact| {
            let params = contact.params();
            Listed {
                uri: contact.uri().to_owned(),
                expires: params.token("expires").and_then(|text| text.parse().ok()),
                q: params
                    .token("q")
                    .and_then(|text| text.parse::<Q>().ok())
                    .map(|q| f32::from(q.thousandths()) / 1000.0),
            }
        })
        .collect()
}

/// Reads the Expires header field; a malformed one is as good as none.
pub(crate) fn expires_header(response: &Response) -> Option<u32> {
    response.headers().expires().ok().flatten()
}

/// Reads the Min-Expires of a 423, where it makes a second try worthwhile: more than was asked for, and no more than a
/// month, beyond which it is a mistake or malice.
pub(crate) fn min_expires(response: &Response, asked: u32) -> Option<u32> {
    let seconds = response.headers().min_expires().ok().flatten()?;
    (seconds > asked && seconds <= MAX_MIN_EXPIRES).then_some(seconds)
}

const MAX_MIN_EXPIRES: u32 = 30 * 86_400;

/// A random fraction, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Jitter(u16);

impl Jitter {
    /// Takes any number; what counts is its rest by 1001.
    pub(crate) fn new(random: u64) -> Self {
        Jitter((random % 1001) as u16)
    }

    /// A duration between `low` and `high`.
    pub(crate) fn between(self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low);
        low.saturating_add(span.saturating_mul(self.0.into()) / 1000)
    }
}

/// When to refresh a binding of `granted` seconds, counted from its REGISTER.
///
/// | granted | latest refresh | why |
/// | --- | --- | --- |
/// | below 120 s | half of it | a lost refresh leaves as much time again |
/// | 120 to 600 s | 60 s before the end | room for a transaction that times out (32 s) and one more |
/// | above | a tenth before the end | as above; and the load spreads |
///
/// Up to a tenth of that is taken off at random, so that clients that came up together do not refresh together; never is
/// anything added, so that a refresh always comes before the end.
pub(crate) fn refresh_after(granted: u32, jitter: Jitter) -> Duration {
    let granted = Duration::from_secs(granted.into());
    let latest = if granted < Duration::from_secs(120) {
        granted / 2
    } else {
        (granted - Duration::from_secs(60)).min(granted / 10 * 9)
    };
    jitter.between(latest / 10 * 9, latest)
}

/// How long to wait after a number of failures in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            base: Duration::from_secs(30),
            max: Duration::from_secs(1800),
        }
    }
}

impl Backoff {
    /// RFC 5626 §4.5: W = min(max-time, base-time * 2^failures), and the wait is uniform between 50 and 100 % of W. A
    /// Retry-After makes it longer, never shorter; up to a tenth is added to it, since everybody was told the same.
    pub(crate) fn wait(
        self,
        failures: u32,
        retry_after: Option<Duration>,
        jitter: Jitter,
    ) -> Duration {
        let bound = 1u32
            .checked_shl(failures)
            .and_then(|factor| self.base.checked_mul(factor))
            .map_or(self.max, |bound| bound.min(self.max))
            .min(MAX_BACKOFF);
        let wait = jitter.between(bound / 2, bound);
        let asked = retry_after.map_or(Duration::ZERO, |asked| {
            let asked = asked.min(MAX_RETRY_AFTER);
            jitter.between(asked, asked.saturating_add(asked / 10))
        });
        wait.max(asked)
    }
}

/// Thirty days: an application that wants more means never, and times must not overflow.
const MAX_BACKOFF: Duration = Duration::from_secs(30 * 86_400);

/// A day: a registrar that wants more has made a mistake.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use sipora_message::Limits;

    fn ok(headers: &str) -> Response {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:a@h>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        Response::parse(text.into_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn our_contact_decides_then_the_header_then_what_was_asked() {
        let contact = Uri::parse("sip:alice@192.0.2.1:5060").unwrap();
        let cases = [
            (
                "Contact: <sip:alice@192.0.2.1:5060>;expires=60\r\nExpires: 70\r\n",
                60,
            ),
            (
                "Contact: <sip:bob@192.0.2.9>;expires=10, <SIP:alice@192.0.2.1:5060>;expires=60\r\n",
                60,
            ),
            (
                "Contact: <sip:%61lice@192.0.2.1:5060;ob>;q=0.5;expires=61\r\n",
                61,
            ),
            // The only one listed, rewritten by the registrar.
            ("Contact: <sip:alice@203.0.113.5:1024>;expires=62\r\n", 62),
            // Several that registrars rewrote, ours among them.
            (
                "Contact: <sip:a@192.0.2.8>;expires=10, <sip:b@192.0.2.9>;expires=20, <sip:c@192.0.2.7>;expires=7200\r\n",
                20,
            ),
            (
                "Contact: <sip:a@192.0.2.8>;expires=0, <sip:b@192.0.2.9>\r\n",
                3600,
            ),
            // Two strangers, and nothing of ours.
            (
                "Contact: <sip:a@192.0.2.8>;expires=10, <sip:b@192.0.2.9>;expires=20\r\nExpires: 70\r\n",
                70,
            ),
            ("Contact: <sip:alice@192.0.2.1:5060>\r\nExpires: 70\r\n", 70),
            ("Contact: <sip:alice@192.0.2.1:5060>\r\n", 3600),
            ("Expires: nonsense\r\n", 3600),
            ("", 3600),
            ("Contact: <sip:alice@192.0.2.1:5060>;expires=0\r\n", 0),
        ];
        for (headers, expected) in cases {
            assert_eq!(granted(&ok(headers), &contact, 3600), expected, "{headers}");
        }
    }

    #[test]
    fn transport_in_one_contact_only_is_another_contact() {
        let contact = Uri::parse("sip:alice@192.0.2.1;transport=tcp").unwrap();
        let headers = "Contact: <sip:alice@192.0.2.1>;expires=10, <sip:alice@192.0.2.1;transport=tcp>;expires=20\r\n";
        assert_eq!(granted(&ok(headers), &contact, 3600), 20);
    }

    #[test]
    fn min_expires_must_make_sense() {
        let min =
            |value: &str, asked| min_expires(&ok(&format!("Min-Expires: {value}\r\n")), asked);
        assert_eq!(min("60", 10), Some(60));
        assert_eq!(min("60", 60), None);
        assert_eq!(min("x", 10), None);
        assert_eq!(min("4294967295", 10), None);
        assert_eq!(min_expires(&ok(""), 10), None);
    }

    #[test]
    fn a_refresh_comes_before_the_end_and_never_late() {
        for granted in (1..=200).chain([599, 600, 601, 3600, 7200, 86_400, u32::MAX]) {
            let end = Duration::from_secs(granted.into());
            let (early, late) = (
                refresh_after(granted, Jitter::new(0)),
                refresh_after(granted, Jitter::new(1000)),
            );
            assert!(early <= late && late < end, "{granted}: {early:?} {late:?}");
            assert!(early >= end * 4 / 10, "{granted}: {early:?} is too eager");
            if granted >= 120 {
                assert!(
                    end - late >= Duration::from_secs(60),
                    "{granted}: {late:?} leaves too little"
                );
            }
        }
        assert_eq!(
            refresh_after(3600, Jitter::new(1000)),
            Duration::from_secs(3240)
        );
        assert_eq!(
            refresh_after(60, Jitter::new(1000)),
            Duration::from_secs(30)
        );
        assert_eq!(refresh_after(60, Jitter::new(0)), Duration::from_secs(27));
    }

    #[test]
    fn backoff_doubles_up_to_its_cap_and_keeps_half() {
        let wait = |failures, jitter| Backoff::default().wait(failures, None, Jitter::new(jitter));
        assert_eq!(
            (wait(1, 0), wait(1, 1000)),
            (Duration::from_secs(30), Duration::from_secs(60))
        );
        assert_eq!(
            (wait(3, 0), wait(3, 1000)),
            (Duration::from_secs(120), Duration::from_secs(240))
        );
        for failures in [6, 31, 32, 33, u32::MAX] {
            assert_eq!(wait(failures, 0), Duration::from_secs(900), "{failures}");
            assert_eq!(
                wait(failures, 1000),
                Duration::from_secs(1800),
                "{failures}"
            );
        }
    }

    #[test]
    fn retry_after_makes_the_wait_longer_never_shorter() {
        let wait = |seconds, jitter| {
            Backoff::default().wait(1, Some(Duration::from_secs(seconds)), Jitter::new(jitter))
        };
        assert_eq!(wait(100, 0), Duration::from_secs(100));
        assert_eq!(wait(100, 1000), Duration::from_secs(110));
        assert_eq!(wait(1, 0), Duration::from_secs(30));
        assert_eq!(wait(u64::from(u32::MAX), 0), Duration::from_secs(86_400));
    }
}
