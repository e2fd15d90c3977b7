//! The questions that every header section is asked.

use super::ignore;
use crate::*;

/// Everything that a header section can be asked, by name.
pub(super) type Accessor = (&'static str, fn(Headers<'_>));

pub(super) fn accessors() -> Vec<Accessor> {
    vec![
        ("via", |h| {
            ignore(
                h.via()
                    .map(|via| (via.rport(), via.received(), via.ttl(), via.maddr())),
            )
        }),
        ("vias", |h| ignore(h.vias().count())),
        ("from", |h| {
            ignore(
                h.from()
                    .map(|from| (from.tag().is_some(), from.display().is_some())),
            )
        }),
        ("to", |h| {
            ignore(h.to().map(|to| to.params().iter().count()))
        }),
        ("call_id", |h| ignore(h.call_id())),
        ("cseq", |h| ignore(h.cseq())),
        ("max_forwards", |h| ignore(h.max_forwards())),
        ("expires", |h| {
            ignore((
                h.expires(),
                h.min_expires(),
                h.flow_timer(),
                h.rseq(),
                h.min_se(),
            ))
        }),
        ("contacts", |h| {
            ignore(h.contacts().map(|all| all.as_slice().len()))
        }),
        ("contact", |h| {
            let Ok(Some(contact)) = h.contact() else {
                return;
            };
            let _ = (
                contact.instance(),
                contact.pub_gruu(),
                contact.temp_gruu(),
                contact.reg_id(),
            );
        }),
        ("features", |h| {
            let Ok(Some(contact)) = h.contact() else {
                return;
            };
            for feature in contact.features() {
                let value = feature.value();
                let _ = FeatureValue::list(&value).count();
            }
        }),
        ("routes", |h| {
            ignore((h.routes().count(), h.record_routes().count()))
        }),
        ("path", |h| {
            ignore((h.path().count(), h.service_route().count()))
        }),
        ("challenges", |h| {
            for value in h.challenges(&HeaderName::WwwAuthenticate).flatten() {
                let _ = (value.param("realm"), value.params().count());
            }
        }),
        ("credentials", |h| {
            ignore(h.credentials(&HeaderName::Authorization).count())
        }),
        ("authentication_info", |h| {
            let info = h.authentication_info(&HeaderName::AuthenticationInfo);
            let _ = info.map(|info| info.map(|info| (info.next_nonce(), info.response_auth())));
        }),
        ("warnings", |h| {
            h.warnings()
                .flatten()
                .for_each(|warning| ignore((warning.text(), warning.agent())))
        }),
        ("accept", |h| ignore(h.accept().count())),
        ("accept_encoding", |h| {
            ignore((h.accept_encoding().count(), h.accept_language().count()))
        }),
        ("content_type", |h| {
            ignore(
                h.content_type()
                    .map(|kind| kind.map(|kind| kind.to_string())),
            )
        }),
        ("content_disposition", |h| {
            let _ = h
                .content_disposition()
                .map(|found| found.map(|found| found.is_optional()));
        }),
        ("content_encoding", |h| {
            ignore((h.content_encoding().count(), h.content_language().count()))
        }),
        ("date", |h| ignore(h.date())),
        ("tokens", |h| {
            ignore((
                h.allow().count(),
                h.supports("path"),
                h.require().count(),
                h.allow_events().count(),
            ))
        }),
        ("retry_after", |h| {
            ignore(
                h.retry_after()
                    .map(|retry| retry.map(|retry| retry.duration())),
            )
        }),
        ("event", |h| {
            ignore(
                h.event()
                    .map(|event| event.map(|event| (event.id(), event.templates().count()))),
            )
        }),
        ("subscription_state", |h| {
            let state = h.subscription_state().ok().flatten();
            let _ = state.map(|state| {
                (
                    state.phase(),
                    state.expires(),
                    state.reason(),
                    state.retry_after(),
                )
            });
        }),
        ("refer_to", |h| {
            let target = h.refer_to().ok().flatten();
            let _ = target.map(|target| {
                (
                    target.uri().header("Replaces"),
                    target.uri().param("method"),
                )
            });
        }),
        ("referred_by", |h| {
            ignore((h.referred_by().is_ok(), h.reply_to().is_ok()))
        }),
        ("replaces", |h| {
            ignore((
                h.replaces().is_ok(),
                h.join().is_ok(),
                h.target_dialog().is_ok(),
            ))
        }),
        ("in_reply_to", |h| ignore(h.in_reply_to().count())),
        ("session_timer", |h| ignore(h.session_expires())),
        ("identities", |h| {
            ignore((
                h.p_asserted_identity().count(),
                h.p_preferred_identity().count(),
            ))
        }),
        ("privacy", |h| ignore(h.privacy().count())),
        ("reasons", |h| {
            h.reasons()
                .flatten()
                .for_each(|reason| ignore((reason.cause(), reason.text())))
        }),
        ("tags", |h| {
            ignore((h.sip_etag(), h.sip_if_match(), h.priority()))
        }),
        ("contact preferences", |h| {
            for preference in h.accept_contact().chain(h.reject_contact()).flatten() {
                let _ = (
                    preference.features().count(),
                    preference.is_required(),
                    preference.is_explicit(),
                );
            }
        }),
        ("request_disposition", |h| {
            ignore(h.request_disposition().count())
        }),
        ("history_info", |h| {
            for entry in h.history_info().flatten() {
                let _ = (entry.change(), entry.reason(), entry.path().count());
            }
        }),
        ("session_id", |h| ignore(h.session_id())),
        ("reliability", |h| ignore(h.rack())),
        ("texts", |h| {
            ignore((h.subject(), h.organization(), h.user_agent(), h.server()))
        }),
        ("timestamp", |h| ignore((h.timestamp(), h.mime_version()))),
        ("infos", |h| {
            ignore((
                h.alert_info().count(),
                h.call_info().count(),
                h.error_info().count(),
            ))
        }),
        ("list", |h| {
            ignore(h.list(&HeaderName::from("X-Other")).count())
        }),
    ]
}
