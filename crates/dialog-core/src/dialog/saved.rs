//! Dialogs as plain values, for another process.

use serde::{Deserialize, Serialize};
use sipora_message::{HeaderName, Limits, Method, Request, Uri};

use super::Dialog;
use crate::check::MAX_CSEQ;

/// What a [`Dialog`] is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedDialog {
    call_id: String,
    local_tag: String,
    remote_tag: String,
    local_uri: String,
    remote_uri: String,
    local_cseq: Option<u32>,
    remote_cseq: Option<u32>,
    remote_target: String,
    /// As they are printed, the first to be visited first.
    route_set: Vec<String>,
    is_secure: bool,
}

/// A value that no dialog has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} of the dialog cannot be used")]
pub(crate) struct InvalidDialog(&'static str);

impl From<&Dialog> for SavedDialog {
    fn from(dialog: &Dialog) -> Self {
        let routes = dialog.route_set.iter();
        Self {
            call_id: dialog.id.call_id.to_string(),
            local_tag: dialog.id.local_tag.to_string(),
            remote_tag: dialog.id.remote_tag.to_string(),
            local_uri: dialog.local_uri.to_string(),
            remote_uri: dialog.remote_uri.to_string(),
            local_cseq: dialog.local_cseq,
            remote_cseq: dialog.remote_cseq,
            remote_target: dialog.remote_target.to_string(),
            route_set: routes.map(|route| route.text.to_string()).collect(),
            is_secure: dialog.is_secure,
        }
    }
}

impl TryFrom<SavedDialog> for Dialog {
    type Error = InvalidDialog;

    /// Goes the way of what a peer sends: the request that would have made the dialog is printed, and read. What comes out is
    /// what went in, or no dialog.
    fn try_from(saved: SavedDialog) -> Result<Self, InvalidDialog> {
        if saved.local_tag.is_empty() {
            return Err(InvalidDialog("the local tag"));
        }
        if saved.local_cseq.is_some_and(|cseq| cseq > MAX_CSEQ) {
            return Err(InvalidDialog("the local CSeq number"));
        }
        let target = Uri::parse(&saved.remote_target);
        let target = target.map_err(|_| InvalidDialog("the remote target"))?;
        let mut probe = Request::builder(Method::Options, &target)
            .from(address(&saved.remote_uri, &saved.remote_tag))
            .to(address(&saved.local_uri, &saved.local_tag))
            .call_id(&saved.call_id)
            .cseq(FIRST)
            .contact(format!("<{target}>"));
        for route in &saved.route_set {
            probe = probe.header(HeaderName::RecordRoute, route);
        }
        let printed = probe.build().map_err(|_| InvalidDialog("a header field"))?;
        let read = Request::parse(printed.as_bytes().to_vec(), &Limits::default());
        let read = read.map_err(|_| InvalidDialog("a header field"))?;
        let dialog = Dialog::of_request(&read, &saved.local_tag);
        let mut dialog = dialog.map_err(|_| InvalidDialog("a header field"))?;
        dialog.local_cseq = saved.local_cseq;
        dialog.remote_cseq = saved.remote_cseq;
        dialog.is_secure = saved.is_secure;
        dialog.secure();
        let to = read.headers().to();
        if to.is_ok_and(|to| to.tag() != Some(&*saved.local_tag)) {
            return Err(InvalidDialog("the local tag"));
        }
        match is_as_saved(&dialog, &saved) {
            true => Ok(dialog),
            false => Err(InvalidDialog("a header field")),
        }
    }
}

/// Routes may have become SIPS on the way, which they are for a SIPS target.
fn is_as_saved(dialog: &Dialog, saved: &SavedDialog) -> bool {
    let mut read = SavedDialog::from(dialog);
    if read.route_set.len() == saved.route_set.len() {
        read.route_set.clone_from(&saved.route_set);
    }
    read == *saved
}

fn address(uri: &str, tag: &str) -> String {
    match tag {
        "" => format!("<{uri}>"),
        tag => format!("<{uri}>;tag={tag}"),
    }
}

/// The number of a request that is never sent.
const FIRST: u32 = 1;
