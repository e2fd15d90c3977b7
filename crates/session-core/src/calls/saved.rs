//! How a [`CallState`] is written: as plain values, with the version of their shape before them.

use serde::{Deserialize, Deserializer, Serialize, de};
use sipora_dialog_core::CallState as State;

use super::state::{CallState, Said};

/// A call, as it is written. Every field is always there, so that formats without names of fields can do it too.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SavedCall {
    version: Version,
    call: State,
    local_sdp: Option<String>,
    local_sdp_version: u64,
    remote_sdp: Option<String>,
}

/// The version of the shape. A later one that has to say more than this gives it a higher number, and reads this one too.
#[derive(Debug, Clone, Copy, Serialize)]
struct Version(u32);

const CURRENT: Version = Version(1);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = u32::deserialize(deserializer)?;
        match version == CURRENT.0 {
            true => Ok(Self(version)),
            false => Err(de::Error::custom(format_args!(
                "calls of version {version} cannot be read, but those of {}",
                CURRENT.0
            ))),
        }
    }
}

/// A session description that nobody can have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session description of the call is empty")]
pub(super) struct Empty;

impl From<CallState> for SavedCall {
    fn from(state: CallState) -> Self {
        Self {
            version: CURRENT,
            call: state.call,
            local_sdp: state.said.ours.map(Into::into),
            local_sdp_version: state.said.version,
            remote_sdp: state.said.theirs.map(Into::into),
        }
    }
}

impl TryFrom<SavedCall> for CallState {
    type Error = Empty;

    fn try_from(saved: SavedCall) -> Result<Self, Empty> {
        let said = |sdp: Option<String>| match sdp {
            Some(sdp) if sdp.is_empty() => Err(Empty),
            sdp => Ok(sdp.map(Into::into)),
        };
        Ok(Self {
            call: saved.call,
            said: Said {
                ours: said(saved.local_sdp)?,
                version: saved.local_sdp_version,
                theirs: said(saved.remote_sdp)?,
            },
        })
    }
}
