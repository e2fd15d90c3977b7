//! ezk-sip-types, the way ezk's own transport layer puts a message together: lines from the pull parser, typed headers
//! from the collection.

use bytes::Bytes;
use ezk_sip_types::header::typed::{CSeq, CallID, Contact, FromTo, MaxForwards, Via};
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse;
use ezk_sip_types::{Headers, Name};

use super::Refusal;
use crate::facts::{Field, Sink};

pub fn run<S: Sink>(datagram: &Bytes, sink: &mut S) -> Result<(), Refusal> {
    let mut parser = PullParser::new(datagram, 0);
    let first = parser.next().ok_or("empty")?.map_err(|_| "incomplete")?;
    let (_, start_line) = MessageLine::parse(datagram)(std::str::from_utf8(first)?)
        .map_err(|error| error.to_string())?;
    let mut headers = Headers::new();
    for line in parser.by_ref() {
        let line = std::str::from_utf8(line.map_err(|_| "incomplete")?)?;
        let (_, line) = Line::parse(datagram, line).map_err(|error| error.to_string())?;
        headers.insert(line.name, line.value);
    }
    let body = datagram.slice(parser.head_end()..);

    let via: Via = headers.get_named()?;
    let from: FromTo = headers.get(Name::FROM)?;
    let to: FromTo = headers.get(Name::TO)?;
    let call_id: CallID = headers.get_named()?;
    let cseq: CSeq = headers.get_named()?;
    if let MessageLine::Request(line) = &start_line {
        if cseq.method != line.method {
            return Err("CSeq method is not the request's".into());
        }
        headers.try_get_named::<MaxForwards>().transpose()?;
        sink.see(Field::TargetHost, &line.uri.host_port.host);
    }
    sink.see(
        Field::Branch,
        via.params.get_val("branch").map_or("", |branch| branch),
    );
    sink.see(Field::FromTag, from.tag.as_deref().unwrap_or(""));
    sink.see(Field::ToTag, to.tag.as_deref().unwrap_or(""));
    sink.see(Field::CallId, &*call_id.0);
    sink.see(Field::CSeqNumber, &cseq.cseq);
    sink.see(Field::CSeqMethod, &cseq.method);
    if let Some(contact) = headers.try_get_named::<Contact>().transpose()? {
        let place = &contact.uri.uri.host_port;
        sink.see(Field::ContactHost, &place.host);
        sink.see(Field::ContactPort, &place.port.unwrap_or(0));
    }
    std::hint::black_box(body);
    Ok(())
}
