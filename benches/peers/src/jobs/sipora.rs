//! sipora-message, twice: with its validator in front of the reading, which is how a server uses it and what counts, and
//! without, where reading is all the validation there is, as it is with the others.

use bytes::Bytes;
use sipora_message::{Limits, Message};

use super::Refusal;
use crate::facts::{Field, Sink};

pub fn run<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let message = Message::parse(datagram.clone(), &Limits::default())?;
    message.check()?;
    read(&message, sink)
}

pub fn run_unchecked<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let message = Message::parse(datagram.clone(), &Limits::default())?;
    if let Message::Request(request) = &message {
        if message.headers().cseq()?.method != *request.method() {
            return Err("CSeq method is not the request's".into());
        }
        message.headers().max_forwards()?;
    }
    read(&message, sink)
}

fn read<S: Sink>(message: &Message, sink: &mut S) -> Result<(), Refusal> {
    if let Message::Request(request) = message {
        sink.see(Field::TargetHost, request.uri()?.host_str());
    }
    let headers = message.headers();
    sink.see(Field::Branch, headers.via()?.branch().unwrap_or(""));
    sink.see(Field::FromTag, headers.from()?.tag().unwrap_or(""));
    sink.see(Field::ToTag, headers.to()?.tag().unwrap_or(""));
    sink.see(Field::CallId, headers.call_id()?);
    let cseq = headers.cseq()?;
    sink.see(Field::CSeqNumber, &cseq.number);
    sink.see(Field::CSeqMethod, &cseq.method);
    if let Some(contact) = headers.contact()? {
        sink.see(Field::ContactHost, contact.uri().host_str());
        sink.see(Field::ContactPort, &contact.uri().port().unwrap_or(0));
    }
    Ok(())
}
