//! A header field read by its own grammar, chosen by the first byte: reading ends, and a fold in front of the value or
//! another spelling of the name changes nothing.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use sipora_message::{HeaderName, Headers, Limits, Message};

fuzz_target!(|data: &[u8]| {
    let Some((choice, value)) = data.split_first() else {
        return;
    };
    let Some((name, read)) = READERS.get(usize::from(*choice) % READERS.len()) else {
        return;
    };
    let plain = outcome(name, b": ", value, *read);
    let folded = outcome(&name.to_ascii_uppercase(), b" \t: \r\n ", value, *read);
    assert_eq!(plain, folded);
});

/// Reads all that a field says, as text to compare.
type Read = fn(Headers<'_>) -> String;

/// `None` where no message comes of it.
fn outcome(name: &str, colon: &[u8], value: &[u8], read: Read) -> Option<String> {
    let text = [
        b"OPTIONS sip:a SIP/2.0\r\n",
        name.as_bytes(),
        colon,
        value,
        b"\r\n\r\n",
    ];
    let message = Message::parse(text.concat(), &Limits::default()).ok()?;
    Some(read(message.headers()))
}

const READERS: &[(&str, Read)] = &[
    ("Via", |headers| {
        shown(headers.vias(), |via| {
            let place = (via.transport(), via.host(), via.host_str(), via.port());
            let route = (via.received(), via.rport(), via.maddr(), via.ttl());
            let branch = (via.branch(), via.has_unique_branch(), via.params());
            format!("{place:?} {route:?} {branch:?}")
        })
    }),
    ("From", |headers| shown([headers.from()], address)),
    ("To", |headers| shown([headers.to()], address)),
    ("Route", |headers| shown(headers.routes(), address)),
    ("Record-Route", |headers| {
        shown(headers.record_routes(), address)
    }),
    ("Path", |headers| shown(headers.path(), address)),
    ("Service-Route", |headers| {
        shown(headers.service_route(), address)
    }),
    ("P-Asserted-Identity", |headers| {
        shown(headers.addresses(&HeaderName::PAssertedIdentity), address)
    }),
    ("Contact", |headers| {
        shown([headers.contacts()], |contacts| {
            let each = contacts.as_slice().iter().map(|contact| {
                let place = (address(contact.address()), contact.display());
                let rest = (
                    contact.q(),
                    contact.expires(),
                    contact.instance(),
                    contact.reg_id(),
                );
                format!("{place:?} {rest:?}")
            });
            format!("{} {:?}", contacts.is_star(), each.collect::<Vec<_>>())
        })
    }),
    ("Call-ID", |headers| {
        shown([headers.call_id()], |id| id.to_owned())
    }),
    ("CSeq", |headers| {
        shown([headers.cseq()], |cseq| debug(&cseq))
    }),
    ("Max-Forwards", |headers| {
        shown([headers.max_forwards()], |hops| debug(&hops))
    }),
    ("Expires", |headers| {
        shown([headers.expires()], |seconds| debug(&seconds))
    }),
    ("Min-Expires", |headers| {
        shown([headers.min_expires()], |seconds| debug(&seconds))
    }),
    ("Retry-After", |headers| {
        shown([headers.retry_after()], |after| {
            let all = after.map(|after| (after.seconds, after.comment(), after.duration()));
            debug(&all)
        })
    }),
    ("Date", |headers| {
        shown([headers.date()], |date| debug(&date))
    }),
    ("Warning", |headers| {
        shown(headers.warnings(), |warning| {
            format!("{:?} {:?}", warning.agent(), warning.text())
        })
    }),
    ("Content-Type", |headers| {
        shown([headers.content_type()], |media| debug(&media))
    }),
    ("Accept", |headers| {
        shown(headers.accept(), |media| debug(&media))
    }),
    ("Require", |headers| {
        debug(&headers.require().collect::<Vec<_>>())
    }),
    ("Supported", |headers| {
        debug(&(headers.supports("path"), headers.supported().count()))
    }),
    ("Allow", |headers| {
        debug(&headers.allow().collect::<Vec<_>>())
    }),
    ("WWW-Authenticate", |headers| {
        auth(headers, &HeaderName::WwwAuthenticate)
    }),
    ("Authorization", |headers| {
        auth(headers, &HeaderName::Authorization)
    }),
    ("Subject", |headers| {
        debug(&headers.text(&HeaderName::Subject))
    }),
    ("Event", |headers| {
        shown([headers.event()], |value| debug(&value))
    }),
    ("Subscription-State", |headers| {
        shown([headers.subscription_state()], |value| debug(&value))
    }),
    ("Replaces", |headers| {
        shown([headers.replaces()], |value| debug(&value))
    }),
    ("Join", |headers| {
        shown([headers.join()], |value| debug(&value))
    }),
    ("Target-Dialog", |headers| {
        shown([headers.target_dialog()], |value| debug(&value))
    }),
    ("RAck", |headers| {
        shown([headers.rack()], |value| debug(&value))
    }),
    ("RSeq", |headers| {
        shown([headers.rseq()], |value| debug(&value))
    }),
    ("Session-Expires", |headers| {
        shown([headers.session_expires()], |value| debug(&value))
    }),
    ("Min-SE", |headers| {
        shown([headers.min_se()], |value| debug(&value))
    }),
    ("Content-Disposition", |headers| {
        shown([headers.content_disposition()], |value| debug(&value))
    }),
    ("MIME-Version", |headers| {
        shown([headers.mime_version()], |value| debug(&value))
    }),
    ("Priority", |headers| {
        shown([headers.priority()], |value| debug(&value))
    }),
    ("Timestamp", |headers| {
        shown([headers.timestamp()], |value| debug(&value))
    }),
    ("Reason", |headers| {
        shown(headers.reasons(), |value| debug(&value))
    }),
    ("Accept-Contact", |headers| {
        shown(headers.accept_contact(), |value| debug(&value))
    }),
    ("Reject-Contact", |headers| {
        shown(headers.reject_contact(), |value| debug(&value))
    }),
    ("Accept-Encoding", |headers| {
        shown(headers.accept_encoding(), |value| debug(&value))
    }),
    ("Accept-Language", |headers| {
        shown(headers.accept_language(), |value| debug(&value))
    }),
    ("Allow-Events", |headers| {
        debug(&headers.allow_events().collect::<Vec<_>>())
    }),
    ("In-Reply-To", |headers| {
        debug(&headers.in_reply_to().collect::<Vec<_>>())
    }),
    ("Privacy", |headers| {
        debug(&headers.privacy().collect::<Vec<_>>())
    }),
    ("Request-Disposition", |headers| {
        debug(&headers.request_disposition().collect::<Vec<_>>())
    }),
    ("Content-Encoding", |headers| {
        debug(&headers.content_encoding().collect::<Vec<_>>())
    }),
    ("Content-Language", |headers| {
        debug(&headers.content_language().collect::<Vec<_>>())
    }),
    ("History-Info", |headers| {
        shown(headers.history_info(), |entry| debug(&entry))
    }),
    ("Authentication-Info", |headers| {
        shown(
            [headers.authentication_info(&HeaderName::AuthenticationInfo)],
            |info| debug(&info),
        )
    }),
];

fn address(address: sipora_message::NameAddr<'_>) -> String {
    let uri = address.uri();
    let what = (address.display(), address.tag(), address.params());
    format!(
        "{what:?} {:?} {:?} {:?}",
        uri.as_str(),
        uri.user_decoded(),
        uri.host()
    )
}

fn auth(headers: Headers<'_>, name: &HeaderName) -> String {
    let read = |value: sipora_message::AuthValue<'_>| {
        let params: Vec<_> = value.params().collect();
        format!("{} {params:?} {:?}", value.scheme(), value.param("nonce"))
    };
    shown(headers.challenges(name), read) + &shown(headers.credentials(name), read)
}

fn debug(value: &dyn Debug) -> String {
    format!("{value:?}")
}

/// Each value, or why there is none; where in the message that was is left out.
fn shown<T>(
    values: impl IntoIterator<Item = Result<T, sipora_message::HeaderError>>,
    show: impl Fn(T) -> String,
) -> String {
    let mut out = String::new();
    for value in values {
        match value {
            Ok(value) => out.push_str(&show(value)),
            Err(error) => out.push_str(error.reason()),
        }
        out.push('\n');
    }
    out
}
