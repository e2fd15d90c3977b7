//! Contact (RFC 3261 §20.10, RFC 3840 §9, RFC 5626 §4.1, RFC 5627 §5.1).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::address::{Element, Refused};
use super::feature::Feature;
use super::{Headers, NameAddr};
use crate::classes::decimal;
use crate::cursor::is_called;
use crate::error::HeaderError;
use crate::header_name::{HeaderName, Known};
use crate::params::Params;
use crate::uri::UriRef;

/// What the Contact fields of a message say together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Contacts<'a> {
    /// `Contact: *`, and nothing else: all bindings (RFC 3261 §10.2.2).
    Star,
    /// The addresses in order; none where there is no Contact field.
    List(Vec<ContactRef<'a>>),
}

/// One Contact value.
#[derive(Debug, Clone, Copy)]
pub struct ContactRef<'a> {
    pub(super) address: NameAddr<'a>,
    pub(super) q: Option<Q>,
    pub(super) expires: Option<u32>,
}

/// A preference between 0 and 1 with three decimals (`qvalue`, RFC 3261 §25.1).
///
/// ```
/// use sipora_message::Q;
/// assert_eq!("0.33".parse::<Q>()?.thousandths(), 330);
/// assert!("1.5".parse::<Q>().is_err());
/// # Ok::<(), sipora_message::InvalidQ>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Q(u16);

/// A text that is no `qvalue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("q is a number from 0 to 1 with up to three decimals")]
pub struct InvalidQ;

/// What stands for a malformed `expires` parameter (RFC 3261 §10.2).
const MALFORMED_EXPIRES: u32 = 3600;

impl<'a> Contacts<'a> {
    /// The addresses; none for `*`.
    pub fn as_slice(&self) -> &[ContactRef<'a>] {
        match self {
            Contacts::Star => &[],
            Contacts::List(list) => list,
        }
    }

    /// Whether it is `*`.
    pub fn is_star(&self) -> bool {
        matches!(self, Contacts::Star)
    }

    /// Whether there is no Contact at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Contacts::List(list) if list.is_empty())
    }
}

impl<'a> ContactRef<'a> {
    /// The URI.
    pub fn uri(&self) -> UriRef<'a> {
        self.address.uri()
    }

    /// The address: URI, display name and parameters.
    pub fn address(&self) -> NameAddr<'a> {
        self.address
    }

    /// The display name.
    pub fn display(&self) -> Option<Cow<'a, str>> {
        self.address.display()
    }

    /// All parameters of the value.
    pub fn params(&self) -> Params<'a> {
        self.address.params()
    }

    /// The preference among contacts.
    pub fn q(&self) -> Option<Q> {
        self.q
    }

    /// Seconds that the binding shall last, or lasts. "Malformed values SHOULD be treated as equivalent to 3600"
    /// (RFC 3261 §10.2), numbers past 32 bits among them.
    pub fn expires(&self) -> Option<u32> {
        self.expires
    }

    /// `+sip.instance` without quotes, angle brackets and all: `<urn:uuid:…>` (RFC 5626 §4.1).
    pub fn instance(&self) -> Option<Cow<'a, str>> {
        self.params().get("+sip.instance")
    }

    /// `reg-id`, 1 and above (RFC 5626 §4.2).
    pub fn reg_id(&self) -> Option<u32> {
        let id = self.params().token("reg-id")?;
        decimal(id.as_bytes()).filter(|id| *id > 0)
    }

    /// `pub-gruu`: the address that reaches this instance and shows the user (RFC 5627 §5.1), without its quotes.
    pub fn pub_gruu(&self) -> Option<Cow<'a, str>> {
        self.params().get("pub-gruu")
    }

    /// `temp-gruu`: the address that reaches this instance and hides the user (RFC 5627 §5.1), without its quotes.
    pub fn temp_gruu(&self) -> Option<Cow<'a, str>> {
        self.params().get("temp-gruu")
    }

    /// The feature tags of RFC 3840: what the user agent at this address can do. `+sip.instance` is one of them.
    pub fn features(&self) -> impl Iterator<Item = Feature<'a>> + use<'a> {
        Feature::of(self.params())
    }

    /// The feature tag of that name, in any case: `audio`, `+sip.message`.
    pub fn feature(&self, name: &str) -> Option<Feature<'a>> {
        self.features()
            .find(|feature| feature.name().eq_ignore_ascii_case(name))
    }

    /// Reads one contact at the start of `input`; gives the rest, which is empty or begins with a comma. Inside is the
    /// refusal of an address whose parameters are none of a Contact.
    #[inline]
    pub(crate) fn read(input: &'a [u8]) -> Element<'a, Result<ContactRef<'a>, Refused<'a>>> {
        let mut q = Some(None);
        let mut expires = None;
        let (rest, address) = NameAddr::read_seen(input, |name, value| {
            see(name, value.unwrap_or_default(), &mut q, &mut expires);
        })?;
        let contact = match q {
            Some(q) => Ok(ContactRef {
                address,
                q,
                expires,
            }),
            None => Err(("a q that is not 0 to 1", address.as_bytes())),
        };
        Ok((rest, contact))
    }
}

impl ContactRef<'_> {
    /// Whether both are the same bytes of the same buffer.
    pub(super) fn is_same(&self, other: &ContactRef<'_>) -> bool {
        self.address.is_same(&other.address) && (self.q, self.expires) == (other.q, other.expires)
    }
}

/// Takes from a parameter what is one of Contact's; `q` is `None` once one was malformed.
#[inline]
pub(super) fn see(name: &[u8], value: &[u8], q: &mut Option<Option<Q>>, expires: &mut Option<u32>) {
    if is_called(name, b"expires") {
        *expires = Some(decimal(value).unwrap_or(MALFORMED_EXPIRES));
    } else if is_called(name, b"q") && q.is_some() {
        *q = Q::read(value).map(Some);
    }
}

impl Q {
    /// The highest preference, 1.
    pub const ONE: Q = Q(1000);

    /// Makes a preference of thousandths; `None` above 1,000.
    pub fn from_thousandths(thousandths: u16) -> Option<Q> {
        (thousandths <= 1000).then_some(Q(thousandths))
    }

    /// The preference in thousandths.
    pub fn thousandths(self) -> u16 {
        self.0
    }

    /// `( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`
    fn read(text: &[u8]) -> Option<Q> {
        let (whole, decimals) = match text {
            [whole] => (whole, &[][..]),
            [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
            _ => return None,
        };
        let mut value = u16::from(whole.checked_sub(b'0')?);
        for place in 0..3 {
            let digit = decimals
                .get(place)
                .map_or(Some(0), |digit| digit.checked_sub(b'0'))?;
            if digit > 9 {
                return None;
            }
            value = value.checked_mul(10)?.checked_add(u16::from(digit))?;
        }
        Q::from_thousandths(value)
    }
}

impl FromStr for Q {
    type Err = InvalidQ;

    fn from_str(text: &str) -> Result<Q, InvalidQ> {
        Q::read(text.as_bytes()).ok_or(InvalidQ)
    }
}

impl fmt::Display for Q {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1000 => f.write_str("1"),
            0 => f.write_str("0"),
            value => {
                let text = format!("{value:03}");
                write!(f, "0.{}", text.trim_end_matches('0'))
            }
        }
    }
}

impl<'a> Headers<'a> {
    /// All contacts, or `*`. It is an error for `*` to stand beside anything else.
    pub fn contacts(&self) -> Result<Contacts<'a>, HeaderError> {
        if let Some(packed) = self.facts().contact()
            && self.is_alone(Known::Contact as u8)
        {
            let contact = packed.open(self.learned_value(Known::Contact as u8));
            return Ok(Contacts::List(vec![contact]));
        }
        if self.all(&HeaderName::Contact).any(|value| value == b"*") {
            return match self.count(&HeaderName::Contact) {
                1 => Ok(Contacts::Star),
                _ => {
                    let value = self.first(&HeaderName::Contact).unwrap_or_default();
                    Err(self.error(HeaderName::Contact, "* beside other values", value))
                }
            };
        }
        self.contact_iter()
            .collect::<Result<_, _>>()
            .map(Contacts::List)
    }

    /// The first contact; `None` for `*` and where there is none.
    #[inline(always)]
    pub fn contact(&self) -> Result<Option<ContactRef<'a>>, HeaderError> {
        match self.facts().contact() {
            Some(packed) => Ok(Some(packed.open(self.learned_value(Known::Contact as u8)))),
            None => self.first_contact(),
        }
    }

    fn first_contact(&self) -> Result<Option<ContactRef<'a>>, HeaderError> {
        if self.facts().has_none(Known::Contact as u8) {
            return Ok(None);
        }
        if self.first(&HeaderName::Contact) == Some(b"*") {
            return Ok(None);
        }
        self.contact_iter().next().transpose()
    }

    pub(crate) fn contact_iter(
        &self,
    ) -> impl Iterator<Item = Result<ContactRef<'a>, HeaderError>> + use<'a> {
        let headers = *self;
        self.addresses_read(&HeaderName::Contact, ContactRef::read)
            .map(move |contact| {
                contact?.map_err(|(reason, at)| headers.error(HeaderName::Contact, reason, at))
            })
    }
}
