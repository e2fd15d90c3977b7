//! rsipstack, whose `sip` module is its parser.

use bytes::Bytes;
use rsipstack::sip::{HasHeaders, Header, HeadersExt, SipMessage, typed};

use super::Refusal;
use crate::facts::{Field, Sink};

pub fn run<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let message = SipMessage::try_from(&datagram[..])?;
    let via = typed::Via::parse(message.via_header()?.value())?;
    let from = typed::From::parse(message.from_header()?.value())?;
    let to = typed::To::parse(message.to_header()?.value())?;
    let call_id = message.call_id_header()?;
    let cseq = typed::CSeq::parse(message.cseq_header()?.value())?;
    if let SipMessage::Request(request) = &message {
        if cseq.method != request.method {
            return Err("CSeq method is not the request's".into());
        }
        if let Ok(max_forwards) = message.max_forwards_header() {
            max_forwards.value().parse::<u8>()?;
        }
        sink.see(Field::TargetHost, &request.uri.host_with_port.host);
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
        let contact = typed::Contact::parse(contact.value())?;
        let place = &contact.uri.host_with_port;
        sink.see(Field::ContactHost, &place.host);
        sink.see(
            Field::ContactPort,
            &place.port.as_ref().map_or(0, |port| port.value()),
        );
    }
    Ok(())
}
