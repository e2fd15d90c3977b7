//! Header fields that name a dialog: Replaces (RFC 3891), Join (RFC 3911), Target-Dialog (RFC 4538), In-Reply-To
//! (RFC 3261 §20.21).

use std::fmt;
use std::str::FromStr;

use super::Headers;
use super::address::Refused;
use super::item::Item;
use crate::builder::check_token;
use crate::classes::is_lws;
use crate::error::HeaderError;
use crate::header_name::HeaderName;
use crate::method::NotAToken;
use crate::params::Params;
use crate::scan;

/// The dialog that Replaces or Join names, as the receiver of the header field sees it.
#[derive(Debug, Clone, Copy)]
pub struct DialogIdRef<'a> {
    item: Item<'a>,
    to_tag: &'a str,
    from_tag: &'a str,
    early_only: bool,
}

/// The dialog that Target-Dialog names.
#[derive(Debug, Clone, Copy)]
pub struct TargetDialogRef<'a> {
    item: Item<'a>,
    local_tag: &'a str,
    remote_tag: &'a str,
}

/// Replaces or Join to be printed, or read from where no message surrounds it: the `Replaces` header inside the URI of
/// a Refer-To.
///
/// ```
/// use sipora_message::{DialogId, Uri};
///
/// let target = Uri::parse("sip:bob@example.com?Replaces=425928%40h%3Bto-tag%3D7743%3Bfrom-tag%3D6472")?;
/// let replaces: DialogId = target.as_ref().header("replaces").unwrap().parse()?;
/// assert_eq!(replaces.call_id(), "425928@h");
/// assert_eq!(replaces.to_string(), "425928@h;to-tag=7743;from-tag=6472");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DialogId {
    call_id: Box<str>,
    to_tag: Box<str>,
    from_tag: Box<str>,
    early_only: bool,
}

/// Target-Dialog to be printed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetDialog {
    call_id: Box<str>,
    local_tag: Box<str>,
    remote_tag: Box<str>,
}

/// A text that names no dialog: a tag is missing or there twice, or the Call-ID is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no dialog identifier: {0}")]
pub struct InvalidDialogId(&'static str);

impl<'a> DialogIdRef<'a> {
    /// The Call-ID, compared octet by octet.
    pub fn call_id(&self) -> &'a str {
        self.item.value()
    }

    /// The tag of the receiver of the header field: its local tag in the dialog named.
    pub fn to_tag(&self) -> &'a str {
        self.to_tag
    }

    /// The tag of the other side. A tag of 0 stands for a peer of RFC 2543 that had none.
    pub fn from_tag(&self) -> &'a str {
        self.from_tag
    }

    /// Whether the dialog may be replaced only as long as nobody has answered (RFC 3891 §6.1).
    pub fn is_early_only(&self) -> bool {
        self.early_only
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.item.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.item.as_bytes()
    }

    /// An owned copy.
    pub fn to_owned(&self) -> DialogId {
        DialogId {
            call_id: self.call_id().into(),
            to_tag: self.to_tag.into(),
            from_tag: self.from_tag.into(),
            early_only: self.early_only,
        }
    }

    /// RFC 3891 §6.1: "A Replaces header MUST contain exactly one to-tag and exactly one from-tag".
    fn read(value: &'a [u8]) -> Result<DialogIdRef<'a>, Refused<'a>> {
        let item = Item::read(value, is_call_id)?;
        Ok(DialogIdRef {
            to_tag: tag(item, "to-tag")?,
            from_tag: tag(item, "from-tag")?,
            early_only: item.params().contains("early-only"),
            item,
        })
    }
}

impl<'a> TargetDialogRef<'a> {
    /// The Call-ID, compared octet by octet.
    pub fn call_id(&self) -> &'a str {
        self.item.value()
    }

    /// The tag of the sender of the header field.
    pub fn local_tag(&self) -> &'a str {
        self.local_tag
    }

    /// The tag of its receiver.
    pub fn remote_tag(&self) -> &'a str {
        self.remote_tag
    }

    /// All parameters.
    pub fn params(&self) -> Params<'a> {
        self.item.params()
    }

    /// The value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.item.as_bytes()
    }

    fn read(value: &'a [u8]) -> Result<TargetDialogRef<'a>, Refused<'a>> {
        let item = Item::read(value, is_call_id)?;
        Ok(TargetDialogRef {
            local_tag: tag(item, "local-tag")?,
            remote_tag: tag(item, "remote-tag")?,
            item,
        })
    }
}

impl DialogId {
    /// Names a dialog by its Call-ID and the tags as the receiver of the header field sees them: its own is the To tag.
    pub fn new(call_id: &str, to_tag: &str, from_tag: &str) -> Result<DialogId, NotAToken> {
        check_call_id(call_id)?;
        check_token(to_tag)?;
        check_token(from_tag)?;
        Ok(DialogId {
            call_id: call_id.into(),
            to_tag: to_tag.into(),
            from_tag: from_tag.into(),
            early_only: false,
        })
    }

    /// Replaces the dialog only as long as nobody has answered.
    pub fn early_only(mut self) -> DialogId {
        self.early_only = true;
        self
    }

    /// See [`DialogIdRef::call_id`].
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// See [`DialogIdRef::to_tag`].
    pub fn to_tag(&self) -> &str {
        &self.to_tag
    }

    /// See [`DialogIdRef::from_tag`].
    pub fn from_tag(&self) -> &str {
        &self.from_tag
    }

    /// See [`DialogIdRef::is_early_only`].
    pub fn is_early_only(&self) -> bool {
        self.early_only
    }
}

impl TargetDialog {
    /// Names a dialog by its Call-ID and the tags as the sender of the header field sees them.
    pub fn new(
        call_id: &str,
        local_tag: &str,
        remote_tag: &str,
    ) -> Result<TargetDialog, NotAToken> {
        check_call_id(call_id)?;
        check_token(local_tag)?;
        check_token(remote_tag)?;
        Ok(TargetDialog {
            call_id: call_id.into(),
            local_tag: local_tag.into(),
            remote_tag: remote_tag.into(),
        })
    }
}

impl FromStr for DialogId {
    type Err = InvalidDialogId;

    fn from_str(text: &str) -> Result<DialogId, InvalidDialogId> {
        match DialogIdRef::read(text.as_bytes()) {
            Ok(found) => Ok(found.to_owned()),
            Err((reason, _)) => Err(InvalidDialogId(reason)),
        }
    }
}

impl fmt::Display for DialogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DialogId {
            call_id,
            to_tag,
            from_tag,
            early_only,
        } = self;
        write!(f, "{call_id};to-tag={to_tag};from-tag={from_tag}")?;
        if *early_only {
            f.write_str(";early-only")?;
        }
        Ok(())
    }
}

impl fmt::Display for TargetDialog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TargetDialog {
            call_id,
            local_tag,
            remote_tag,
        } = self;
        write!(f, "{call_id};local-tag={local_tag};remote-tag={remote_tag}")
    }
}

impl<'a> Headers<'a> {
    /// The dialog that the INVITE takes over. "If more than one Replaces header field is present in an INVITE ... the
    /// UAS MUST reject the request with a 400" (RFC 3891 §3).
    pub fn replaces(&self) -> Result<Option<DialogIdRef<'a>>, HeaderError> {
        self.one(HeaderName::Replaces, DialogIdRef::read)
    }

    /// The dialog that the INVITE joins.
    pub fn join(&self) -> Result<Option<DialogIdRef<'a>>, HeaderError> {
        self.one(HeaderName::Join, DialogIdRef::read)
    }

    /// The dialog from which the sender takes its right to send the request.
    pub fn target_dialog(&self) -> Result<Option<TargetDialogRef<'a>>, HeaderError> {
        self.one(HeaderName::TargetDialog, TargetDialogRef::read)
    }

    /// The Call-IDs of the calls that are answered by this one. What is no UTF-8 is left out.
    pub fn in_reply_to(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        // A Call-ID may hold quotes and angle brackets, so its commas are plain ones.
        let name = &const { HeaderName::InReplyTo };
        self.all(name).flat_map(|value| {
            scan::text(value)
                .unwrap_or("")
                .split(',')
                .map(|id| id.trim_matches([' ', '\t', '\r', '\n']))
                .filter(|id| !id.is_empty())
        })
    }
}

/// The one value that a tag has.
fn tag<'a>(item: Item<'a>, name: &str) -> Result<&'a str, Refused<'a>> {
    let mut found = item
        .params()
        .iter()
        .filter(|param| param.name().eq_ignore_ascii_case(name));
    let (first, second) = (found.next(), found.next());
    if second.is_some() {
        return Err(("a tag given twice", item.as_bytes()));
    }
    first
        .and_then(|param| scan::text(param.raw_value()?))
        .ok_or(("a tag is missing", item.as_bytes()))
}

/// Characters of `callid`, liberally: RFC 3261 allows quotes and brackets of all kinds in it, but nothing that ends it.
fn is_call_id(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !matches!(byte, b';' | b',') && !is_lws(byte)
}

fn check_call_id(text: &str) -> Result<(), NotAToken> {
    if text.is_empty() || !text.bytes().all(is_call_id) {
        return Err(NotAToken);
    }
    Ok(())
}
