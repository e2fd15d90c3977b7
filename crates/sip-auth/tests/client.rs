//! The client side, against challenges written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use sipora_auth::{Algorithm, AuthError, ClientAuthenticator, Credentials, Qop};
use sipora_message::HeaderName;
use support::*;

const MD5: &str = r#"Digest realm="example.com", nonce="n1", algorithm=MD5, qop="auth""#;
const SHA: &str = r#"Digest realm="example.com", nonce="n1", algorithm=SHA-256, qop="auth""#;

fn answer_one(client: &mut ClientAuthenticator, value: &str) -> sipora_auth::DigestResponse {
    let lines = client
        .answer(&REGISTER.bare(), &response(401, &[www(value)]), "0a4f113b")
        .expect(value);
    assert_eq!(lines.len(), 1, "{lines:?}");
    answer(&lines[0])
}

// RFC 3261 §22.2 with the password "zanzibar"; the response was computed with md5sum.
#[test]
fn the_answer_has_every_parameter_that_the_challenge_asks_for() {
    let mut client = ClientAuthenticator::new(Credentials::new("bob", "zanzibar"));
    let draft = Draft {
        method: "INVITE",
        uri: "sip:bob@biloxi.com",
        ..REGISTER
    };
    let challenge = r#"Digest realm="biloxi.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
    let lines = client
        .answer(&draft.bare(), &response(401, &[www(challenge)]), "0a4f113b")
        .expect("an answer");
    assert_eq!(
        lines,
        [(
            HeaderName::Authorization,
            r#"Digest username="bob", realm="biloxi.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="sip:bob@biloxi.com", response="89eb0059246c02b2f6ee02c7961d5ea3", algorithm=MD5, cnonce="0a4f113b", qop=auth, nc=00000001, opaque="5ccc069c403ebaf9f0171e9517f40e41""#
                .to_owned()
        )]
    );
}

#[test]
fn a_407_is_answered_in_proxy_authorization() {
    let lines = client()
        .answer(&REGISTER.bare(), &response(407, &[proxy(MD5)]), "c")
        .expect("an answer");
    assert_eq!(lines[0].0, HeaderName::ProxyAuthorization);
}

#[test]
fn the_strongest_known_algorithm_wins_whatever_the_order() {
    let weak_first = response(
        401,
        &[
            www(MD5),
            www(r#"Digest realm="example.com", nonce="n", algorithm=SHA3-512, qop="auth""#),
            www(SHA),
            www(r#"Basic realm="example.com""#),
        ],
    );
    let lines = client()
        .answer(&REGISTER.bare(), &weak_first, "c")
        .expect("an answer");
    assert_eq!(lines.len(), 1);
    assert_eq!(answer(&lines[0]).algorithm(), Some(Algorithm::Sha256));
    let joined = format!("{MD5}, {SHA}");
    assert_eq!(
        answer_one(&mut client(), &joined).algorithm(),
        Some(Algorithm::Sha256)
    );
}

#[test]
fn malformed_challenges_are_skipped_beside_good_ones() {
    let mixed = response(
        401,
        &[
            www("Digest realm=\"example.com"),
            www("Digest nonce=\"x\""),
            www(MD5),
        ],
    );
    let lines = client()
        .answer(&REGISTER.bare(), &mixed, "c")
        .expect("an answer");
    assert_eq!(answer(&lines[0]).nonce(), "n1");
}

#[test]
fn auth_is_preferred_and_auth_int_is_used_where_it_stands_alone() {
    let both = MD5.replace("\"auth\"", "\"auth-int,auth\"");
    assert_eq!(answer_one(&mut client(), &both).qop(), Some(Qop::Auth));
    let alone = MD5.replace("\"auth\"", "\"auth-int\"");
    assert_eq!(answer_one(&mut client(), &alone).qop(), Some(Qop::AuthInt));
}

#[test]
fn auth_int_covers_the_body() {
    let challenge = response(401, &[www(&MD5.replace("\"auth\"", "\"auth-int\""))]);
    let digest = |body| {
        let draft = Draft { body, ..REGISTER };
        let lines = client()
            .answer(&draft.bare(), &challenge, "c")
            .expect("an answer");
        lines[0].1.clone()
    };
    assert_ne!(digest("one"), digest("two"));
}

#[test]
fn a_challenge_without_qop_gets_an_answer_of_rfc_2069() {
    let answer = answer_one(&mut client(), r#"Digest realm="example.com", nonce="n1""#);
    assert_eq!((answer.qop(), answer.nonce_count()), (None, None));
    let text = answer.to_string();
    for absent in ["cnonce", "nc=", "algorithm"] {
        assert!(!text.contains(absent), "{text}");
    }
}

#[test]
fn each_realm_gets_its_own_credentials_and_401_comes_with_407() {
    let mut client = ClientAuthenticator::new(Credentials::new("anyone", "x"));
    client.add(Credentials::new("alice", "a").for_realm("a.example"));
    client.add(Credentials::new("gateway", "g").for_proxies());
    let challenge =
        |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n-{realm}\", qop=\"auth\"");
    let mixed = response(
        407,
        &[
            www(&challenge("a.example")),
            www(&challenge("b.example")),
            proxy(&challenge("p.example")),
        ],
    );
    let lines = client
        .answer(&REGISTER.bare(), &mixed, "c")
        .expect("answers");
    let got: Vec<(HeaderName, String, String)> = lines
        .iter()
        .map(|line| {
            let answer = answer(line);
            let (user, realm) = (answer.username(), answer.realm());
            (line.0.clone(), user.to_owned(), realm.to_owned())
        })
        .collect();
    let expected = [
        (HeaderName::Authorization, "alice", "a.example"),
        (HeaderName::Authorization, "anyone", "b.example"),
        (HeaderName::ProxyAuthorization, "gateway", "p.example"),
    ]
    .map(|(name, user, realm)| (name, user.to_owned(), realm.to_owned()));
    assert_eq!(got, expected);
}

#[test]
fn credentials_kept_for_a_realm_or_for_proxies_go_nowhere_else() {
    let mut for_realm =
        ClientAuthenticator::new(Credentials::new("alice", "a").for_realm("other.example"));
    let mut for_proxies = ClientAuthenticator::new(Credentials::new("alice", "a").for_proxies());
    for client in [&mut for_realm, &mut for_proxies] {
        assert_eq!(
            client.answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c"),
            Err(AuthError::NoCredentials {
                realm: REALM.to_owned()
            })
        );
    }
}

#[test]
fn a_second_realm_in_the_chain_keeps_the_first_answered_and_counted_up() {
    let mut client = client();
    let first = client
        .answer(&REGISTER.bare(), &response(407, &[proxy(MD5)]), "c")
        .expect("an answer");
    let other = r#"Digest realm="second.example", nonce="n2", qop="auth""#;
    let second = client
        .answer(&REGISTER.with(&first), &response(401, &[www(other)]), "c")
        .expect("two answers");
    let mut counts: Vec<(String, Option<u32>)> = second
        .iter()
        .map(|line| (answer(line).realm().to_owned(), answer(line).nonce_count()))
        .collect();
    counts.sort();
    assert_eq!(
        counts,
        [
            (REALM.to_owned(), Some(2)),
            ("second.example".to_owned(), Some(1))
        ]
    );
}

#[test]
fn credentials_that_the_application_added_survive_the_retry() {
    let foreign = (
        HeaderName::ProxyAuthorization,
        "Digest realm=\"elsewhere\", opaque=\"kept as it is\"".to_owned(),
    );
    let lines = client()
        .answer(
            &REGISTER.with(std::slice::from_ref(&foreign)),
            &response(401, &[www(MD5)]),
            "c",
        )
        .expect("an answer");
    assert_eq!(lines.len(), 2);
    assert!(lines.contains(&foreign), "{lines:?}");
}

#[test]
fn a_wrong_password_is_sent_once_and_not_again() {
    let mut client = client();
    let first = client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let again = response(401, &[www(&MD5.replace("n1", "n2"))]);
    let error = client
        .answer(&REGISTER.with(&first), &again, "c")
        .expect_err("rejected");
    assert!(error.is_rejected(), "{error}");
    assert_eq!(
        client.preempt(&REGISTER.bare(), "c"),
        [],
        "what was rejected is not offered again"
    );
}

#[test]
fn stale_is_retried_once_with_the_new_nonce() {
    let mut client = client();
    let stale = |nonce: &str| {
        let value = format!("{}, stale=true", MD5.replace("n1", nonce));
        response(401, &[www(&value)])
    };
    let first = client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let second = client
        .answer(&REGISTER.with(&first), &stale("n2"), "c")
        .expect("another with the new nonce");
    let retried = answer(&second[0]);
    assert_eq!((retried.nonce(), retried.nonce_count()), ("n2", Some(1)));
    let error = client
        .answer(&REGISTER.with(&second), &stale("n3"), "c")
        .expect_err("a loop");
    assert!(matches!(error, AuthError::StaleAgain { .. }), "{error}");
}

#[test]
fn no_sequence_of_challenges_keeps_the_client_busy_for_ever() {
    let nonces: [fn(usize) -> String; 3] = [
        |_| "n1".to_owned(),
        |round| format!("n{}", round % 2),
        |round| format!("n{round}"),
    ];
    for (kind, nonce) in nonces.iter().enumerate() {
        for stale in ["", ", stale=true"] {
            let mut client = client();
            let mut lines = Lines::new();
            let answered = (0..100)
                .take_while(|round| {
                    let value = format!("{}{stale}", MD5.replace("n1", &nonce(*round)));
                    let challenge = response(401, &[www(&value)]);
                    let answer = client.answer(&REGISTER.with(&lines), &challenge, "c");
                    lines = answer.unwrap_or_default();
                    !lines.is_empty()
                })
                .count();
            assert_eq!(answered, 1, "nonces of kind {kind}{stale}");
        }
    }
}

// Kamailio issues the same nonce to everybody who asks within a second.
#[test]
fn a_nonce_that_is_issued_again_goes_on_counting() {
    let mut client = client();
    let challenge = response(401, &[www(MD5)]);
    let counts = [REGISTER, Draft { n: 2, ..REGISTER }].map(|draft| {
        let lines = client
            .answer(&draft.bare(), &challenge, "c")
            .expect("an answer");
        answer(&lines[0]).nonce_count()
    });
    assert_eq!(counts, [Some(1), Some(2)]);
}

// Kamailio's auth_challenge with flag 16 does this.
#[test]
fn a_wrong_password_is_sent_once_also_to_a_server_that_always_says_stale() {
    let mut client = client();
    let stale = |nonce: &str| {
        let value = format!("{}, stale=true", MD5.replace("n1", nonce));
        response(401, &[www(&value)])
    };
    let first = client
        .answer(&REGISTER.bare(), &stale("n1"), "c")
        .expect("an answer");
    let error = client
        .answer(&REGISTER.with(&first), &stale("n2"), "c")
        .expect_err("rejected");
    assert!(error.is_rejected(), "{error}");
}

#[test]
fn a_nonce_that_served_before_may_expire_without_the_word_stale_but_only_once() {
    let mut client = client();
    client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let refresh = client.preempt(&REGISTER.bare(), "c");
    let renewed = client
        .answer(
            &REGISTER.with(&refresh),
            &response(401, &[www(&MD5.replace("n1", "n2"))]),
            "c",
        )
        .expect("one more try");
    assert_eq!(answer(&renewed[0]).nonce(), "n2");
    let error = client
        .answer(
            &REGISTER.with(&renewed),
            &response(401, &[www(&MD5.replace("n1", "n3"))]),
            "c",
        )
        .expect_err("the password has changed");
    assert!(matches!(error, AuthError::Rejected { .. }), "{error}");
}

#[test]
fn a_server_that_invents_realms_does_not_keep_the_client_busy_for_ever() {
    let mut client = client();
    let mut lines = Lines::new();
    for round in 0..100 {
        let value = format!("Digest realm=\"r{round}\", nonce=\"n\", qop=\"auth\"");
        match client.answer(&REGISTER.with(&lines), &response(401, &[www(&value)]), "c") {
            Ok(more) => lines = more,
            Err(error) => {
                assert_eq!(error, AuthError::TooManyRealms);
                assert!(round <= 10, "{round}");
                return;
            }
        }
    }
    panic!("went on for 100 rounds");
}

#[test]
fn later_requests_carry_credentials_unasked_each_with_its_own_digest_and_count() {
    let mut client = client();
    let first = client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let mut digests = vec![first[0].1.clone()];
    for (expected, draft) in [
        REGISTER,
        Draft {
            uri: "sip:bob@registrar.example.com",
            method: "INVITE",
            call_id: "other",
            ..REGISTER
        },
        Draft {
            uri: "sip:bob@192.0.2.7",
            method: "BYE",
            ..REGISTER
        },
    ]
    .into_iter()
    .enumerate()
    {
        let lines = client.preempt(&draft.bare(), "c");
        assert_eq!(lines.len(), 1, "{} {}", draft.method, draft.uri);
        let answer = answer(&lines[0]);
        assert_eq!(answer.nonce_count(), Some(expected as u32 + 2));
        assert_eq!(answer.uri(), draft.uri);
        digests.push(lines[0].1.clone());
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 4);
}

#[test]
fn strangers_ack_and_cancel_get_no_credentials_unasked() {
    let mut client = client();
    client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let stranger = Draft {
        uri: "sip:elsewhere.example",
        call_id: "other",
        ..REGISTER
    };
    assert_eq!(client.preempt(&stranger.bare(), "c"), []);
    for method in ["ACK", "CANCEL"] {
        let draft = Draft { method, ..REGISTER };
        assert_eq!(client.preempt(&draft.bare(), "c"), [], "{method}");
    }
}

// RFC 3261 §22.3: not across dialogs, unless the user agent is configured with the realm.
#[test]
fn a_proxys_credentials_cross_dialogs_only_when_kept_for_its_realm() {
    let other_call = Draft {
        call_id: "other",
        ..REGISTER
    };
    for (kept, expected) in [(false, 0), (true, 1)] {
        let credentials = Credentials::new("alice", "wonderland");
        let mut client = ClientAuthenticator::new(match kept {
            true => credentials.for_realm(REALM),
            false => credentials,
        });
        client
            .answer(&REGISTER.bare(), &response(407, &[proxy(MD5)]), "c")
            .expect("an answer");
        assert_eq!(client.preempt(&REGISTER.bare(), "c").len(), 1);
        assert_eq!(client.preempt(&other_call.bare(), "c").len(), expected);
    }
}

#[test]
fn a_proxys_credentials_go_unasked_by_the_same_first_hop_only() {
    let through = |uri: &'static str, proxy: &str| {
        let route = (HeaderName::Route, format!("<sip:{proxy};lr>"));
        let draft = Draft {
            uri,
            call_id: "other",
            ..REGISTER
        };
        draft.with(&[route])
    };
    let credentials = Credentials::new("alice", "wonderland").for_realm(REALM);
    let challenge = response(407, &[proxy(MD5)]);

    let mut direct = ClientAuthenticator::new(credentials.clone());
    direct
        .answer(&REGISTER.bare(), &challenge, "c")
        .expect("an answer");
    let stranger = Draft {
        uri: "sip:bob@stranger.example",
        call_id: "other",
        ..REGISTER
    };
    assert_eq!(direct.preempt(&stranger.bare(), "c"), []);
    assert_eq!(direct.preempt(&through(URI, "elsewhere.example"), "c"), []);

    let mut routed = ClientAuthenticator::new(credentials);
    routed
        .answer(&through(URI, "proxy.example"), &challenge, "c")
        .expect("an answer");
    let same_proxy = through("sip:bob@stranger.example", "PROXY.example:5060");
    assert_eq!(routed.preempt(&same_proxy, "c").len(), 1);
}

#[test]
fn nextnonce_replaces_the_nonce_and_starts_the_count_again() {
    let mut client = client();
    let lines = client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let ok = response(
        200,
        &[(
            HeaderName::AuthenticationInfo,
            "nextnonce=\"n2\", qop=auth".to_owned(),
        )],
    );
    client.learn(&REGISTER.with(&lines), &ok);
    let next = answer(&client.preempt(&REGISTER.bare(), "c")[0]);
    assert_eq!((next.nonce(), next.nonce_count()), ("n2", Some(1)));
}

// Kamailio's add_authinfo_hdr does this.
#[test]
fn nextnonce_with_the_nonce_in_use_changes_nothing() {
    let mut client = client();
    let lines = client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    let same = (
        HeaderName::AuthenticationInfo,
        "nextnonce=\"n1\"".to_owned(),
    );
    client.learn(&REGISTER.with(&lines), &response(200, &[same]));
    let next = answer(&client.preempt(&REGISTER.bare(), "c")[0]);
    assert_eq!((next.nonce(), next.nonce_count()), ("n1", Some(2)));
}

#[test]
fn session_variants_keep_their_cnonce_with_their_nonce() {
    let mut client = client();
    let value = MD5.replace("algorithm=MD5", "algorithm=MD5-sess");
    client
        .answer(&REGISTER.bare(), &response(401, &[www(&value)]), "first")
        .expect("an answer");
    let next = &client.preempt(&REGISTER.bare(), "second")[0].1;
    assert!(next.contains("cnonce=\"first\""), "{next}");
}

#[test]
fn usernames_outside_ascii_and_quotes_survive() {
    let name = "zoë \"z\" \\";
    let mut client = ClientAuthenticator::new(Credentials::new(name, "x"));
    assert_eq!(answer_one(&mut client, MD5).username(), name);
}

#[test]
fn a_username_or_cnonce_with_a_line_break_is_refused() {
    let challenge = response(401, &[www(MD5)]);
    let mut client = ClientAuthenticator::new(Credentials::new("a\r\nX: y", "x"));
    assert_eq!(
        client.answer(&REGISTER.bare(), &challenge, "c"),
        Err(AuthError::NotRepresentable { what: "username" })
    );
    assert_eq!(
        support::client().answer(&REGISTER.bare(), &challenge, "c\r\n"),
        Err(AuthError::NotRepresentable { what: "cnonce" })
    );
}

#[test]
fn userhash_on_offer_is_declined() {
    let value = format!("{MD5}, userhash=true");
    let text = answer_one(&mut client(), &value).to_string();
    assert!(text.ends_with("userhash=false"), "{text}");
    assert!(text.contains("username=\"alice\""), "{text}");
}

#[test]
fn a_response_without_a_usable_challenge_says_why() {
    for (lines, reason) in [
        (vec![], "there is none"),
        (vec![www(r#"Basic realm="a""#)], "the scheme is not Digest"),
        (
            vec![www(r#"Digest realm="a", nonce="b", algorithm=X"#)],
            "unknown digest algorithm",
        ),
    ] {
        assert_eq!(
            client().answer(&REGISTER.bare(), &response(401, &lines), "c"),
            Err(AuthError::NoUsableChallenge {
                reason: reason.to_owned()
            })
        );
    }
}

#[test]
fn passwords_are_never_printed() {
    let mut client = client();
    client
        .answer(&REGISTER.bare(), &response(401, &[www(MD5)]), "c")
        .expect("an answer");
    assert!(!format!("{client:?}").contains("wonderland"));
}
