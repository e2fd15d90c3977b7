//! What a message is matched to a transaction by (RFC 3261 §17.1.3, §17.2.3), as a keyed hash.
//!
//! 128 bits under a secret key stand for the texts themselves: nobody can aim at a collision, chance will not hit one,
//! and a transaction keeps 16 bytes instead of three strings.

use crate::merged::Origin;
use crate::{IdSource, Owner};
use sipora_message::{Method, Request, Response};
use sipora_transport::Flow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

/// Identifies a transaction at one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key([u64; 2]);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self([low, _]) = self;
        state.write_u64(*low);
    }
}

/// A tag that follows from a request.
pub(crate) struct KeyedTag([u8; TAG_LENGTH]);

impl KeyedTag {
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What a request is known by at the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerKey {
    pub(crate) key: Key,
    /// The request is of RFC 2543, whose branch, if any, identifies nothing.
    pub(crate) legacy: bool,
}

/// Maps keys; they are hashes already.
pub(crate) type KeyMap = HashMap<Key, u64, BuildHasherDefault<KeyHasher>>;

/// Makes keys and tags from one secret. A clone makes the same.
#[derive(Clone)]
pub(crate) struct KeyMaker {
    /// A hash that has taken in the secret, to begin all others with.
    begun: DefaultHasher,
}

impl KeyMaker {
    pub(crate) fn new(ids: &mut IdSource) -> Self {
        let mut begun = DefaultHasher::new();
        for _ in 0..4 {
            begun.write_u64(ids.number());
        }
        Self { begun }
    }

    /// The key of a client transaction: our branch, our sent-by, and the method in CSeq (§17.1.3; §18.1.2 for the
    /// sent-by).
    pub(crate) fn client(
        &self,
        branch: &str,
        host: &str,
        port: Option<u16>,
        method: &Method,
    ) -> Key {
        let mut hash = self.begin();
        hash.folded(branch.as_bytes());
        hash.folded(host.as_bytes());
        hash.number(u64::from(port.unwrap_or(0)));
        hash.exact(method.as_str().as_bytes());
        hash.finish()
    }

    /// The key that a response asks for, unless it has no Via or CSeq that can be read.
    pub(crate) fn of_response(&self, response: &Response) -> Option<Key> {
        let headers = response.headers();
        let via = headers.via().ok()?;
        let method = headers.cseq().ok()?.method;
        Some(self.client(via.branch()?, via.host_str(), via.port(), &method))
    }

    /// The key of a request, unless its top Via cannot be read. An ACK has the key of its INVITE.
    pub(crate) fn of_request(&self, request: &Request) -> Option<ServerKey> {
        let method = match request.method() {
            Method::Ack => &Method::Invite,
            method => method,
        };
        self.of_request_as(request, method)
    }

    /// The key of the request with this method that a CANCEL would be for.
    ///
    /// §17.2.3: branch and sent-by of the top Via, and the method. Without the magic cookie: Request-URI, From tag,
    /// Call-ID, CSeq number and the top Via; To tags are compared apart, because that of an ACK is ours.
    pub(crate) fn of_request_as(&self, request: &Request, method: &Method) -> Option<ServerKey> {
        let headers = request.headers();
        let via = headers.via().ok()?;
        let mut hash = self.begin();
        let branch = via.branch().unwrap_or("");
        let legacy = !via.has_unique_branch();
        if legacy {
            hash.exact(request.uri_text().as_bytes());
            hash.exact(
                headers
                    .from()
                    .ok()
                    .and_then(|from| from.tag())
                    .unwrap_or("")
                    .as_bytes(),
            );
            hash.exact(headers.call_id().unwrap_or("").as_bytes());
            hash.number(u64::from(headers.cseq().map_or(0, |cseq| cseq.number)));
        }
        hash.folded(branch.as_bytes());
        hash.folded(via.host_str().as_bytes());
        hash.number(u64::from(via.port().unwrap_or(0)));
        hash.exact(method.as_str().as_bytes());
        Some(ServerKey {
            key: hash.finish(),
            legacy,
        })
    }

    /// What a merged request has in common with the one before it (RFC 3261 §8.2.2.2): From tag, Call-ID and CSeq. `None` for
    /// a request inside a dialog, and for those that belong to another: ACK and CANCEL.
    pub(crate) fn origin(&self, request: &Request, owner: Owner) -> Option<Origin> {
        if matches!(request.method(), Method::Ack | Method::Cancel) {
            return None;
        }
        let headers = request.headers();
        if headers.to().ok()?.tag().is_some() {
            return None;
        }
        let mut hash = self.begin();
        hash.number(u64::from(owner.0));
        hash.exact(headers.from().ok()?.tag()?.as_bytes());
        hash.exact(headers.call_id().ok()?.as_bytes());
        hash.number(u64::from(headers.cseq().ok()?.number));
        hash.exact(request.method().as_str().as_bytes());
        let Key([low, _]) = hash.finish();
        Some(Origin::new(low))
    }

    /// A To tag that every copy of a request gets, and its CANCEL too, without anything being remembered.
    ///
    /// A branch names a request "across space and time" (RFC 3261 §8.1.1.7), so that it is all that a tag needs to follow
    /// from. Where there is none, it follows from what identified requests before (RFC 2543).
    pub(crate) fn tag(&self, request: &Request) -> KeyedTag {
        let headers = request.headers();
        let via = headers.via().ok();
        let mut hash = self.begin();
        hash.number(1);
        if !via.as_ref().is_some_and(|via| via.has_unique_branch()) {
            hash.exact(headers.call_id().unwrap_or("").as_bytes());
            let from = headers.from().ok();
            let tag = from.as_ref().and_then(|from| from.tag()).unwrap_or("");
            hash.exact(tag.as_bytes());
            hash.number(u64::from(headers.cseq().map_or(0, |cseq| cseq.number)));
        }
        let branch = via.as_ref().and_then(|via| via.branch()).unwrap_or("");
        hash.folded(branch.as_bytes());
        let Key([low, high]) = hash.finish();
        let mut letters = [b'a'; TAG_LENGTH];
        let (first, second) = letters.split_at_mut(TAG_LENGTH / 2);
        for (mut bits, half) in [(low, first), (high, second)] {
            for letter in half {
                *letter = TAG_ALPHABET
                    .get(bits as usize & 31)
                    .copied()
                    .unwrap_or(b'a');
                bits >>= 5;
            }
        }
        KeyedTag(letters)
    }

    /// A hash of a socket and a peer.
    pub(crate) fn way(&self, flow: &Flow) -> u64 {
        let mut hash = self.begun.clone();
        (flow.id.socket(), flow.remote).hash(&mut hash);
        hash.finish()
    }

    /// Another key for the same request with another To tag, where both are of RFC 2543.
    pub(crate) fn salted(&self, key: Key, tag: Option<&str>) -> Key {
        let Key([low, high]) = key;
        Key([low, high ^ self.tag_hash(tag)])
    }

    /// A hash of a tag, to compare it later; a missing tag has one too.
    pub(crate) fn tag_hash(&self, tag: Option<&str>) -> u64 {
        let mut hash = self.begin();
        hash.exact(tag.unwrap_or("").as_bytes());
        let Key([low, _]) = hash.finish();
        low
    }

    fn begin(&self) -> Digest {
        Digest {
            state: self.begun.clone(),
            buffer: [0; BUFFER],
            length: 0,
        }
    }
}

/// Gathers what is hashed: to hand it over in many small pieces would cost more than to hash it.
struct Digest {
    state: DefaultHasher,
    buffer: [u8; BUFFER],
    length: usize,
}

/// Most of what keys and tags are made of fits in there at once.
const BUFFER: usize = 192;

impl Digest {
    fn exact(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(BUFFER) {
            self.room(chunk.len()).copy_from_slice(chunk);
        }
    }

    /// Tokens and hosts compare without case (§7.3.1, §19.1.4).
    fn folded(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(BUFFER) {
            let room = self.room(chunk.len());
            room.copy_from_slice(chunk);
            room.make_ascii_lowercase();
        }
    }

    fn number(&mut self, number: u64) {
        self.room(8).copy_from_slice(&number.to_ne_bytes());
    }

    /// Takes the next bytes of the buffer, at most all of it.
    fn room(&mut self, length: usize) -> &mut [u8] {
        if length > BUFFER - self.length {
            self.flush();
        }
        let start = self.length;
        self.length += length;
        self.buffer
            .get_mut(start..start + length)
            .unwrap_or_default()
    }

    fn flush(&mut self) {
        self.state
            .write(self.buffer.get(..self.length).unwrap_or_default());
        self.length = 0;
    }

    fn finish(mut self) -> Key {
        self.flush();
        // Both halves come out of the one state of 256 bits, as those of SipHash-128 do.
        let low = self.state.finish();
        let mut state = self.state;
        state.write_u8(0xEE);
        Key([low, state.finish()])
    }
}

/// Takes the hash that a [`Key`] is.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u64(&mut self, part: u64) {
        self.0 ^= part;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Of five bits each.
const TAG_LENGTH: usize = 16;

const TAG_ALPHABET: [u8; 32] = *b"abcdefghijkmnpqrstuvwxyz23456789";
