//! Who somebody is, and where: a user's existence and bindings, asked of the two stores at once.

use std::time::Duration;

use sipora_auth::Secret;
use sipora_transport::Now;

use crate::gate::Access;
use crate::registrar::Shared;
use crate::{AddressOfRecord, Answer, Binding, StoreError};

/// The bindings of a user, if any; `None` where there is no such user. Without authentication there is everybody.
pub(crate) type Found = Result<Option<Vec<Binding>>, StoreError>;

/// Finds a user of a served domain.
pub(crate) fn user(shared: &Shared, address: &AddressOfRecord, now: Now) -> Answer<Found> {
    let bindings = shared.store.bindings(address, shared.clock.timestamp(now));
    let secret = match &shared.access {
        Access::Digest { users, .. } => users.secret(address.user(), address.domain()),
        Access::Open => {
            return match bindings {
                Answer::Now(bindings) => Answer::Now(bindings.map(Some)),
                Answer::Later(bindings) => Answer::later(async { bindings.await.map(Some) }),
            };
        }
    };
    match (secret, bindings) {
        (Answer::Now(secret), Answer::Now(bindings)) => Answer::Now(known(secret, bindings)),
        (secret, bindings) => Answer::later(async {
            let secret = secret.wait().await;
            known(secret, bindings.wait().await)
        }),
    }
}

fn known(
    secret: Result<Option<Secret>, StoreError>,
    bindings: Result<Vec<Binding>, StoreError>,
) -> Found {
    match secret? {
        Some(_) => bindings.map(Some),
        None => Ok(None),
    }
}

/// Gives a store its time, and no more.
pub(crate) async fn in_time<T>(
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let timed = tokio::time::timeout(STORE_PATIENCE, work).await;
    timed.unwrap_or_else(|_| Err(StoreError::new("it took too long")))
}

/// Time for one question to a store, where there are two and somebody waits for both.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
