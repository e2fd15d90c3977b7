//! Notifiers that are careless with their headers and bodies harm nobody.
#![cfg(feature = "pidf")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;

use sipora_message::{HeaderName, Method, Request, StatusCode, Uri};
use sipora_session_core::{
    Basic, SessionCoordinator, SipClient, SubscriptionHandle, SubscriptionState,
};
use sipora_testkit::SimNetwork;
use sipora_transaction_core::{
    Claim, Context, Endpoint, Event, IdSource, IncomingRequest, RequestOptions, Target, User,
    UserHandle,
};
use sipora_transport::Transport;
use support::*;

const US: &str = "192.0.2.1:5070";
const NOTIFIER: &str = "192.0.2.10:5060";
const PIDF: &str = "application/pidf+xml";
const OPEN: &str = "<presence xmlns='urn:ietf:params:xml:ns:pidf' entity='sip:bob@h'>\
    <tuple id='a'><status><basic>open</basic></status></tuple></presence>";

/// Accepts every SUBSCRIBE and says no more than it has to: no Expires, no time in Subscription-State.
struct Careless {
    subscribe: Option<Request>,
    tag: String,
    cseq: u32,
    /// What Subscription-State says.
    state: &'static str,
}

/// A NOTIFY with this type and body.
type Told = (String, String);

impl Careless {
    fn notify(&mut self, context: &mut Context<'_>, body: Option<Told>) {
        let subscribe = self.subscribe.clone().unwrap();
        let headers = subscribe.headers();
        let text = |name| headers.text(&name).unwrap().into_owned();
        self.cseq += 1;
        let mut notify =
            Request::builder(Method::Notify, &Uri::parse(&format!("sip:{US}")).unwrap())
                .from(format!("<sip:bob@{NOTIFIER}>;tag={}", self.tag))
                .to(text(HeaderName::From))
                .call_id(headers.call_id().unwrap())
                .cseq(self.cseq)
                .contact(format!("<sip:{NOTIFIER}>"))
                .header(HeaderName::Event, text(HeaderName::Event))
                .header(HeaderName::SubscriptionState, self.state);
        if let Some((content_type, body)) = body {
            notify = notify.body(&content_type, body);
        }
        let target = Target::udp(US.parse().unwrap());
        let options = RequestOptions::default();
        context
            .send(notify.build().unwrap(), target, options)
            .unwrap();
    }
}

impl User for Careless {
    type Command = Told;

    fn on_request(&mut self, context: &mut Context<'_>, incoming: &IncomingRequest) -> Claim {
        let request = &incoming.request;
        let to = request.headers().to().unwrap();
        self.tag = match to.tag() {
            Some(tag) => tag.to_owned(),
            None => context.keyed_tag(request).as_str().to_owned(),
        };
        self.subscribe.get_or_insert_with(|| request.clone());
        let answer = context.answer(request, StatusCode::OK);
        let answer = answer.contact(format!("<sip:{NOTIFIER}>")).build().unwrap();
        context.respond(incoming.transaction, answer).unwrap();
        self.notify(context, None);
        Claim::Taken
    }

    fn on_event(&mut self, _: &mut Context<'_>, _: Event) {}

    fn on_command(&mut self, context: &mut Context<'_>, told: Told) {
        self.notify(context, Some(told));
    }

    fn methods(&self) -> Vec<Method> {
        vec![Method::Subscribe]
    }
}

struct Scene {
    network: SimNetwork,
    client: Arc<SessionCoordinator>,
    notifier: UserHandle<Told>,
    _endpoint: Endpoint,
}

impl Scene {
    async fn new(state: &'static str) -> Self {
        let network = SimNetwork::new(1);
        let address = NOTIFIER.parse().unwrap();
        let mut builder = Endpoint::builder()
            .network(Arc::new(network.host("192.0.2.10".parse().unwrap())))
            .ids(IdSource::from_number(7))
            .listen(Transport::Udp, address);
        let notifier = builder.add_user(Careless {
            subscribe: None,
            tag: String::new(),
            cseq: 0,
            state,
        });
        let client = support::builder(network.host("192.0.2.1".parse().unwrap()));
        Scene {
            client: client.with_sip_port(5070).build().await.unwrap(),
            notifier,
            _endpoint: builder.build().await.unwrap(),
            network,
        }
    }

    async fn subscribe(&self, event: &str) -> SubscriptionHandle {
        let target = format!("sip:bob@{NOTIFIER}");
        self.client.subscribe(&target, event, 600).await.unwrap()
    }

    async fn tell(&self, content_type: &str, body: &str) {
        let told = (content_type.to_owned(), body.to_owned());
        self.notifier.send(told).await.unwrap();
        pass(seconds(1)).await;
    }

    /// The answers to the NOTIFYs that were told, of a status like this.
    fn answers(&self, status: &str) -> usize {
        let packets = self.network.packets();
        let start = format!("SIP/2.0 {status}");
        packets
            .iter()
            .filter(|packet| packet.first_line().starts_with(&start))
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_2xx_without_expires_grants_what_was_asked_for() {
    let scene = Scene::new("active").await;
    let bob = scene.subscribe("presence").await;
    pass(seconds(100)).await;
    assert_eq!(bob.refresh().await.unwrap(), 600);
    // It is refreshed in time.
    for _ in 0..40 {
        pass(seconds(60)).await;
        let state = bob.state();
        assert!(
            matches!(state, SubscriptionState::Active { .. }),
            "{state:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_notify_says_about_the_time_counts_for_a_refresh_too() {
    let scene = Scene::new("active;expires=300").await;
    let bob = scene.subscribe("presence").await;
    pass(seconds(100)).await;
    let granted = bob.refresh().await.unwrap();
    pass(seconds(1)).await;
    let SubscriptionState::Active { expires_in } = bob.state() else {
        panic!("{:?}", bob.state());
    };
    assert!(
        (295..=300).contains(&expires_in.as_secs()),
        "{expires_in:?}"
    );
    // The answer may come before the NOTIFY that says so.
    assert!(granted == 600 || granted <= 300, "{granted}");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_document_in_another_event_is_an_error_and_the_next_one_follows() {
    let scene = Scene::new("active;expires=600").await;
    let mut bob = scene.subscribe("vacation").await;
    for body in ["<presence", "\u{1}", &"<a>".repeat(10_000), OPEN] {
        scene.tell(PIDF, body).await;
    }
    scene.tell("text/plain", "at the sea").await;
    scene.tell(PIDF, OPEN).await;
    let mut documents = bob.presence();
    for _ in 0..3 {
        let document = documents.next().await.unwrap();
        assert!(document.is_err(), "{document:?}");
    }
    for _ in 0..2 {
        let document = documents.next().await.unwrap().unwrap();
        assert_eq!(document.basic(), Some(Basic::Open));
    }
    assert!(matches!(bob.state(), SubscriptionState::Active { .. }));
    assert_eq!(scene.answers("400"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_document_about_presence_is_400_and_never_seen() {
    let scene = Scene::new("active;expires=600").await;
    let mut bob = scene.subscribe("presence").await;
    for body in [
        "<presence",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
        "\u{1}",
    ] {
        scene.tell(PIDF, body).await;
    }
    scene.tell("text/plain", "open").await;
    assert_eq!((scene.answers("400"), scene.answers("415")), (3, 1));
    scene.tell(PIDF, OPEN).await;
    let mut documents = bob.presence();
    let document = documents.next().await.unwrap().unwrap();
    assert_eq!(document.basic(), Some(Basic::Open));
}

#[tokio::test(start_paused = true)]
async fn a_malformed_summary_is_an_error_and_the_next_one_follows() {
    let scene = Scene::new("active;expires=600").await;
    let mut mailbox = scene.subscribe("message-summary").await;
    let summary = "application/simple-message-summary";
    scene.tell(summary, "nonsense").await;
    scene.tell(summary, "Messages-Waiting: yes\r\n").await;
    let mut summaries = mailbox.message_summaries();
    assert!(summaries.next().await.unwrap().is_err());
    assert!(summaries.next().await.unwrap().unwrap().waiting);
}
