//! The response context of RFC 3261 §16.7: from the answers of all branches to the one that goes back.

use sipora_message::{HeaderName, Response, StatusCode};

/// Gathers the answers of the branches of one request that is no INVITE.
///
/// ```text
///              2xx / forward it
///   Gathering ─────────────────────────────────▶ Answered ── last branch ended ──▶ over
///       │                                            ▲
///       └── last branch ended / forward the best ────┘
/// ```
///
/// Provisional answers are not given to it: a 100 is never forwarded (§16.7 step 5), and RFC 4320 §4.1 knows no other for a
/// request that is no INVITE.
#[derive(Debug)]
pub(crate) struct ResponseContext {
    /// Branches without a final answer.
    pending: usize,
    answered: bool,
    /// Final answers that were not forwarded at once.
    refusals: Vec<Response>,
    /// A branch ended without an answer that may be forwarded.
    unreachable: bool,
}

/// What goes back, once and never again.
#[derive(Debug, Clone)]
pub(crate) enum Final {
    /// An answer of a branch, our Via still on top.
    Answer(Response),
    /// An answer of our own.
    Own(StatusCode),
}

impl ResponseContext {
    pub(crate) fn new(branches: usize) -> Self {
        Self {
            pending: branches,
            answered: false,
            refusals: Vec::new(),
            unreachable: false,
        }
    }

    /// Takes the final answer of a branch.
    pub(crate) fn answer(&mut self, response: Response) -> Option<Final> {
        let status = response.status();
        self.pending = self.pending.saturating_sub(1);
        if self.answered {
            return None;
        }
        // "the following responses MUST be forwarded immediately: [...] Any 2xx response".
        if status.is_success() {
            self.answered = true;
            return Some(Final::Answer(response));
        }
        // RFC 4320 §4.2: a 408 to a request that is no INVITE is never passed on; it says that a branch was silent.
        match status {
            StatusCode::REQUEST_TIMEOUT => self.unreachable = true,
            _ => self.refusals.push(response),
        }
        self.finish()
    }

    /// Takes the end of a branch that got no answer: silence, or nobody there.
    pub(crate) fn failure(&mut self) -> Option<Final> {
        self.pending = self.pending.saturating_sub(1);
        self.unreachable = true;
        self.finish()
    }

    /// Says whether every branch has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.pending == 0
    }

    fn finish(&mut self) -> Option<Final> {
        if self.answered || self.pending > 0 {
            return None;
        }
        self.answered = true;
        Some(self.best())
    }

    /// §16.7 step 6. A branch without an answer counts as 480 of our own, the least telling of the 4xx.
    fn best(&mut self) -> Final {
        let refusals = std::mem::take(&mut self.refusals);
        let unavailable = Final::Own(StatusCode::TEMPORARILY_UNAVAILABLE);
        let Some(best) = refusals.iter().min_by_key(|answer| rank(answer.status())) else {
            return unavailable;
        };
        let status = best.status();
        if self.unreachable && rank(status) > UNAVAILABLE {
            return unavailable;
        }
        match status {
            // "A proxy which receives a 503 (Service Unavailable) response SHOULD NOT forward it upstream unless it can
            // determine that any subsequent requests it might proxy will also generate a 503."
            StatusCode::SERVICE_UNAVAILABLE => Final::Own(StatusCode::SERVER_INTERNAL_ERROR),
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Final::Answer(with_all_challenges(best, &refusals))
            }
            _ => Final::Answer(best.clone()),
        }
    }
}

/// "It MUST choose from the 6xx class responses if any exist in the context. If no 6xx class responses are present, the proxy
/// SHOULD choose from the lowest response class", and within 4xx it "SHOULD give preference to responses that provide
/// information affecting resubmission of this request, such as 401, 407, 415, 420, and 484".
fn rank(status: StatusCode) -> u8 {
    match status.as_u16() {
        600.. => 0,
        300..=399 => 1,
        401 | 407 | 415 | 420 | 484 => 2,
        400..=499 => 3,
        503 => 6,
        _ => 5,
    }
}

/// The rank of a branch without an answer.
const UNAVAILABLE: u8 = 4;

/// §16.7 step 7: "If the selected response is a 401 (Unauthorized) or 407 (Proxy Authentication Required), the proxy MUST
/// collect any WWW-Authenticate and Proxy-Authenticate header field values from all other 401 (Unauthorized) and 407 (Proxy
/// Authentication Required) responses received so far in this response context and add them to this response without
/// modification".
fn with_all_challenges(best: &Response, all: &[Response]) -> Response {
    let mut edit = best.edit();
    let others = all.iter().filter(|other| {
        let is_challenge = matches!(other.status().as_u16(), 401 | 407);
        is_challenge && !std::ptr::eq(*other, best)
    });
    for other in others {
        for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
            for value in other.headers().all(&name) {
                edit = edit.append(name.clone(), String::from_utf8_lossy(value));
            }
        }
    }
    // What cannot be printed was no challenge; then the one that was chosen goes alone.
    edit.build().unwrap_or_else(|_| best.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Response {
        challenge(status, "")
    }

    fn challenge(status: u16, lines: &str) -> Response {
        let text = format!(
            "SIP/2.0 {status} Some Reason\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKproxy\r\n\
             Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nTo: <sip:a@example.com>;tag=2\r\n\
             From: <sip:b@example.com>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 MESSAGE\r\n{lines}Content-Length: 0\r\n\r\n"
        );
        Response::parse(text, &sipora_message::Limits::default()).unwrap()
    }

    /// 0 for a branch without an answer.
    fn outcome(statuses: &[u16]) -> Vec<u16> {
        let mut context = ResponseContext::new(statuses.len());
        let given = statuses.iter().filter_map(|status| match status {
            0 => context.failure(),
            status => context.answer(answer(*status)),
        });
        let given = given.map(|given| match given {
            Final::Answer(response) => response.status().as_u16(),
            Final::Own(status) => status.as_u16(),
        });
        let given = given.collect();
        assert!(context.is_over());
        given
    }

    #[test]
    fn the_first_2xx_goes_back_at_once_and_nothing_after_it() {
        let mut context = ResponseContext::new(3);
        assert!(context.answer(answer(603)).is_none());
        assert!(matches!(
            context.answer(answer(202)),
            Some(Final::Answer(response)) if response.status().as_u16() == 202
        ));
        assert!(!context.is_over());
        assert!(context.answer(answer(200)).is_none());
        assert!(context.is_over());
    }

    #[test]
    fn every_order_of_the_answers_gives_one_and_the_same() {
        for statuses in [[486, 603, 500], [302, 486, 503], [404, 0, 500]] {
            let owed = outcome(&statuses);
            assert_eq!(owed.len(), 1);
            for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                assert_eq!(outcome(&order.map(|place| statuses[place])), owed);
            }
        }
    }

    #[test]
    fn the_best_answer_is_chosen_by_class_and_by_what_it_tells() {
        for (statuses, owed) in [
            (&[500, 486, 603][..], 603),
            (&[404, 302], 302),
            (&[486, 415], 415),
            (&[500, 404], 404),
            (&[503, 500], 500),
            (&[0, 486], 486),
            (&[0, 500], 480),
            (&[0, 0], 480),
        ] {
            assert_eq!(outcome(statuses), [owed], "{statuses:?}");
        }
    }

    #[test]
    fn a_503_becomes_500_and_a_408_becomes_480() {
        assert_eq!(outcome(&[503]), [500]);
        assert_eq!(outcome(&[408]), [480]);
        assert_eq!(outcome(&[408, 486]), [486]);
    }

    #[test]
    fn the_challenges_of_all_branches_are_aggregated() {
        let mut context = ResponseContext::new(4);
        let one = "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\"\r\n";
        let two = "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\"\r\n";
        assert!(context.answer(challenge(401, one)).is_none());
        assert!(context.answer(challenge(407, two)).is_none());
        // Not a challenge, whatever it carries.
        assert!(context.answer(challenge(486, two)).is_none());
        let Some(Final::Answer(best)) = context.answer(answer(404)) else {
            panic!("nothing goes back");
        };
        let headers = best.headers();
        let all = |name| headers.all(&name).count();
        assert_eq!(best.status().as_u16(), 401);
        assert_eq!(all(HeaderName::WwwAuthenticate), 1);
        assert_eq!(all(HeaderName::ProxyAuthenticate), 1);
    }
}
