//! One message after the other to the same target (RFC 3428 §8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Lets senders to one target take turns, in the order in which they came.
///
/// RFC 3428 §8: "A UAC MUST NOT initiate a new out-of-dialog MESSAGE transaction to a given URI if there is a previous
/// out-of-dialog transaction pending for the same URI." So messages arrive in the order in which they were sent, too.
#[derive(Default)]
pub(crate) struct Turns(Lock<Targets>);

#[derive(Default)]
struct Targets {
    pending: HashMap<Box<str>, Weak<Mutex<()>>>,
    /// Targets that nobody sends to any more are looked for when there are more than this.
    sweep_above: usize,
}

impl Turns {
    /// Waits until nobody else sends to `target`. The turn is over when what this gives is dropped.
    pub(crate) async fn wait(&self, target: &str) -> OwnedMutexGuard<()> {
        self.of(target).lock_owned().await
    }

    fn of(&self, target: &str) -> Arc<Mutex<()>> {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = targets.pending.get(target).and_then(Weak::upgrade) {
            return turn;
        }
        if targets.pending.len() >= targets.sweep_above {
            targets.pending.retain(|_, turn| turn.strong_count() > 0);
            targets.sweep_above = targets.pending.len() * 2 + KEPT;
        }
        let turn = Arc::default();
        targets.pending.insert(target.into(), Arc::downgrade(&turn));
        turn
    }
}

/// Targets that may be left over.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_target_is_nobody_else_s_hindrance_and_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.wait("sip:bob@example.com").await;
        let other = turns.wait("sip:carol@example.com").await;
        let again = turns.of("sip:bob@example.com");
        assert!(again.try_lock().is_err());
        drop(first);
        assert!(again.try_lock().is_ok());
        drop((other, again));
        for number in 0..1000 {
            drop(turns.wait(&format!("sip:{number}@example.com")).await);
        }
        assert!(turns.0.lock().unwrap().pending.len() <= KEPT);
    }
}
