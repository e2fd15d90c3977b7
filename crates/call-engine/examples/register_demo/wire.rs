//! What went over the wire, step by step: printed, and checked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sipora_session_core::message::{HeaderName, Limits, Message};
use sipora_session_core::{Direction, MessageObserver, Observed};

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
    /// Number and method: those of the two sides of a dialog are counted apart.
    cseq: String,
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

impl Wire {
    /// Waits until so many messages have gone over the wire in this step: a NOTIFY is read before its answer has left.
    pub(crate) async fn wait_for(&self, count: usize) {
        let complete = async {
            while lock(&self.seen).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // What is missing then is told by the end of the step.
        _ = tokio::time::timeout(Duration::from_secs(2), complete).await;
    }
}

impl Step<'_> {
    /// Ends the step: prints what went over the wire since it began, and checks that it is `expected`.
    ///
    /// A message that was sent again, as UDP does when an answer is late, is printed but counts once. What two clients do at
    /// the same time is expected one Call-ID after the other.
    pub(crate) fn end(self, expected: &[What], outcome: &str) -> Result<(), String> {
        let counted = self.show();
        if counted != expected {
            return Err(format!("expected {} on the wire", list(expected)));
        }
        println!("   ok: {outcome}");
        Ok(())
    }

    /// Prints what was not printed yet, and gives it without what was sent again, each Call-ID by itself.
    fn show(&self) -> Vec<What> {
        let mut known = HashSet::new();
        let mut counted: Vec<(String, Vec<What>)> = Vec::new();
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
            if !known.insert((message.call_id.clone(), message.cseq, message.what)) {
                println!("  (again)");
                continue;
            }
            println!();
            let place = counted.iter().position(|(id, _)| *id == message.call_id);
            match place.and_then(|place| counted.get_mut(place)) {
                Some((_, of_call)) => of_call.push(message.what),
                None => counted.push((message.call_id, vec![message.what])),
            }
        }
        counted
            .into_iter()
            .flat_map(|(_, of_call)| of_call)
            .collect()
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
    fn on_message(&self, observed: &Observed<'_>) {
        let Ok(message) = Message::parse(observed.bytes.to_vec(), &Limits::default()) else {
            return;
        };
        let headers = message.headers();
        let cseq = headers
            .text(&HeaderName::CSeq)
            .unwrap_or_default()
            .into_owned();
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
            at: observed.now.instant,
            direction: observed.direction,
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

const METHODS: [&str; 5] = ["MESSAGE", "NOTIFY", "OPTIONS", "REGISTER", "SUBSCRIBE"];
