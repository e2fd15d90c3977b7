//! RFC 3261 §10.3, rule by rule, against a whole engine in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::*;
use sipora_message::HeaderName;

const ALICE: &str = "sip:alice@example.com";

#[tokio::test(start_paused = true)]
async fn a_binding_is_stored_with_where_it_came_from_and_listed_with_its_expiry() {
    let mut lab = open_lab().await;
    let answer = lab
        .phone
        .ask(&register(1).contact("<sip:alice@192.0.2.7>;expires=600"))
        .await;
    assert_eq!(status(&answer), 200);
    assert_eq!(contacts(&answer), ["<sip:alice@192.0.2.7>;expires=600"]);
    let bindings = lab.engine.bindings(ALICE).await.unwrap();
    assert_eq!(bindings.len(), 1);
    assert_eq!(bindings[0].source(), PHONE.parse().unwrap());
    assert!(bindings[0].flow().is_some());
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_address_of_record_is_to_and_not_from() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .from("sip:secretary@example.com")
        .contact("<sip:alice@192.0.2.7>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 200);
    assert_eq!(lab.engine.bindings(ALICE).await.unwrap().len(), 1);
    assert!(
        lab.engine
            .bindings("sip:secretary@example.com")
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn parameters_escapes_port_and_scheme_of_to_lead_to_the_same_address() {
    let mut lab = open_lab().await;
    for (cseq, to) in [
        "sip:alice@example.com",
        "sip:%61lice@EXAMPLE.com;user=phone",
        "sips:alice@example.com",
        "sip:alice@example.com:5070",
    ]
    .iter()
    .enumerate()
    {
        let asked = register(cseq as u32 + 1)
            .to(to)
            .contact("<sip:alice@192.0.2.7>");
        assert_eq!(contacts(&lab.phone.ask(&asked).await).len(), 1, "{to}");
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_contact_the_bindings_are_listed_and_left_alone() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:alice@192.0.2.7>;expires=600"))
        .await;
    // The very CSeq that a change could not have.
    let answer = lab.phone.ask(&register(1).with("Expires: 0")).await;
    assert_eq!((status(&answer), contacts(&answer).len()), (200, 1));
    let nobody = lab.phone.ask(&register(1).to("sip:bob@example.com")).await;
    assert_eq!((status(&nobody), contacts(&nobody).len()), (200, 0));
    assert_eq!(lab.engine.metrics().registrar.queries, 2);
}

#[tokio::test(start_paused = true)]
async fn every_binding_is_listed_with_what_is_left_of_its_time() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:alice@192.0.2.7>;expires=600"))
        .await;
    after(100).await;
    lab.phone
        .ask(
            &register(1)
                .call_id("two")
                .contact("<sip:alice@192.0.2.8>;expires=300"),
        )
        .await;
    after(100).await;
    let listed = contacts(&lab.phone.ask(&register(2)).await);
    assert_eq!(
        listed,
        [
            "<sip:alice@192.0.2.7>;expires=400",
            "<sip:alice@192.0.2.8>;expires=200"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_binding_ends_when_its_time_is_over_and_is_swept() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:alice@192.0.2.7>;expires=60"))
        .await;
    after(59).await;
    assert_eq!(
        contacts(&lab.phone.ask(&register(2)).await),
        ["<sip:alice@192.0.2.7>;expires=1"]
    );
    after(1).await;
    assert!(contacts(&lab.phone.ask(&register(3)).await).is_empty());
    after(2).await;
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    assert_eq!(lab.engine.metrics().registrar.bindings_expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_prolongs_a_binding() {
    let mut lab = open_lab().await;
    for cseq in 1..=10 {
        let answer = lab
            .phone
            .ask(&register(cseq).contact("<sip:alice@192.0.2.7>;expires=60"))
            .await;
        assert_eq!(contacts(&answer), ["<sip:alice@192.0.2.7>;expires=60"]);
        after(50).await;
    }
    assert_eq!(lab.engine.metrics().registrar.bindings_expired, 0);
}

#[tokio::test(start_paused = true)]
async fn the_contact_s_expires_comes_before_the_header_s_and_that_before_the_default() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .contact("<sip:a@192.0.2.1>;expires=100, <sip:a@192.0.2.2>")
        .with("Expires: 200");
    let listed = contacts(&lab.phone.ask(&asked).await);
    assert_eq!(
        listed,
        [
            "<sip:a@192.0.2.1>;expires=100",
            "<sip:a@192.0.2.2>;expires=200"
        ]
    );
    let listed = contacts(
        &lab.phone
            .ask(&register(2).contact("<sip:a@192.0.2.3>"))
            .await,
    );
    assert_eq!(listed[2], "<sip:a@192.0.2.3>;expires=3600");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_expires_counts_as_an_hour() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .contact("<sip:a@192.0.2.1>;expires=soon, <sip:a@192.0.2.2>")
        .with("Expires: 99999999999999999999");
    let listed = contacts(&lab.phone.ask(&asked).await);
    assert_eq!(
        listed,
        [
            "<sip:a@192.0.2.1>;expires=3600",
            "<sip:a@192.0.2.2>;expires=3600"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn more_than_the_maximum_is_granted_the_maximum() {
    let mut lab = open_lab().await;
    let asked = register(1).contact("<sip:alice@192.0.2.7>;expires=4294967295");
    assert_eq!(
        contacts(&lab.phone.ask(&asked).await),
        ["<sip:alice@192.0.2.7>;expires=7200"]
    );
}

#[tokio::test(start_paused = true)]
async fn less_than_the_minimum_is_refused_with_423_and_nothing_stored() {
    let mut lab = open_lab().await;
    let asked = register(1).contact("<sip:a@192.0.2.1>;expires=600, <sip:a@192.0.2.2>;expires=59");
    let answer = lab.phone.ask(&asked).await;
    assert_eq!(status(&answer), 423);
    assert_eq!(answer.headers().min_expires().unwrap(), Some(60));
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    let asked = register(2).contact("<sip:a@192.0.2.1>;expires=60");
    assert_eq!(status(&lab.phone.ask(&asked).await), 200);
}

#[tokio::test(start_paused = true)]
async fn zero_and_an_hour_are_never_too_brief() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_expires(7200, 3600, 7200)
    })
    .await;
    for (cseq, expires, owed) in [(1, 3599, 423), (2, 3600, 200), (3, 0, 200)] {
        let asked = register(cseq).contact(&format!("<sip:a@192.0.2.1>;expires={expires}"));
        assert_eq!(status(&lab.phone.ask(&asked).await), owed, "{expires}");
    }
}

#[tokio::test(start_paused = true)]
async fn expires_zero_removes_one_binding() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>, <sip:a@192.0.2.2>"))
        .await;
    let answer = lab
        .phone
        .ask(&register(2).contact("<sip:a@192.0.2.1>;expires=0"))
        .await;
    assert_eq!(contacts(&answer), ["<sip:a@192.0.2.2>;expires=3600"]);
    let answer = lab
        .phone
        .ask(&register(3).contact("<sip:a@192.0.2.2>").with("Expires: 0"))
        .await;
    assert!(contacts(&answer).is_empty());
}

#[tokio::test(start_paused = true)]
async fn star_with_expires_zero_removes_every_binding() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>, <sip:a@192.0.2.2>"))
        .await;
    lab.phone
        .ask(&register(1).call_id("two").contact("<sip:a@192.0.2.3>"))
        .await;
    let answer = lab
        .phone
        .ask(&register(2).contact("*").with("Expires: 0"))
        .await;
    assert_eq!((status(&answer), contacts(&answer).len()), (200, 0));
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn star_needs_expires_zero_and_no_company() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>"))
        .await;
    for asked in [
        register(2).contact("*"),
        register(2).contact("*").with("Expires: 1"),
        register(2).contact("*").with("Expires: never"),
        register(2)
            .contact("*, <sip:a@192.0.2.1>")
            .with("Expires: 0"),
        register(2)
            .contact("*")
            .contact("<sip:a@192.0.2.1>")
            .with("Expires: 0"),
        register(2).contact("*;expires=0"),
    ] {
        let answer = lab.phone.ask(&asked).await;
        assert_eq!(status(&answer), 400, "{:?}", asked.lines);
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn star_obeys_call_id_and_cseq() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(5).contact("<sip:a@192.0.2.1>"))
        .await;
    let late = lab
        .phone
        .ask(&register(5).contact("*").with("Expires: 0"))
        .await;
    assert_eq!(status(&late), 500);
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
    let other = lab
        .phone
        .ask(&register(1).call_id("two").contact("*").with("Expires: 0"))
        .await;
    assert_eq!(status(&other), 200);
}

#[tokio::test(start_paused = true)]
async fn a_cseq_that_is_not_higher_fails_and_stores_nothing() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(5).contact("<sip:a@192.0.2.1>;expires=600"))
        .await;
    for cseq in [4, 5] {
        let asked = register(cseq).contact("<sip:a@192.0.2.9>, <sip:a@192.0.2.1>;expires=900");
        assert_eq!(status(&lab.phone.ask(&asked).await), 500, "{cseq}");
    }
    let listed = contacts(&lab.phone.ask(&register(1)).await);
    assert_eq!(listed.len(), 1);
    assert!(listed[0].starts_with("<sip:a@192.0.2.1>"), "{listed:?}");
    assert_eq!(lab.engine.metrics().registrar.out_of_order, 2);
    let other = register(1)
        .call_id("after a restart")
        .call_id("restarted")
        .contact("<sip:a@192.0.2.1>");
    assert_eq!(status(&lab.phone.ask(&other).await), 200);
}

#[tokio::test(start_paused = true)]
async fn a_retransmission_is_answered_the_same_and_changes_nothing() {
    let mut lab = open_lab().await;
    let request = lab
        .phone
        .request(&register(1).contact("<sip:a@192.0.2.1>;expires=600"));
    lab.phone.send(request.as_bytes());
    let first = lab.phone.receive().await.unwrap();
    after(10).await;
    lab.phone.send(request.as_bytes());
    let second = lab.phone.receive().await.unwrap();
    assert_eq!(first.as_bytes(), second.as_bytes());
    assert_eq!(lab.engine.metrics().registrar.registers, 1);
}

#[tokio::test(start_paused = true)]
async fn one_request_gets_one_final_answer() {
    let mut lab = open_lab().await;
    assert_eq!(
        status(
            &lab.phone
                .ask(&register(1).contact("<sip:a@192.0.2.1>"))
                .await
        ),
        200
    );
    assert!(lab.phone.receive().await.is_none());
    assert_eq!(
        status(
            &lab.phone
                .ask(&register(1).contact("<sip:a@192.0.2.1>"))
                .await
        ),
        500
    );
    assert!(lab.phone.receive().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn contacts_are_compared_as_uris() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:alice@PHONE.example.net;lr>"))
        .await;
    let same = lab
        .phone
        .ask(&register(2).contact("<sip:%61lice@phone.example.net>"))
        .await;
    assert_eq!(
        contacts(&same),
        ["<sip:%61lice@phone.example.net>;expires=3600"]
    );
    let other = lab
        .phone
        .ask(&register(3).contact("<sip:alice@phone.example.net;transport=udp>"))
        .await;
    assert_eq!(contacts(&other).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_answer_repeats_q_and_the_other_parameters_of_a_contact() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .contact("\"Alice\" <sip:alice@192.0.2.7;ob>;q=0.75;+sip.instance=\"<urn:uuid:1>\";x");
    assert_eq!(
        contacts(&lab.phone.ask(&asked).await),
        ["<sip:alice@192.0.2.7;ob>;q=0.75;+sip.instance=\"<urn:uuid:1>\";x;expires=3600"]
    );
    let bindings = lab.engine.bindings(ALICE).await.unwrap();
    assert_eq!(
        (bindings[0].q(), bindings[0].uri()),
        (Some(750), "sip:alice@192.0.2.7;ob")
    );
}

#[tokio::test(start_paused = true)]
async fn contacts_of_other_schemes_are_bound() {
    let mut lab = open_lab().await;
    let asked = register(1).contact("<tel:+12125550101>, <mailto:alice@example.com>");
    assert_eq!(
        contacts(&lab.phone.ask(&asked).await),
        [
            "<tel:+12125550101>;expires=3600",
            "<mailto:alice@example.com>;expires=3600"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_sips_contact_needs_a_sips_request_uri() {
    let mut lab = open_lab().await;
    let asked = register(1).contact("<sips:alice@192.0.2.7>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 400);
    assert_eq!(
        status(&lab.phone.ask(&asked.uri("sips:example.com")).await),
        200
    );
}

#[tokio::test(start_paused = true)]
async fn malformed_contacts_are_refused_whole() {
    let mut lab = open_lab().await;
    for contact in [
        "<sip:alice@192.0.2.7>;q=1.5",
        "<sip:alice@192.0.2.7>;q=high",
        "<sip:alice@192.0.2.7",
        "sip:alice@192.0.2.7?Route=%3Csip:x%3E",
        "<sip:alice@192.0.2.8>, <nothing>",
        "",
    ] {
        let answer = lab.phone.ask(&register(1).contact(contact)).await;
        assert_eq!(status(&answer), 400, "{contact}");
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
}

/// RFC 3261 §8.2.3: no body means anything here.
#[tokio::test(start_paused = true)]
async fn a_body_that_must_be_understood_gets_415_and_binds_nothing() {
    let mut lab = open_lab().await;
    let asked = |cseq, lines: &[&str]| {
        let ask = register(cseq).contact("<sip:a@192.0.2.1>");
        let ask = lines.iter().fold(ask, |ask, line| ask.with(line));
        Ask {
            body: "<setting/>".into(),
            ..ask
        }
    };
    let kinds: [&[&str]; 4] = [
        &[],
        &["Content-Type: application/xml"],
        &["Content-Type: application/xml", "Content-Encoding: gzip"],
        &[
            "Content-Type: application/xml",
            "Content-Disposition: render;handling=required",
        ],
    ];
    for lines in kinds {
        let answer = lab.phone.ask(&asked(1, lines)).await;
        assert_eq!(status(&answer), 415, "{lines:?}");
        assert_eq!(header(&answer, HeaderName::Accept).unwrap(), "");
        let encoding = header(&answer, HeaderName::AcceptEncoding).unwrap();
        assert_eq!(encoding, "identity");
        assert!(answer.check().is_ok());
    }
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    let optional = [
        "Content-Type: application/xml",
        "Content-Disposition: render;handling=optional",
    ];
    assert_eq!(status(&lab.phone.ask(&asked(2, &optional)).await), 200);
    assert_eq!(lab.engine.binding_count().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_required_gets_420_that_names_it() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .with("Require: path, gruu")
        .contact("<sip:a@192.0.2.1>");
    let answer = lab.phone.ask(&asked).await;
    assert_eq!(status(&answer), 420);
    assert_eq!(
        answer.headers().unsupported().collect::<Vec<_>>(),
        ["path", "gruu"]
    );
    assert_eq!(lab.engine.binding_count().await.unwrap(), 0);
    // What proxies are to support is no concern of a registrar (RFC 3261 §8.2.2.3).
    let asked = register(1)
        .with("Proxy-Require: x")
        .contact("<sip:a@192.0.2.1>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 200);
}

#[tokio::test(start_paused = true)]
async fn domains_that_are_not_served_get_404() {
    let mut lab = open_lab().await;
    let contact = "<sip:a@192.0.2.1>";
    for asked in [
        register(1)
            .uri("sip:elsewhere.example")
            .to("sip:alice@elsewhere.example"),
        register(1).uri("sip:elsewhere.example"),
        register(1).to("sip:alice@elsewhere.example"),
        register(1).to("sip:example.com"),
    ] {
        assert_eq!(
            status(&lab.phone.ask(&asked.clone().contact(contact)).await),
            404,
            "{} {}",
            asked.uri,
            asked.to
        );
    }
    // A client may address the server itself, and any port is right.
    for uri in ["sip:192.0.2.1", "sip:EXAMPLE.com:5999"] {
        let answer = lab
            .phone
            .ask(&register(1).call_id(uri).uri(uri).contact(contact))
            .await;
        assert_eq!(status(&answer), 200, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn to_has_to_be_a_sip_uri() {
    let mut lab = open_lab().await;
    let mut asked = register(1).contact("<sip:a@192.0.2.1>");
    asked.to = "<tel:+12125550101>".into();
    assert_eq!(status(&lab.phone.ask(&asked).await), 400);
}

#[tokio::test(start_paused = true)]
async fn without_domains_the_addresses_listened_on_are_served() {
    let mut lab = lab(|config| config.without_authentication()).await;
    let asked = |host: &str| {
        register(1)
            .uri(&format!("sip:{host}"))
            .to(&format!("sip:alice@{host}"))
            .call_id(host)
            .contact("<sip:a@192.0.2.1>")
    };
    assert_eq!(status(&lab.phone.ask(&asked("192.0.2.1")).await), 200);
    assert_eq!(status(&lab.phone.ask(&asked("192.0.2.1:5999")).await), 200);
    assert_eq!(status(&lab.phone.ask(&asked("example.com")).await), 404);
}

#[tokio::test(start_paused = true)]
async fn a_listener_on_every_address_serves_every_address_of_the_machine() {
    let network = sipora_testkit::SimNetwork::new(1);
    let host = network.host_with(&[
        "192.0.2.1".parse().unwrap(),
        "198.51.100.1".parse().unwrap(),
    ]);
    let config = sipora_call_engine::CallCenterConfig::new()
        .with_udp_listener("0.0.0.0:5060")
        .with_advertised_host("sip.example.com")
        .without_authentication()
        .with_network(std::sync::Arc::new(host));
    let _engine = sipora_call_engine::CallCenterEngine::new(config)
        .await
        .unwrap();
    let mut phone = Phone::new(&network, PHONE);
    for (domain, owed) in [
        ("192.0.2.1", 200),
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("sip.example.com", 200),
        ("192.0.2.7", 404),
        ("example.com", 404),
    ] {
        let asked = register(1)
            .uri(&format!("sip:{domain}"))
            .to(&format!("sip:alice@{domain}"));
        let answer = phone
            .ask(&asked.call_id(domain).contact("<sip:a@192.0.2.1>"))
            .await;
        assert_eq!(status(&answer), owed, "{domain}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_has_no_more_contacts_than_allowed() {
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_max_contacts(2)
    })
    .await;
    let two = register(1).contact("<sip:a@192.0.2.1>, <sip:a@192.0.2.2>");
    assert_eq!(status(&lab.phone.ask(&two).await), 200);
    let third = register(1).call_id("two").contact("<sip:a@192.0.2.3>");
    assert_eq!(status(&lab.phone.ask(&third).await), 403);
    let refresh = register(2).contact("<sip:a@192.0.2.1>");
    assert_eq!(contacts(&lab.phone.ask(&refresh).await).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_store_sheds_new_bindings_and_not_refreshes() {
    let store = sipora_call_engine::MemoryStore::new().with_max_bindings(1);
    let mut lab = lab(|config| {
        config
            .with_domain("example.com")
            .without_authentication()
            .with_location_store(std::sync::Arc::new(store))
    })
    .await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>"))
        .await;
    let bob = register(1)
        .to("sip:bob@example.com")
        .call_id("bob")
        .contact("<sip:b@192.0.2.2>");
    let answer = lab.phone.ask(&bob).await;
    assert_eq!(status(&answer), 503);
    let wait = answer.headers().retry_after().unwrap().unwrap().seconds;
    assert!((10..=40).contains(&wait), "{wait}");
    assert_eq!(
        status(
            &lab.phone
                .ask(&register(2).contact("<sip:a@192.0.2.1>"))
                .await
        ),
        200
    );
    assert_eq!(lab.engine.metrics().registrar.overloaded, 1);
}

#[tokio::test(start_paused = true)]
async fn the_answer_has_a_date_a_to_tag_and_no_record_route() {
    let mut lab = open_lab().await;
    let asked = register(1)
        .with("Record-Route: <sip:proxy.example.com;lr>")
        .contact("<sip:a@192.0.2.1>");
    let answer = lab.phone.ask(&asked).await;
    assert!(answer.headers().date().unwrap().is_some());
    assert!(answer.headers().to().unwrap().tag().is_some());
    assert!(header(&answer, HeaderName::RecordRoute).is_none());
    assert!(
        header(&answer, HeaderName::Server)
            .unwrap()
            .starts_with("Sipora/")
    );
    assert!(answer.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_overlong_contact_or_call_id_is_too_large() {
    let mut lab = open_lab().await;
    let long = "x".repeat(3000);
    let asked = register(1).contact(&format!("<sip:a@192.0.2.1;x={long}>"));
    assert_eq!(status(&lab.phone.ask(&asked).await), 513);
    let asked = register(1).call_id(&long).contact("<sip:a@192.0.2.1>");
    assert_eq!(status(&lab.phone.ask(&asked).await), 513);
}

#[tokio::test(start_paused = true)]
async fn the_program_reads_and_removes_bindings() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>, <sip:a@192.0.2.2>"))
        .await;
    let page = lab.engine.bindings_page(None, 10).await.unwrap();
    assert_eq!(page.addresses.len(), 1);
    assert_eq!(page.addresses[0].0.to_string(), ALICE);
    assert!(page.next.is_none());
    assert_eq!(lab.engine.remove_bindings(ALICE).await.unwrap(), 2);
    assert!(lab.engine.bindings(ALICE).await.unwrap().is_empty());
    assert!(lab.engine.bindings("alice").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_expires_at_once_is_swept_in_no_time() {
    let mut lab = open_lab().await;
    for number in 0..2500 {
        let asked = register(1)
            .to(&format!("sip:user{number}@example.com"))
            .call_id(&number.to_string())
            .contact("<sip:a@192.0.2.1>;expires=60");
        assert_eq!(status(&lab.phone.ask(&asked).await), 200);
    }
    assert_eq!(lab.engine.metrics().bindings, Some(2500));
    after(62).await;
    let metrics = lab.engine.metrics();
    assert_eq!(
        (metrics.bindings, metrics.registrar.bindings_expired),
        (Some(0), 2500)
    );
}
