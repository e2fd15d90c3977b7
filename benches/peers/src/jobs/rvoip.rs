//! rvoip-sip-core, whose parser makes every header typed at once.

use bytes::Bytes;
use rvoip_sip_core::{Message, TypedHeader, parse_message};

use super::Refusal;
use crate::facts::{Field, Sink};

pub fn run<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let message = parse_message(datagram)?;
    let headers = message.all_headers();
    let via = headers.iter().find_map(|header| match header {
        TypedHeader::Via(via) => Some(via),
        _ => None,
    });
    let via = via.ok_or("no Via")?;
    let from = message.from().ok_or("no From")?;
    let to = message.to().ok_or("no To")?;
    let call_id = message.call_id().ok_or("no Call-ID")?;
    let cseq = match &message {
        Message::Request(request) => request.cseq(),
        Message::Response(response) => response.cseq(),
    };
    let cseq = cseq.ok_or("no CSeq")?;
    if let Message::Request(request) = &message {
        if cseq.method != request.method {
            return Err("CSeq method is not the request's".into());
        }
        sink.see(Field::TargetHost, &request.uri.host);
    }
    sink.see(Field::Branch, via.branch().unwrap_or(""));
    sink.see(Field::FromTag, from.tag().unwrap_or(""));
    sink.see(Field::ToTag, to.tag().unwrap_or(""));
    sink.see(Field::CallId, call_id.as_str());
    sink.see(Field::CSeqNumber, &cseq.sequence());
    sink.see(Field::CSeqMethod, cseq.method());
    let contact = headers.iter().find_map(|header| match header {
        TypedHeader::Contact(contact) => contact.address(),
        _ => None,
    });
    if let Some(address) = contact {
        sink.see(Field::ContactHost, &address.uri.host);
        sink.see(Field::ContactPort, &address.uri.port.unwrap_or(0));
    }
    Ok(())
}
