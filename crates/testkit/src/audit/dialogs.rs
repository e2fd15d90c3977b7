//! Rules for what is said within dialogs (RFC 3261 §12, §15; RFC 5407 §2).

use super::ledger::Ledger;
use super::{Rule, Sighting};
use sipora_message::{Headers, Method, Request, Response};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The dialogs that were seen, by Call-ID.
#[derive(Debug, Default)]
pub(super) struct Dialogs {
    calls: HashMap<String, Vec<Dialog>>,
    order: VecDeque<String>,
}

#[derive(Debug, Default)]
struct Dialog {
    tags: [String; 2],
    sides: [Side; 2],
    is_confirmed: bool,
}

/// What one of the two has said so far.
#[derive(Debug, Default)]
struct Side {
    sent: BTreeMap<u32, Method>,
    /// The Route values of its requests, since the dialog was confirmed.
    routes: Option<Vec<Vec<u8>>>,
    has_sent_bye: bool,
    has_answered_bye: bool,
}

/// The names in a message that stands in a dialog.
struct Names<'a> {
    call_id: &'a str,
    from: &'a str,
    to: &'a str,
}

impl<'a> Names<'a> {
    fn of(headers: Headers<'a>) -> Option<Self> {
        Some(Self {
            call_id: headers.call_id().ok()?,
            from: headers.from().ok()?.tag()?,
            to: headers.to().ok()?.tag()?,
        })
    }
}

impl Dialogs {
    /// The dialog, and which of its sides From names.
    fn find(&mut self, names: &Names<'_>) -> Option<(&mut Dialog, usize)> {
        let dialogs = self.calls.get_mut(names.call_id)?;
        let at = |dialog: &Dialog| {
            let [one, other] = &dialog.tags;
            match (
                one == names.from && other == names.to,
                other == names.from && one == names.to,
            ) {
                (true, _) => Some(0),
                (_, true) => Some(1),
                _ => None,
            }
        };
        dialogs
            .iter_mut()
            .find_map(|dialog| at(dialog).map(|side| (dialog, side)))
    }

    fn begin(&mut self, names: &Names<'_>) -> Option<(&mut Dialog, usize)> {
        if self.find(names).is_none() {
            if !self.calls.contains_key(names.call_id) {
                if self.order.len() >= MOST_CALLS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.calls.remove(&oldest);
                }
                self.order.push_back(names.call_id.to_owned());
            }
            let dialogs = self.calls.entry(names.call_id.to_owned()).or_default();
            if dialogs.len() >= MOST_DIALOGS {
                return None;
            }
            dialogs.push(Dialog {
                tags: [names.from.to_owned(), names.to.to_owned()],
                ..Dialog::default()
            });
        }
        self.find(names)
    }
}

/// Looks at a request that was not sent before. What a proxy forwards is looked at where it came from.
pub(super) fn asked(ledger: &mut Ledger, sighting: &Sighting<'_>, request: &Request) {
    let headers = request.headers();
    let method = request.method();
    let (Some(names), 1) = (Names::of(headers), headers.vias().count()) else {
        return;
    };
    if *method == Method::Notify {
        // It may be what makes the dialog (RFC 6665 §4.4.1).
        ledger.dialogs.begin(&names);
    }
    let Some((dialog, at)) = ledger.dialogs.find(&names) else {
        let is_derived = matches!(method, Method::Ack | Method::Cancel);
        if !is_derived {
            let reason = "nobody has made a dialog of these tags".to_owned();
            ledger.object(sighting, Rule::Dialog, reason);
        }
        return;
    };
    let is_confirmed = dialog.is_confirmed;
    let Some(side) = dialog.sides.get_mut(at) else {
        return;
    };
    let mut found = Vec::new();
    if !matches!(method, Method::Ack | Method::Cancel) {
        found.extend(out_of_order(side, request).map(|reason| (Rule::Sequence, reason)));
        found.extend(too_late(side, method).map(|reason| (Rule::AfterBye, reason)));
        side.has_sent_bye |= *method == Method::Bye;
    }
    if is_confirmed && *method != Method::Cancel {
        found.extend(strayed(side, headers).map(|reason| (Rule::RouteSet, reason)));
    }
    for (rule, reason) in found {
        ledger.object(sighting, rule, reason);
    }
}

/// Looks at a response, with the request that it answers.
pub(super) fn answered(ledger: &mut Ledger, request: &Request, response: &Response) {
    let (method, status) = (request.method(), response.status());
    let Some(names) = Names::of(response.headers()) else {
        return;
    };
    let makes = matches!(method, Method::Invite | Method::Subscribe | Method::Refer)
        && (101..300).contains(&status.as_u16());
    if makes && let Some((dialog, at)) = ledger.dialogs.begin(&names) {
        if let (Some(side), Ok(cseq)) = (dialog.sides.get_mut(at), request.headers().cseq()) {
            side.sent.entry(cseq.number).or_insert(cseq.method);
        }
        let confirms = status.is_success() && *method == Method::Invite;
        if confirms && !dialog.is_confirmed {
            // "The route set of the dialog MUST be recomputed based on the 2xx response" (§13.2.2.4).
            dialog.is_confirmed = true;
            dialog.sides.iter_mut().for_each(|side| side.routes = None);
        }
    }
    if *method == Method::Bye
        && status.is_success()
        && let Some((dialog, at)) = ledger.dialogs.find(&names)
        && let Some(side) = dialog.sides.get_mut(1 - at)
    {
        side.has_answered_bye = true;
    }
}

/// §12.2.1.1: "Requests within a dialog MUST contain strictly monotonically increasing and contiguous CSeq sequence numbers ... in
/// each direction", save for those that another target gets once more.
fn out_of_order(side: &mut Side, request: &Request) -> Option<String> {
    let cseq = request.headers().cseq().ok()?;
    let last = side.sent.last_key_value().map(|(number, _)| *number);
    if let Some(before) = side.sent.get(&cseq.number) {
        let is_same = *before == cseq.method;
        return (!is_same).then(|| format!("CSeq {} was used by {before}", cseq.number));
    }
    side.sent.insert(cseq.number, cseq.method);
    if side.sent.len() > MOST_NUMBERS {
        side.sent.pop_first();
    }
    let last = last.filter(|last| cseq.number < *last)?;
    Some(format!("CSeq {} after {last}", cseq.number))
}

/// RFC 5407 §2: who has sent a BYE "MUST NOT send any new requests within the dialog"; nor may who has answered one, since its side
/// is gone. The subscription of a REFER goes on (RFC 5057 §5.5), and so does what a refused BYE was to end.
fn too_late(side: &Side, method: &Method) -> Option<String> {
    if matches!(method, Method::Notify | Method::Subscribe) {
        return None;
    }
    if side.has_answered_bye {
        return Some("its sender has answered the BYE of this dialog".to_owned());
    }
    let is_late = side.has_sent_bye && *method != Method::Bye;
    is_late.then(|| "its sender has sent the BYE of this dialog".to_owned())
}

/// §12.2: the route set does not change once the dialog is confirmed. That of a strict router ends with the target, which does.
fn strayed(side: &mut Side, headers: Headers<'_>) -> Option<String> {
    let mut routes = headers.routes();
    let is_strict = routes.any(|route| route.is_ok_and(|route| !route.uri().is_loose_router()));
    if is_strict {
        return None;
    }
    let routes: Vec<Vec<u8>> = headers
        .routes()
        .filter_map(|route| Some(route.ok()?.as_bytes().to_vec()))
        .collect();
    match &side.routes {
        None => side.routes = Some(routes),
        Some(before) if *before != routes => {
            return Some(format!(
                "{} Route values, {} before",
                routes.len(),
                before.len()
            ));
        }
        Some(_) => {}
    }
    None
}

/// Calls that are remembered.
const MOST_CALLS: usize = 20_000;

/// Dialogs of one call that are remembered.
const MOST_DIALOGS: usize = 64;

/// Numbers of one side that are remembered.
const MOST_NUMBERS: usize = 256;
