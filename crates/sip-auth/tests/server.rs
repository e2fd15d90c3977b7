//! The server side: challenges and verdicts.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::cell::Cell;
use std::time::Duration;

use sipora_auth::{
    Algorithm, AuthError, Authenticator, Challenger, ClientAuthenticator, Credentials, Hash, Qop,
    Reason, Secret, SecretStore, Verdict,
};
use sipora_message::HeaderName;
use support::*;

fn reason(verdict: Verdict) -> Option<(Reason, bool)> {
    match verdict {
        Verdict::Challenge { reason, stale, .. } => Some((reason, stale)),
        _ => None,
    }
}

fn is_accepted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Accepted(_))
}

/// A right answer from alice, changed by `change`, and the verdict on it.
fn verdict_on(change: impl Fn(&str) -> String) -> Verdict {
    let server = server(config());
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    assert!(is_accepted(&verify(&server, 0, &REGISTER.with(&lines))));
    let server = support::server(config());
    let changed = (HeaderName::Authorization, change(&lines[0].1));
    verify(&server, 0, &REGISTER.with(&[changed]))
}

#[test]
fn md5_alone_is_offered_by_default() {
    let lines = server(config()).challenge(at(0), &REGISTER.bare(), false);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].0, HeaderName::WwwAuthenticate);
    let challenge = challenge(&lines[0]);
    assert_eq!(challenge.algorithm(), Algorithm::Md5);
    assert_eq!(challenge.qops(), [Qop::Auth]);
    assert_eq!(challenge.realm(), REALM);
    assert!(!challenge.is_stale());
    assert!(!challenge.accepts_userhash());
}

#[test]
fn each_algorithm_gets_a_line_in_the_configured_order() {
    let configured = [Algorithm::Sha256, Algorithm::Md5, Algorithm::Sha512_256];
    let repeated = configured.into_iter().chain([Algorithm::Md5]);
    let lines = server(config().algorithms(repeated)).challenge(at(0), &REGISTER.bare(), false);
    let offered: Vec<Algorithm> = lines
        .iter()
        .map(|line| challenge(line).algorithm())
        .collect();
    assert_eq!(offered, configured);
}

#[test]
fn a_proxy_asks_with_407_and_reads_proxy_authorization() {
    let server = server(config().challenger(Challenger::Proxy));
    let bare = REGISTER.bare();
    let challenge = server.challenge(at(0), &bare, false);
    assert_eq!(challenge[0].0, HeaderName::ProxyAuthenticate);
    assert_eq!(Challenger::Proxy.status().as_u16(), 407);
    let lines = client()
        .answer(&bare, &response(407, &challenge), "c")
        .expect("an answer");
    assert!(is_accepted(&verify(&server, 0, &REGISTER.with(&lines))));
}

#[test]
fn a_request_without_credentials_is_challenged() {
    let verdict = verify(&server(config()), 0, &REGISTER.bare());
    assert_eq!(reason(verdict), Some((Reason::NoCredentials, false)));
}

// RFC 8760 §2.7: empty values while the client has not yet received a challenge.
#[test]
fn credentials_with_an_empty_nonce_or_response_are_a_request_for_a_challenge() {
    let empty = (
        HeaderName::Authorization,
        format!(r#"Digest username="alice", realm="{REALM}", nonce="", uri="{URI}", response="""#),
    );
    let verdict = verify(&server(config()), 0, &REGISTER.with(&[empty]));
    assert_eq!(reason(verdict), Some((Reason::NoCredentials, false)));
}

#[test]
fn a_right_answer_tells_the_user_for_the_caller_to_check_the_address() {
    let server = server(config());
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    let Verdict::Accepted(identity) = verify(&server, 1, &REGISTER.with(&lines)) else {
        panic!("not accepted");
    };
    assert_eq!(identity.username, "alice");
    assert_eq!(identity.realm, REALM);
    assert_eq!(identity.algorithm, Algorithm::Md5);
    assert_eq!(identity.qop, Some(Qop::Auth));
}

#[test]
fn a_wrong_password_and_an_unknown_user_get_the_same_verdict() {
    let server = server(config());
    for credentials in [
        Credentials::new("alice", "wrong"),
        Credentials::new("nobody", "wonderland"),
        Credentials::new("nobody", ""),
        Credentials::new("nobody", "no user has this secret"),
    ] {
        let lines = answered(
            &server,
            &mut ClientAuthenticator::new(credentials.clone()),
            0,
            &REGISTER,
        );
        let verdict = verify(&server, 0, &REGISTER.with(&lines));
        assert_eq!(
            reason(verdict),
            Some((Reason::WrongCredentials, false)),
            "{credentials:?}"
        );
    }
    assert!(Reason::WrongCredentials.is_failure());
    assert!(!Reason::NoCredentials.is_failure());
}

#[test]
fn the_secret_of_an_unknown_user_is_looked_up_and_hashed_all_the_same() {
    let server = server(config());
    let lookups = Cell::new(0);
    let store = |_: &str, _: &str| {
        lookups.set(lookups.get() + 1);
        None
    };
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    server.verify(at(0), &REGISTER.with(&lines), &store, nothing_else);
    assert_eq!(lookups.get(), 1);
}

#[test]
fn a_digest_of_another_method_or_body_is_wrong() {
    let server = server(config().qops([Qop::AuthInt]));
    let draft = Draft {
        body: "hello",
        ..REGISTER
    };
    let lines = answered(&server, &mut client(), 0, &draft);
    for other in [
        Draft {
            method: "OPTIONS",
            ..draft.clone()
        },
        Draft {
            body: "hullo",
            ..draft.clone()
        },
    ] {
        let verdict = verify(&server, 0, &other.with(&lines));
        assert_eq!(
            reason(verdict),
            Some((Reason::WrongCredentials, false)),
            "{} {}",
            other.method,
            other.body
        );
    }
    assert!(is_accepted(&verify(&server, 0, &draft.with(&lines))));
}

#[test]
fn an_expired_nonce_with_a_right_digest_is_stale() {
    let server = server(config().nonce_lifetime(Duration::from_secs(60)));
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    let request = REGISTER.with(&lines);
    let verdict = verify(&server, 60, &request);
    assert_eq!(reason(verdict), Some((Reason::NonceExpired, true)));
    assert!(is_accepted(&verify(&server, 59, &request)));
    let challenge = challenge(&server.challenge(at(60), &request, true)[0]);
    assert!(challenge.is_stale());
}

#[test]
fn a_foreign_nonce_with_a_right_digest_is_stale() {
    let elsewhere = Authenticator::new([9; 32], config());
    let lines = answered(&elsewhere, &mut client(), 0, &REGISTER);
    let verdict = verify(&server(config()), 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::NonceUnknown, true)));
}

#[test]
fn a_bad_nonce_with_a_wrong_digest_is_a_plain_failure() {
    let elsewhere = Authenticator::new([9; 32], config());
    let mut guesser = ClientAuthenticator::new(Credentials::new("alice", "guess"));
    let lines = answered(&elsewhere, &mut guesser, 0, &REGISTER);
    let verdict = verify(&server(config()), 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::WrongCredentials, false)));
}

#[test]
fn a_nonce_serves_after_a_restart_and_on_every_node_with_the_key() {
    let lines = answered(&server(config()), &mut client(), 0, &REGISTER);
    let other_node = server(config());
    assert!(is_accepted(&verify(&other_node, 1, &REGISTER.with(&lines))));
}

#[test]
fn clocks_of_nodes_may_differ_a_little() {
    let server = server(config());
    let lines = answered(&server, &mut client(), 20, &REGISTER);
    assert!(is_accepted(&verify(&server, 0, &REGISTER.with(&lines))));
    let lines = answered(&server, &mut client(), 40, &REGISTER);
    let verdict = verify(&server, 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::NonceExpired, true)));
}

#[test]
fn a_replayed_request_is_refused_and_the_next_count_is_not() {
    let server = server(config());
    let mut client = client();
    let lines = answered(&server, &mut client, 0, &REGISTER);
    let request = REGISTER.with(&lines);
    assert!(is_accepted(&verify(&server, 0, &request)));
    let replayed = verify(&server, 1, &request);
    assert_eq!(reason(replayed), Some((Reason::NonceReused, true)));
    let refresh = client.preempt(&REGISTER.bare(), "d");
    assert!(is_accepted(&verify(&server, 2, &REGISTER.with(&refresh))));
}

#[test]
fn replay_protection_stays_within_its_cap_and_locks_nobody_out() {
    let server = server(config().replay_capacity(8));
    let mut requests = Vec::new();
    for n in 0..200 {
        let draft = Draft { n, ..REGISTER };
        let mut client = client();
        let lines = answered(&server, &mut client, 0, &draft);
        let mut request = draft.with(&lines);
        let mut verdict = verify(&server, 0, &request);
        if let Verdict::Challenge { stale: true, .. } = verdict {
            let again = Draft {
                n: n + 1_000,
                ..REGISTER
            };
            let challenge = response(401, &server.challenge(at(0), &request, true));
            let lines = client.answer(&request, &challenge, "d").expect("one more");
            request = again.with(&lines);
            verdict = verify(&server, 0, &request);
        }
        assert!(is_accepted(&verdict), "client {n}: {verdict:?}");
        requests.push(request);
        let metrics = server.metrics();
        assert!(metrics.nonces_tracked <= metrics.nonces_capacity);
    }
    assert!(server.metrics().nonces_dropped_early > 0);
    for request in requests {
        assert!(!is_accepted(&verify(&server, 0, &request)));
    }
}

#[test]
fn wrong_digests_leave_no_trace_in_the_replay_table() {
    let server = server(config());
    let mut guesser = ClientAuthenticator::new(Credentials::new("alice", "guess"));
    let lines = answered(&server, &mut guesser, 0, &REGISTER);
    verify(&server, 0, &REGISTER.with(&lines));
    assert_eq!(server.metrics().nonces_tracked, 0);
}

#[test]
fn two_clients_challenged_in_the_same_millisecond_do_not_disturb_each_other() {
    let server = server(config());
    for n in 1..=2 {
        let draft = Draft { n, ..REGISTER };
        let lines = answered(&server, &mut client(), 0, &draft);
        assert!(is_accepted(&verify(&server, 0, &draft.with(&lines))), "{n}");
    }
}

#[test]
fn an_answer_without_qop_is_refused_because_qop_was_offered() {
    let server = server(config());
    let bare = REGISTER.bare();
    let challenge = server.challenge(at(0), &bare, false)[0].1.clone();
    let without = challenge.replace(", qop=\"auth\"", "");
    assert_ne!(challenge, without);
    let lines = client()
        .answer(&bare, &response(401, &[www(&without)]), "c")
        .expect("an answer");
    let verdict = verify(&server, 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::QopNotOffered, false)));
    // Where it is allowed for old clients, each nonce serves once.
    let lenient = support::server(config().accept_without_qop(true));
    let request = REGISTER.with(&lines);
    assert!(is_accepted(&verify(&lenient, 0, &request)));
    let again = verify(&lenient, 0, &request);
    assert_eq!(reason(again), Some((Reason::NonceReused, true)));
}

#[test]
fn an_algorithm_or_qop_that_is_not_on_offer_is_refused() {
    let strong = config()
        .algorithms([Algorithm::Sha256])
        .qops([Qop::AuthInt]);
    let lines = answered(&server(config()), &mut client(), 0, &REGISTER);
    let verdict = verify(&server(strong), 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::AlgorithmNotOffered, false)));
    let integrity = config().qops([Qop::AuthInt]);
    let verdict = verify(&server(integrity), 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::QopNotOffered, false)));
    let unknown = verdict_on(|value| value.replace("algorithm=MD5", "algorithm=ROT13"));
    assert_eq!(reason(unknown), Some((Reason::AlgorithmNotOffered, false)));
}

#[test]
fn one_user_may_have_algorithms_of_his_own() {
    struct Users;
    impl SecretStore for Users {
        fn secret(&self, realm: &str, username: &str) -> Option<Secret> {
            users(realm, username)
        }
        fn algorithms(&self, _: &str, username: &str) -> Option<Vec<Algorithm>> {
            (username == "alice").then(|| vec![Algorithm::Sha256])
        }
    }
    let server = server(config());
    let bare = REGISTER.bare();
    let md5 = answered(&server, &mut client(), 0, &REGISTER);
    let verdict = server.verify(at(0), &REGISTER.with(&md5), &Users, nothing_else);
    assert_eq!(reason(verdict), Some((Reason::AlgorithmNotOffered, false)));
    let ask = server.ask().algorithms(&[Algorithm::Sha256]);
    let challenge = response(401, &ask.challenge(at(0), &bare, false));
    let lines = client().answer(&bare, &challenge, "c").expect("an answer");
    let verdict = server.verify(at(0), &REGISTER.with(&lines), &Users, nothing_else);
    assert!(is_accepted(&verdict), "{verdict:?}");
}

#[test]
fn the_digest_uri_must_be_the_request_uri_or_one_that_is_served() {
    let server = server(config());
    let bob = Draft {
        uri: "sip:bob@example.com",
        ..REGISTER
    };
    let lines = answered(&server, &mut client(), 0, &bob);
    // A proxy has rewritten the Request-URI since.
    let rewritten = Draft {
        uri: "sip:bob@192.0.2.9",
        ..REGISTER
    };
    let request = rewritten.with(&lines);
    assert_eq!(
        verify(&server, 0, &request),
        Verdict::Malformed {
            error: AuthError::ForeignUri
        }
    );
    let served = server.verify(at(0), &request, &users, |uri| {
        uri.host_str().eq_ignore_ascii_case("example.com")
    });
    assert!(is_accepted(&served), "{served:?}");
}

#[test]
fn a_digest_uri_that_is_equivalent_to_the_request_uri_needs_nobodys_leave() {
    let server = server(config());
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    let upper = Draft {
        uri: "sip:REGISTRAR.example.com",
        ..REGISTER
    };
    assert!(is_accepted(&verify(&server, 0, &upper.with(&lines))));
}

#[test]
fn a_foreign_uri_with_a_wrong_digest_tells_nothing_about_the_uri() {
    let server = server(config());
    let mut guesser = ClientAuthenticator::new(Credentials::new("alice", "guess"));
    let foreign = Draft {
        uri: "sip:elsewhere.example",
        ..REGISTER
    };
    let lines = answered(&server, &mut guesser, 0, &foreign);
    let verdict = verify(&server, 0, &REGISTER.with(&lines));
    assert_eq!(reason(verdict), Some((Reason::WrongCredentials, false)));
}

#[test]
fn malformed_credentials_for_this_realm_are_owed_a_400() {
    type Change = fn(&str) -> String;
    let changes: [(Change, AuthError); 5] = [
        (
            |value| value.replace("nc=00000001", "nc=1"),
            AuthError::Invalid { parameter: "nc" },
        ),
        (
            |value| value.replace("username=\"alice\", ", ""),
            AuthError::Missing {
                parameter: "username",
            },
        ),
        (
            |value| value.replace("realm=\"example.com\", ", ""),
            AuthError::Missing { parameter: "realm" },
        ),
        (
            |value| format!("{value}, uri=\"sip:x\""),
            AuthError::Duplicate { parameter: "uri" },
        ),
        (
            |value| value.replace("cnonce=\"0a4f113b\", ", ""),
            AuthError::Missing {
                parameter: "cnonce",
            },
        ),
    ];
    for (change, error) in changes {
        assert_eq!(verdict_on(change), Verdict::Malformed { error });
    }
    let garbage = verdict_on(|_| "Digest username=\"".to_owned());
    assert!(matches!(
        garbage,
        Verdict::Malformed {
            error: AuthError::Header(_)
        }
    ));
}

#[test]
fn a_response_that_is_no_digest_is_wrong_rather_than_malformed() {
    for response in ["response=\"zz\"", "response=\"00\""] {
        let verdict = verdict_on(|value| {
            let start = value.find("response=").expect("there");
            let end = value.find(", algorithm").expect("there");
            value.replace(&value[start..end], response)
        });
        assert_eq!(reason(verdict), Some((Reason::WrongCredentials, false)));
    }
}

// RFC 3261 §22.3: values whose realm does not match are not ours.
#[test]
fn credentials_for_other_realms_and_schemes_are_left_alone() {
    let server = server(config());
    let right = answered(&server, &mut client(), 0, &REGISTER);
    let others: [&[u8]; 5] = [
        b"Digest realm=\"elsewhere\", nc=1",
        b"Digest realm=\"elsewhere\", username=\"\xff\"",
        b"Basic YWxpY2U6d29uZGVybGFuZA==",
        b"Digest realm=\"elsewhere",
        b"Bearer \"",
    ];
    let mut lines: Vec<(&str, &[u8])> = others
        .iter()
        .map(|value| ("Authorization", *value))
        .collect();
    lines.push(("Authorization", right[0].1.as_bytes()));
    assert!(is_accepted(&verify(
        &server,
        0,
        &REGISTER.with_bytes(&lines)
    )));
    for value in [others[0], others[1], others[2], others[4]] {
        let verdict = verify(
            &server,
            0,
            &REGISTER.with_bytes(&[("Authorization", value)]),
        );
        assert_eq!(
            reason(verdict),
            Some((Reason::NoCredentials, false)),
            "{}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn credentials_that_are_not_utf_8_are_malformed() {
    let value = b"Digest realm=\"example.com\", username=\"\xff\"";
    let verdict = verify(
        &server(config()),
        0,
        &REGISTER.with_bytes(&[("Authorization", value)]),
    );
    assert_eq!(
        verdict,
        Verdict::Malformed {
            error: AuthError::NotUtf8 {
                parameter: "username"
            }
        }
    );
}

#[test]
fn a_hashed_username_is_nobodys_because_it_was_not_asked_for() {
    let verdict = verdict_on(|value| format!("{value}, userhash=true"));
    assert_eq!(reason(verdict), Some((Reason::WrongCredentials, false)));
}

#[test]
fn a_hash_serves_instead_of_a_password() {
    let hash = |hash| Secret::hash_of(hash, "alice", REALM, "wonderland");
    let (md5, sha) = (hash(Hash::Md5), hash(Hash::Sha256));
    let store = |_: &str, _: &str| {
        Secret::hashed(Hash::Md5, &md5)
            .and_then(|secret| secret.and_hashed(Hash::Sha256, &sha))
            .ok()
    };
    for algorithm in [Algorithm::Md5, Algorithm::Sha256Sess] {
        let server = server(config().algorithms([algorithm]));
        let lines = answered(&server, &mut client(), 0, &REGISTER);
        let verdict = server.verify(at(0), &REGISTER.with(&lines), &store, nothing_else);
        assert!(is_accepted(&verdict), "{algorithm}: {verdict:?}");
    }
    let server = server(config().algorithms([Algorithm::Sha512_256]));
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    let verdict = server.verify(at(0), &REGISTER.with(&lines), &store, nothing_else);
    assert_eq!(reason(verdict), Some((Reason::WrongCredentials, false)));
}

#[test]
fn a_server_of_several_domains_keeps_their_realms_apart() {
    let server = server(config());
    let bare = REGISTER.bare();
    let ask = server.ask_in("second.example");
    let challenge = response(401, &ask.challenge(at(0), &bare, false));
    let lines = client().answer(&bare, &challenge, "c").expect("an answer");
    let request = REGISTER.with(&lines);
    assert_eq!(
        reason(verify(&server, 0, &request)),
        Some((Reason::NoCredentials, false))
    );
    let verdict = ask.verify(at(0), &request, &users, nothing_else);
    assert!(is_accepted(&verdict), "{verdict:?}");
}

#[test]
fn a_store_that_has_to_wait_learns_first_whose_secret_is_needed() {
    let server = server(config());
    let lines = answered(&server, &mut client(), 0, &REGISTER);
    assert_eq!(server.ask().usernames(&REGISTER.with(&lines)), ["alice"]);
    assert!(server.ask().usernames(&REGISTER.bare()).is_empty());
    let elsewhere = server.ask_in("elsewhere.example");
    assert!(elsewhere.usernames(&REGISTER.with(&lines)).is_empty());
}

#[test]
fn the_key_is_never_printed() {
    let text = format!("{:?}", server(config()));
    assert!(!text.contains("7, 7"), "{text}");
}
