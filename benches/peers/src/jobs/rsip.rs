//! rsip.

use bytes::Bytes;
use rsip::headers::ToTypedHeader;
use rsip::message::HeadersExt;
use rsip::prelude::{HasHeaders, UntypedHeader};
use rsip::{Header, SipMessage};

use super::Refusal;
use crate::facts::{Field, Sink};

pub fn run<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let message = SipMessage::try_from(&datagram[..])?;
    let via = message.via_header()?.typed()?;
    let from = message.from_header()?.typed()?;
    let to = message.to_header()?.typed()?;
    let call_id = message.call_id_header()?;
    let cseq = message.cseq_header()?.typed()?;
    if let SipMessage::Request(request) = &message {
        if &cseq.method != request.method() {
            return Err("CSeq method is not the request's".into());
        }
        if let Ok(max_forwards) = message.max_forwards_header() {
            max_forwards.num()?;
        }
        sink.see(Field::TargetHost, request.uri().host());
    }
    sink.see(
        Field::Branch,
        via.branch().map_or("", |branch| branch.value()),
    );
    sink.see(Field::FromTag, from.tag().map_or("", |tag| tag.value()));
    sink.see(Field::ToTag, to.tag().map_or("", |tag| tag.value()));
    sink.see(Field::CallId, call_id.value());
    sink.see(Field::CSeqNumber, &cseq.seq);
    sink.see(Field::CSeqMethod, &cseq.method);
    let contact = message.headers().iter().find_map(|header| match header {
        Header::Contact(contact) => Some(contact),
        _ => None,
    });
    if let Some(contact) = contact {
        let contact = contact.typed()?;
        sink.see(Field::ContactHost, contact.uri.host());
        sink.see(
            Field::ContactPort,
            &contact.uri.port().map_or(0, |port| *port.value()),
        );
    }
    Ok(())
}
