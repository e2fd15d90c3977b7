//! Client and server against each other, and hostile input to either.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use proptest::prelude::*;
use sipora_auth::{Algorithm, ClientAuthenticator, Credentials, Qop, Verdict};
use sipora_message::HeaderName;
use support::*;

#[test]
fn every_algorithm_and_qop_authenticates_a_request_and_its_refreshes() {
    for algorithm in Algorithm::ALL {
        for qop in [Qop::Auth, Qop::AuthInt] {
            let server = server(config().algorithms([algorithm]).qops([qop]));
            let mut client = client();
            let draft = Draft {
                method: "MESSAGE",
                body: "Treffpunkt um zwölf?",
                ..REGISTER
            };
            let mut lines = answered(&server, &mut client, 0, &draft);
            for refresh in 0..5 {
                let verdict = verify(&server, refresh, &draft.with(&lines));
                let Verdict::Accepted(identity) = verdict else {
                    panic!("{algorithm} {qop} refresh {refresh}: {verdict:?}");
                };
                assert_eq!((identity.algorithm, identity.qop), (algorithm, Some(qop)));
                lines = client.preempt(&draft.bare(), &format!("cnonce{refresh}"));
            }
        }
    }
}

#[test]
fn a_refresh_after_the_nonce_has_expired_takes_one_more_round() {
    let server = server(config());
    let mut client = client();
    let lines = answered(&server, &mut client, 0, &REGISTER);
    assert!(matches!(
        verify(&server, 0, &REGISTER.with(&lines)),
        Verdict::Accepted(_)
    ));
    let request = REGISTER.with(&client.preempt(&REGISTER.bare(), "d"));
    let Verdict::Challenge { stale, .. } = verify(&server, 3_600, &request) else {
        panic!("the nonce has expired");
    };
    let challenge = response(401, &server.challenge(at(3_600), &request, stale));
    let lines = client.answer(&request, &challenge, "e").expect("one more");
    assert!(matches!(
        verify(&server, 3_600, &REGISTER.with(&lines)),
        Verdict::Accepted(_)
    ));
}

#[test]
fn a_wrong_password_ends_after_one_answer() {
    let server = server(config());
    let mut client = ClientAuthenticator::new(Credentials::new("alice", "wrong"));
    let lines = answered(&server, &mut client, 0, &REGISTER);
    let request = REGISTER.with(&lines);
    let Verdict::Challenge { stale, .. } = verify(&server, 0, &request) else {
        panic!("a wrong password");
    };
    let challenge = response(401, &server.challenge(at(0), &request, stale));
    let error = client.answer(&request, &challenge, "d").expect_err("over");
    assert!(error.is_rejected(), "{error}");
}

#[test]
fn quotes_backslashes_and_umlauts_in_names_and_passwords_agree_on_both_sides() {
    let server = server(config().algorithms([Algorithm::Sha256]));
    let credentials = Credentials::new("zoë \"z\" \\", "café: noir");
    let realm = "a \"quoted\" \\ réalm";
    let mut client = ClientAuthenticator::new(credentials);
    let bare = REGISTER.bare();
    let ask = server.ask_in(realm);
    let challenge = response(401, &ask.challenge(at(0), &bare, false));
    let lines = client.answer(&bare, &challenge, "c").expect("an answer");
    let verdict = ask.verify(at(0), &REGISTER.with(&lines), &users, nothing_else);
    let Verdict::Accepted(identity) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(identity.username, "zoë \"z\" \\");
    assert_eq!(identity.realm, realm);
}

#[test]
fn several_realms_on_one_way_are_all_satisfied() {
    use sipora_auth::{Authenticator, AuthenticatorConfig, Challenger};
    let registrar = server(config());
    let proxy = Authenticator::new(
        [3; 32],
        AuthenticatorConfig::new("proxy.example").challenger(Challenger::Proxy),
    );
    let mut client = client();
    let mut lines = Lines::new();
    let mut statuses = Vec::new();
    for n in 1..10 {
        let request = Draft { n, ..REGISTER }.with(&lines);
        let challenge = match verify(&proxy, 0, &request) {
            Verdict::Accepted(_) => match verify(&registrar, 0, &request) {
                Verdict::Accepted(_) => break,
                Verdict::Challenge { stale, .. } => {
                    response(401, &registrar.challenge(at(0), &request, stale))
                }
                other => panic!("{other:?}"),
            },
            Verdict::Challenge { stale, .. } => {
                response(407, &proxy.challenge(at(0), &request, stale))
            }
            other => panic!("{other:?}"),
        };
        statuses.push(challenge.status().as_u16());
        lines = client.answer(&request, &challenge, "c").expect("an answer");
    }
    assert_eq!(statuses, [407, 401]);
}

/// Text that looks like credentials more often than noise does.
fn almost_credentials() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"Digest ".to_vec()),
        Just(b"realm=\"example.com\"".to_vec()),
        Just(b"username=\"alice\"".to_vec()),
        Just(b"username*=UTF-8''%C3".to_vec()),
        Just(b"nonce=\"n\"".to_vec()),
        Just(b"uri=\"sip:registrar.example.com\"".to_vec()),
        Just(b"response=\"0123456789abcdef0123456789abcdef\"".to_vec()),
        Just(b"qop=auth, nc=00000001, cnonce=\"c\"".to_vec()),
        Just(b"nc=ffffffff".to_vec()),
        Just(b"algorithm=SHA-512-256-sess".to_vec()),
        Just(b", ".to_vec()),
        Just(b"=".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"\\".to_vec()),
        "[ -~]{0,8}".prop_map(String::into_bytes),
        proptest::collection::vec(0x80u8..=0xff, 0..4),
    ];
    proptest::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn garbage_in_authorization_never_panics_and_never_gets_in(value in almost_credentials()) {
        let server = server(config().algorithms(Algorithm::ALL).accept_without_qop(true));
        let request = REGISTER.with_bytes(&[("Authorization", &value)]);
        let verdict = verify(&server, 0, &request);
        prop_assert!(!matches!(verdict, Verdict::Accepted(_)));
        prop_assert_eq!(server.metrics().nonces_tracked, 0);
    }

    #[test]
    fn garbage_in_challenges_never_panics(value in almost_credentials()) {
        let value = String::from_utf8_lossy(&value).into_owned();
        let challenge = response(401, &[www(&value), proxy(&value)]);
        let mut client = client();
        if let Ok(lines) = client.answer(&REGISTER.bare(), &challenge, "c") {
            let request = REGISTER.with(&lines);
            client.learn(&request, &response(200, &[(HeaderName::AuthenticationInfo, value)]));
            client.preempt(&request, "c");
        }
    }

    #[test]
    fn whatever_a_realm_and_user_are_called_printing_and_reading_agree(
        realm in "[^\r\n\0]{0,12}",
        username in "[^\r\n\0]{0,12}",
        opaque in "[^\r\n\0]{0,12}",
    ) {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let value = format!(
            "Digest realm=\"{}\", nonce=\"n\", opaque=\"{}\", algorithm=MD5, qop=\"auth\"",
            quote(&realm),
            quote(&opaque)
        );
        let challenge = challenge(&www(&value));
        prop_assert_eq!(challenge.realm(), &realm);
        prop_assert_eq!(challenge.to_string(), value.clone());
        let bare = REGISTER.bare();
        let mut client = ClientAuthenticator::new(Credentials::new(username.as_str(), "p"));
        let lines = client.answer(&bare, &response(401, &[www(&value)]), "c").expect("an answer");
        let answer = answer(&lines[0]);
        prop_assert_eq!(answer.username(), &username);
        prop_assert_eq!(answer.realm(), &realm);
        prop_assert_eq!(answer.opaque(), Some(opaque.as_str()));
    }
}
