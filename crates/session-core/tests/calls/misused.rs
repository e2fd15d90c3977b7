//! What cannot be done is said with the error that tells why, and nothing is sent.

use crate::phone::*;
use sipora_session_core::{
    CallEnd, CallEvent, CallHandle, CallOptions, Error, SipClient, StatusCode,
};

fn is_invalid<T>(result: &Result<T, Error>, named: &str) -> bool {
    matches!(result, Err(Error::InvalidRequest { header, .. }) if header == named)
}

async fn is_over(call: &mut CallHandle) {
    let event = call.next().await;
    assert!(matches!(event, Some(CallEvent::Ended(_))), "{event:?}");
    assert!(call.next().await.is_none());
}

#[test]
fn the_end_of_a_call_is_remembered() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.reject(StatusCode::BUSY_HERE).await.unwrap();
        is_over(&mut his).await;
        assert!(matches!(his.ended().await, CallEnd::Rejected));
        for _ in 0..2 {
            match hers.answered().await {
                Err(Error::Rejected(answer)) => assert_eq!(answer.status(), StatusCode::BUSY_HERE),
                other => panic!("{other:?}"),
            }
            match hers.ended().await {
                CallEnd::Failed(Error::Rejected(answer)) => {
                    assert_eq!(answer.status(), StatusCode::BUSY_HERE);
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn header_fields_that_make_the_invite_cannot_be_added_to_it() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let cases = [
            ("Via", "Via"),
            ("v", "Via"),
            ("contact", "Contact"),
            ("m", "Contact"),
            ("Record-Route", "Record-Route"),
            ("Allow", "Allow"),
            ("Recv-Info", "Recv-Info"),
            ("Max-Forwards", "Max-Forwards"),
            ("User-Agent", "User-Agent"),
            ("From", "From"),
            ("CSeq", "CSeq"),
            ("Content-Length", "Content-Length"),
        ];
        for (name, named) in cases {
            let options = CallOptions::new().with_sdp(OFFER).with_header(name, "x");
            let called = alice.client.call_with(&uri(BOB), options).await;
            assert!(is_invalid(&called, named), "{name}: {called:?}");
        }
        // Nothing was sent: this is the first call there.
        let _hers = alice.calls(BOB).await;
        assert!(bob.is_called().await.ring().await.is_ok());
        assert_eq!(bob.client.call_metrics().begun, 1);
    });
}

#[test]
fn an_empty_description_is_none() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let called = alice.client.call(&uri(BOB), Some("")).await;
        assert!(is_invalid(&called, "body"), "{called:?}");
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        let progress = StatusCode::SESSION_PROGRESS;
        assert!(is_invalid(&his.progress(progress, Some("")).await, "body"));
        assert!(is_invalid(&his.accept("").await, "body"));
        his.accept(ANSWER).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        assert!(is_invalid(&hers.change(Some("")).await, "body"));
        hers.change(None).await.unwrap();
    });
}

/// RFC 3261 §19.1.5: a URI may ask for another request than a call, and has no place for header fields in a Request-URI.
#[test]
fn what_asks_for_something_else_than_a_call_is_not_called() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let plain = uri(BOB);
        for ending in [
            ";method=REGISTER",
            ";method=BYE",
            ";method",
            "?Subject=x",
            ";method=INVITE?Route=x",
        ] {
            let called = alice
                .client
                .call(&format!("{plain}{ending}"), Some(OFFER))
                .await;
            assert!(
                matches!(
                    called,
                    Err(Error::InvalidUri {
                        argument: "target_uri",
                        ..
                    })
                ),
                "{ending}: {called:?}"
            );
        }
        let options = CallOptions::new().with_from("sip:alice@h;method=INVITE");
        let called = alice.client.call_with(&plain, options).await;
        assert!(
            matches!(called, Err(Error::InvalidUri { .. })),
            "{called:?}"
        );
        let asked = format!("{plain};method=INVITE");
        assert!(alice.client.send_options(&asked).await.is_err());
        // A call that is asked for as one: what asks for it goes nowhere.
        let _hers = alice.client.call(&asked, Some(OFFER)).await.unwrap();
        let his = bob.is_called().await;
        let invite = his.invite().unwrap();
        assert_eq!(invite.uri_text(), plain);
        assert_eq!(invite.headers().to().unwrap().uri().as_str(), plain);
        assert_eq!(bob.client.call_metrics().begun, 1);
    });
}

#[test]
fn what_has_no_stream_is_not_held() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let refused = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";
        let mut hers = alice.calls(BOB).await;
        let mut his = bob.is_called().await;
        his.accept(refused).await.unwrap();
        hers.answered().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Acknowledged(_))));
        for call in [&hers, &his] {
            for wrong in [call.hold().await, call.resume().await] {
                match wrong {
                    Err(Error::NotNow { reason }) => assert!(reason.contains("stream"), "{reason}"),
                    other => panic!("{other:?}"),
                }
            }
        }
        // Nothing was sent, and nothing is in the way.
        hers.hang_up().await.unwrap();
        assert!(matches!(his.next().await, Some(CallEvent::Ended(_))));
    });
}

#[test]
fn a_caller_is_sent_to_no_place_that_is_not_named() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let _hers = alice.calls(BOB).await;
        let his = bob.is_called().await;
        let redirected = his.redirect(&[]).await;
        assert!(is_invalid(&redirected, "Contact"), "{redirected:?}");
        his.ring().await.unwrap();
    });
}

#[test]
fn what_is_too_early_is_not_too_late() {
    scene(|network| async move {
        let (alice, mut bob) = two(&network).await;
        let mut hers = alice.calls(BOB).await;
        let his = bob.is_called().await;
        let place = uri(CAROL);
        for rings in [false, true] {
            if rings {
                his.ring().await.unwrap();
                assert!(matches!(hers.next().await, Some(CallEvent::Progress(_))));
            }
            for call in [&hers, &his] {
                let transferred = call.transfer(&place).await;
                assert!(
                    matches!(transferred, Err(Error::NotNow { .. })),
                    "{transferred:?}"
                );
            }
        }
        // There is no INVITE of the peer's to answer.
        let wrong = [
            hers.ring().await,
            hers.accept(ANSWER).await,
            hers.reject(StatusCode::BUSY_HERE).await,
            hers.redirect(&[&place]).await,
        ];
        for wrong in wrong {
            assert!(matches!(wrong, Err(Error::NotNow { .. })), "{wrong:?}");
        }
        his.accept(ANSWER).await.unwrap();
        hers.answered().await.unwrap();
        hers.hang_up().await.unwrap();
        hers.ended().await;
        for late in [hers.accept(ANSWER).await, hers.ring().await] {
            assert!(matches!(late, Err(Error::TooLate)), "{late:?}");
        }
        assert!(matches!(hers.transfer(&place).await, Err(Error::TooLate)));
    });
}

/// Those that wait to be taken are as many as there may be.
#[test]
fn a_call_that_nobody_has_room_for_is_counted() {
    scene(|network| async move {
        let (alice, bob) = two(&network).await;
        let mut calls = Vec::new();
        for _ in 0..257 {
            calls.push(alice.calls(BOB).await);
        }
        let mut last = calls.pop().unwrap();
        match last.answered().await {
            Err(Error::Rejected(answer)) => assert_eq!(answer.status().as_u16(), 503),
            other => panic!("{other:?}"),
        }
        assert_eq!(bob.client.call_metrics().refused_for_lack_of_room, 1);
    });
}
