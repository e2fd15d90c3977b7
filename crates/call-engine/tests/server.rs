//! What is not a REGISTER, and how an engine starts and ends.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use sipora_call_engine::trace::{TextTrace, Tracer};
use sipora_call_engine::{CallCenterConfig, CallCenterEngine, Error, Transport, Users};
use sipora_message::HeaderName;

#[tokio::test(start_paused = true)]
async fn options_to_the_server_tells_what_it_can_do() {
    let mut lab = open_lab().await;
    for uri in [
        "sip:example.com",
        "sip:192.0.2.1:5060",
        "sip:EXAMPLE.com;transport=udp",
    ] {
        let answer = lab.phone.ask(&options(uri)).await;
        assert_eq!(status(&answer), 200, "{uri}");
        assert_eq!(
            header(&answer, HeaderName::Allow).unwrap(),
            "REGISTER, OPTIONS, SUBSCRIBE, PUBLISH"
        );
        assert_eq!(
            header(&answer, HeaderName::AllowEvents).unwrap(),
            "presence"
        );
        assert_eq!(
            header(&answer, HeaderName::Accept).unwrap(),
            "application/pidf+xml"
        );
        assert_eq!(answer.headers().supported().count(), 0);
        assert!(header(&answer, HeaderName::Supported).is_some());
        assert!(answer.check().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn options_to_another_domain_or_an_unknown_user_gets_404() {
    let mut lab = open_lab().await;
    for uri in [
        "sip:bob@example.com",
        "sip:alice@elsewhere.example",
        "sip:elsewhere.example",
    ] {
        assert_eq!(status(&lab.phone.ask(&options(uri)).await), 404, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn options_with_a_body_that_must_be_understood_gets_415() {
    let mut lab = open_lab().await;
    let asked = |disposition: &str| Ask {
        body: "v=0\r\n".into(),
        ..options("sip:example.com")
            .with("Content-Type: application/sdp")
            .with(disposition)
    };
    let answer = lab.phone.ask(&asked("Content-Disposition: session")).await;
    assert_eq!(status(&answer), 415);
    assert_eq!(header(&answer, HeaderName::Accept).unwrap(), "");
    let optional = asked("Content-Disposition: session;handling=optional");
    assert_eq!(status(&lab.phone.ask(&optional).await), 200);
}

#[tokio::test(start_paused = true)]
async fn options_that_requires_an_extension_gets_420() {
    let mut lab = open_lab().await;
    let answer = lab
        .phone
        .ask(&options("sip:example.com").with("Require: 100rel"))
        .await;
    assert_eq!(status(&answer), 420);
    assert_eq!(
        answer.headers().unsupported().collect::<Vec<_>>(),
        ["100rel"]
    );
}

#[tokio::test(start_paused = true)]
async fn options_inside_a_dialog_is_nobody_s() {
    let mut lab = open_lab().await;
    let mut asked = options("sip:example.com");
    asked.to = "<sip:example.com>;tag=1".into();
    assert_eq!(status(&lab.phone.ask(&asked).await), 481);
}

#[tokio::test(start_paused = true)]
async fn other_methods_and_schemes_get_what_they_are_owed() {
    let mut lab = open_lab().await;
    for (method, uri, owed) in [
        ("INFO", "sip:alice@example.com", 405),
        ("REFER", "sip:alice@example.com", 405),
        ("NEWMETHOD", "sip:alice@example.com", 501),
        ("register", "sip:example.com", 501),
        ("OPTIONS", "soap.beep://192.0.2.103:3002", 416),
        ("REGISTER", "tel:+12125550101", 416),
    ] {
        let asked = Ask {
            method,
            ..register(1).uri(uri)
        };
        let answer = lab.phone.ask(&asked).await;
        assert_eq!(status(&answer), owed, "{method} {uri}");
        if owed == 405 {
            assert_eq!(
                header(&answer, HeaderName::Allow).unwrap(),
                "MESSAGE, OPTIONS, REGISTER, SUBSCRIBE, PUBLISH"
            );
        }
    }
}

#[tokio::test]
async fn an_occupied_port_is_an_error_that_names_it() {
    let first = CallCenterEngine::new(
        CallCenterConfig::new()
            .with_udp_listener("127.0.0.1:0")
            .without_authentication(),
    )
    .await
    .unwrap();
    let taken = first.listeners()[0].address.to_string();
    let second = CallCenterConfig::new()
        .with_udp_listener(&taken)
        .without_authentication();
    let error = CallCenterEngine::new(second).await.unwrap_err();
    assert!(
        matches!(&error, Error::Bind { listener, .. } if *listener == format!("udp {taken}")),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on udp {taken}: ")),
        "{error}"
    );
    first.shutdown().await;
}

#[tokio::test]
async fn listeners_tell_the_ports_that_they_got_and_free_them_at_the_end() {
    let config = || {
        CallCenterConfig::new()
            .with_udp_listener("127.0.0.1:0")
            .with_tcp_listener("127.0.0.1:0")
            .without_authentication()
    };
    let engine = CallCenterEngine::new(config()).await.unwrap();
    let listeners = engine.listeners();
    assert_eq!(
        listeners
            .iter()
            .map(|listener| listener.transport)
            .collect::<Vec<_>>(),
        [Transport::Udp, Transport::Tcp]
    );
    assert!(
        listeners
            .iter()
            .all(|listener| listener.address.port() != 0)
    );
    assert_eq!(
        listeners[0].to_string(),
        format!("udp {}", listeners[0].address)
    );
    engine.shutdown().await;
    engine.shutdown().await;
    let again = CallCenterConfig::new()
        .with_udp_listener(listeners[0].address.to_string())
        .with_tcp_listener(listeners[1].address.to_string())
        .without_authentication();
    CallCenterEngine::new(again).await.unwrap().shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_trace_has_counted_is_among_the_metrics() {
    let tracer = Arc::new(Tracer::new(vec![Box::new(TextTrace::to(std::io::sink()))]));
    let traced = |config: CallCenterConfig| {
        let config = config.with_domain("example.com").without_authentication();
        config.with_tracer(tracer.clone())
    };
    let mut lab = lab(traced).await;
    assert_eq!(lab.engine.metrics().trace.unwrap().messages, 0);
    lab.phone.ask(&options("sip:example.com")).await;
    let metrics = lab.engine.metrics().trace.unwrap();
    assert_eq!((metrics.messages, metrics.dropped), (2, 0));
    assert!(open_lab().await.engine.metrics().trace.is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_the_end_waits_for_it() {
    let lab = open_lab().await;
    let (first, second) = (lab.engine.shutdown(), lab.engine.shutdown());
    tokio::join!(second, first);
    // One that is given up ends the engine at once, and leaves nobody waiting.
    let lab = open_lab().await;
    drop(Box::pin(lab.engine.shutdown()));
    _ = tokio::time::timeout(Duration::ZERO, lab.engine.shutdown()).await;
    lab.engine.shutdown().await;
}

#[tokio::test]
async fn a_registration_over_a_connection_is_bound_to_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let config = CallCenterConfig::new()
        .with_tcp_listener("127.0.0.1:0")
        .with_domain("example.com")
        .without_authentication();
    let engine = CallCenterEngine::new(config).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(engine.listeners()[0].address)
        .await
        .unwrap();
    let via = format!(
        "SIP/2.0/TCP {};branch=z9hG4bK1;rport",
        stream.local_addr().unwrap()
    );
    let request = register(1)
        .contact("<sip:a@192.0.2.1;transport=tcp>")
        .text(&via);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    assert!(answer.starts_with(b"SIP/2.0 200 OK\r\n"));
    let binding = engine
        .bindings("sip:alice@example.com")
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (binding.transport(), binding.source()),
        (Transport::Tcp, stream.local_addr().unwrap())
    );
    assert_eq!(binding.flow().unwrap().remote, stream.local_addr().unwrap());
    engine.shutdown().await;
}

#[tokio::test]
async fn an_engine_that_is_dropped_frees_its_ports() {
    let config = CallCenterConfig::new()
        .with_udp_listener("127.0.0.1:0")
        .without_authentication();
    let engine = CallCenterEngine::new(config).await.unwrap();
    let address = engine.listeners()[0].address.to_string();
    drop(engine);
    for _ in 0..1000 {
        let config = CallCenterConfig::new()
            .with_udp_listener(&address)
            .without_authentication();
        if CallCenterEngine::new(config).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{address} is still taken");
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_nobody_answers_and_the_program_still_reads() {
    let mut lab = open_lab().await;
    lab.phone
        .ask(&register(1).contact("<sip:a@192.0.2.1>"))
        .await;
    lab.engine.shutdown().await;
    let request = lab.phone.request(&register(2).contact("<sip:a@192.0.2.1>"));
    lab.phone.send(request.as_bytes());
    assert!(lab.phone.receive().await.is_none());
    assert_eq!(
        lab.engine
            .bindings("sip:alice@example.com")
            .await
            .unwrap()
            .len(),
        1
    );
}

fn file(text: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text).unwrap();
    file
}

#[tokio::test]
async fn a_users_file_that_cannot_be_used_is_an_error_with_its_path_and_line() {
    let config = |path: &std::path::Path| {
        CallCenterConfig::new()
            .with_udp_listener("127.0.0.1:0")
            .with_users_file(path)
    };
    let missing = CallCenterEngine::new(config("/nonexistent/users".as_ref()))
        .await
        .unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("cannot read /nonexistent/users: "),
        "{missing}"
    );
    let wrong = file(b"alice:wonderland\nbob\n");
    let error = CallCenterEngine::new(config(wrong.path()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}:2: no colon; a line is user:password",
            wrong.path().display()
        )
    );
}

#[tokio::test]
async fn a_hundred_thousand_users_load_in_a_second() {
    let mut text = Vec::new();
    for number in 0..100_000 {
        writeln!(text, "user{number}:password{number}").unwrap();
    }
    let file = file(&text);
    // The best of a few, since other tests run at the same time.
    let mut took = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let users = Users::new();
        assert_eq!(users.load(file.path()).unwrap(), 100_000);
        took = took.min(start.elapsed());
    }
    // A build for debugging is some ten times slower than what people run.
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
    assert!(took < limit, "{took:?}");
    let config = CallCenterConfig::new()
        .with_udp_listener("127.0.0.1:0")
        .with_users_file(file.path());
    let engine = CallCenterEngine::new(config).await.unwrap();
    assert_eq!(engine.users().unwrap().len(), 100_000);
    engine.shutdown().await;
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_errors_that_name_them() {
    let config = || CallCenterConfig::new().with_udp_listener("127.0.0.1:0");
    for (config, word) in [
        (config(), "users"),
        (
            config().without_authentication().with_domain("not a host"),
            "domain",
        ),
        (
            config()
                .without_authentication()
                .with_domain("example.com:5060"),
            "domain",
        ),
        (
            config()
                .without_authentication()
                .with_advertised_host("a/b"),
            "advertised host",
        ),
        (
            config().without_authentication().with_expires(1, 2, 3),
            "expires",
        ),
        (
            config().without_authentication().with_max_contacts(0),
            "max contacts",
        ),
        (
            config().without_authentication().with_tcp_listener("5060"),
            "listener",
        ),
        (
            config().with_user("alice@example.com", "x"),
            "alice@example.com",
        ),
    ] {
        let error = CallCenterEngine::new(config).await.unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(!error.contains('\n'));
    }
}
