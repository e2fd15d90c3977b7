//! One request, its retries with credentials, and its final answer.

use std::fmt;
use std::time::Duration;

use sipora_auth::AuthError;
use sipora_message::{Request, Response};
use sipora_transaction_core::Branch;
use sipora_transport::{Destination, Flow};

/// Names a transaction by the branch of our Via, as it stands in traces on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(Branch);

impl TransactionId {
    /// Reads the name off a response to a request of ours.
    pub(crate) fn of(response: &Response) -> Self {
        let branch = response
            .headers()
            .via()
            .ok()
            .and_then(|via| via.branch().map(str::to_owned))
            .unwrap_or_default();
        TransactionId(Branch::new(branch))
    }

    /// The branch as it went over the wire, `z9hG4bK…`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Holds what came of a request that was sent with an [`Authorizer`](crate::Authorizer).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Exchange {
    /// The final answer.
    pub response: Response,
    /// The request as last sent, but for its Via: its CSeq is the one that was answered.
    pub request: Request,
    /// The CSeq number of `request`: the highest that this exchange used.
    pub cseq: u32,
    /// The transaction that the answer came in.
    pub transaction_id: TransactionId,
    /// The flow by which the answer came.
    pub flow: Flow,
    /// The target that answered, where it was named by an address.
    pub destination: Option<Destination>,
    /// How often the request was sent again with (other) credentials.
    pub retries: u8,
    /// Why a 401 or 407 was not answered; `None` for every other answer, and where there was no authorizer.
    pub refusal: Option<AuthError>,
}

impl Exchange {
    /// Whether who answered wants the keep-alives that were offered
    /// ([`send_offering_keep_alives`](crate::UnifiedDialogApi::send_offering_keep_alives)): how often at least, or
    /// [`Duration::ZERO`] where that is ours to choose (RFC 6223). None where it does not, and then none are to be sent for it.
    pub fn keep_alive(&self) -> Option<Duration> {
        let via = self.response.headers().via().ok()?;
        // An offer comes back as it was from who does not know it.
        let seconds: u32 = via.params().get("keep")?.parse().ok()?;
        Some(Duration::from_secs(seconds.into()))
    }
}
