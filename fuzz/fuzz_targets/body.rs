//! Any bytes may be a body: what multipart and message/sipfrag say of it lies in it, and what is built of its parts is
//! read back the same. The first byte chooses the boundary.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipora_message::{Fragment, Limits, Message, Multipart, MultipartBuilder, MultipartLimits};

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else {
        return;
    };
    let boundary = BOUNDARIES[usize::from(*choice) % BOUNDARIES.len()];
    let head = format!(
        "MESSAGE sip:a SIP/2.0\r\nContent-Type: multipart/mixed;boundary=\"{boundary}\"\r\n\r\n"
    );
    let message = Message::parse([head.as_bytes(), body].concat(), &Limits::default());
    if let Ok(message) = message {
        let kind = message.headers().content_type().unwrap().unwrap();
        if let Ok(multipart) = Multipart::parse(kind, message.body(), &MultipartLimits::default()) {
            walk(&multipart, message.body());
            rebuild(&multipart);
        }
    }
    fragment(body);
});

const BOUNDARIES: &[&str] = &["b", "-", "--", "a b", "unique-boundary-1", "'()+_,./:=?"];

/// Every part lies in its body, and so do the parts in it.
fn walk(multipart: &Multipart<'_>, body: &[u8]) {
    assert!(!multipart.parts().is_empty());
    for part in multipart.parts() {
        assert!(lies_in(part.as_bytes(), body) && lies_in(part.body(), part.as_bytes()));
        for header in part.headers().iter() {
            assert!(part.headers().contains(&header.name()));
        }
        if let Some(id) = part.content_id() {
            assert!(multipart.by_content_id(id).is_some(), "{id:?}");
        }
        if let Ok(kind) = part.content_type() {
            assert!(multipart.find(kind.kind(), kind.subtype()).is_some());
        }
        if let Ok(inner) = part.multipart() {
            walk(&inner, part.body());
        }
    }
}

fn lies_in(part: &[u8], whole: &[u8]) -> bool {
    if part.is_empty() {
        return true;
    }
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.start >= whole.start && part.end <= whole.end
}

/// The same parts in a body of our own: it is refused, or read back the same.
fn rebuild(multipart: &Multipart<'_>) {
    let mut builder = MultipartBuilder::new("mixed", "of-our-own");
    for part in multipart.parts() {
        let kind = part.content_type().map(|kind| kind.to_string());
        let kind = kind.unwrap_or_else(|_| "application/octet-stream".to_owned());
        builder = builder.part(&kind, part.body().to_vec());
    }
    let Ok((kind, body)) = builder.build() else {
        return;
    };
    let head = format!("MESSAGE sip:a SIP/2.0\r\nContent-Type: {kind}\r\n\r\n");
    let message = Message::parse([head.as_bytes(), &body].concat(), &Limits::default()).unwrap();
    let kind = message.headers().content_type().unwrap().unwrap();
    let again = Multipart::parse(kind, message.body(), &MultipartLimits::default()).unwrap();
    let bodies = |multipart: &Multipart<'_>| -> Vec<Vec<u8>> {
        let parts = multipart.parts().iter();
        parts.map(|part| part.body().to_vec()).collect()
    };
    assert_eq!(bodies(&again), bodies(multipart));
}

/// What was read of a fragment is read again from its bytes.
fn fragment(body: &[u8]) {
    let Ok(fragment) = Fragment::parse(body.to_vec(), &Limits::default()) else {
        return;
    };
    assert!(fragment.as_bytes().starts_with(body));
    let again = Fragment::parse(fragment.as_bytes().to_vec(), &Limits::default()).unwrap();
    assert_eq!(again.start(), fragment.start());
    assert_eq!(again.body(), fragment.body());
    assert_eq!(again.as_bytes(), fragment.as_bytes());
    assert_eq!(again.headers().len(), fragment.headers().len());
}
