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
    let live: Vec<&Binding> = existing
        .iter()
        .filter(|binding| !binding.is_expired(now))
        .collect();
    let contacts = match &change.update {
        Update::RemoveAll => return remove_all(&live, change),
        Update::Contacts(contacts) => contacts,
    };
    // Comparing is quadratic, so the list is bounded before it is walked. Twice the limit leaves room for a device that
    // replaces every contact of its user in one request.
    if contacts.len() > change.max_contacts.saturating_mul(2) {
        return Err(too_many(change));
    }

    let mut bindings: Vec<Binding> = live.iter().map(|binding| (*binding).clone()).collect();
    // Whether the binding at the same index was there before this request.
    let mut known = vec![true; bindings.len()];
    for contact in contacts {
        for binding in live.iter().filter(|binding| is_same(binding, &contact.uri)) {
            in_order(binding, change)?;
        }
        let matches: Vec<usize> = (0..bindings.len())
            .filter(|index| {
                bindings
                    .get(*index)
                    .is_some_and(|binding| is_same(binding, &contact.uri))
            })
            .collect();
        let was_known = matches.iter().any(|index| known.get(*index) == Some(&true));
        for index in matches.iter().rev() {
            bindings.remove(*index);
            known.remove(*index);
        }
        if contact.expires == 0 {
            continue;
        }
        let place = matches.first().copied().unwrap_or(bindings.len());
        bindings.insert(place, bind(contact, change, now)?);
        known.insert(place, was_known);
    }

    // A limit that was lowered refuses what would add to an address, not what keeps it as it is.
    if bindings.len() > change.max_contacts && bindings.len() > live.len() {
        return Err(too_many(change));
    }
    let added = known.iter().filter(|known| !**known).count();
    Ok(Registered {
        removed: (live.len() + added).saturating_sub(bindings.len()),
        added,
        bindings,
    })
}

/// `Contact: *`: a binding of another Call-ID goes in any case, one of this Call-ID "only if the CSeq in the request is
/// higher than the value stored for that binding. Otherwise, the update MUST be aborted and the request fails."
fn remove_all(live: &[&Binding], change: &Change) -> Result<Registered, ChangeError> {
    for binding in live {
        in_order(binding, change)?;
    }
    Ok(Registered {
        bindings: Vec::new(),
        added: 0,
        removed: live.len(),
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
