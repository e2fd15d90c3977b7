//! Any text may be a URI: what is read of it is in it, it equals itself, and what is built of its parts can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipora_message::{Aor, Uri, UriRef};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // The second half of a pair is compared with the first; a single URI with itself.
    let (one, two) = text.split_once('\n').unwrap_or((text, text));
    let Ok(one) = Uri::parse(one) else { return };
    check(one.as_ref());
    assert!(one.equivalent(&one), "not equivalent to itself: {one}");
    if let Ok(two) = Uri::parse(two) {
        let equivalent = one.equivalent(&two);
        assert_eq!(equivalent, two.equivalent(&one), "{one} {two}");
        if equivalent && one.is_sip() {
            assert_eq!(one.user_decoded(), two.user_decoded(), "{one} {two}");
        }
    }
});

fn check(uri: UriRef<'_>) {
    let text = uri.as_str();
    assert_eq!(uri.to_owned().to_string(), text);
    let written: [Option<&str>; 4] = [
        uri.user(),
        uri.password(),
        Some(uri.host_str()),
        Some(uri.opaque()),
    ];
    for part in written.into_iter().flatten() {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    for (name, value) in uri.params() {
        assert!(!name.is_empty(), "a parameter without a name in {text:?}");
        assert!(value.is_none_or(|value| text.contains(value)));
    }
    assert_eq!(uri.has_headers(), uri.headers().count() > 0, "{text:?}");
    if !uri.is_sip() {
        return;
    }
    // A key names a URI that has the same key.
    if let Ok(key) = Aor::from_uri(uri) {
        let again = key.to_uri().expect("a key names a URI");
        assert_eq!(Aor::from_uri(&again).as_ref(), Ok(&key), "{text:?}");
    }
    // Built from its decoded user and its host, a URI has the same user and host.
    let decoded = uri.user_decoded();
    if let Ok(built) = Uri::sip(decoded.as_deref(), uri.host_str(), uri.port()) {
        assert_eq!(built.user_decoded(), decoded, "{text:?}");
        assert_eq!(built.host(), uri.host(), "{text:?}");
        assert_eq!(built.port(), uri.port(), "{text:?}");
    }
    if let Ok(with) = uri.to_owned().with_param("maddr", Some("192.0.2.1")) {
        assert!(with.maddr().is_some(), "{with}");
        Uri::parse(with.as_str()).expect("a URI with one more parameter is a URI");
    }
}
