//! Session descriptions (feature `sdp`).
#![cfg(feature = "sdp")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::sdp::{
    Candidate, CandidateKind, Crypto, Direction, Fingerprint, Fmtp, Group, MediaDescription,
    RtcpAddress, RtpMap, SessionDescription, Setup,
};

/// A browser's offer, shortened.
const OFFER: &str = "v=0\r\no=alice 2890844526 2890844527 IN IP4 host.atlanta.example.com\r\ns=-\r\n\
    c=IN IP4 192.0.2.101\r\nb=AS:256\r\nt=0 0\r\na=group:BUNDLE audio video\r\na=ice-ufrag:8hhY\r\n\
    a=fingerprint:sha-256 19:E2:1C\r\na=setup:actpass\r\na=recvonly\r\n\
    m=audio 49170 UDP/TLS/RTP/SAVPF 111 0 101\r\nc=IN IP6 2001:db8::101\r\na=mid:audio\r\na=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10; useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n\
    a=maxptime:60\r\na=sendrecv\r\na=rtcp:53020 IN IP6 2001:db8::102\r\na=rtcp-mux\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
    a=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r\n\
    a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998 generation 0\r\n\
    a=candidate:broken\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20 FEC_ORDER=FEC_SRTP\r\n\
    a=x-unknown:what ever\r\n\
    m=video 0 RTP/AVP 31\r\na=mid:video\r\na=label:7\r\n";

#[test]
fn an_offer_is_read_with_what_a_call_needs() {
    let offer = SessionDescription::parse(OFFER.as_bytes()).unwrap();
    assert_eq!(
        (offer.session_id(), offer.version(), offer.username()),
        ("2890844526", 2_890_844_527, Some("alice"))
    );
    assert_eq!(
        (offer.origin_address(), offer.name()),
        ("host.atlanta.example.com", "-")
    );
    let groups: Vec<_> = offer.groups().collect();
    assert_eq!(
        groups,
        [Group {
            semantics: "BUNDLE",
            members: vec!["audio", "video"]
        }]
    );
    assert_eq!(
        offer
            .bandwidths()
            .map(|b| (b.kind, b.value))
            .collect::<Vec<_>>(),
        [("AS".to_owned(), 256)]
    );
    let [audio, video] = offer.media() else {
        panic!()
    };
    assert_eq!(
        (audio.kind(), audio.port(), audio.protocol()),
        ("audio", 49170, "UDP/TLS/RTP/SAVPF")
    );
    assert_eq!(audio.formats().collect::<Vec<_>>(), ["111", "0", "101"]);
    let opus = audio.rtpmap(111).unwrap();
    assert_eq!(
        (opus.encoding, opus.clock_rate, opus.channels),
        ("opus", 48_000, Some(2))
    );
    assert_eq!(audio.rtpmap(0).unwrap().encoding, "PCMU");
    assert_eq!(audio.rtpmap(96), None);
    let fmtp = audio.fmtp("111").unwrap();
    assert_eq!(
        (
            fmtp.param("UseInbandFec"),
            fmtp.param("x"),
            audio.fmtp("101").unwrap().params
        ),
        (Some("1"), None, "0-16")
    );
    assert_eq!(
        (audio.ptime(), audio.maxptime(), audio.mid(), video.label()),
        (Some(20), Some(60), Some("audio"), Some("7"))
    );
    assert_eq!(
        audio.rtcp().unwrap().ip(),
        Some("2001:db8::102".parse().unwrap())
    );
    assert!(audio.has_rtcp_mux() && !video.has_rtcp_mux());
    let candidates: Vec<_> = audio.candidates().collect();
    assert_eq!(
        (candidates.len(), candidates[0].kind),
        (2, CandidateKind::Host)
    );
    assert_eq!(
        (candidates[1].related, candidates[1].extensions),
        (Some(("203.0.113.141", 8998)), "generation 0")
    );
    let keys: Vec<_> = audio.cryptos().collect();
    assert_eq!(
        (keys[0].tag, keys[0].suite, keys[0].session_params),
        (1, "AES_CM_128_HMAC_SHA1_80", "FEC_ORDER=FEC_SRTP")
    );
    assert!(!format!("{:?}", keys[0]).contains("inline"));
    assert_eq!(audio.value("x-unknown"), Some("what ever"));
}

#[test]
fn what_a_medium_does_not_say_the_session_says() {
    let offer = SessionDescription::parse(OFFER.as_bytes()).unwrap();
    let [audio, video] = offer.media() else {
        panic!()
    };
    assert_eq!(
        (offer.direction_of(audio), offer.direction_of(video)),
        (Direction::SendRecv, Direction::RecvOnly)
    );
    assert_eq!(
        offer.connection_of(audio).unwrap().address(),
        "2001:db8::101"
    );
    assert_eq!(
        offer.connection_of(video).unwrap().ip(),
        Some("192.0.2.101".parse().unwrap())
    );
    assert_eq!(offer.setup_of(audio), Some(Setup::ActPass));
    assert_eq!(
        offer.fingerprints_of(video)[0].bytes().unwrap(),
        [0x19, 0xe2, 0x1c]
    );
    assert_eq!(
        offer.ice_credentials_of(audio),
        Some(("8hhY", "asd88fgpdd777uzjYhagZg"))
    );
    assert_eq!(offer.ice_credentials_of(video), None);
    assert!(!offer.is_ice_lite());
    let plain = SessionDescription::parse(b"v=0\r\nm=audio 1 RTP/AVP 0\r\n").unwrap();
    assert_eq!(plain.direction_of(&plain.media()[0]), Direction::SendRecv);
    assert!(plain.connection_of(&plain.media()[0]).is_none());
}

#[test]
fn an_unchanged_description_prints_as_it_was() {
    assert_eq!(
        SessionDescription::parse(OFFER.as_bytes())
            .unwrap()
            .to_string(),
        OFFER
    );
}

#[test]
fn numbers_of_thirty_digits_are_refused_or_left_out_and_panic_nowhere() {
    const MANY: &str = "123456789012345678901234567890";
    let with = |line: &str| format!("v=0\r\ns=-\r\nt=0 0\r\n{}\r\n", line.replace("{}", MANY));
    for line in [
        "o=- 1 {} IN IP4 a",
        "t={} 0",
        "t=0 {}",
        "b=AS:{}",
        "m=audio {} RTP/AVP 0",
        "m=audio 1/{} RTP/AVP 0",
    ] {
        let error = SessionDescription::parse(with(line).as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with("session description: "),
            "{line}"
        );
    }
    // Whether these are refused or read is not ours to say.
    for line in [
        "r={} 1 0",
        "r=1 1 {}",
        "z={} 1",
        "z=1 -{}h",
        "v={}",
        "c=IN IP4 192.0.2.1/{}",
        "k={}",
    ] {
        if let Ok(read) = SessionDescription::parse(with(line).as_bytes()) {
            let _ = (read.to_string(), read.connection().map(|found| found.ip()));
        }
    }
    // The identifier is digits of any length.
    let text = format!("v=0\r\no=- {MANY} 1 IN IP4 a\r\ns=-\r\nt=0 0\r\n");
    assert_eq!(
        SessionDescription::parse(text.as_bytes())
            .unwrap()
            .session_id(),
        MANY
    );
    let attributes = [
        "rtpmap:{} x/8000",
        "rtpmap:0 x/{}",
        "rtpmap:0 x/8000/{}",
        "ptime:{}",
        "maxptime:{}",
        "rtcp:{}",
        "crypto:{} a inline:b",
        "candidate:1 {} UDP 1 a 1 typ host",
        "candidate:1 1 UDP {} a 1 typ host",
        "candidate:1 1 UDP 1 a {} typ host",
        "candidate:1 1 UDP 1 a 1 typ srflx raddr b rport {}",
    ];
    for attribute in attributes {
        let text = format!(
            "v=0\r\nm=audio 1 RTP/AVP 0\r\na={}\r\n",
            attribute.replace("{}", MANY)
        );
        let read = SessionDescription::parse(text.as_bytes()).unwrap();
        let media = &read.media()[0];
        assert!(
            media.rtpmaps().next().is_none()
                && media.ptime().is_none()
                && media.maxptime().is_none(),
            "{attribute}"
        );
        assert!(
            media.rtcp().is_none()
                && media.cryptos().next().is_none()
                && media.candidates().next().is_none(),
            "{attribute}"
        );
    }
}

#[test]
fn what_is_no_description_is_refused() {
    for bytes in [
        &b""[..],
        b"hello",
        b"v=1\r\n",
        b"v=0\r\nm=audio\r\n",
        b"v=0\r\no=x\r\n",
        b"v=0\r\n\xff=x\r\n\xff",
    ] {
        assert!(SessionDescription::parse(bytes).is_err(), "{bytes:?}");
    }
    let long = format!("v=0\r\n{}", "a=x\r\n".repeat(30_000));
    assert!(SessionDescription::parse(long.as_bytes()).is_err());
}

#[test]
fn no_value_becomes_a_line_of_its_own() {
    let media = MediaDescription::audio(1);
    assert!(media.clone().with_attribute("x", Some("a\r\na=y")).is_err());
    assert!(media.clone().with_attribute("x\n", None).is_err());
    assert!(media.clone().with_format("0\r\na=y").is_err());
    assert!(MediaDescription::new("audio\r\n", 1, "RTP/AVP").is_err());
    let map = RtpMap::new(96, "x\r\na=evil", 1);
    let text = SessionDescription::new("1\r\na=evil", 1, [192, 0, 2, 1].into())
        .with_media(media.with_rtpmap(&map))
        .to_string();
    assert!(!text.contains("\na=evil"), "{text}");
}

#[test]
fn directions_narrow_and_turn() {
    use Direction::*;
    for (offer, answer) in [
        (SendRecv, SendRecv),
        (SendOnly, RecvOnly),
        (RecvOnly, SendOnly),
        (Inactive, Inactive),
    ] {
        assert_eq!(offer.reversed(), answer);
        assert_eq!(answer.and(SendRecv), answer);
        assert_eq!(answer.and(Inactive), Inactive);
    }
    assert_eq!(SendOnly.and(RecvOnly), Inactive);
    let held = MediaDescription::audio(1)
        .with_direction(SendOnly)
        .with_direction(Inactive);
    assert_eq!(
        (held.direction(), held.attributes().count()),
        (Some(Inactive), 1)
    );
}

const WORD: &str = "[!-9;-~]{1,9}";

proptest! {
    #[test]
    fn every_typed_attribute_survives_printing_and_parsing(
        payload_type in 0u8..128, encoding in "[A-Za-z0-9-]{1,9}", clock_rate in any::<u32>(), channels in proptest::option::of(any::<u32>()),
        words in proptest::collection::vec(WORD, 6), port in any::<u16>(), number in any::<u32>(), digest in proptest::collection::vec(any::<u8>(), 1..33),
    ) {
        let map = RtpMap { payload_type, encoding: &encoding, clock_rate, channels };
        assert_eq!(RtpMap::parse(&map.to_string()), Some(map));
        let fmtp = Fmtp { format: &words[0], params: &words[1] };
        assert_eq!(Fmtp::parse(&fmtp.to_string()), Some(fmtp));
        let rtcp = RtcpAddress { port, address: Some("2001:db8::1") };
        assert_eq!(RtcpAddress::parse(&rtcp.to_string()), Some(rtcp));
        let group = Group { semantics: &words[0], members: words[1..].iter().map(String::as_str).collect() };
        assert_eq!(Group::parse(&group.to_string()), Some(group));
        let pairs: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let text = pairs.join(":");
        let print = Fingerprint { hash: "sha-256", digest: &text };
        assert_eq!(Fingerprint::parse(&print.to_string()), Some(print));
        assert_eq!(print.bytes(), Some(digest));
        let key = Crypto { tag: number % 1_000_000_000, suite: &words[0], key_params: &words[1], session_params: &words[2] };
        assert_eq!(Crypto::parse(&key.to_string()), Some(key));
        let candidate = Candidate {
            foundation: &words[0], component: port, transport: "UDP", priority: number, address: &words[1], port,
            kind: CandidateKind::ServerReflexive, related: Some((&words[2], port)), extensions: "generation 0",
        };
        assert_eq!(Candidate::parse(&candidate.to_string()), Some(candidate));
    }

    #[test]
    fn descriptions_from_scratch_read_back(id in "[0-9]{1,30}", version in any::<u64>(), v6 in any::<std::net::IpAddr>(), port in any::<u16>(), value in "[^\r\n\0]{1,20}") {
        let media = MediaDescription::audio(port)
            .with_rtpmap(&RtpMap::new(0, "PCMU", 8000))
            .with_attribute("x-note", Some(&value)).unwrap()
            .with_typed("fingerprint", Fingerprint { hash: "sha-1", digest: "AB:CD" }).unwrap();
        let made = SessionDescription::new(&id, version, v6).with_media(media);
        let read = SessionDescription::parse(made.to_string().as_bytes()).unwrap();
        assert_eq!((read.session_id(), read.version()), (id.as_str(), version));
        assert_eq!(read.connection().unwrap().ip(), Some(v6));
        assert_eq!(read.media()[0].value("x-note"), Some(value.as_str()));
        assert_eq!(read.to_string(), made.to_string());
    }

    #[test]
    fn lines_of_anything_are_survived(lines in proptest::collection::vec("[a-z]=[ -~]{0,24}", 0..12)) {
        let text = format!("v=0\r\n{}\r\n", lines.join("\r\n"));
        if let Ok(read) = SessionDescription::parse(text.as_bytes()) {
            for media in read.media() {
                let _ = (read.direction_of(media), media.candidates().count(), media.cryptos().count(), media.rtpmaps().count());
            }
            let again = SessionDescription::parse(read.to_string().as_bytes()).unwrap();
            assert_eq!(again.media().len(), read.media().len());
        }
    }
}
