//! A phone that watches somebody, and publishes.

use std::time::Duration;

use sipora_auth::{ClientAuthenticator, Credentials};
use sipora_message::{HeaderName, Message, Request, Response, SubscriptionPhase};
use sipora_session_core::{Basic, Presence};
use sipora_testkit::SimNetwork;

use super::{Ask, Phone, register, status};

/// A subscription of one phone.
pub struct Watcher {
    pub phone: Phone,
    /// What the next SUBSCRIBE looks like, but for its own lines.
    pub ask: Ask,
    contact: String,
    /// NOTIFYs that came while something else was waited for.
    early: Vec<Request>,
    user: Option<(&'static str, &'static str)>,
}

/// What a NOTIFY said.
#[derive(Debug, Clone)]
pub struct Told {
    pub phase: SubscriptionPhase,
    pub reason: Option<String>,
    pub expires: Option<u32>,
    /// The document, if there is one.
    pub presence: Option<Presence>,
    pub request: Request,
}

impl Told {
    pub fn basic(&self) -> Option<Basic> {
        self.presence.as_ref()?.basic()
    }

    /// The tuples by id, and whether each is open.
    pub fn tuples(&self) -> Vec<(String, Option<Basic>)> {
        let presence = self.presence.as_ref().expect("a document");
        let tuples = presence.tuples.iter();
        tuples.map(|one| (one.id.clone(), one.basic)).collect()
    }
}

/// A SUBSCRIBE of bob's to alice.
pub fn subscribe(call_id: &str) -> Ask {
    Ask {
        method: "SUBSCRIBE",
        uri: "sip:alice@example.com".into(),
        to: "<sip:alice@example.com>".into(),
        from: "<sip:bob@example.com>".into(),
        call_id: call_id.into(),
        ..register(1)
    }
}

/// A PUBLISH of alice's.
pub fn publish(cseq: u32, body: &str) -> Ask {
    let asked = Ask {
        method: "PUBLISH",
        uri: "sip:alice@example.com".into(),
        call_id: format!("publish-{cseq}"),
        body: body.into(),
        ..register(cseq)
    };
    let asked = asked.with("Event: presence");
    match body.is_empty() {
        true => asked,
        false => asked.with("Content-Type: application/pidf+xml"),
    }
}

/// A document with one tuple.
pub fn document(id: &str, basic: &str) -> String {
    format!(
        "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"pres:alice@example.com\"><tuple id=\"{id}\">\
         <status><basic>{basic}</basic></status></tuple></presence>"
    )
}

impl Watcher {
    pub fn new(network: &SimNetwork, address: &str) -> Watcher {
        Watcher::with(Phone::new(network, address), &format!("sip:bob@{address}"))
    }

    pub fn with(phone: Phone, contact: &str) -> Watcher {
        Watcher {
            phone,
            ask: subscribe(contact),
            contact: contact.into(),
            early: Vec::new(),
            user: None,
        }
    }

    /// Answers challenges as this user.
    pub fn logged_in(mut self, user: &'static str, password: &'static str) -> Watcher {
        self.user = Some((user, password));
        self.ask = self.ask.from(&format!("sip:{user}@example.com"));
        self
    }

    /// Subscribes for an hour.
    pub async fn watch(&mut self) -> Response {
        self.subscribe(&["Expires: 3600"]).await
    }

    /// Sends a SUBSCRIBE with these lines, within the dialog once there is one.
    pub async fn subscribe(&mut self, lines: &[&str]) -> Response {
        let mut asked = self.ask.clone();
        if !lines.iter().any(|line| line.starts_with("Event:")) {
            asked = asked.with("Event: presence");
        }
        asked = asked.contact(&format!("<{}>", self.contact));
        for line in lines {
            asked = asked.with(line);
        }
        let mut answer = self.send(&asked).await;
        self.ask.cseq += 1;
        if let (401, Some((user, password))) = (status(&answer), self.user) {
            let mut client = ClientAuthenticator::new(Credentials::new(user, password));
            asked.cseq += 1;
            let request = self.phone.request(&asked);
            let headers = client.answer(&request, &answer, "0a4f113b").unwrap();
            for (name, value) in headers {
                asked = asked.with(&format!("{}: {value}", name.as_str()));
            }
            answer = self.send(&asked).await;
            self.ask.cseq += 1;
        }
        if status(&answer) == 200 {
            let headers = answer.headers();
            self.ask.to = headers.text(&HeaderName::To).unwrap().into_owned();
            let contact = &super::contacts(&answer)[0];
            self.ask.uri = contact.trim_matches(['<', '>']).to_owned();
        }
        answer
    }

    /// Sends a request and waits for its final answer; NOTIFYs that come first are kept.
    pub async fn send(&mut self, asked: &Ask) -> Response {
        let request = self.phone.request(asked);
        self.phone.send(request.as_bytes());
        loop {
            match self.phone.next(Duration::from_secs(40)).await {
                Some(Message::Response(answer)) if answer.status().is_provisional() => {}
                Some(Message::Response(answer)) => return answer,
                Some(Message::Request(notify)) => self.early.push(notify),
                None => panic!("no answer to {}", asked.method),
            }
        }
    }

    /// The next NOTIFY, unanswered.
    pub async fn notify(&mut self, time: Duration) -> Option<Request> {
        if !self.early.is_empty() {
            return Some(self.early.remove(0));
        }
        match self.phone.next(time).await? {
            Message::Request(request) => Some(request),
            Message::Response(answer) => panic!("an answer: {}", super::text(&answer)),
        }
    }

    /// What the NOTIFY says that comes within that many seconds. It is answered with 200.
    pub async fn told(&mut self, seconds: u64) -> Option<Told> {
        let request = self.notify(Duration::from_secs(seconds)).await?;
        self.phone.reply(&request, 200, &[]);
        Some(read(request))
    }

    /// Whether somebody is open, as told within two seconds.
    pub async fn basic(&mut self) -> Option<Basic> {
        self.told(2).await.expect("a NOTIFY").basic()
    }
}

pub fn read(request: Request) -> Told {
    assert_eq!(request.method().as_str(), "NOTIFY");
    let headers = request.headers();
    assert_eq!(headers.event().unwrap().unwrap().package(), "presence");
    let state = headers.subscription_state().unwrap().unwrap();
    let presence = match request.body() {
        [] => None,
        body => {
            let content_type = headers.content_type().unwrap().unwrap();
            assert!(content_type.is("application", "pidf+xml"));
            Some(Presence::parse(body).unwrap())
        }
    };
    Told {
        phase: state.phase(),
        reason: state.reason().map(|reason| reason.to_string()),
        expires: state.expires(),
        presence,
        request: request.clone(),
    }
}
