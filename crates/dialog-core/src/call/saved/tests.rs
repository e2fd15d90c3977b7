//! What version 1 wrote, and what nobody ever did.

use std::time::Instant;

use serde_json::{Value, json};
use sipora_message::{Limits, Request};
use sipora_transaction_core::IdSource;

use super::*;
use crate::call::CallConfig;
use crate::call::core::{Calls, Output};

/// A call with everything that there is, as version 1 writes it. It must be read for ever.
fn version_1() -> Value {
    json!({
        "version": 1,
        "dialog": {
            "call_id": "f81d4fae@192.0.2.1",
            "local_tag": "1928301774",
            "remote_tag": "a6c85cf",
            "local_uri": "sip:alice@atlanta.example.com",
            "remote_uri": "sips:bob@biloxi.example.com;user=phone",
            "local_cseq": 7,
            "remote_cseq": 4_294_967_295_u32,
            "remote_target": "sip:bob@192.0.2.4:5062;transport=tcp",
            "route_set": ["<sip:p1.example.com;lr>;x=\"y, z\"", "\"Two\" <sip:p2.example.com;lr>"],
            "is_secure": false
        },
        "is_caller": true,
        "contact": "<sip:alice@192.0.2.1;transport=tcp>;+sip.instance=\"<urn:uuid:1>\"",
        "allows_update": false,
        "info_packages": ["g.one", "g.two"],
        "was_referred": true,
        "has_session": true,
        "is_direct": true,
        "late_prack": {"rseq": 3, "cseq": 1},
        "timer": {
            "interval_seconds": 1800,
            "we_refresh": true,
            "due": 500_123,
            "ends": 1_400_123,
            "min_se": 90,
            "takes_update": false,
            "description": {"content_type": "application/sdp", "text": "v=0\r\ns=\u{e4}\r\n"}
        },
        "acks": [{"cseq": 7, "body": null}, {"cseq": 6, "body": {"content_type": "application/sdp", "text": "v=0\r\n"}}]
    })
}

fn read(value: &Value) -> Result<CallState, serde_json::Error> {
    serde_json::from_value(value.clone())
}

fn written(state: &CallState) -> Value {
    serde_json::to_value(state).unwrap()
}

#[test]
fn what_version_1_wrote_is_read() {
    let state = read(&version_1()).unwrap();
    assert_eq!(written(&state), version_1());
    assert_eq!(state.dialog.next_hop().as_str(), "sip:p1.example.com;lr");
    let mut bare = version_1();
    for place in [
        "/dialog/local_cseq",
        "/dialog/remote_cseq",
        "/info_packages",
        "/late_prack",
        "/timer",
    ] {
        *bare.pointer_mut(place).unwrap() = Value::Null;
    }
    bare["acks"] = json!([]);
    bare["dialog"]["remote_tag"] = json!("");
    let state = read(&bare).unwrap();
    assert_eq!(written(&state), bare);
    bare["dialog"]["is_secure"] = json!(true);
    assert!(read(&bare).is_err(), "its target is not");
    bare["dialog"]["remote_target"] = json!("sips:bob@192.0.2.4");
    bare["dialog"]["route_set"] = json!(["<sips:p1.example.com;lr>"]);
    assert_eq!(written(&read(&bare).unwrap()), bare);
    assert!(state.packages.is_none());
}

/// Fields that a later version has added mean nothing to this one, and take nothing from it.
#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut later = version_1();
    later["colour"] = json!("green");
    later["dialog"]["shape"] = json!([1, 2]);
    assert_eq!(written(&read(&later).unwrap()), version_1());
}

#[test]
fn a_description_that_is_no_text_stays_behind() {
    let mut state = read(&version_1()).unwrap();
    let timer = state.timer.as_mut().unwrap();
    timer.description = Some(Body::new("application/sdp", vec![0xff, 0xfe]));
    state.acks[1].body = Some(Body::new("application/sdp", vec![0xff]));
    let value = written(&state);
    assert_eq!(value["timer"]["description"], Value::Null);
    assert_eq!(value["acks"].as_array().unwrap().len(), 1);
}

/// Whatever stands in a file: it is refused, or it is a call that can be restored, changed and hung up, and says nothing that its
/// peer cannot read.
#[test]
fn no_text_makes_a_process_panic() {
    let mut ids = IdSource::from_number(17);
    let (mut accepted, mut refused) = (0, 0);
    for text in mutants(&version_1(), &mut ids) {
        let Ok(state) = serde_json::from_slice::<CallState>(&text) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        let once = written(&state);
        let again = written(&read(&once).unwrap());
        assert_eq!(again, once, "it stays what it is");
        lives(state, ids.split());
    }
    assert!(accepted > 500 && refused > 1_000, "{accepted}, {refused}");
}

fn lives(state: CallState, ids: IdSource) {
    let call_id = state.dialog().call_id.clone();
    let mut calls = Calls::new(CallConfig::default(), ids);
    let now = Instant::now();
    let key = calls.restore(now, state, None).unwrap();
    calls.handle_timeout(now);
    // Where its numbers are used up there is none for a re-INVITE.
    let _ = calls.reinvite(key, None);
    let exported = calls.export(now, key);
    assert!(exported.is_err() || exported.is_ok_and(|it| *it.dialog().call_id == *call_id));
    let _ = calls.hang_up(key, None);
    if let Some(next) = calls.poll_timeout() {
        calls.handle_timeout(next);
    }
    while let Some(output) = calls.poll_output() {
        let Output::Send { request, .. } = output else {
            continue;
        };
        let sent = Request::parse(request.as_bytes().to_vec(), &Limits::default()).unwrap();
        assert_eq!(sent.headers().call_id().unwrap(), &*call_id);
        assert!(sent.headers().to().is_ok() && sent.headers().from().is_ok());
        assert!(!sent.headers().contains(&"Evil".into()));
    }
}

/// Each value replaced by others, and the text cut, overwritten and mixed.
fn mutants(good: &Value, ids: &mut IdSource) -> Vec<Vec<u8>> {
    let mut places = Vec::new();
    collect(good, String::new(), &mut places);
    let strange = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(2_147_483_647),
        json!(4_294_967_295_u64),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("<>"),
        json!("sip:"),
        json!("a\r\nEvil: yes\r\n\r\n"),
        json!("\u{0}\u{fffd}\u{10ffff}"),
        json!("sips:x@h"),
        json!("tel:+1"),
        json!([]),
        json!({}),
        json!(["<sip:a;lr>"]),
        json!(["<sip:strict>", "<sips:b;lr>"]),
    ];
    let mut mutants = Vec::new();
    for place in &places {
        for value in &strange {
            let mut mutant = good.clone();
            *mutant.pointer_mut(place).unwrap() = value.clone();
            mutants.push(mutant.to_string().into_bytes());
        }
    }
    let text = good.to_string().into_bytes();
    for _ in 0..5_000 {
        let mut mutant = text.clone();
        for _ in 0..ids.number_in(1, 3) {
            let last = mutant.len().saturating_sub(1);
            let at = usize::try_from(ids.number_in(0, last as u64)).unwrap();
            let byte = u8::try_from(ids.number_in(0, 255)).unwrap();
            match ids.number_in(0, 9) {
                0 => mutant.truncate(at.max(1)),
                1 => mutant.insert(at, byte),
                2 => drop(mutant.remove(at)),
                _ => mutant[at] = byte % 95 + 32,
            }
            if mutant.is_empty() {
                break;
            }
        }
        mutants.push(mutant);
    }
    mutants
}

fn collect(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(value, format!("{place}/{name}"), places);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                collect(value, format!("{place}/{index}"), places);
            }
        }
        _ => {}
    }
    if !place.is_empty() {
        places.push(place);
    }
}
