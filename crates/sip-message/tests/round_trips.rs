//! Every header field that can be printed reads back as what it was printed from.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use sipora_message::{
    Address, AuthBuf, ContactPreference, DialogId, Disposition, HeaderName, HeaderValue, Limits,
    Message, Method, Priority, Privacy, Q, RAck, Reason, Refresher, SessionExpires, SessionId,
    SubscriptionPhase, SubscriptionState, TargetDialog, Timestamp, Uri, ViaBuf, Warning,
    format_date,
};

const TOKEN: &str = "[A-Za-z0-9.!%*_+`'~-]{1,12}";
/// Anything that a quoted string can hold.
const TEXT: &str = "[^\r\n\0]{0,20}";
const CALL_ID: &str = "[!-+.-:<-~-]{1,12}(@[A-Za-z0-9.\\[\\]:-]{1,12})?";

fn message(name: &str, value: impl std::fmt::Display) -> Message {
    let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{name}: {value}\r\n\r\n");
    let message = Message::parse(text, &Limits::default()).unwrap();
    assert_eq!(message.headers().len(), 1);
    message
}

fn params() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
    vec((TOKEN, of(TEXT)), 0..4)
}

fn with_params(mut value: HeaderValue, params: &[(String, Option<String>)]) -> HeaderValue {
    for (name, text) in params {
        value = value.with_param(name, text.as_deref()).unwrap();
    }
    value
}

fn pairs(params: sipora_message::Params<'_>) -> Vec<(String, Option<String>)> {
    params
        .iter()
        .map(|param| (param.name().to_owned(), param.value().map(String::from)))
        .collect()
}

fn address(user: &str, params: &[(String, Option<String>)]) -> Address {
    let uri = Uri::sip(Some(user), "example.com", None).unwrap();
    params
        .iter()
        .fold(Address::new(&uri), |address, (name, value)| {
            address.with_param(name, value.as_deref())
        })
}

proptest! {
    #[test]
    fn via(
        transport in TOKEN, v6 in any::<bool>(), address in any::<u128>(), port in of(any::<u16>()), branch in TOKEN,
        rport in of(of(any::<u16>())), received in any::<IpAddr>(), extra in TEXT,
    ) {
        let host = match v6 {
            true => std::net::Ipv6Addr::from(address).to_string(),
            false => format!("h{address:x}.example.com"),
        };
        let mut via = ViaBuf::new(&transport, &host, port).unwrap().with_branch(&branch).unwrap().with_received(received);
        if let Some(rport) = rport {
            via = via.with_rport(rport);
        }
        let via = via.with_param("x-more", Some(&extra)).unwrap();
        let message = message("Via", &via);
        let found = message.headers().via().unwrap();
        assert_eq!((found.transport(), found.port(), found.branch()), (transport.as_str(), port, Some(branch.as_str())));
        assert_eq!(found.host_str().trim_matches(['[', ']']), host);
        assert_eq!((found.rport(), found.received()), (rport, Some(received)));
        assert_eq!(found.params().get("x-more").unwrap(), extra);
        assert_eq!(found.as_bytes(), via.to_string().as_bytes());
    }

    #[test]
    fn addresses_in_every_field_that_holds_them(user in "[^\r\n]{1,9}", params in params()) {
        let address = address(&user, &params);
        for name in [
            "From", "To", "Contact", "Route", "Record-Route", "Path", "Service-Route", "Refer-To", "Referred-By",
            "Reply-To", "P-Asserted-Identity", "P-Preferred-Identity", "Alert-Info", "Call-Info", "Error-Info",
        ] {
            let message = message(name, &address);
            let h = message.headers();
            let found = match name {
                "From" => h.from().unwrap(),
                "To" => h.to().unwrap(),
                // A q or an expires in there may be no legal one.
                "Contact" => match h.contact() {
                    Ok(contact) => contact.unwrap().address(),
                    Err(_) => continue,
                },
                "Route" => h.routes().next().unwrap().unwrap(),
                "Record-Route" => h.record_routes().next().unwrap().unwrap(),
                "Path" => h.path().next().unwrap().unwrap(),
                "Service-Route" => h.service_route().next().unwrap().unwrap(),
                "Refer-To" => h.refer_to().unwrap().unwrap(),
                "Referred-By" => h.referred_by().unwrap().unwrap(),
                "Reply-To" => h.reply_to().unwrap().unwrap(),
                "P-Asserted-Identity" => h.p_asserted_identity().next().unwrap().unwrap(),
                "P-Preferred-Identity" => h.p_preferred_identity().next().unwrap().unwrap(),
                "Alert-Info" => h.alert_info().next().unwrap().unwrap(),
                "Call-Info" => h.call_info().next().unwrap().unwrap(),
                _ => h.error_info().next().unwrap().unwrap(),
            };
            assert_eq!(found.uri().user_decoded().unwrap(), user.as_str());
            assert_eq!(pairs(found.params()), params.clone());
            assert_eq!(found.as_bytes(), address.to_string().as_bytes());
        }
    }

    #[test]
    fn contact(q in 0u16..=1000, expires in any::<u32>(), gruu in TEXT, feature in TEXT) {
        let q = Q::from_thousandths(q).unwrap();
        let address = Address::new(&Uri::parse("sip:a@b").unwrap())
            .with_param("q", Some(&q.to_string()))
            .with_param("expires", Some(&expires.to_string()))
            .with_param("pub-gruu", Some(&gruu))
            .with_param("+x.y", Some(&feature));
        let message = message("m", address);
        let found = message.headers().contact().unwrap().unwrap();
        assert_eq!((found.q(), found.expires()), (Some(q), Some(expires)));
        assert_eq!(found.pub_gruu().unwrap(), gruu);
        assert_eq!(found.feature("+x.y").unwrap().value(), feature);
    }

    #[test]
    fn event_and_content_disposition(value in TOKEN, params in params()) {
        let printed = with_params(HeaderValue::new(&value).unwrap(), &params);
        let event = message("Event", &printed);
        let event = event.headers().event().unwrap().unwrap();
        assert_eq!((event.package(), pairs(event.params())), (value.as_str(), params.clone()));
        assert_eq!(event.as_bytes(), printed.as_str().as_bytes());
        let purpose = message("Content-Disposition", &printed);
        let purpose = purpose.headers().content_disposition().unwrap().unwrap();
        assert_eq!((purpose.kind(), pairs(purpose.params())), (value.as_str(), params));
    }

    #[test]
    fn media_types(kind in TOKEN, subtype in TOKEN, params in params(), q in 0u16..=1000) {
        let printed = with_params(HeaderValue::media_type(&kind, &subtype).unwrap(), &params);
        let found = message("Content-Type", &printed);
        let found = found.headers().content_type().unwrap().unwrap();
        assert_eq!((found.kind(), found.subtype(), pairs(found.params())), (kind.as_str(), subtype.as_str(), params));
        assert_eq!(found.to_string(), printed.to_string());
        let q = Q::from_thousandths(q).unwrap();
        let one = HeaderValue::media_type(&kind, &subtype).unwrap().with_q(q);
        let accept = message("Accept", format!("{one}, */*"));
        let ranges: Vec<_> = accept.headers().accept().map(Result::unwrap).collect();
        assert_eq!((ranges.len(), ranges[0].params().get("q").unwrap().parse::<Q>()), (2, Ok(q)));
    }

    #[test]
    fn accepted_encodings_and_languages(values in vec((TOKEN, of(0u16..=1000)), 1..5)) {
        let values: Vec<_> = values.into_iter()
            .map(|(value, q)| (value, q.map(|q| Q::from_thousandths(q).unwrap()))).collect();
        let printed: Vec<_> = values.iter().map(|(value, q)| {
            let value = HeaderValue::new(value).unwrap();
            q.map_or(value.clone(), |q| value.with_q(q)).to_string()
        }).collect();
        for name in ["Accept-Encoding", "Accept-Language"] {
            let message = message(name, printed.join(", "));
            let h = message.headers();
            let found: Vec<_> = match name {
                "Accept-Encoding" => h.accept_encoding().map(|one| one.unwrap()).map(|one| (one.value().to_owned(), one.q())).collect(),
                _ => h.accept_language().map(|one| one.unwrap()).map(|one| (one.value().to_owned(), one.q())).collect(),
            };
            assert_eq!(&found, &values);
        }
    }

    #[test]
    fn lists_of_tokens(values in vec(TOKEN, 1..6)) {
        let line = values.join(",");
        for name in ["Supported", "Require", "Proxy-Require", "Unsupported", "Allow-Events", "Content-Encoding", "Content-Language"] {
            let message = message(name, &line);
            let h = message.headers();
            let found: Vec<&str> = match name {
                "Supported" => h.supported().collect(),
                "Require" => h.require().collect(),
                "Proxy-Require" => h.proxy_require().collect(),
                "Unsupported" => h.unsupported().collect(),
                "Allow-Events" => h.allow_events().collect(),
                "Content-Encoding" => h.content_encoding().collect(),
                _ => h.content_language().collect(),
            };
            assert_eq!(&found, &values);
        }
        let allow: Vec<_> = message("Allow", &line).headers().allow().map(|method| method.to_string()).collect();
        assert_eq!(allow, values);
    }

    #[test]
    fn subscription_state(expires in any::<u32>(), reason in TOKEN, retry in any::<u32>()) {
        let active = message("Subscription-State", SubscriptionState::active(expires));
        let state = active.headers().subscription_state().unwrap().unwrap();
        assert_eq!((state.phase(), state.expires()), (SubscriptionPhase::Active, Some(expires)));
        let pending = message("Subscription-State", SubscriptionState::pending(expires));
        assert_eq!(pending.headers().subscription_state().unwrap().unwrap().phase(), SubscriptionPhase::Pending);
        let over = SubscriptionState::terminated(&reason).unwrap().with_retry_after(retry);
        let over = message("Subscription-State", over);
        let state = over.headers().subscription_state().unwrap().unwrap();
        assert_eq!((state.phase(), state.reason(), state.retry_after()), (SubscriptionPhase::Terminated, Some(reason.as_str()), Some(retry)));
    }

    #[test]
    fn dialogs(call_id in CALL_ID, one in TOKEN, two in TOKEN, early in any::<bool>()) {
        let id = DialogId::new(&call_id, &one, &two).unwrap();
        let id = if early { id.early_only() } else { id };
        assert_eq!(message("Replaces", &id).headers().replaces().unwrap().unwrap().to_owned(), id.clone());
        assert_eq!(message("Join", &id).headers().join().unwrap().unwrap().to_owned(), id.clone());
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        // Inside the URI of a Refer-To.
        let uri = Uri::builder("b").header("Replaces", &id.to_string()).build().unwrap();
        let refer = message("Refer-To", Address::new(&uri));
        let header = refer.headers().refer_to().unwrap().unwrap().uri().header("replaces").unwrap();
        assert_eq!(header.parse(), Ok(id));
        let target = message("Target-Dialog", TargetDialog::new(&call_id, &one, &two).unwrap());
        let target = target.headers().target_dialog().unwrap().unwrap();
        assert_eq!((target.call_id(), target.local_tag(), target.remote_tag()), (call_id.as_str(), one.as_str(), two.as_str()));
        let answered = message("In-Reply-To", format!("{call_id}, x@y"));
        assert_eq!(answered.headers().in_reply_to().collect::<Vec<_>>(), [call_id.as_str(), "x@y"]);
        assert_eq!(message("Call-ID", &call_id).headers().call_id().unwrap(), call_id);
    }

    #[test]
    fn numbers(number in any::<u32>(), hops in any::<u8>()) {
        assert_eq!(message("Expires", number).headers().expires(), Ok(Some(number)));
        assert_eq!(message("Min-Expires", number).headers().min_expires(), Ok(Some(number)));
        assert_eq!(message("Flow-Timer", number).headers().flow_timer(), Ok(Some(number)));
        assert_eq!(message("Min-SE", HeaderValue::number(number)).headers().min_se(), Ok(Some(number)));
        assert_eq!(message("Max-Forwards", hops).headers().max_forwards(), Ok(Some(hops)));
        let rseq = message("RSeq", number).headers().rseq();
        assert_eq!(rseq.ok().flatten(), (number > 0).then_some(number));
        let retry = HeaderValue::number(number).with_param("duration", Some("60")).unwrap();
        let retry = message("Retry-After", retry);
        let retry = retry.headers().retry_after().unwrap().unwrap();
        assert_eq!((retry.seconds, retry.duration()), (number, Some(60)));
    }

    #[test]
    fn session_timers_rack_and_session_ids(
        seconds in any::<u32>(), who in 0..3, cseq in any::<u32>(), method in TOKEN, local in any::<u128>(), remote in of(any::<u128>()),
    ) {
        let refresher = [None, Some(Refresher::Uac), Some(Refresher::Uas)][who as usize];
        let timer = SessionExpires { seconds, refresher };
        assert_eq!(message("Session-Expires", timer).headers().session_expires(), Ok(Some(timer)));
        let rack = RAck { rseq: seconds, cseq, method: method.parse::<Method>().unwrap() };
        assert_eq!(message("RAck", &rack).headers().rack(), Ok(Some(rack)));
        let id = SessionId { local, remote };
        assert_eq!(message("Session-ID", id).headers().session_id(), Ok(Some(id)));
    }

    #[test]
    fn reasons_and_warnings(protocol in TOKEN, cause in any::<u32>(), text in TEXT, code in 100u16..=999, agent in "[A-Za-z0-9.:\\[\\]-]{1,12}") {
        let reason = Reason::new(&protocol).unwrap().with_cause(cause).with_text(&text).unwrap();
        let found = message("Reason", format!("{reason}, {reason}"));
        let found: Vec<_> = found.headers().reasons().map(|one| one.unwrap()).map(|one| (one.protocol().to_owned(), one.cause(), one.text().unwrap().into_owned())).collect();
        assert_eq!(found, vec![(protocol, Some(cause), text.clone()); 2]);
        let warning = Warning::new(code, &agent, &text).unwrap();
        let found = message("Warning", format!("{warning}, {warning}"));
        let found: Vec<_> = found.headers().warnings().map(|one| one.unwrap()).map(|one| (one.code, one.agent().into_owned(), one.text().into_owned())).collect();
        assert_eq!(found, vec![(code, agent, text); 2]);
    }

    #[test]
    fn caller_preferences(features in vec((TOKEN, of(TEXT)), 0..4), require in any::<bool>(), explicit in any::<bool>()) {
        // Other names are no feature tags without their plus sign.
        let features: Vec<_> = features.into_iter().map(|(name, value)| (format!("+{name}"), value)).collect();
        let mut preference = ContactPreference::new();
        for (name, value) in &features {
            preference = preference.with_feature(name, value.as_deref()).unwrap();
        }
        if require { preference = preference.require(); }
        if explicit { preference = preference.explicit(); }
        let expected: Vec<_> = features.into_iter().map(|(name, value)| (name, value.unwrap_or("TRUE".into()))).collect();
        for name in ["Accept-Contact", "Reject-Contact"] {
            let message = message(name, format!("{preference}, *"));
            let h = message.headers();
            let found: Vec<_> = match name {
                "Accept-Contact" => h.accept_contact().map(Result::unwrap).collect(),
                _ => h.reject_contact().map(Result::unwrap).collect(),
            };
            assert_eq!(found.len(), 2);
            assert_eq!((found[0].is_required(), found[0].is_explicit()), (require, explicit));
            let features: Vec<_> = found[0].features().map(|one| (one.name().to_owned(), one.value().into_owned())).collect();
            assert_eq!(&features, &expected);
        }
    }

    #[test]
    fn words(picks in vec(0usize..6, 1..5), odd in "x-[a-z]{1,6}") {
        let wish = [Privacy::Header, Privacy::Session, Privacy::User, Privacy::Critical, Privacy::Id, Privacy::Other(&odd)];
        let wishes: Vec<_> = picks.iter().map(|pick| wish[*pick]).collect();
        assert_eq!(message("Privacy", Privacy::print(&wishes)).headers().privacy().collect::<Vec<_>>(), wishes);
        let word = [Disposition::Proxy, Disposition::NoCancel, Disposition::Recurse, Disposition::Parallel, Disposition::Queue, Disposition::Other(&odd)];
        let words: Vec<_> = picks.iter().map(|pick| word[*pick]).collect();
        let line: Vec<_> = words.iter().map(|word| word.to_string()).collect();
        assert_eq!(message("d", line.join(", ")).headers().request_disposition().collect::<Vec<_>>(), words);
        for priority in [Priority::Emergency, Priority::Urgent, Priority::Normal, Priority::NonUrgent, Priority::Other(&odd)] {
            assert_eq!(message("Priority", priority).headers().priority(), Ok(Some(priority)));
        }
        assert_eq!(message("SIP-ETag", &odd).headers().sip_etag(), Ok(Some(odd.as_str())));
        assert_eq!(message("SIP-If-Match", &odd).headers().sip_if_match(), Ok(Some(odd.as_str())));
    }

    #[test]
    fn history(path in vec(any::<u32>(), 1..5), cause in any::<u16>()) {
        let index: Vec<_> = path.iter().map(|number| number.to_string()).collect();
        let reason = format!("SIP;cause={cause};text=\"a, b\"");
        let uri = Uri::builder("b").header("Reason", &reason).build().unwrap();
        let entry = Address::new(&uri).with_param("index", Some(&index.join("."))).with_param("mp", Some("1"));
        let message = message("History-Info", format!("{entry}, {entry}"));
        let found: Vec<_> = message.headers().history_info().map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].path().collect::<Vec<_>>(), path);
        assert_eq!(found[0].reason().unwrap(), reason);
    }

    #[test]
    fn challenges_and_authentication_info(scheme in "[A-Za-z]{1,9}", quoted in vec((TOKEN, TEXT), 1..4), plain in vec((TOKEN, TOKEN), 0..3)) {
        let mut value = AuthBuf::new(&scheme).unwrap();
        let mut info = AuthBuf::info();
        for (name, text) in &quoted {
            value = value.quoted(name, text).unwrap();
            info = info.quoted(name, text).unwrap();
        }
        for (name, text) in &plain {
            value = value.plain(name, text).unwrap();
            info = info.plain(name, text).unwrap();
        }
        let expected: Vec<_> = quoted.into_iter().chain(plain).collect();
        for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate, HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            let message = message(name.as_str(), format!("{value}, {value}"));
            let found: Vec<_> = message.headers().challenges(&name).map(Result::unwrap).collect();
            assert_eq!((found.len(), found[0].scheme()), (2, scheme.as_str()));
            let params: Vec<_> = found[1].params().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            assert_eq!(&params, &expected);
        }
        for name in [HeaderName::AuthenticationInfo, HeaderName::ProxyAuthenticationInfo] {
            let message = message(name.as_str(), &info);
            let found = message.headers().authentication_info(&name).unwrap().unwrap();
            let params: Vec<_> = found.params().map(|(name, value)| (name.to_owned(), value.into_owned())).collect();
            assert_eq!(&params, &expected);
        }
    }

    #[test]
    fn times(seconds in 0u64..253_402_300_800, whole in any::<u32>(), millis in of(0u64..4_000_000_000_000)) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(message("Date", format_date(time)).headers().date(), Ok(Some(time)));
        let text = format!("{whole}.25");
        let stamp = Timestamp { time: &text, delay: millis.map(Duration::from_millis) };
        assert_eq!(message("Timestamp", stamp).headers().timestamp(), Ok(Some(stamp)));
    }

    #[test]
    fn texts(text in "[!-~]([ -~\u{a0}-\u{ff}]{0,30}[!-~])?") {
        for name in ["Subject", "Organization", "User-Agent", "Server"] {
            let message = message(name, &text);
            let h = message.headers();
            let found = match name {
                "Subject" => h.subject(),
                "Organization" => h.organization(),
                "User-Agent" => h.user_agent(),
                _ => h.server(),
            };
            assert_eq!(found.unwrap(), text.as_str());
        }
        assert_eq!(message("MIME-Version", "1.0").headers().mime_version(), Ok(Some("1.0")));
    }

    #[test]
    fn uris_from_their_parts(
        user in "[^\0]{1,12}", password in of("[^\0]{1,9}"), port in of(any::<u16>()), secure in any::<bool>(),
        params in vec(("[a-z][^\0]{0,6}", of("[^\0]{1,9}")), 0..4), headers in vec(("[a-z][A-Za-z0-9 <>\"-]{0,6}", "[^\0]{0,9}"), 0..4),
    ) {
        let mut builder = Uri::builder("example.com").user(&user);
        if secure { builder = builder.secure(); }
        if let Some(password) = &password { builder = builder.password(password); }
        if let Some(port) = port { builder = builder.port(port); }
        for (name, value) in &params { builder = builder.param(name, value.as_deref()); }
        for (name, value) in &headers { builder = builder.header(name, value); }
        let uri = builder.build().unwrap();
        assert_eq!(uri.user_decoded().unwrap(), user);
        assert_eq!((uri.port(), uri.host_str(), uri.password().is_some()), (port, "example.com", password.is_some()));
        assert_eq!((uri.params().count(), uri.headers().count()), (params.len(), headers.len()));
        if let Some((name, value)) = headers.first() {
            assert_eq!(uri.header(name).unwrap(), value.as_str());
        }
        // No part gets out of its place, not even through a header field.
        let message = message("To", Address::new(&uri));
        assert_eq!(message.headers().to().unwrap().uri().as_str(), uri.as_str());
    }
}
