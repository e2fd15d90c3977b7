//! The rules by which a REGISTER changes bindings (RFC 3261 §10.3 steps 6 and 7), free of any store.

use sipora_message::{Uri, UriRef};

use super::binding::BindingParts;
use super::{Binding, Change, ChangeError, ContactChange, Registered, Timestamp, Update};

/// Applies a change to the bindings of its address: gives those that there will be, or refuses.
///
/// Every store calls it inside its own transaction, with all bindings of [`Change::address`], those that have expired
/// included. Call-ID and CSeq order every change of a binding. Contacts compare pairwise as URIs (RFC 3261 §19.1.4):
/// that relation is not transitive, so a contact may equal several bindings; it then takes the place of all of them,
/// and no two bindings of an address are ever equivalent.
///
/// # Errors
///
/// [`ChangeError::OutOfOrder`] and [`ChangeError::TooManyContacts`]. Nothing is to be stored then.
pub fn register(
    existing: &[Binding],
    change: &Change,
    now: Timestamp,
) -> Result<Registered, ChangeError> {
    let live = || existing.iter().filter(|binding| !binding.is_expired(now));
    let contacts = match &change.update {
        Update::RemoveAll => return remove_all(live(), change),
        Update::Contacts(contacts) => contacts,
    };
    // Comparing is quadratic, so the list is bounded before it is walked. Twice the limit leaves room for a device that
    // replaces every contact of its user in one request.
    if contacts.len() > change.max_contacts.saturating_mul(2) {
        return Err(too_many(change));
    }

    let mut places: Vec<Place<'_>> = Vec::with_capacity(existing.len() + contacts.len());
    places.extend(live().map(Place::Kept));
    let before = places.len();
    for contact in contacts {
        for binding in live().filter(|binding| is_same(binding, &contact.uri)) {
            in_order(binding, change)?;
        }
        let mut first = None;
        let mut was_known = false;
        for index in (0..places.len()).rev() {
            let found = places
                .get(index)
                .filter(|place| is_same(place.binding(), &contact.uri));
            if let Some(place) = found {
                was_known |= place.is_known();
                first = Some(index);
                places.remove(index);
            }
        }
        if contact.expires == 0 {
            continue;
        }
        let binding = bind(contact, change, now)?;
        let place = Place::New { binding, was_known };
        places.insert(first.unwrap_or(places.len()), place);
    }

    // A limit that was lowered refuses what would add to an address, not what keeps it as it is.
    if places.len() > change.max_contacts && places.len() > before {
        return Err(too_many(change));
    }
    let added = places.iter().filter(|place| !place.is_known()).count();
    Ok(Registered {
        removed: (before + added).saturating_sub(places.len()),
        added,
        bindings: places.into_iter().map(Place::into_binding).collect(),
    })
}

/// A binding that there will be.
enum Place<'a> {
    /// As it was.
    Kept(&'a Binding),
    /// Bound by this request, perhaps in place of one that was there.
    New { binding: Binding, was_known: bool },
}

impl Place<'_> {
    fn binding(&self) -> &Binding {
        match self {
            Place::Kept(binding) => binding,
            Place::New { binding, .. } => binding,
        }
    }

    /// Whether it was there before this request.
    fn is_known(&self) -> bool {
        match self {
            Place::Kept(_) => true,
            Place::New { was_known, .. } => *was_known,
        }
    }

    fn into_binding(self) -> Binding {
        match self {
            Place::Kept(binding) => binding.clone(),
            Place::New { binding, .. } => binding,
        }
    }
}

/// `Contact: *`: a binding of another Call-ID goes in any case, one of this Call-ID "only if the CSeq in the request is
/// higher than the value stored for that binding. Otherwise, the update MUST be aborted and the request fails."
fn remove_all<'a>(
    live: impl Iterator<Item = &'a Binding>,
    change: &Change,
) -> Result<Registered, ChangeError> {
    let mut removed = 0;
    for binding in live {
        in_order(binding, change)?;
        removed += 1;
    }
    Ok(Registered {
        bindings: Vec::new(),
        added: 0,
        removed,
    })
}

fn in_order(binding: &Binding, change: &Change) -> Result<(), ChangeError> {
    // Call-IDs compare octet by octet (RFC 3261 §20.8).
    if binding.call_id() == &*change.call_id && change.cseq <= binding.cseq() {
        return Err(ChangeError::OutOfOrder {
            cseq: change.cseq,
            stored: binding.cseq(),
        });
    }
    Ok(())
}

fn is_same(binding: &Binding, uri: &Uri) -> bool {
    binding.uri() == uri.as_str()
        || UriRef::parse(binding.uri()).is_ok_and(|bound| bound.equivalent(uri))
}

/// "Each binding record records the Call-ID and CSeq values from the request."
fn bind(contact: &ContactChange, change: &Change, now: Timestamp) -> Result<Binding, ChangeError> {
    Binding::from_parts(BindingParts {
        uri: contact.uri.as_str(),
        parameters: &contact.parameters,
        call_id: &change.call_id,
        cseq: change.cseq,
        q: contact.q,
        expires: now.after(std::time::Duration::from_secs(contact.expires.into())),
        origin: change.origin,
    })
    .ok_or_else(|| {
        ChangeError::Failed(super::StoreError::new(
            "a contact of more than 65,535 bytes",
        ))
    })
}

fn too_many(change: &Change) -> ChangeError {
    ChangeError::TooManyContacts {
        limit: change.max_contacts,
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
