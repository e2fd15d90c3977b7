//! However a stream is cut into chunks, the same messages come out of it, and each is what it would be as a datagram.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sipora_message::{Frame, Limits, Message, StreamFramer};

fuzz_target!(|data: &[u8]| {
    // The first byte decides how the rest is cut: 0 byte by byte, else into pieces of that many bytes.
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    let whole = frames(stream, stream.len().max(1));
    let pieces = frames(stream, usize::from(*cut).max(1));
    assert_eq!(whole, pieces, "cut into pieces of {cut}");

    for bytes in whole.iter().filter_map(|event| match event {
        Event::Message(bytes) => Some(bytes),
        Event::Error(_) => None,
    }) {
        let datagram = Message::parse(bytes.clone(), &Limits::default());
        let datagram = datagram.expect("what a stream gives is a message as a datagram too");
        assert_eq!(datagram.as_bytes(), &bytes[..]);
    }
});

#[derive(Debug, PartialEq)]
enum Event {
    Message(Vec<u8>),
    /// The kind of error; whether it left the stream readable.
    Error(String),
}

/// Pings and pongs are left out: a CR LF that ends a chunk may be either.
fn frames(stream: &[u8], size: usize) -> Vec<Event> {
    let limits = Limits::default();
    let held = limits.header_bytes + limits.body + size;
    let mut framer = StreamFramer::new(limits);
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        framer.push(chunk);
        while let Some(frame) = framer.next() {
            match frame {
                Frame::Message(message) => {
                    // A body as the datagram has it, not more: the framer and the parser share one rule.
                    events.push(Event::Message(message.as_bytes().to_vec()));
                }
                Frame::Error(error) => {
                    let what = format!(
                        "{:?}, recoverable: {}",
                        error.error().kind(),
                        error.is_recoverable()
                    );
                    events.push(Event::Error(what));
                }
                _ => {}
            }
        }
        assert!(
            framer.buffered() <= held,
            "{} bytes are held",
            framer.buffered()
        );
    }
    events
}
