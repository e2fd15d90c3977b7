//! A header field read by its own grammar, chosen by the first byte: reading ends, and a fold in front of the value or
//! another spelling of the name changes nothing. Nor does it matter whether a value was found out when the message was
//! indexed or is parsed now.
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
    let headers = message.headers();
    both_ways(headers);
    Some(read(headers))
}

/// What the index holds of Via, From, To and Contact is what a parser finds that reads all values of the field.
fn both_ways(headers: Headers<'_>) {
    let top = headers.vias().next();
    match (headers.via(), top) {
        (indexed, Some(parsed)) => assert_eq!(shown([indexed], via), shown([parsed], via)),
        (indexed, None) => assert!(indexed.is_err()),
    }
    let names = [
        (headers.from(), HeaderName::From),
        (headers.to(), HeaderName::To),
    ];
    for (indexed, name) in names {
        let Ok(indexed) = indexed else { continue };
        let parsed: Vec<_> = headers.addresses(&name).collect();
        let [Ok(parsed)] = parsed[..] else {
            panic!("not one address, but {parsed:?}");
        };
        assert_eq!(address(indexed), address(parsed));
    }
    if let (Ok(Some(indexed)), Ok(parsed)) = (headers.contact(), headers.contacts()) {
        assert_eq!(
            Some(contact(&indexed)),
            parsed.as_slice().first().map(contact)
        );
    }
}

const READERS: &[(&str, Read)] = &[
    ("Via", |headers| shown(headers.vias(), via)),
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
            let each = contacts.as_slice().iter().map(contact);
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
    ("P-Preferred-Identity", |headers| {
        shown(headers.p_preferred_identity(), address)
    }),
    ("Reply-To", |headers| optional(headers.reply_to())),
    ("Refer-To", |headers| optional(headers.refer_to())),
    ("Referred-By", |headers| optional(headers.referred_by())),
    ("Alert-Info", |headers| shown(headers.alert_info(), address)),
    ("Call-Info", |headers| shown(headers.call_info(), address)),
    ("Error-Info", |headers| shown(headers.error_info(), address)),
    ("SIP-ETag", |headers| {
        shown([headers.sip_etag()], |tag| debug(&tag))
    }),
    ("SIP-If-Match", |headers| {
        shown([headers.sip_if_match()], |tag| debug(&tag))
    }),
    ("Session-ID", |headers| {
        shown([headers.session_id()], |id| debug(&id))
    }),
    ("Flow-Timer", |headers| {
        shown([headers.flow_timer()], |seconds| debug(&seconds))
    }),
    ("Proxy-Authenticate", |headers| {
        auth(headers, &HeaderName::ProxyAuthenticate)
    }),
    ("Proxy-Authorization", |headers| {
        auth(headers, &HeaderName::ProxyAuthorization)
    }),
    ("Proxy-Authentication-Info", |headers| {
        let name = HeaderName::ProxyAuthenticationInfo;
        shown([headers.authentication_info(&name)], |info| debug(&info))
    }),
    ("Proxy-Require", |headers| {
        debug(&headers.proxy_require().collect::<Vec<_>>())
    }),
    ("Unsupported", |headers| {
        debug(&headers.unsupported().collect::<Vec<_>>())
    }),
    ("Organization", |headers| debug(&headers.organization())),
    ("User-Agent", |headers| debug(&headers.user_agent())),
    ("Server", |headers| debug(&headers.server())),
    ("Content-Length", |headers| {
        shown([headers.content_length()], |length| debug(&length))
    }),
    ("Authentication-Info", |headers| {
        shown(
            [headers.authentication_info(&HeaderName::AuthenticationInfo)],
            |info| debug(&info),
        )
    }),
];

fn via(via: sipora_message::Via<'_>) -> String {
    let place = (via.transport(), via.host(), via.host_str(), via.port());
    let route = (via.received(), via.rport(), via.maddr(), via.ttl());
    let branch = (via.branch(), via.has_unique_branch(), via.params());
    let bytes = String::from_utf8_lossy(via.as_bytes());
    format!("{} {place:?} {route:?} {branch:?} {bytes}", via.version())
}

fn contact(contact: &sipora_message::ContactRef<'_>) -> String {
    let place = (address(contact.address()), contact.display());
    let binding = (contact.q(), contact.expires(), contact.reg_id());
    let instance = (contact.instance(), contact.pub_gruu(), contact.temp_gruu());
    let features: Vec<_> = contact.features().collect();
    format!("{place:?} {binding:?} {instance:?} {features:?}")
}

fn optional(
    found: Result<Option<sipora_message::NameAddr<'_>>, sipora_message::HeaderError>,
) -> String {
    shown([found], |found| debug(&found.map(address)))
}

fn address(address: sipora_message::NameAddr<'_>) -> String {
    let uri = address.uri();
    let what = (address.display(), address.tag(), address.params());
    let bytes = String::from_utf8_lossy(address.as_bytes());
    let place = (uri.user_decoded(), uri.password(), uri.host(), uri.port());
    let rest: (Vec<_>, Vec<_>) = (uri.params().collect(), uri.headers().collect());
    format!("{bytes} {what:?} {:?} {place:?} {rest:?}", uri.as_str())
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
