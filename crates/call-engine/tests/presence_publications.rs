//! Publishing presence: PUBLISH (RFC 3903), and what watchers see of it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::watcher::*;
use common::*;
use sipora_call_engine::{CallCenterConfig, PresenceConfig};
use sipora_message::{HeaderName, Response};
use sipora_session_core::Basic;

const BOB: &str = "192.0.2.21:5060";

fn guarded(config: CallCenterConfig) -> CallCenterConfig {
    config
        .with_domain("example.com")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
}

/// An open lab, and a watcher of alice's who has seen that she is not registered.
async fn watched() -> (Lab, Watcher) {
    let lab = open_lab().await;
    let mut watcher = Watcher::new(&lab.network, BOB);
    assert_eq!(status(&watcher.watch().await), 200);
    assert_eq!(watcher.basic().await, Some(Basic::Closed));
    after(6).await;
    (lab, watcher)
}

fn tag(answer: &Response) -> String {
    assert_eq!(status(answer), 200, "{}", text(answer));
    answer.headers().sip_etag().unwrap().unwrap().to_owned()
}

fn if_match(cseq: u32, tag: &str, body: &str) -> Ask {
    publish(cseq, body).with(&format!("SIP-If-Match: {tag}"))
}

fn open(id: &str) -> (String, Option<Basic>) {
    (id.into(), Some(Basic::Open))
}

fn closed(id: &str) -> (String, Option<Basic>) {
    (id.into(), Some(Basic::Closed))
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_composed_with_the_registration() {
    let (mut lab, mut watcher) = watched().await;
    let asked = publish(1, &document("desk", "open"));
    let answer = lab.phone.ask(&asked).await;
    tag(&answer);
    assert_eq!(answer.headers().expires().unwrap(), Some(3600));
    let told = watcher.told(2).await.unwrap();
    assert_eq!(told.tuples(), [open("p1.desk"), closed("registration")]);
    // A second device publishes under the same id, and the first one registers.
    let asked = publish(2, &document("desk", "closed"));
    tag(&lab.phone.ask(&asked).await);
    let asked = register(1).contact("<sip:alice@192.0.2.7>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 200);
    let told = watcher.told(6).await.unwrap();
    assert_eq!(
        told.tuples(),
        [open("registration"), open("p1.desk"), closed("p2.desk")]
    );
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.publishes, metrics.publications), (2, 2));
    assert!(metrics.publication_bytes > 0);
    // Who comes later sees the same.
    let mut late = Watcher::new(&lab.network, "192.0.2.22:5060");
    late.watch().await;
    assert_eq!(late.told(2).await.unwrap().tuples(), told.tuples());
}

#[tokio::test(start_paused = true)]
async fn watchers_see_that_somebody_is_away_and_when_that_is_over() {
    let (mut lab, mut watcher) = watched().await;
    // As Linphone and pjsua publish it.
    let with = |activity: &str| {
        let namespaces = "<presence xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
                          xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\"";
        let person = format!(
            "<dm:person id=\"p1\"><rpid:activities><rpid:{activity}/></rpid:activities></dm:person></presence>"
        );
        let document = document("desk", "open").replace("<presence", namespaces);
        document.replace("</presence>", &person)
    };
    let first = tag(&lab.phone.ask(&publish(1, &with("away"))).await);
    let told = watcher.told(2).await.unwrap();
    let body = String::from_utf8_lossy(told.request.body()).into_owned();
    let owed = "<dm:person id=\"p1.p1\" xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\">\
                <rpid:activities xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\"><rpid:away/></rpid:activities></dm:person>";
    assert!(body.contains(owed), "{body}");
    // Nothing but the activity has changed, and that is news.
    tag(&lab
        .phone
        .ask(&if_match(2, &first, &with("on-the-phone")))
        .await);
    let told = watcher.told(6).await.expect("a NOTIFY");
    let body = String::from_utf8_lossy(told.request.body()).into_owned();
    assert!(
        body.contains("<rpid:on-the-phone/>") && !body.contains("away"),
        "{body}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_publication_is_refreshed_modified_and_removed_by_its_last_entity_tag() {
    let (mut lab, mut watcher) = watched().await;
    let first = publish(1, &document("desk", "open"));
    let first = tag(&lab.phone.ask(&first).await);
    watcher.told(2).await.unwrap();
    let refreshed = tag(&lab.phone.ask(&if_match(2, &first, "")).await);
    assert_ne!(first, refreshed);
    assert!(watcher.told(10).await.is_none(), "no news");
    let stale = lab.phone.ask(&if_match(3, &first, "")).await;
    assert_eq!(status(&stale), 412);
    let asked = if_match(4, &refreshed, &document("desk", "closed"));
    let modified = tag(&lab.phone.ask(&asked).await);
    let told = watcher.told(2).await.unwrap();
    assert_eq!(told.tuples()[1], closed("p1.desk"), "the id has stayed");
    let asked = if_match(5, &modified, "").with("Expires: 0");
    let removed = lab.phone.ask(&asked).await;
    tag(&removed);
    assert_eq!(removed.headers().expires().unwrap(), Some(0));
    let told = watcher.told(6).await.unwrap();
    assert_eq!(told.tuples(), [closed("registration")]);
    let gone = lab.phone.ask(&if_match(6, &modified, "")).await;
    assert_eq!(status(&gone), 412);
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.publications, metrics.precondition_failed), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_publication_that_expires_is_seen_to_go_without_any_message() {
    let (mut lab, mut watcher) = watched().await;
    let asked = publish(1, &document("desk", "open")).with("Expires: 60");
    tag(&lab.phone.ask(&asked).await);
    watcher.told(2).await.unwrap();
    assert!(watcher.told(58).await.is_none());
    let told = watcher.told(3).await.unwrap();
    assert_eq!(told.tuples(), [closed("registration")]);
}

#[tokio::test(start_paused = true)]
async fn what_a_publish_does_wrong_it_is_told_and_nobody_is_harmed() {
    let (mut lab, mut watcher) = watched().await;
    let first = publish(1, &document("desk", "open"));
    let first = tag(&lab.phone.ask(&first).await);
    watcher.told(2).await.unwrap();
    let body = document("desk", "closed");
    let plain = |event: &str| Ask {
        body: "hello".into(),
        ..publish(9, "")
            .call_id(event)
            .with("Content-Type: text/plain")
    };
    let bomb =
        "<!DOCTYPE p [<!ENTITY a 'b'>]><presence xmlns='urn:ietf:params:xml:ns:pidf' entity='e'/>";
    let large = document("desk", "open") + &" ".repeat(17_000);
    let mut other = publish(2, &body);
    other.lines[0] = "Event: dialog".into();
    let mut none = publish(3, &body);
    none.lines.remove(0);
    let rows = [
        (other, 489),
        (none, 489),
        (publish(4, &body).with("Expires: 5"), 423),
        (plain("plain"), 415),
        (publish(5, "<presence"), 400),
        (publish(6, bomb), 400),
        (publish(7, ""), 400),
        (if_match(8, &format!("{first}, {first}"), ""), 400),
        (if_match(9, "unheard-of", ""), 412),
        (publish(10, &body).uri("sip:alice@elsewhere.example"), 404),
        (publish(11, &body).uri("sip:example.com"), 404),
        (publish(12, &body).uri("tel:+1"), 416),
        (publish(13, &body).with("Require: x"), 420),
        (publish(14, &body).within_nothing(), 481),
        (publish(15, &large), 413),
    ];
    for (asked, owed) in rows {
        let answer = lab.phone.ask(&asked).await;
        assert_eq!(status(&answer), owed, "{} {}", asked.call_id, asked.uri);
        let named = match owed {
            489 => Some((HeaderName::AllowEvents, "presence")),
            423 => Some((HeaderName::MinExpires, "60")),
            415 => Some((HeaderName::Accept, "application/pidf+xml")),
            _ => None,
        };
        if let Some((name, value)) = named {
            assert_eq!(header(&answer, name).unwrap(), value);
        }
    }
    assert!(watcher.told(30).await.is_none());
    tag(&lab.phone.ask(&if_match(20, &first, "")).await);
    assert_eq!(lab.engine.metrics().presence.publications, 1);
}

#[tokio::test(start_paused = true)]
async fn users_publish_for_themselves_alone() {
    let mut lab = lab(guarded).await;
    let body = document("desk", "open");
    let answer = lab.phone.ask(&publish(1, &body)).await;
    assert_eq!(status(&answer), 401);
    let asked = publish(2, &body);
    for (user, password, owed) in [
        ("alice", "guess", 401),
        ("bob", "builder", 403),
        ("alice", "wonderland", 200),
    ] {
        let asked = asked.clone().call_id(password);
        let answer = lab.phone.ask_as(&asked, user, password).await;
        assert_eq!(status(&answer), owed, "{user}");
    }
    let metrics = lab.engine.metrics().presence;
    assert_eq!((metrics.publications, metrics.forbidden), (1, 1));
    assert_eq!((metrics.challenges, metrics.wrong_credentials), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_sent_again_is_published_once() {
    let mut lab = open_lab().await;
    let request = lab.phone.request(&publish(1, &document("desk", "open")));
    lab.phone.send(request.as_bytes());
    let first = lab.phone.receive().await.unwrap();
    lab.phone.send(request.as_bytes());
    let again = lab.phone.receive().await.unwrap();
    assert_eq!(tag(&first), tag(&again));
    // By another way: the same request with a Via of its own.
    let merged = lab.phone.ask(&publish(1, &document("desk", "open"))).await;
    assert_eq!(status(&merged), 482);
    assert_eq!(lab.engine.metrics().presence.publications, 1);
}

#[tokio::test(start_paused = true)]
async fn publications_from_one_source_meet_a_limit_and_others_are_served() {
    let mut lab = lab(|config| {
        let settings = PresenceConfig::new().with_max_publications(100, 20);
        config
            .with_domain("example.com")
            .without_authentication()
            .with_presence(settings)
    })
    .await;
    let mut refused = 0;
    for number in 0..100 {
        let uri = format!("sip:user{}@example.com", number / 2);
        let asked = publish(number, &document("desk", "open")).uri(&uri);
        let answer = lab.phone.ask(&asked).await;
        if status(&answer) == 503 {
            assert!(answer.headers().retry_after().unwrap().is_some());
            refused += 1;
        }
    }
    let metrics = lab.engine.metrics().presence;
    assert_eq!(
        (refused, metrics.publications, metrics.over_limit),
        (80, 20, 80)
    );
    let mut other = Phone::new(&lab.network, BOB);
    let asked = publish(1, &document("desk", "open")).call_id("other");
    tag(&other.ask(&asked).await);
}
