//! What one REGISTER asks of the location service.

use sipora_message::Uri;

use super::{AddressOfRecord, Origin};

/// What one REGISTER asks for, its expiries granted already.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Change {
    /// The address-of-record: To of the REGISTER.
    pub address: AddressOfRecord,
    /// Call-ID of the REGISTER.
    pub call_id: Box<str>,
    /// CSeq of the REGISTER.
    pub cseq: u32,
    /// What is to happen.
    pub update: Update,
    /// Where the REGISTER came from.
    pub origin: Origin,
    /// Contacts that an address may have.
    pub max_contacts: usize,
}

impl Change {
    /// Makes a change that is allowed ten contacts.
    pub fn new(
        address: AddressOfRecord,
        call_id: impl Into<Box<str>>,
        cseq: u32,
        update: Update,
        origin: Origin,
    ) -> Self {
        Self {
            address,
            call_id: call_id.into(),
            cseq,
            update,
            origin,
            max_contacts: crate::config::DEFAULT_MAX_CONTACTS,
        }
    }

    /// Sets the number of contacts that an address may have.
    pub fn with_max_contacts(mut self, limit: usize) -> Self {
        self.max_contacts = limit;
        self
    }
}

/// What is to happen to the bindings of an address.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// `Contact: *` with `Expires: 0`: every binding goes.
    RemoveAll,
    /// Each contact is bound, or unbound where its expiry is zero, in this order.
    Contacts(Vec<ContactChange>),
}

/// One Contact of a REGISTER.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContactChange {
    /// The contact's URI, of any scheme.
    pub uri: Uri,
    /// Parameters of the Contact besides `q` and `expires`, as text: `;+sip.instance="..."`.
    pub parameters: Box<str>,
    /// Preference in thousandths, 0 to 1000, if the Contact says one.
    pub q: Option<u16>,
    /// Seconds granted; zero unbinds.
    pub expires: u32,
}

impl ContactChange {
    /// Binds a URI for some seconds, or unbinds it with zero.
    pub fn new(uri: Uri, expires: u32) -> Self {
        Self {
            uri,
            parameters: "".into(),
            q: None,
            expires,
        }
    }

    /// Sets the preference, in thousandths.
    pub fn with_q(mut self, q: Option<u16>) -> Self {
        self.q = q.map(|q| q.min(1000));
        self
    }

    /// Sets the parameters besides `q` and `expires`.
    pub fn with_parameters(mut self, parameters: impl Into<Box<str>>) -> Self {
        self.parameters = parameters.into();
        self
    }
}
