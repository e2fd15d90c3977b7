//! Who has us call somebody hears what comes of it (RFC 3515 §2.4.4).

use sipora_dialog_core::ReferReporter;
use sipora_message::StatusCode;

/// Tells of the call that a transfer has us make; dropped before that has come to anything, it tells 487.
pub(super) struct Reporter {
    /// None: all is told.
    below: Option<ReferReporter>,
}

impl Reporter {
    pub(super) fn new(below: ReferReporter) -> Self {
        Self { below: Some(below) }
    }

    /// Leaves it to others to tell.
    pub(super) fn silence(&mut self) {
        self.below = None;
    }

    /// The call is up, and another process has it now.
    pub(super) fn has_succeeded(&mut self) {
        if let Some(below) = self.below.take() {
            below.try_report(StatusCode::OK);
        }
    }

    pub(super) async fn report(&mut self, status: StatusCode) {
        let Some(below) = &self.below else {
            return;
        };
        // Nobody may want to hear it any more.
        let _ = below.report(status).await;
        if status.is_final() {
            self.below = None;
        }
    }
}

/// Refuses a transfer that nobody has decided on.
#[derive(Debug)]
pub(super) struct Undecided {
    below: ReferReporter,
}

impl Undecided {
    pub(super) fn new(below: ReferReporter) -> Self {
        Self { below }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.below.try_reject(StatusCode::DECLINE);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(below) = &self.below {
            below.try_report(StatusCode::REQUEST_TERMINATED);
        }
    }
}
