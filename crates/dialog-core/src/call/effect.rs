//! What the failure of a request within a dialog ends (RFC 5057 §5).

use sipora_message::{Method, StatusCode};

use crate::ApiError;

/// How much a failed request takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The request has failed, and that is all.
    Transaction,
    /// The usage that it belongs to is over: the call, or the subscription of a REFER. The other usages go on.
    Usage,
    /// The dialog is over, and all usages with it.
    Dialog,
}

/// The effect of an answer, by the table of RFC 5057 §5.1 and the notes to it.
pub(super) fn of_status(method: &Method, status: StatusCode) -> Effect {
    if !status.is_final() || status.is_success() {
        return Effect::Transaction;
    }
    let effect = match status.as_u16() {
        404 | 410 | 416 | 482..=485 | 502 | 604 => return Effect::Dialog,
        // (3): "If the request was not integral to the usage (it used an unknown method, or was an INFO inside an INVITE usage,
        // for example), only the transaction will be affected."
        405 | 501 if is_integral(method) => Effect::Usage,
        // (12): "only valid in the context of SUBSCRIBE and NOTIFY".
        489 if matches!(method, Method::Subscribe | Method::Notify) => Effect::Usage,
        // (4): 408 is a timeout; RFC 3261 §12.2.1.2 for 481.
        408 | 481 => Effect::Usage,
        // (7): "affects only the usage in which the request occurs". A REFER stands in none yet: it would make one.
        480 if *method != Method::Refer => Effect::Usage,
        _ => Effect::Transaction,
    };
    match has_usage(method) {
        true => effect,
        false => Effect::Transaction,
    }
}

/// The effect of no answer at all: "a transaction timeout should affect only the usage in which the transaction occurred"
/// (§5.2). An error of the transport stands for a 503 (RFC 3261 §8.1.3.1), which affects nothing else but a subscription, whose end
/// it is (RFC 6665 §4.2.2); what was not sent for lack of room affects nothing.
pub(super) fn of_error(method: &Method, error: &ApiError) -> Effect {
    let ends = match error {
        ApiError::Timeout { .. } => has_usage(method),
        ApiError::Transport { .. } => matches!(method, Method::Notify | Method::Subscribe),
        _ => false,
    };
    match ends {
        true => Effect::Usage,
        false => Effect::Transaction,
    }
}

/// §5.3: OPTIONS, MESSAGE and unknown methods belong to no usage.
fn has_usage(method: &Method) -> bool {
    !matches!(method, Method::Options | Method::Message | Method::Other(_))
}

fn is_integral(method: &Method) -> bool {
    matches!(
        method,
        Method::Invite | Method::Bye | Method::Notify | Method::Subscribe
    )
}

#[cfg(test)]
mod tests {
    use super::Effect::*;
    use super::*;

    fn effect(method: Method, status: u16) -> Effect {
        of_status(&method, StatusCode::new(status).unwrap())
    }

    #[test]
    fn the_table_of_section_5_1() {
        let dialog = [404, 410, 416, 482, 483, 484, 485, 502, 604];
        let usage = [405, 408, 480, 481, 489, 501];
        for status in 300..700 {
            let expected = match status {
                _ if dialog.contains(&status) => Dialog,
                _ if usage.contains(&status) => Usage,
                _ => Transaction,
            };
            assert_eq!(effect(Method::Notify, status), expected, "{status}");
        }
    }

    #[test]
    fn what_does_not_belong_to_the_usage_does_not_end_it() {
        assert_eq!(effect(Method::Info, 405), Transaction);
        assert_eq!(effect(Method::Info, 469), Transaction);
        assert_eq!(effect(Method::Info, 481), Usage);
        assert_eq!(effect(Method::Invite, 489), Transaction);
        assert_eq!(effect(Method::Refer, 480), Transaction);
        assert_eq!(effect(Method::Refer, 481), Usage);
        for method in [Method::Options, Method::Message] {
            assert_eq!(effect(method.clone(), 481), Transaction);
            assert_eq!(effect(method, 404), Dialog);
        }
    }

    #[test]
    fn silence_ends_the_usage_and_lack_of_room_nothing() {
        let timeout = ApiError::Timeout {
            after: std::time::Duration::from_secs(32),
            cseq: Some(1),
        };
        assert_eq!(of_error(&Method::Info, &timeout), Usage);
        assert_eq!(of_error(&Method::Options, &timeout), Transaction);
        let busy = ApiError::Busy { cseq: None };
        assert_eq!(of_error(&Method::Info, &busy), Transaction);
    }
}
