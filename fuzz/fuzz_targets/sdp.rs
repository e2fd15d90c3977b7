//! Any bytes may be a session description: reading all of it ends, and what is printed of it can be read and prints the same.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use sipora_message::sdp::{MediaDescription, SessionDescription};

fuzz_target!(|data: &[u8]| {
    let Ok(session) = SessionDescription::parse(data) else {
        return;
    };
    black_box((session.session_id(), session.version(), session.username()));
    black_box((
        session.name(),
        session.is_ice_lite(),
        session.groups().count(),
    ));
    black_box((session.attributes().count(), session.bandwidths().count()));
    black_box(
        session
            .connection()
            .map(|place| (place.ip(), place.is_unspecified())),
    );
    for media in session.media() {
        read(&session, media);
    }
    let printed = session.to_string();
    let again =
        SessionDescription::parse(printed.as_bytes()).expect("what was printed can be read");
    // A `t=` that was missing is printed, so it is the prints that are compared.
    assert_eq!(again.to_string(), printed);
});

fn read(session: &SessionDescription, media: &MediaDescription) {
    black_box((
        media.kind(),
        media.port(),
        media.protocol(),
        media.attributes().count(),
    ));
    for format in media.formats() {
        let map = format.parse().ok().and_then(|format| media.rtpmap(format));
        black_box((map, media.fmtp(format).map(|found| found.param("apt"))));
    }
    black_box((
        media.rtpmaps().count(),
        media.ptime(),
        media.maxptime(),
        media.rtcp(),
    ));
    black_box((
        media.has_rtcp_mux(),
        media.mid(),
        media.label(),
        media.setup(),
    ));
    black_box(
        media
            .fingerprints()
            .filter_map(|print| print.bytes())
            .count(),
    );
    black_box(
        media
            .candidates()
            .filter_map(|candidate| candidate.ip())
            .count(),
    );
    black_box((
        media.cryptos().count(),
        session.direction_of(media),
        session.setup_of(media),
    ));
    black_box((
        session.connection_of(media),
        session.fingerprints_of(media).len(),
    ));
    black_box(session.ice_credentials_of(media));
}
