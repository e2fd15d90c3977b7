//! What the header fields hold that every message is asked for.

use crate::classes::decimal;
use crate::cursor::{Cursor, Piece};
use crate::header_name::{COUNT, Known};
use crate::headers::{PackedAddress, PackedContact, PackedVia, is_plain_call_id, plain_cseq};
use crate::method::Method;
use crate::uri::PackedUri;

/// What is known of a message beyond its lines; see [`index`](crate::index).
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// The place of the first line of each known name, counted from 1; 0 where there is none, [`FAR`] and above as
    /// `FAR`.
    first: [u8; COUNT],
    /// Of which fields the rest is known.
    known: u8,
    max_forwards: u8,
    cseq: CSeqFact,
    uri: PackedUri,
    via: PackedVia,
    from: PackedAddress,
    to: PackedAddress,
    contact: PackedContact,
}

/// A sequence number, and a method by its place in [`Method::KNOWN`].
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct CSeqFact {
    pub(crate) number: u32,
    pub(crate) method: u8,
}

/// Where the first line of a name is.
pub(super) enum First {
    Nowhere,
    At(usize),
    /// There or later.
    From(usize),
}

/// A line so far down that its place is not kept.
const FAR: u8 = u8::MAX;

const ID_VIA: u8 = Known::Via as u8;
const ID_FROM: u8 = Known::From as u8;
const ID_TO: u8 = Known::To as u8;
const ID_CALL_ID: u8 = Known::CallId as u8;
const ID_CSEQ: u8 = Known::CSeq as u8;
const ID_MAX_FORWARDS: u8 = Known::MaxForwards as u8;
const ID_CONTACT: u8 = Known::Contact as u8;

static HOLDS: [bool; COUNT] = {
    let mut holds = [false; COUNT];
    holds[ID_VIA as usize] = true;
    holds[ID_FROM as usize] = true;
    holds[ID_TO as usize] = true;
    holds[ID_CALL_ID as usize] = true;
    holds[ID_CSEQ as usize] = true;
    holds[ID_MAX_FORWARDS as usize] = true;
    holds[ID_CONTACT as usize] = true;
    holds
};

const URI: u8 = 1;
const VIA: u8 = 2;
const FROM: u8 = 4;
const TO: u8 = 8;
const CALL_ID: u8 = 16;
const CSEQ: u8 = 32;
const MAX_FORWARDS: u8 = 64;
const CONTACT: u8 = 128;

impl Default for Facts {
    fn default() -> Facts {
        NOTHING
    }
}

/// Copied rather than put together, which is cheaper.
const NOTHING: Facts = Facts {
    first: [0; COUNT],
    known: 0,
    max_forwards: 0,
    cseq: CSeqFact {
        number: 0,
        method: 0,
    },
    uri: PackedUri::NONE,
    via: PackedVia::NONE,
    from: PackedAddress::NONE,
    to: PackedAddress::NONE,
    contact: PackedContact::NONE,
};

impl Facts {
    /// Notes a line of that name; gives the first one, or what may be it, where this is another.
    #[inline]
    pub(super) fn place(&mut self, id: u8, at: usize) -> Option<usize> {
        let first = self.first.get_mut(usize::from(id))?;
        match first.checked_sub(1) {
            Some(at) => Some(usize::from(at)),
            None => {
                *first = u8::try_from(at + 1).unwrap_or(FAR);
                None
            }
        }
    }

    pub(super) fn forget_places(&mut self) {
        self.first = [0; COUNT];
    }

    #[inline]
    pub(super) fn first(&self, id: u8) -> First {
        match self.first.get(usize::from(id)) {
            // A name of no one's own may be anywhere.
            None => First::From(0),
            Some(0) => First::Nowhere,
            Some(&FAR) => First::From(usize::from(FAR) - 1),
            Some(place) => First::At(usize::from(*place) - 1),
        }
    }

    /// Whether there is something to learn of that name.
    #[inline]
    pub(super) fn holds(id: u8) -> bool {
        HOLDS.get(usize::from(id)) == Some(&true)
    }

    /// Learns what the first line of a name holds, of which the exact place is kept.
    pub(super) fn learn(&mut self, id: u8, value: &[u8]) {
        match id {
            ID_CALL_ID => {
                if is_plain_call_id(value) {
                    self.known |= CALL_ID;
                }
            }
            ID_CSEQ => {
                if let Some((number, method)) = plain_cseq(value) {
                    self.cseq = CSeqFact { number, method };
                    self.known |= CSEQ;
                }
            }
            ID_MAX_FORWARDS => {
                if let Some(hops) = decimal(value).and_then(|hops| u8::try_from(hops).ok()) {
                    self.max_forwards = hops;
                    self.known |= MAX_FORWARDS;
                }
            }
            ID_VIA => drop(self.read(id, value, |rest| matches!(rest, [] | [b',', ..]))),
            id => drop(self.read(id, value, <[u8]>::is_empty)),
        }
    }

    /// Whether [`Facts::learn_ahead`] is for that name.
    #[inline(always)]
    pub(super) fn reads_ahead(id: u8) -> bool {
        matches!(id, ID_VIA | ID_FROM | ID_TO | ID_CONTACT)
    }

    /// Learns what the first line of a name holds before it is known where its value ends; gives the length of the
    /// value, behind which its line ends. Saves to look for that end.
    #[inline(never)]
    pub(super) fn learn_ahead(&mut self, id: u8, text: &[u8]) -> Option<usize> {
        if !self.has_none(id) {
            return None;
        }
        let is_line_end = |rest: &[u8]| match rest {
            [b'\r', b'\n', next, ..] => !matches!(next, b' ' | b'\t'),
            _ => false,
        };
        self.read(id, text, is_line_end)
    }

    /// Learns what a field holds whose value is at the start of `text`, if what follows may; gives its length.
    #[inline(always)]
    fn read(&mut self, id: u8, text: &[u8], ends: impl Fn(&[u8]) -> bool) -> Option<usize> {
        let mut cursor = Cursor::new(text)?;
        match id {
            ID_VIA => {
                let via = PackedVia::read(&mut cursor)?;
                ends(cursor.rest).then_some(())?;
                debug_assert!(via.is_what_is_parsed(text));
                self.via = via;
                self.known |= VIA;
            }
            ID_CONTACT => {
                let contact = PackedContact::read(&mut cursor)?;
                ends(cursor.rest).then_some(())?;
                debug_assert!(contact.is_what_is_parsed(cursor.past()));
                self.contact = contact;
                self.known |= CONTACT;
            }
            _ => {
                let address = PackedAddress::read(&mut cursor)?;
                ends(cursor.rest).then_some(())?;
                debug_assert!(address.is_what_is_parsed(cursor.past()));
                let (field, bit) = match id {
                    ID_FROM => (&mut self.from, FROM),
                    ID_TO => (&mut self.to, TO),
                    _ => return None,
                };
                *field = address;
                self.known |= bit;
            }
        }
        Some(usize::from(cursor.at()))
    }

    /// The place of the first line with that id, of which something was learned.
    #[inline]
    pub(crate) fn learned(&self, id: u8) -> usize {
        let first = self.first.get(usize::from(id));
        usize::from(first.map_or(0, |first| first.wrapping_sub(1)))
    }

    /// Whether no line has that id, which is known only of known names.
    #[inline]
    pub(crate) fn has_none(&self, id: u8) -> bool {
        self.first.get(usize::from(id)) == Some(&0)
    }

    /// Forgets what a second line makes wrong, or no more all of it.
    #[cold]
    pub(super) fn unlearn(&mut self, id: u8) {
        let field = [
            (Known::From, FROM),
            (Known::To, TO),
            (Known::CallId, CALL_ID),
            (Known::CSeq, CSEQ),
            (Known::MaxForwards, MAX_FORWARDS),
        ];
        for (name, bit) in field {
            if name as u8 == id {
                self.known &= !bit;
            }
        }
    }

    /// Forgets what lies so far down that its place is not kept any more.
    pub(super) fn forget_what_is_far(&mut self) {
        let fields = [
            (ID_VIA, VIA),
            (ID_FROM, FROM),
            (ID_TO, TO),
            (ID_CALL_ID, CALL_ID),
            (ID_CSEQ, CSEQ),
            (ID_MAX_FORWARDS, MAX_FORWARDS),
            (ID_CONTACT, CONTACT),
        ];
        for (id, bit) in fields {
            if self.first.get(usize::from(id)) == Some(&FAR) {
                self.known &= !bit;
            }
        }
    }

    /// Learns what the Request-URI is; `false` if it is not known then.
    #[inline]
    pub(super) fn learn_uri(&mut self, text: &[u8]) -> bool {
        if let Some(mut cursor) = Cursor::new(text)
            && let Some((uri, _)) = PackedUri::read(&mut cursor)
            && cursor.rest.is_empty()
        {
            self.uri = uri;
            self.known |= URI;
        }
        self.knows(URI)
    }

    /// Learns what the top Via is now.
    pub(crate) fn learn_via(&mut self, value: &[u8]) {
        self.known &= !VIA;
        self.learn(ID_VIA, value);
    }

    /// Learns what the fields hold that an answer repeats, from the request where they stand too.
    #[inline]
    pub(crate) fn repeat(&mut self, request: &Facts) {
        self.via = request.via;
        self.from = request.from;
        self.to = request.to;
        self.cseq = request.cseq;
        self.known |= request.known & (VIA | FROM | TO | CALL_ID | CSEQ);
    }

    /// Learns what tag stands behind `To` now.
    pub(crate) fn tag_to(&mut self, tag: Piece) {
        self.to.set_tag(tag);
    }

    /// Forgets what `To` holds.
    pub(crate) fn forget_to(&mut self) {
        self.known &= !TO;
    }

    /// Whether all that is known is what the other knows too.
    #[cfg(debug_assertions)]
    pub(super) fn agrees_with(&self, other: &Facts) -> bool {
        let other = &Facts {
            known: self.known & other.known,
            ..*other
        };
        self.known == other.known
            && self.first == other.first
            && (self.uri(), self.via()) == (other.uri(), other.via())
            && (self.from(), self.to()) == (other.from(), other.to())
            && (self.cseq(), self.contact()) == (other.cseq(), other.contact())
            && self.max_forwards() == other.max_forwards()
    }

    /// The Request-URI, which has no headers.
    #[inline]
    pub(crate) fn uri(&self) -> Option<&PackedUri> {
        self.knows(URI).then_some(&self.uri)
    }

    /// The top Via.
    #[inline]
    pub(crate) fn via(&self) -> Option<&PackedVia> {
        self.knows(VIA).then_some(&self.via)
    }

    /// From, which is there once.
    #[inline]
    pub(crate) fn from(&self) -> Option<&PackedAddress> {
        self.knows(FROM).then_some(&self.from)
    }

    /// To, which is there once.
    #[inline]
    pub(crate) fn to(&self) -> Option<&PackedAddress> {
        self.knows(TO).then_some(&self.to)
    }

    /// Whether Call-ID is there once and is one.
    #[inline]
    pub(crate) fn has_call_id(&self) -> bool {
        self.knows(CALL_ID)
    }

    /// CSeq, which is there once.
    #[inline]
    pub(crate) fn cseq(&self) -> Option<CSeqFact> {
        self.knows(CSEQ).then_some(self.cseq)
    }

    /// Max-Forwards, which is there once.
    #[inline]
    pub(crate) fn max_forwards(&self) -> Option<u8> {
        self.knows(MAX_FORWARDS).then_some(self.max_forwards)
    }

    /// The first line of Contact, which holds one value; there may be more lines.
    #[inline]
    pub(crate) fn contact(&self) -> Option<&PackedContact> {
        self.knows(CONTACT).then_some(&self.contact)
    }

    /// Whether Via, From, To, Call-ID and CSeq are there and sound.
    #[inline]
    pub(crate) fn has_mandatory(&self) -> bool {
        self.knows(VIA | FROM | TO | CALL_ID | CSEQ)
    }

    #[inline]
    fn knows(&self, fields: u8) -> bool {
        self.known & fields == fields
    }
}

impl CSeqFact {
    pub(crate) fn method(self) -> Option<Method> {
        Method::KNOWN.get(usize::from(self.method)).cloned()
    }
}
