//! What went over the wire, step by step: printed, and checked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sipora_session_core::message::{HeaderName, Limits, Message};
use sipora_session_core::{Direction, Flow, MessageObserver, Now};

/// Records the messages of its clients, divided into steps.
#[derive(Default)]
pub(crate) struct Wire {
    seen: Mutex<Vec<Seen>>,
    steps: Mutex<usize>,
}

struct Seen {
    at: Instant,
    direction: Direction,
    what: What,
    /// The Request-URI and whether there are credentials, or the reason phrase.
    detail: String,
    call_id: String,
    cseq: u32,
}

/// Is what a step expects of a message: a request's method or an answer's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Request(&'static str),
    Answer(u16),
}

/// Is a step that has begun.
pub(crate) struct Step<'a> {
    wire: &'a Wire,
    began: Instant,
}

impl Wire {
    pub(crate) fn new() -> Arc<Wire> {
        Arc::default()
    }

    /// Begins a step and says what it is.
    pub(crate) fn step(&self, title: &str) -> Step<'_> {
        let mut steps = lock(&self.steps);
        *steps += 1;
        println!("{}. {title}", *steps);
        lock(&self.seen).clear();
        Step {
            wire: self,
            began: Instant::now(),
        }
    }
}

impl Step<'_> {
    /// Ends the step: prints what went over the wire since it began, and checks that it is `expected`.
    ///
    /// A message that was sent again, as UDP does when an answer is late, is printed but counts once.
    pub(crate) fn end(self, expected: &[What], outcome: &str) -> Result<(), String> {
        let counted = self.show();
        if counted != expected {
            return Err(format!("expected {} on the wire", list(expected)));
        }
        println!("   ok: {outcome}");
        Ok(())
    }

    /// Prints what was not printed yet, and gives it without what was sent again.
    fn show(&self) -> Vec<What> {
        let mut known = HashSet::new();
        let mut counted = Vec::new();
        for message in lock(&self.wire.seen).drain(..) {
            let arrow = match message.direction {
                Direction::Out => ">>>",
                Direction::In => "<<<",
            };
            let time = message
                .at
                .saturating_duration_since(self.began)
                .as_secs_f64()
                * 1000.0;
            print!("   {arrow} {:<62} {time:>7.1} ms", message.text());
            if known.insert((message.call_id, message.cseq, message.what)) {
                counted.push(message.what);
                println!();
            } else {
                println!("  (again)");
            }
        }
        counted
    }
}

/// A step that fails before its end shows how far it came.
impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.show();
    }
}

impl Seen {
    fn text(&self) -> String {
        match self.what {
            What::Request(method) => format!("{method} {}", self.detail),
            What::Answer(status) => format!("{status} {}", self.detail),
        }
    }
}

impl MessageObserver for Wire {
    fn on_message(&self, now: Now, direction: Direction, _flow: &Flow, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes.to_vec(), &Limits::default()) else {
            return;
        };
        let headers = message.headers();
        let cseq = headers.cseq().map_or(0, |cseq| cseq.number);
        let call_id = headers.call_id().unwrap_or_default().to_owned();
        let (what, detail) = match &message {
            Message::Request(request) => {
                let what = METHODS
                    .into_iter()
                    .find(|method| *method == request.method().as_str());
                let uri = request.uri_text();
                let has_credentials = headers.contains(&HeaderName::Authorization)
                    || headers.contains(&HeaderName::ProxyAuthorization);
                let detail = match has_credentials {
                    true => format!("{uri} with credentials"),
                    false => uri.to_owned(),
                };
                (What::Request(what.unwrap_or("another request")), detail)
            }
            Message::Response(response) => (
                What::Answer(response.status().as_u16()),
                response.reason().into_owned(),
            ),
        };
        lock(&self.seen).push(Seen {
            at: now.instant,
            direction,
            what,
            detail,
            call_id,
            cseq,
        });
    }
}

fn list(expected: &[What]) -> String {
    let words: Vec<String> = expected
        .iter()
        .map(|what| match what {
            What::Request(method) => (*method).to_owned(),
            What::Answer(status) => status.to_string(),
        })
        .collect();
    words.join(", ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

const METHODS: [&str; 3] = ["MESSAGE", "OPTIONS", "REGISTER"];
