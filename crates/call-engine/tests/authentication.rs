//! Who may register what: digest challenges, verification, and whose address it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use sipora_auth::{Algorithm, ClientAuthenticator, Credentials};
use sipora_call_engine::CallCenterConfig;
use sipora_message::{HeaderName, Response};
use sipora_testkit::SimNetwork;

fn guarded(config: CallCenterConfig) -> CallCenterConfig {
    config
        .with_domain("example.com")
        .with_domain("example.net")
        .with_user("alice", "wonderland")
        .with_user("bob", "builder")
}

fn challenges(answer: &Response) -> Vec<String> {
    let name = HeaderName::WwwAuthenticate;
    let values = answer.headers();
    values
        .all(&name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn asked(cseq: u32) -> Ask {
    register(cseq).contact("<sip:alice@192.0.2.7>")
}

#[tokio::test(start_paused = true)]
async fn without_credentials_a_request_is_challenged_and_nothing_stored() {
    let mut lab = lab(guarded).await;
    let answer = lab.phone.ask(&asked(1)).await;
    assert_eq!(status(&answer), 401);
    let challenges = challenges(&answer);
    assert_eq!(challenges.len(), 1);
    assert!(
        challenges[0].contains("realm=\"example.com\"") && challenges[0].contains("algorithm=MD5")
    );
    assert!(answer.headers().to().unwrap().tag().is_some());
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    // A query shows bindings, so it is challenged too.
    assert_eq!(status(&lab.phone.ask(&register(2)).await), 401);
    assert_eq!(lab.engine.metrics().registrar.challenges, 2);
}

#[tokio::test(start_paused = true)]
async fn a_challenge_leaves_no_transaction_behind() {
    let mut lab = lab(guarded).await;
    for cseq in 1..=50 {
        assert_eq!(status(&lab.phone.ask(&asked(cseq)).await), 401);
    }
    let metrics = lab.engine.metrics().transactions;
    assert_eq!(metrics.server_transactions, 0, "{metrics:?}");
}

#[tokio::test(start_paused = true)]
async fn the_right_credentials_bind() {
    let mut lab = lab(guarded).await;
    let answer = lab.phone.ask_as(&asked(1), "alice", "wonderland").await;
    assert_eq!(status(&answer), 200, "{}", text(&answer));
    assert_eq!(
        lab.engine
            .bindings("sip:alice@example.com")
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn each_domain_is_a_realm_of_its_own() {
    let mut lab = lab(guarded).await;
    let asked = asked(1).uri("sip:example.net").to("sip:alice@example.net");
    assert!(challenges(&lab.phone.ask(&asked).await)[0].contains("realm=\"example.net\""));
    let answer = lab.phone.ask_as(&asked, "alice", "wonderland").await;
    assert_eq!(status(&answer), 200);
    assert!(
        lab.engine
            .bindings("sip:alice@example.com")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_and_an_unknown_user_get_the_same_challenge() {
    let mut lab = lab(guarded).await;
    for (user, password) in [("alice", "guess"), ("nobody", "wonderland")] {
        let answer = lab.phone.ask_as(&asked(1), user, password).await;
        assert_eq!(status(&answer), 401, "{user}");
        assert!(!challenges(&answer)[0].contains("stale=true"));
    }
    assert_eq!(lab.engine.metrics().registrar.wrong_credentials, 2);
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_s_address_is_forbidden_whether_there_is_such_a_user_or_not() {
    let mut lab = lab(guarded).await;
    for to in [
        "sip:bob@example.com",
        "sip:nobody@example.com",
        "sip:Alice@example.com",
    ] {
        let answer = lab
            .phone
            .ask_as(&asked(1).to(to), "alice", "wonderland")
            .await;
        assert_eq!(status(&answer), 403, "{to}");
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    assert_eq!(lab.engine.metrics().registrar.forbidden, 3);
}

#[tokio::test(start_paused = true)]
async fn a_third_party_with_the_owner_s_credentials_may_register_the_owner() {
    let mut lab = lab(guarded).await;
    let asked = asked(1).from("sip:bob@example.com");
    assert_eq!(
        status(&lab.phone.ask_as(&asked, "alice", "wonderland").await),
        200
    );
    assert_eq!(
        status(
            &lab.phone
                .ask_as(&asked.call_id("two"), "bob", "builder")
                .await
        ),
        403
    );
}

#[tokio::test(start_paused = true)]
async fn a_user_may_log_in_with_the_domain_in_the_name() {
    let mut lab = lab(guarded).await;
    let answer = lab
        .phone
        .ask_as(&asked(1), "alice@example.com", "wonderland")
        .await;
    assert_eq!(status(&answer), 200);
    let answer = lab
        .phone
        .ask_as(&asked(3), "alice@example.net", "wonderland")
        .await;
    assert_eq!(status(&answer), 401);
}

#[tokio::test(start_paused = true)]
async fn an_escaped_user_in_to_is_the_same_user() {
    let mut lab = lab(guarded).await;
    let asked = asked(1).to("sip:%61lice@example.com");
    assert_eq!(
        status(&lab.phone.ask_as(&asked, "alice", "wonderland").await),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_nonce_is_called_stale_and_the_next_one_serves() {
    let mut lab = lab(|config| guarded(config).with_nonce_lifetime(Duration::from_secs(30))).await;
    let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
    let mut cseq = 0;
    let mut last = None;
    let mut statuses = Vec::new();
    for wait in [0, 0, 60, 0] {
        after(wait).await;
        cseq += 1;
        let plain = lab.phone.request(&asked(cseq));
        let headers = match &last {
            Some((request, response)) if status(response) == 401 => {
                client.answer(request, response, "c").unwrap()
            }
            _ => client.preempt(&plain, "c"),
        };
        let mut again = asked(cseq);
        for (name, value) in headers {
            again = again.with(&format!("{}: {value}", name.as_str()));
        }
        let request = lab.phone.request(&again);
        lab.phone.send(request.as_bytes());
        let answer = lab.phone.receive().await.unwrap();
        client.learn(&request, &answer);
        statuses.push((
            status(&answer),
            challenges(&answer)
                .first()
                .is_some_and(|line| line.contains("stale=true")),
        ));
        last = Some((request, answer));
    }
    assert_eq!(
        statuses,
        [(401, false), (200, false), (401, true), (200, false)]
    );
}

#[tokio::test(start_paused = true)]
async fn captured_credentials_do_not_serve_twice() {
    let mut lab = lab(guarded).await;
    let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
    let first = lab.phone.request(&asked(1));
    lab.phone.send(first.as_bytes());
    let challenge = lab.phone.receive().await.unwrap();
    let mut again = asked(2);
    for (name, value) in client.answer(&first, &challenge, "c").unwrap() {
        again = again.with(&format!("{}: {value}", name.as_str()));
    }
    assert_eq!(status(&lab.phone.ask(&again).await), 200);
    // The same credentials in a request of another branch, Call-ID and Contact.
    let mut replayed = again.call_id("thief").contact("<sip:thief@198.51.100.66>");
    replayed.cseq = 9;
    assert_eq!(status(&lab.phone.ask(&replayed).await), 401);
    assert_eq!(
        lab.engine
            .bindings("sip:alice@example.com")
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn an_authenticated_retransmission_is_answered_and_not_judged_again() {
    let mut lab = lab(guarded).await;
    let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
    let first = lab.phone.request(&asked(1));
    lab.phone.send(first.as_bytes());
    let challenge = lab.phone.receive().await.unwrap();
    let mut again = register(2).contact("<sip:alice@192.0.2.7>;expires=1");
    for (name, value) in client.answer(&first, &challenge, "c").unwrap() {
        again = again.with(&format!("{}: {value}", name.as_str()));
    }
    // Refused after its nonce count was used: a copy must get the same 423 and no challenge.
    let request = lab.phone.request(&again);
    for _ in 0..3 {
        lab.phone.send(request.as_bytes());
        assert_eq!(status(&lab.phone.receive().await.unwrap()), 423);
    }
}

#[tokio::test(start_paused = true)]
async fn algorithms_are_offered_in_the_configured_order() {
    let mut lab = lab(|config| {
        guarded(config).with_digest_algorithms([
            Algorithm::Sha512_256,
            Algorithm::Sha256,
            Algorithm::Md5,
        ])
    })
    .await;
    let offered = challenges(&lab.phone.ask(&asked(1)).await);
    let names: Vec<&str> = offered
        .iter()
        .map(|line| {
            line.split("algorithm=")
                .nth(1)
                .unwrap()
                .split(',')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(names, ["SHA-512-256", "SHA-256", "MD5"]);
    assert_eq!(
        status(&lab.phone.ask_as(&asked(2), "alice", "wonderland").await),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn a_nonce_serves_on_every_node_with_the_same_key_and_elsewhere_is_stale() {
    for (key, owed) in [([1; 32], 200), ([2; 32], 401)] {
        let mut one = lab(|config| guarded(config).with_nonce_key([1; 32])).await;
        let network = SimNetwork::new(2);
        let _two = engine(&network, |config| guarded(config).with_nonce_key(key)).await;
        let mut phone = Phone::new(&network, PHONE);
        let mut client = ClientAuthenticator::new(Credentials::new("alice", "wonderland"));
        let first = one.phone.request(&asked(1));
        one.phone.send(first.as_bytes());
        let challenge = one.phone.receive().await.unwrap();
        let mut again = asked(2);
        for (name, value) in client.answer(&first, &challenge, "c").unwrap() {
            again = again.with(&format!("{}: {value}", name.as_str()));
        }
        let answer = phone.ask(&again).await;
        assert_eq!(status(&answer), owed);
        assert_eq!(
            challenges(&answer)
                .iter()
                .any(|line| line.contains("stale=true")),
            owed == 401
        );
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_in_authorization_is_refused_without_harm() {
    let mut lab = lab(guarded).await;
    for (value, owed) in [
        ("", 401),
        ("Digest", 400),
        ("Digest realm=\"example.com\"", 400),
        (
            "Digest realm=\"example.com\", username=\"alice\", nonce=\"x\", uri=\"sip:example.com\", response=\"zz\", nc=1",
            401,
        ),
        (
            "Digest realm=\"elsewhere\", username=\"alice\", nonce=\"x\", uri=\"sip:example.com\", response=\"00\"",
            401,
        ),
        ("Basic YWxpY2U6d29uZGVybGFuZA==", 401),
        ("NoOneKnowsThisScheme opaque-data=here", 401),
        (",,,;;;\"", 401),
    ] {
        let answer = lab
            .phone
            .ask(&asked(1).with(&format!("Authorization: {value}")))
            .await;
        assert!(
            [owed, 400].contains(&status(&answer)),
            "{value}: {}",
            status(&answer)
        );
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn users_come_and_go_while_the_engine_runs() {
    let mut lab = lab(guarded).await;
    let users = lab.engine.users().unwrap();
    users.add("carol", "secret").unwrap();
    users.add("alice", "changed").unwrap();
    users.remove("bob");
    let carol = asked(1).to("sip:carol@example.com").call_id("carol");
    assert_eq!(
        status(&lab.phone.ask_as(&carol, "carol", "secret").await),
        200
    );
    assert_eq!(
        status(&lab.phone.ask_as(&asked(1), "alice", "wonderland").await),
        401
    );
    assert_eq!(
        status(&lab.phone.ask_as(&asked(3), "alice", "changed").await),
        200
    );
    let bob = asked(1).to("sip:bob@example.com").call_id("bob");
    assert_eq!(status(&lab.phone.ask_as(&bob, "bob", "builder").await), 401);
}
