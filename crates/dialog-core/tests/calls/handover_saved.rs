//! States of calls as they are written and read, and values that no call has.

use std::sync::Arc;

use crate::support::*;
use serde_json::{Value, json};
use sipora_auth::Credentials;
use sipora_dialog_core::{Call, CallState, DigestAuthorizer};
use sipora_message::{HeaderName, Method};

/// A call with everything that a state can hold: Alice has called, was challenged, and refreshes.
async fn full(alice: &Agent, phone: &Phone) -> Call {
    let credentials = Credentials::new("alice", "open sesame");
    let authorizer = Arc::new(DigestAuthorizer::new([credentials]).unwrap());
    let invite = alice.asks(BOB).body(sdp("offer"));
    let call = alice.dialogs.invite(invite, Some(authorizer)).await;
    let mut call = call.unwrap();
    let invite = phone.first(Method::Invite).await;
    phone
        .answer_with(&invite, 401, "x", |builder| {
            let challenge = "Digest realm=\"example.com\", nonce=\"a1b2c3d4\", qop=\"auth\"";
            builder.header(HeaderName::WwwAuthenticate, challenge)
        })
        .await;
    let invite = phone.nth(Method::Invite, 1).await;
    phone
        .answer_with(&invite, 200, "b", |builder| {
            builder
                .header(HeaderName::Allow, "INVITE, ACK, BYE")
                .header("Recv-Info", "g.one, g.two")
                .header(HeaderName::Require, "timer")
                .header(HeaderName::SessionExpires, "1800;refresher=uac")
                .header(HeaderName::RecordRoute, format!("<sip:far@{BOB};lr>"))
                .header(HeaderName::RecordRoute, format!("<sip:near@{BOB};lr>"))
                .body("application/sdp", "v=0\r\ns=answer\r\n")
        })
        .await;
    call.answered().await.unwrap();
    phone.first(Method::Ack).await;
    call
}

fn written(state: &CallState) -> Value {
    serde_json::to_value(state).unwrap()
}

#[test]
fn what_is_written_is_read_and_holds_no_credentials() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = full(&alice, &phone).await;
        let ack = phone.first(Method::Ack).await;
        assert!(ack.headers().contains(&HeaderName::Authorization));
        let state = call.export().await.unwrap();
        let value = written(&state);
        let read: CallState = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(written(&read), value);
        assert_eq!(read.dialog(), state.dialog());
        let text = value.to_string();
        for secret in ["sesame", "Digest", "a1b2c3d4", "response"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert_eq!(value["version"], 1);
        assert_eq!(value["timer"]["interval_seconds"], 1800);
        assert_eq!(value["timer"]["we_refresh"], true);
        let due = value["timer"]["due"].as_u64().unwrap();
        assert!((890_000..=900_000).contains(&due), "{due}");
        assert_eq!(
            value["timer"]["description"]["text"], "v=0\r\ns=offer\r\n",
            "what we said last"
        );
        assert_eq!(value["acks"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_state_of_a_later_version_is_refused_by_name() {
    scene(|network| async move {
        let alice = Agent::new(&network, ALICE, 1).await;
        let phone = Phone::new(&network).await;
        let call = full(&alice, &phone).await;
        let mut value = written(&call.export().await.unwrap());
        value["version"] = json!(2);
        let error = serde_json::from_value::<CallState>(value).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    });
}

#[test]
fn a_value_that_no_call_has_is_refused() {
    let long = "a".repeat(100_000);
    let names: Vec<String> = (0..33).map(|number| format!("p{number}")).collect();
    let cases: Vec<(&str, Value)> = vec![
        ("/dialog/local_tag", json!("")),
        ("/dialog/local_tag", json!("a;b")),
        ("/dialog/local_tag", json!("a\r\nX: y")),
        ("/dialog/remote_tag", json!("a b")),
        ("/dialog/call_id", json!("")),
        ("/dialog/call_id", json!("a\r\nX: y")),
        ("/dialog/call_id", json!(long)),
        ("/dialog/local_cseq", json!(2_147_483_648_u32)),
        ("/dialog/local_uri", json!("sip:a>;tag=z")),
        ("/dialog/local_uri", json!("")),
        ("/dialog/remote_uri", json!("sip:a\u{0}b@h")),
        ("/dialog/remote_target", json!("nowhere")),
        ("/dialog/remote_target", json!("sip:a@h>, <sip:b@h")),
        ("/dialog/route_set/0", json!("<sip:p1;lr>, <sip:p2;lr>")),
        ("/dialog/route_set/0", json!("no route")),
        ("/dialog/route_set/0", json!("")),
        ("/contact", json!("")),
        ("/contact", json!("*")),
        ("/contact", json!("<sip:a@h>, <sip:b@h>")),
        ("/contact", json!("<sip:a@h>\r\nX: y")),
        ("/info_packages", json!(names)),
        ("/timer/due", json!(1_800_001)),
        ("/timer/ends", json!(u64::MAX)),
        (
            "/timer/description/content_type",
            json!("text/plain\r\nX: y"),
        ),
        ("/timer/description/content_type", json!("sdp")),
        (
            "/acks",
            json!([{"cseq": 1, "body": null}, {"cseq": 1, "body": null}, {"cseq": 1, "body": null},
            {"cseq": 1, "body": null}, {"cseq": 1, "body": null}]),
        ),
        ("/acks/0/body", json!({"content_type": "", "text": "v=0"})),
    ];
    scene(move |network| {
        let cases = cases.clone();
        async move {
            let alice = Agent::new(&network, ALICE, 1).await;
            let phone = Phone::new(&network).await;
            let call = full(&alice, &phone).await;
            let good = written(&call.export().await.unwrap());
            for (place, value) in cases {
                let mut bad = good.clone();
                *bad.pointer_mut(place).expect(place) = value.clone();
                let read = serde_json::from_value::<CallState>(bad);
                assert!(read.is_err(), "{place} = {value}");
            }
        }
    });
}
