//! URIs: the examples of RFC 3261 §19.1, and round trips.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use proptest::prelude::*;
use sipora_message::{Aor, Host, Scheme, Uri};

fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn same(one: &str, two: &str) {
    assert!(uri(one).equivalent(&uri(two)), "{one} is {two}");
    assert!(uri(two).equivalent(&uri(one)), "{two} is {one}");
}

fn differ(one: &str, two: &str) {
    assert!(!uri(one).equivalent(&uri(two)), "{one} is not {two}");
    assert!(!uri(two).equivalent(&uri(one)), "{two} is not {one}");
}

#[test]
fn rfc3261_19_1_3_examples_are_taken_apart() {
    assert_eq!(uri("sip:alice@atlanta.com").user(), Some("alice"));
    let full = uri("sip:alice:secretword@atlanta.com;transport=tcp");
    assert_eq!(
        (full.user(), full.password()),
        (Some("alice"), Some("secretword"))
    );
    assert_eq!(
        (full.host(), full.transport()),
        (Host::Name("atlanta.com"), Some("tcp"))
    );
    let headers = uri("sips:alice@atlanta.com?subject=project%20x&priority=urgent");
    assert_eq!(headers.scheme(), Scheme::Sips);
    let pairs: Vec<_> = headers.headers().collect();
    assert_eq!(pairs, [("subject", "project%20x"), ("priority", "urgent")]);
    let phone = uri("sip:+1-212-555-1212:1234@gateway.com;user=phone");
    assert_eq!(
        (phone.user(), phone.password()),
        (Some("+1-212-555-1212"), Some("1234"))
    );
    assert_eq!(phone.param("USER"), Some(Some("phone")));
    assert_eq!(uri("sips:1212@gateway.com").user(), Some("1212"));
    assert_eq!(
        uri("sip:alice@192.0.2.4").host(),
        Host::V4("192.0.2.4".parse().unwrap())
    );
    let method = uri("sip:atlanta.com;method=REGISTER?to=alice%40atlanta.com");
    assert_eq!(
        (method.user(), method.param("method")),
        (None, Some(Some("REGISTER")))
    );
    assert_eq!(
        uri("sip:alice;day=tuesday@atlanta.com").user(),
        Some("alice;day=tuesday")
    );
}

#[test]
fn rfc3261_19_1_4_equivalent_sets() {
    same(
        "sip:%61lice@atlanta.com;transport=TCP",
        "sip:alice@AtLanTa.CoM;Transport=tcp",
    );
    same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5");
    same("sip:carol@chicago.com", "sip:carol@chicago.com;security=on");
    same(
        "sip:carol@chicago.com;newparam=5",
        "sip:carol@chicago.com;security=on",
    );
    same(
        "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    );
    same(
        "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    );
}

#[test]
fn rfc3261_19_1_4_sets_that_are_not_equivalent() {
    differ(
        "SIP:ALICE@AtLanTa.CoM;Transport=udp",
        "sip:alice@AtLanTa.CoM;Transport=UDP",
    );
    differ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060");
    differ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp");
    differ(
        "sip:bob@biloxi.com",
        "sip:bob@biloxi.com:6000;transport=tcp",
    );
    differ(
        "sip:carol@chicago.com",
        "sip:carol@chicago.com?Subject=next%20meeting",
    );
    differ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4");
}

#[test]
fn rfc3261_19_1_4_equality_is_not_transitive() {
    same("sip:carol@chicago.com", "sip:carol@chicago.com;security=on");
    same(
        "sip:carol@chicago.com",
        "sip:carol@chicago.com;security=off",
    );
    differ(
        "sip:carol@chicago.com;security=on",
        "sip:carol@chicago.com;security=off",
    );
}

#[test]
fn the_rules_between_the_examples() {
    differ("sip:a@b.com", "sips:a@b.com");
    differ("sip:a@b.com", "sip:b.com");
    differ("sip:a:x@b.com", "sip:a@b.com");
    for param in [
        "user=phone",
        "ttl=1",
        "method=INVITE",
        "maddr=239.255.255.1",
    ] {
        differ("sip:a@b.com", &format!("sip:a@b.com;{param}"));
    }
    // A reserved character is not its escape; any other is, whatever the case of the digits.
    differ("sip:a%3Bb@c.com", "sip:a;b@c.com");
    same("sip:a%3bb@c.com", "sip:a%3Bb@c.com");
    same("sip:%7Ea@c.com", "sip:~a@c.com");
    same("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0::0:1]");
    same("sip:a@b.com;%6C%72", "sip:a@b.com;lr");
    differ("sip:a@b.com?x=1&x=1", "sip:a@b.com?x=1");
    same("tel:+1-201-555-0123", "tel:+12015550123");
    differ("tel:+12015550123", "tel:12015550123");
    differ("tel:7042;phone-context=example.com", "tel:7042");
    same("URN:service:sos", "urn:service:sos");
    differ("urn:service:sos", "urn:service:SOS");
}

#[test]
fn schemes_that_nobody_knows_are_kept_as_they_are() {
    let other = uri("soap.beep://192.0.2.103:3002");
    assert_eq!(
        (other.scheme(), other.scheme_str()),
        (Scheme::Other, "soap.beep")
    );
    assert_eq!(other.opaque(), "//192.0.2.103:3002");
    assert_eq!(
        (other.host(), other.user(), other.port()),
        (Host::Name(""), None, None)
    );
    let tel = uri("tel:+358-555-1234567;postd=pp22;isub=1411");
    assert_eq!(
        (tel.scheme(), tel.opaque()),
        (Scheme::Tel, "+358-555-1234567")
    );
    assert_eq!(tel.param("isub"), Some(Some("1411")));
}

#[test]
fn what_is_no_uri_says_what_and_where() {
    for (text, offset) in [
        ("", 0),
        ("alice", 0),
        ("<sip:a@b>", 0),
        ("sip:", 4),
        ("sip:@b", 4),
        ("sip:a@", 6),
        ("sip:2001:db8::10", 9),
        ("sip:a@b:65536", 8),
        ("sip:a@b:", 8),
        ("sip:a@b c", 7),
        ("sip:a b@c", 5),
        ("sip:a%4@c", 5),
        ("sip:a@b;", 8),
        ("sip:a@b;;x", 8),
        ("sip:a@b?", 8),
        ("sip:a@b@c", 7),
        ("sip:a@[::1", 6),
        ("sip:a@[::g]", 7),
        ("sip:a@b\r\nX: y", 7),
        ("urn:a b", 5),
    ] {
        let error = Uri::parse(text).expect_err(text);
        assert_eq!(error.offset(), offset, "{text}: {error}");
    }
}

#[test]
fn parameters_without_end_are_refused_before_anybody_compares_them() {
    let text = format!("sip:a@b{}", ";p".repeat(30_000));
    assert!(Uri::parse(&text).is_err());
    let text = format!("sip:a@b?x=1{}", "&x=1".repeat(30_000));
    assert!(Uri::parse(&text).is_err());
}

#[test]
fn building_escapes_for_each_position() {
    let built = Uri::sip(Some("a b@c%/"), "example.com", None).unwrap();
    assert_eq!(built.as_str(), "sip:a%20b%40c%25/@example.com");
    assert_eq!(built.user_decoded().unwrap(), "a b@c%/");
    assert!(Uri::sip(Some("a"), "b;lr", None).is_err());
    assert!(Uri::sip(Some("a"), "b:5060", None).is_err());
    assert!(Uri::sip(Some("a"), "b\r\nX: y", None).is_err());
    let with = uri("sip:a@b;lr?x=1")
        .with_param("transport", Some("t p"))
        .unwrap();
    assert_eq!(with.as_str(), "sip:a@b;lr;transport=t%20p?x=1");
    let replaced = uri("sip:a@b;Transport=udp;lr")
        .with_param("transport", Some("tcp"))
        .unwrap();
    assert_eq!(replaced.as_str(), "sip:a@b;lr;transport=tcp");
}

#[test]
fn an_aor_has_no_parameters_and_no_escapes() {
    let aor = |text: &str| Aor::from_uri(&uri(text));
    let plain = aor("sip:alice@example.com").unwrap();
    for text in [
        "SIP:%61lice@EXAMPLE.com",
        "sip:alice@example.com;user=phone;transport=tcp",
        "sip:alice:secret@example.com?subject=x",
    ] {
        assert_eq!(aor(text).unwrap(), plain, "{text}");
    }
    for text in [
        "sip:Alice@example.com",
        "sips:alice@example.com",
        "sip:alice@example.com:5060",
        "sip:example.com",
    ] {
        assert_ne!(aor(text).unwrap(), plain, "{text}");
    }
    assert_eq!(
        aor("sip:alice@example.com:5060").unwrap().without_port(),
        plain
    );
    let odd = aor("sip:%00a%40b;c%25@[2001:DB8::0:1]:5070").unwrap();
    assert_eq!(odd.user(), Some("\0a@b;c%"));
    assert_eq!((odd.host(), odd.port()), ("[2001:db8::1]", Some(5070)));
    assert_eq!(
        odd.to_uri().unwrap().as_str(),
        "sip:%00a%40b;c%25@[2001:db8::1]:5070"
    );
    assert_eq!(Aor::from_uri(&odd.to_uri().unwrap()).unwrap(), odd);
    assert!(aor("sip:%FF@example.com").is_err());
    assert!(aor("tel:+1234").is_err());
    assert_eq!(aor("sip:example.com").unwrap().user(), None);
    assert_eq!(
        aor("sip:example.com:5080").unwrap().without_port().as_str(),
        "sip:example.com"
    );
}

proptest! {
    #[test]
    fn any_user_survives_escaping(user in ".{1,20}", port in proptest::option::of(0u16..)) {
        let built = Uri::sip(Some(&user), "example.com", port).unwrap();
        prop_assert_eq!(built.user_decoded().unwrap(), user.as_str());
        prop_assert_eq!(built.port(), port);
        let again = uri(built.as_str());
        prop_assert!(built.equivalent(&again));
        let aor = Aor::from_uri(&built).unwrap();
        prop_assert_eq!(aor.user(), Some(user.as_str()));
        prop_assert_eq!(Aor::from_uri(&aor.to_uri().unwrap()).unwrap(), aor);
    }

    #[test]
    fn any_parameter_survives_escaping(name in "[a-z]{1,8}", value in ".{1,20}") {
        let with = uri("sip:a@b").with_param(&name, Some(&value)).unwrap();
        prop_assert!(with.param(&name).is_some());
        prop_assert!(with.equivalent(&with));
    }

    #[test]
    fn any_text_is_a_uri_or_an_error_inside_it(text in "(sips?:|tel:|x:)?[ -~\u{80}-\u{ff}]{0,40}") {
        match Uri::parse(&text) {
            Ok(uri) => {
                prop_assert_eq!(uri.as_str(), text.as_str());
                prop_assert!(uri.equivalent(&uri));
                let _ = (uri.host(), uri.user_decoded(), uri.params().count(), Aor::from_uri(&uri));
            }
            Err(error) => prop_assert!(error.offset() <= text.len()),
        }
    }
}

#[test]
fn telephone_numbers_are_read_wherever_they_stand() {
    // RFC 3966 §6, RFC 3261 §19.1.6.
    let local = uri("tel:863-1234;Phone-Context=+1-914-555;isub=1%2F2;ext=5");
    let tel = local.telephone().unwrap();
    assert_eq!((tel.digits().as_str(), tel.is_global()), ("8631234", false));
    assert_eq!(
        (tel.context(), tel.isdn_subaddress(), tel.extension()),
        (Some("+1-914-555"), Some("1%2F2"), Some("5"))
    );
    assert_eq!(uri("tel:*1a-#").telephone().unwrap().digits(), "*1A#");
    let gateway = uri("sip:+358-555-1234567;postd=pp22@foo.com;user=Phone");
    let tel = gateway.telephone().unwrap();
    assert_eq!(
        (tel.number(), tel.param("POSTD")),
        ("+358-555-1234567", Some(Some("pp22")))
    );
    assert!(
        uri("sip:+358@foo.com").telephone().is_none()
            && uri("sip:foo.com;user=phone").telephone().is_none()
    );
    let extended = uri("tel:+1;ext=2").with_param("ext", Some("3")).unwrap();
    assert_eq!(extended.as_str(), "tel:+1;ext=3");
    assert!(uri("tel:+1-201-555").equivalent(&uri("TEL:+1.(201)555")));
    for (number, context) in [
        ("7042", None),
        ("", Some("a")),
        ("+1;ext=2", None),
        ("+1 2", None),
        ("+12x", None),
    ] {
        assert!(Uri::tel(number, context).is_err(), "{number}");
    }
}

#[test]
fn names_compare_as_their_namespace_says() {
    let same = [
        ("urn:service:sos", "URN:Service:sos"),
        ("urn:uuid:F81D4FAE-7DEC", "urn:UUID:f81d4fae-7dec"),
        ("urn:example:a%2cz", "urn:example:a%2Cz"),
        ("urn:example:a?=q#f", "urn:example:a?+r"),
    ];
    for (one, two) in same {
        assert!(uri(one).equivalent(&uri(two)), "{one} {two}");
    }
    for (one, two) in [
        ("urn:service:sos", "urn:service:SOS"),
        ("urn:a:b", "urn:b:b"),
        ("urn:a:b", "x:a:b"),
    ] {
        assert!(!uri(one).equivalent(&uri(two)), "{one} {two}");
    }
    for text in ["urn:a", "urn::b", "urn:a:", "http:a:b", "sip:a"] {
        assert!(uri(text).urn().is_none(), "{text}");
    }
}

#[test]
fn a_host_brings_nothing_of_its_own() {
    for host in [
        "",
        "a b",
        "a;lr",
        "a:5060",
        "a@b",
        "a?x=y",
        "[::1",
        "::1]",
        "a\r\n",
        "[::1]:5060",
    ] {
        assert!(Uri::builder(host).user("u").build().is_err(), "{host:?}");
    }
    for host in ["::1", "[::1]"] {
        assert_eq!(
            Uri::builder(host)
                .secure()
                .port(5061)
                .build()
                .unwrap()
                .as_str(),
            "sips:[::1]:5061"
        );
    }
    let escaped = Uri::builder("h")
        .param("a;b", Some("c=d?"))
        .header("e&f", "\r\nX: y")
        .build()
        .unwrap();
    assert_eq!(escaped.as_str(), "sip:h;a%3Bb=c%3Dd%3F?e%26f=%0D%0AX:%20y");
}

#[test]
fn what_telephones_forget_to_escape_is_read_and_kept() {
    for user in [
        "*31#5550123",
        "#",
        "j\u{f6}rg",
        "a|b",
        "{x}",
        "[1]",
        "a^b`c",
        "d\\e",
    ] {
        let text = format!("sip:{user}@example.com;transport=tcp");
        let found = uri(&text);
        assert_eq!(found.user(), Some(user));
        assert_eq!(found.to_string(), text);
        let escaped = Uri::builder("example.com")
            .user(user)
            .param("transport", Some("tcp"));
        let escaped = escaped.build().unwrap();
        assert!(escaped.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(found.equivalent(&escaped), "{text} is {escaped}");
        assert_eq!(Aor::from_uri(&found), Aor::from_uri(&escaped));
    }
    let params = uri("sip:a@b;info=YWI==;x=1|2;y");
    assert_eq!(params.param("info"), Some(Some("YWI==")));
    assert_eq!(params.param("x"), Some(Some("1|2")));
    assert_eq!(params.params().count(), 3);
    for text in [
        "sip:a b@c",
        "sip:a<b@c",
        "sip:a\"b@c",
        "sip:a@b@c",
        "sip:%4@c",
        "sip:a@b;=x",
        "sip:a@b#c",
    ] {
        assert!(Uri::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_request_uri_has_neither_headers_nor_a_method() {
    let cases = [
        ("sip:carol@h", "sip:carol@h"),
        (
            "sip:carol;x=y@h:5060;method=INVITE;transport=tcp?Replaces=a",
            "sip:carol;x=y@h:5060;transport=tcp",
        ),
        ("sips:h;METHOD=INVITE", "sips:h"),
        ("sip:a?b:c@h?e=f", "sip:a?b:c@h"),
        ("tel:+1", "tel:+1"),
    ];
    for (whole, bare) in cases {
        assert_eq!(uri(whole).to_request_uri().as_str(), bare);
    }
}
