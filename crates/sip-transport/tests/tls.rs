//! TLS: handshakes, identities (RFC 5922), certificates of clients, reloading, limits.
#![cfg(any(feature = "tls-ring", feature = "tls-aws-lc-rs"))]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod authority;
mod common;

use authority::Authority;
use bytes::Bytes;
use common::{ok, options, request, response};
use sipora_message::HeaderName;
use sipora_testkit::{Conditions, SimHost, SimNetwork, for_each_seed, seeds};
use sipora_transport::{
    ClientAuth, CloseReason, Destination, Flow, InboundReceiver, Network, OpenError, Payload, Pem,
    Roots, Stream, Tls, TlsConfig, TlsError, TlsProvider, Transport, TransportConfig, Transports,
    response_route,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const CLIENT: &str = "192.0.2.1";
const SERVER: &str = "198.51.100.1:5061";

fn server_address() -> SocketAddr {
    SERVER.parse().unwrap()
}

/// Runs a scenario for each seed. Nobody reads along: what goes over the wire here is no SIP until it is unwrapped.
fn over<S: Future<Output = ()>>(
    seeds: impl IntoIterator<Item = u64>,
    mut scenario: impl FnMut(SimNetwork) -> S,
) {
    for_each_seed(seeds, |network| {
        network.auditor().turn_off();
        scenario(network)
    });
}

/// Runs a scenario once, in virtual time.
fn once<S: Future<Output = ()>>(scenario: impl FnMut(SimNetwork) -> S) {
    over(0..1, scenario);
}

fn with(tls: &Tls) -> TransportConfig {
    TransportConfig {
        tls: Some(tls.clone()),
        ..Default::default()
    }
}

fn server(network: &SimNetwork, tls: &Tls) -> (Transports, InboundReceiver) {
    let host = network.host(server_address().ip());
    let (server, inbound) = Transports::new(Arc::new(host), with(tls));
    server.listen(Transport::Tls, server_address()).unwrap();
    (server, inbound)
}

fn client(network: &SimNetwork, tls: &Tls) -> (Transports, InboundReceiver) {
    Transports::new(Arc::new(another_host(network)), with(tls))
}

/// A host that no client has had.
fn another_host(network: &SimNetwork) -> SimHost {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let last = LAST.fetch_add(1, Ordering::Relaxed);
    network.host(Ipv4Addr::from_bits(0x0a00_0001 + last).into())
}

async fn raw(host: &SimHost) -> Box<dyn Stream> {
    host.connect(None, server_address()).await.unwrap()
}

fn to(name: &str) -> Destination {
    Destination {
        transport: Transport::Tls,
        address: server_address(),
        server_name: Some(name.into()),
    }
}

/// The server has a certificate for `names`; the client believes its issuer and wants `name`.
fn opened(names: &[&str], name: &str) -> Result<Flow, OpenError> {
    let outcome = Mutex::new(None);
    once(async |network| {
        let authority = Authority::new();
        let (_server, _in) = server(&network, &authority.config(names).build().unwrap());
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        *outcome.lock().unwrap() = Some(client.open(&to(name)).await);
    });
    outcome.into_inner().unwrap().unwrap()
}

async fn closed(inbound: &mut InboundReceiver) -> CloseReason {
    match inbound.recv().await.unwrap().payload {
        Payload::Closed(reason) => reason,
        other => panic!("not closed but {other:?}"),
    }
}

#[test]
fn a_request_and_its_response_go_over_tls_however_the_network_cuts_them() {
    over(seeds(), |network| async move {
        network.set_conditions(Conditions {
            fragmentation: 0.9,
            ..Conditions::rough()
        });
        let authority = Authority::new();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, mut server_in) = server(&network, &tls);
        let (client, mut client_in) = client(&network, &authority.config(&[]).build().unwrap());
        let flow = client.open(&to("example.com")).await.unwrap();
        assert_eq!(flow.transport, Transport::Tls);
        for branch in ["1", "2"] {
            let sent = options(&client, &flow, branch);
            client.try_send(&flow, sent.to_bytes()).unwrap();
            let (back, received) = request(server_in.recv().await.unwrap());
            let via = received.headers().via().unwrap();
            assert_eq!(via.transport(), "TLS");
            let route = response_route(&received, &back);
            server.try_send(&route.flow, ok(&received)).unwrap();
            let answer = response(client_in.recv().await.unwrap());
            assert_eq!(answer.status().as_u16(), 200);
        }
        assert_eq!(client.open(&to("Example.com")).await.unwrap(), flow);
        assert_eq!(client.peer_domains(flow.id), ["example.com".into()]);
        assert_eq!(server.metrics().connections_open, 1);
        client.close(flow.id);
        assert_eq!(closed(&mut server_in).await, CloseReason::ByPeer);
    });
}

#[test]
fn a_certificate_has_to_be_for_the_name_of_the_uri() {
    assert!(opened(&["example.com"], "EXAMPLE.com").is_ok());
    for (names, name) in [
        (&["example.com"][..], "example.org"),
        (&["example.com"], "foo.example.com"),
        (&["foo.example.com"], "example.com"),
        // RFC 5922 §7.2: MUST NOT match any form of wildcard.
        (&["*.example.com"], "foo.example.com"),
        // §7.1: a DNS name counts if and only if no `sip` URI is there.
        (&["sip:example.com", "example.org"], "example.org"),
        // §7.1: not a domain but a user, and not the scheme.
        (&["sip:bob@example.com"], "example.com"),
        (&["sips:example.com"], "example.com"),
        (&["198.51.100.1"], "198.51.100.2"),
    ] {
        let error = opened(names, name).unwrap_err();
        let OpenError::Handshake { message, .. } = &error else {
            panic!("{names:?} {name}: {error:?}")
        };
        assert!(message.contains("not valid for"), "{message}");
    }
}

#[test]
fn a_sip_uri_names_the_domain_before_any_dns_name() {
    let names = ["sip:example.com", "host7.example.net"];
    assert!(opened(&names, "example.com").is_ok());
    let other = ["sips:example.org", "example.com"];
    assert!(opened(&other, "example.com").is_ok());
}

#[test]
fn a_numeric_host_needs_a_certificate_for_its_address() {
    let ip = "198.51.100.1";
    assert!(opened(&[ip], ip).is_ok());
    assert!(opened(&["2001:db8::1"], "[2001:db8::1]").is_ok());
    once(|network| async move {
        let authority = Authority::new();
        let (_server, _in) = server(&network, &authority.config(&[ip]).build().unwrap());
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        let nameless = Destination::new(Transport::Tls, server_address());
        client.open(&nameless).await.unwrap();
    });
}

#[test]
fn wildcards_count_where_they_are_allowed() {
    once(|network| async move {
        let authority = Authority::new();
        let (_server, _in) = server(
            &network,
            &authority.config(&["*.example.com"]).build().unwrap(),
        );
        let lenient = authority.config(&[]).allow_wildcards(true);
        let (client, _in) = client(&network, &lenient.build().unwrap());
        client.open(&to("foo.example.com")).await.unwrap();
        assert!(client.open(&to("example.com")).await.is_err());
    });
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_not_believed() {
    once(|network| async move {
        let tls = Authority::new().config(&["example.com"]).build().unwrap();
        let (server, _in) = server(&network, &tls);
        let stranger = Authority::new().config(&[]).build().unwrap();
        let (client, _in) = client(&network, &stranger);
        let error = client.open(&to("example.com")).await.unwrap_err();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        assert_eq!(client.metrics().handshakes_failed, 1);
        assert_eq!(client.metrics().connections_failed, 1);
        assert_eq!(client.metrics().connections_open, 0);
        while server.metrics().handshakes_failed == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.metrics().connections_open, 0);
    });
}

#[test]
fn a_connection_to_one_domain_is_not_used_for_another_at_the_same_address() {
    once(|network| async move {
        let authority = Authority::new();
        let one = authority.config(&["a.example", "b.example"]);
        let (server, _in) = server(&network, &one.build().unwrap());
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        let (a, b) = (
            client.open(&to("a.example")).await.unwrap(),
            client.open(&to("b.example")).await.unwrap(),
        );
        assert_ne!(a.id, b.id);
        assert!(client.open(&to("c.example")).await.is_err());
        assert_eq!(client.existing(&to("A.EXAMPLE")), Some(a));
        assert_eq!(server.metrics().connections_accepted, 3);
    });
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    once(|network| async move {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["sip:b.example"]);
        let tls = authority
            .config(&["a.example"])
            .certificate(Pem::bytes(certificate), Pem::bytes(key));
        let (_server, _in) = server(&network, &tls.build().unwrap());
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        for name in ["a.example", "b.example"] {
            let flow = client.open(&to(name)).await.unwrap();
            assert_eq!(client.peer_domains(flow.id), [name.into()]);
        }
        assert!(client.open(&to("c.example")).await.is_err());
    });
}

#[test]
fn a_client_without_the_certificate_that_is_required_is_not_let_in() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority
            .config(&["example.com"])
            .client_auth(ClientAuth::Required(authority.roots()));
        let (server, mut server_in) = server(&network, &tls.build().unwrap());

        let (nobody, mut nobody_in) = client(&network, &authority.config(&[]).build().unwrap());
        // In TLS 1.3 the client is done before the server has seen that nothing came.
        if nobody.open(&to("example.com")).await.is_ok() {
            closed(&mut nobody_in).await;
        }
        assert_eq!(server.metrics().handshakes_failed, 1);

        let stranger = Authority::new()
            .config(&["peer.example"])
            .roots(authority.roots());
        let (stranger, mut stranger_in) = client(&network, &stranger.build().unwrap());
        if stranger.open(&to("example.com")).await.is_ok() {
            closed(&mut stranger_in).await;
        }
        assert_eq!(server.metrics().handshakes_failed, 2);

        let known = authority.config(&["sip:peer.example"]).build().unwrap();
        let (known, _in) = client(&network, &known);
        let flow = known.open(&to("example.com")).await.unwrap();
        known
            .try_send(&flow, options(&known, &flow, "1").to_bytes())
            .unwrap();
        let (back, _) = request(server_in.recv().await.unwrap());
        assert_eq!(server.peer_domains(back.id), ["peer.example".into()]);
    });
}

#[test]
fn a_client_may_leave_out_the_certificate_that_is_optional() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority
            .config(&["example.com"])
            .client_auth(ClientAuth::Optional(authority.roots()));
        let (server, mut server_in) = server(&network, &tls.build().unwrap());
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        let flow = client.open(&to("example.com")).await.unwrap();
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        let (back, _) = request(server_in.recv().await.unwrap());
        assert!(server.peer_domains(back.id).is_empty());
    });
}

#[test]
fn a_renewed_certificate_is_shown_to_those_who_come_and_drops_nobody() {
    once(|network| async move {
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (
            folder.path().join("chain.pem"),
            folder.path().join("key.pem"),
        );
        let put = |names: &[&str]| {
            let (certificate, private) = authority.issue(names);
            std::fs::write(&chain, certificate).unwrap();
            std::fs::write(&key, private).unwrap();
        };
        put(&["old.example"]);
        let tls = authority
            .config(&[])
            .certificate(Pem::file(&chain), Pem::file(&key))
            .build()
            .unwrap();
        let (_server, mut server_in) = server(&network, &tls);
        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        let old = client.open(&to("old.example")).await.unwrap();
        assert!(client.open(&to("new.example")).await.is_err());

        put(&["new.example"]);
        tls.reload().unwrap();
        client.open(&to("new.example")).await.unwrap();
        client
            .try_send(&old, options(&client, &old, "1").to_bytes())
            .unwrap();
        request(server_in.recv().await.unwrap());

        // What cannot be used changes nothing.
        std::fs::write(&key, "no key").unwrap();
        let error = tls.reload().unwrap_err();
        assert!(
            matches!(
                &error,
                TlsError::Pem {
                    wanted: "private key",
                    ..
                }
            ),
            "{error}"
        );
        std::fs::remove_file(&chain).unwrap();
        let error = tls.reload().unwrap_err();
        assert!(
            matches!(&error, TlsError::File { path, .. } if *path == chain),
            "{error}"
        );
        let again = Transports::new(
            Arc::new(another_host(&network)),
            with(&authority.config(&[]).build().unwrap()),
        );
        again.0.open(&to("new.example")).await.unwrap();
    });
}

#[test]
fn what_cannot_be_used_is_refused_when_it_is_read() {
    let authority = Authority::new();
    let provider = TlsProvider::available().unwrap();
    let (certificate, key) = authority.issue(&["example.com"]);
    let (_, other_key) = authority.issue(&["example.com"]);
    let config = |certificate: &str, key: &str| {
        TlsConfig::new(provider)
            .roots(authority.roots())
            .certificate(
                Pem::bytes(certificate.to_owned()),
                Pem::bytes(key.to_owned()),
            )
            .build()
    };
    assert!(config(&certificate, &key).unwrap().has_certificate());
    let mismatch = config(&certificate, &other_key).unwrap_err();
    assert!(
        matches!(mismatch, TlsError::Certificate { .. }),
        "{mismatch}"
    );
    let no_certificate = config(&key, &key).unwrap_err();
    assert!(
        matches!(
            no_certificate,
            TlsError::Pem {
                wanted: "certificate",
                ..
            }
        ),
        "{no_certificate}"
    );
    let no_roots = TlsConfig::new(provider)
        .roots(Roots::Given(vec![Pem::bytes("")]))
        .build()
        .unwrap_err();
    assert!(matches!(no_roots, TlsError::Pem { .. }), "{no_roots}");
    let shown = format!("{:?}", Pem::bytes(key.clone()));
    assert!(!shown.contains("PRIVATE"), "keys are not for logs: {shown}");
}

#[test]
fn without_a_certificate_nothing_listens_and_without_settings_nothing_connects() {
    once(|network| async move {
        let tls = Authority::new().config(&[]).build().unwrap();
        let (listening, _in) = client(&network, &tls);
        let address = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 5061);
        let error = listening.listen(Transport::Tls, address).unwrap_err();
        assert!(error.to_string().contains("certificate"), "{error}");
        let host = Arc::new(another_host(&network));
        let (plain, _in) = Transports::new(host, TransportConfig::default());
        assert_eq!(
            plain.open(&to("example.com")).await,
            Err(OpenError::Unsupported(Transport::Tls))
        );
        assert!(plain.listen(Transport::Tls, address).is_err());
    });
}

#[test]
fn who_does_not_shake_hands_is_cut_off_and_delays_nobody() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, mut server_in) = server(&network, &tls);
        let start = Instant::now();
        let peer = another_host(&network);
        let mut silent = raw(&peer).await;
        let mut slow = raw(&peer).await;
        let mut garbage = raw(&peer).await;
        let mut plain = raw(&peer).await;
        garbage.write_all(&[0xff; 4_096]).await.unwrap();
        plain
            .write_all(b"OPTIONS sip:a SIP/2.0\r\n\r\n")
            .await
            .unwrap();
        // The beginning of a handshake that says it is long, and no end.
        slow.write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0]).await.unwrap();

        let (client, _in) = client(&network, &authority.config(&[]).build().unwrap());
        let flow = client.open(&to("example.com")).await.unwrap();
        client
            .try_send(&flow, options(&client, &flow, "1").to_bytes())
            .unwrap();
        request(server_in.recv().await.unwrap());
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );

        let mut end = Vec::new();
        for refused in [&mut garbage, &mut plain] {
            let _ = refused.read_to_end(&mut end).await;
        }
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
        for stuck in [&mut silent, &mut slow] {
            let _ = stuck.read_to_end(&mut end).await;
        }
        assert_eq!(start.elapsed().as_secs(), 10);
        while server.metrics().handshakes_failed < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.metrics().connections_open, 1);
        let nothing = timeout(Duration::from_secs(1), server_in.recv()).await;
        assert!(
            nothing.is_err(),
            "who never came in is not reported: {nothing:?}"
        );
    });
}

#[test]
fn handshakes_count_as_connections() {
    once(|network| async move {
        let authority = Authority::new();
        let config = TransportConfig {
            max_connections_per_source: 2,
            ..with(&authority.config(&["example.com"]).build().unwrap())
        };
        let host = network.host(server_address().ip());
        let (server, _in) = Transports::new(Arc::new(host), config);
        server.listen(Transport::Tls, server_address()).unwrap();
        let peer = another_host(&network);
        let _held = (raw(&peer).await, raw(&peer).await);
        let mut third = raw(&peer).await;
        assert_eq!(third.read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert_eq!(server.metrics().refused_per_source, 1);
        server.shutdown().await;
        assert_eq!(server.metrics().connections_open, 0);
    });
}

#[test]
fn a_client_gives_up_on_a_server_that_does_not_shake_hands() {
    once(|network| async move {
        let host = network.host(server_address().ip());
        let mut listener = host.listen(server_address()).unwrap();
        let (client, _in) = client(&network, &Authority::new().config(&[]).build().unwrap());
        let start = Instant::now();
        let destination = to("example.com");
        let (opened, _held) = tokio::join!(client.open(&destination), listener.accept());
        let error = opened.unwrap_err();
        assert!(matches!(&error, OpenError::Handshake { .. }), "{error:?}");
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(client.metrics().connections_open, 0);
    });
}

#[test]
fn a_slow_reader_is_cut_off_within_tls_too() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, _server_in) = server(&network, &tls);
        let config = TransportConfig {
            inbound_queue: 1,
            ..with(&authority.config(&[]).build().unwrap())
        };
        let host = another_host(&network);
        let (client, mut client_in) = Transports::new(Arc::new(host), config);
        let flow = client.open(&to("example.com")).await.unwrap();
        // The server's driver reads nothing, so that its queue fills and its connection reads no more.
        let body = "x".repeat(60_000);
        let message = Bytes::from(format!(
            "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/TLS {CLIENT};branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 60000\r\n\r\n{body}"
        ));
        let start = Instant::now();
        while client.try_send(&flow, message.clone()).is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert_eq!(closed(&mut client_in).await, CloseReason::SlowReader);
        assert_eq!(client.metrics().slow_readers, 1);
        drop(server);
    });
}

mod on_loopback {
    //! What other programs make of it.

    use super::*;
    use sipora_transport::TokioNetwork;
    use std::process::Stdio;
    use tokio::process::{Child, Command};

    fn has_openssl() -> bool {
        let found = std::process::Command::new("openssl")
            .arg("version")
            .output();
        let has = found.is_ok_and(|output| output.status.success());
        if !has {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("SKIPPED: openssl is not installed");
            }
        }
        has
    }

    fn s_client(address: SocketAddr, ca: &std::path::Path, arguments: &[&str]) -> Child {
        Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-servername",
                "example.com",
            ])
            .args([
                "-verify_hostname",
                "example.com",
                "-connect",
                &address.to_string(),
            ])
            .arg("-CAfile")
            .arg(ca)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    #[tokio::test]
    async fn openssl_shakes_hands_in_both_versions_of_tls_and_gets_its_answer() {
        if !has_openssl() {
            return;
        }
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let Pem::Bytes(text) = authority.pem() else {
            unreachable!()
        };
        std::fs::write(&ca, text).unwrap();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, mut inbound) = Transports::new(Arc::new(TokioNetwork::new()), with(&tls));
        let address = server
            .listen(Transport::Tls, "127.0.0.1:0".parse().unwrap())
            .unwrap();
        for version in ["-tls1_2", "-tls1_3"] {
            let mut child = s_client(address, &ca, &[version]);
            let mut input = child.stdin.take().unwrap();
            let message = "OPTIONS sip:c@d SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1;branch=z9hG4bK1;rport\r\n\
                From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
            input.write_all(message.as_bytes()).await.unwrap();
            let received = timeout(Duration::from_secs(30), inbound.recv()).await;
            let (flow, received) = request(received.expect(version).unwrap());
            assert_eq!(flow.transport, Transport::Tls);
            server.try_send(&flow, ok(&received)).unwrap();
            server.close(flow.id);
            let mut answer = String::new();
            let mut output = child.stdout.take().unwrap();
            output.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("SIP/2.0 200 OK"), "{version}: {answer}");
            drop(input);
            closed(&mut inbound).await;
        }
    }

    #[tokio::test]
    async fn a_peer_that_closes_without_a_farewell_has_closed() {
        if !has_openssl() {
            return;
        }
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let Pem::Bytes(text) = authority.pem() else {
            unreachable!()
        };
        std::fs::write(&ca, text).unwrap();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, mut inbound) = Transports::new(Arc::new(TokioNetwork::new()), with(&tls));
        let address = server
            .listen(Transport::Tls, "127.0.0.1:0".parse().unwrap())
            .unwrap();
        let mut child = s_client(address, &ca, &[]);
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"\r\n\r\n").await.unwrap();
        let mut pong = [0; 2];
        let mut output = child.stdout.take().unwrap();
        output.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\r\n", "RFC 5626 §4.4.1");
        child.kill().await.unwrap();
        let reason = closed(&mut inbound).await;
        // The kernel resets a connection whose process had unread bytes.
        assert!(
            matches!(
                reason,
                CloseReason::ByPeer | CloseReason::Io(std::io::ErrorKind::ConnectionReset)
            ),
            "{reason:?}"
        );
        drop(server);
    }
}

/// A proxy that listens on a port of its own, and has connected to the server.
async fn proxy(
    network: &SimNetwork,
    tls: &Tls,
    port: u16,
) -> (Transports, InboundReceiver, SocketAddr) {
    let host = another_host(network);
    let address = SocketAddr::new(host.address(), port);
    let (proxy, inbound) = Transports::new(Arc::new(host), with(tls));
    proxy.listen(Transport::Tls, address).unwrap();
    (proxy, inbound, address)
}

/// Sends a request to the server, whose Via is as the settings say or as given.
async fn greet(
    proxy: &Transports,
    server_in: &mut InboundReceiver,
    parameters: Option<&str>,
) -> Flow {
    let flow = proxy.open(&to("example.com")).await.unwrap();
    let sent_by = proxy.sent_by(&flow);
    let alias = if sent_by.alias { ";alias" } else { "" };
    let via = format!(
        "SIP/2.0/TLS {sent_by};branch=z9hG4bK1;rport{}",
        parameters.unwrap_or(alias)
    );
    let bare = options(proxy, &flow, "1")
        .edit()
        .remove(HeaderName::Via)
        .build()
        .unwrap();
    proxy
        .try_send(&flow, bare.with_top_via(&via).to_bytes())
        .unwrap();
    request(server_in.recv().await.unwrap()).0
}

fn back(address: SocketAddr, name: &str) -> Destination {
    Destination {
        transport: Transport::Tls,
        address,
        server_name: Some(name.into()),
    }
}

#[test]
fn a_request_to_where_an_alias_leads_goes_over_the_connection_that_is_there() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority
            .config(&["example.com"])
            .client_auth(ClientAuth::Optional(authority.roots()));
        let (server, mut server_in) = server(&network, &tls.build().unwrap());
        let tls = authority.config(&["sip:peer.example", "sip:other.example"]);
        let (peer, _peer_in, address) = proxy(&network, &tls.build().unwrap(), 5071).await;
        let flow = greet(&peer, &mut server_in, None).await;
        for name in ["peer.example", "Other.Example"] {
            assert_eq!(server.existing(&back(address, name)), Some(flow), "{name}");
            assert_eq!(server.open(&back(address, name)).await, Ok(flow), "{name}");
        }
        assert_eq!(server.metrics().connections_opened, 0);
        // RFC 5923 §9.3: nobody else's requests, and to no other port.
        for (name, port) in [("stranger.example", 5071), ("peer.example", 5061)] {
            let elsewhere = back(SocketAddr::new(address.ip(), port), name);
            assert_eq!(server.existing(&elsewhere), None, "{name}:{port}");
        }
        // §8.2: the connection is gone, and a new one is opened to where the peer listens.
        peer.close(peer.open(&to("example.com")).await.unwrap().id);
        closed(&mut server_in).await;
        let again = server.open(&back(address, "peer.example")).await.unwrap();
        assert_ne!(again.id, flow.id);
        assert_eq!(server.metrics().connections_opened, 1);
    });
}

#[test]
fn an_alias_needs_the_parameter_and_a_certificate() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority
            .config(&["example.com"])
            .client_auth(ClientAuth::Optional(authority.roots()));
        let (server, mut server_in) = server(&network, &tls.build().unwrap());
        let named = authority.config(&["sip:peer.example"]).build().unwrap();
        let (peer, _in, address) = proxy(&network, &named, 5071).await;
        greet(&peer, &mut server_in, Some("")).await;
        assert_eq!(server.existing(&back(address, "peer.example")), None);

        // Shows none, as it has none, and says so as others do who do not know better.
        let nobody = authority.config(&[]).build().unwrap();
        let host = another_host(&network);
        let address = SocketAddr::new(host.address(), 5071);
        let (nobody, _in) = Transports::new(Arc::new(host), with(&nobody));
        greet(&nobody, &mut server_in, Some(";alias")).await;
        assert_eq!(server.existing(&back(address, "peer.example")), None);
        assert_eq!(server.metrics().aliases, 0);
    });
}

#[test]
fn a_connection_that_was_there_before_is_not_replaced_by_an_alias() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority
            .config(&["example.com"])
            .client_auth(ClientAuth::Optional(authority.roots()));
        let (server, mut server_in) = server(&network, &tls.build().unwrap());
        let tls = authority.config(&["sip:peer.example"]);
        let (peer, _peer_in, address) = proxy(&network, &tls.build().unwrap(), 5071).await;
        let ours = server.open(&back(address, "peer.example")).await.unwrap();
        greet(&peer, &mut server_in, None).await;
        assert_eq!(server.existing(&back(address, "peer.example")), Some(ours));
    });
}

#[test]
fn who_connected_without_a_certificate_gets_nothing_but_what_belongs_to_the_connection() {
    once(|network| async move {
        let authority = Authority::new();
        let tls = authority.config(&["example.com"]).build().unwrap();
        let (server, mut server_in) = server(&network, &tls);
        let (stranger, mut stranger_in) = client(&network, &authority.config(&[]).build().unwrap());
        let flow = stranger.open(&to("example.com")).await.unwrap();
        let sent = options(&stranger, &flow, "1");
        stranger.try_send(&flow, sent.to_bytes()).unwrap();
        let (back, received) = request(server_in.recv().await.unwrap());
        // As an answer is sent whose connection is gone: to an address, and to whoever has a certificate for that.
        let unnamed = Destination::new(Transport::Tls, back.remote);
        assert_eq!(server.existing(&unnamed), None);
        let opened = server.open(&unnamed).await;
        assert!(matches!(opened, Err(OpenError::Io { .. })), "{opened:?}");
        server.try_send(&back, ok(&received)).unwrap();
        let answer = response(stranger_in.recv().await.unwrap());
        assert_eq!(answer.status().as_u16(), 200);
    });
}
