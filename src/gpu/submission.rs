use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const PENDING: u8 = 0;
const DONE: u8 = 1;
const DROPPED: u8 = 2;

/// The fate of the commands that a call recorded into the user's encoder.
#[derive(Debug, Clone)]
pub(crate) struct Submission(Arc<AtomicU8>);

/// Marks the submission as dropped, unless it is done by then.
struct DropMark(Submission);

impl Drop for DropMark {
    fn drop(&mut self) {
        // Fails if it is done.
        let _ = self.0.0.compare_exchange(PENDING, DROPPED, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Submission {
    pub(crate) fn of(encoder: &wgpu::CommandEncoder) -> Self {
        let submission = Self(Arc::new(AtomicU8::new(PENDING)));
        // wgpu drops the callback together with an encoder that was not submitted.
        let mark = DropMark(submission.clone());
        encoder.on_submitted_work_done(move || mark.0.0.store(DONE, Ordering::Release));
        submission
    }

    /// Whether the encoder, or the buffer that it was finished to, was dropped before it was submitted.
    pub(crate) fn was_dropped(&self) -> bool {
        self.0.load(Ordering::Acquire) == DROPPED
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.load(Ordering::Acquire) == PENDING
    }
}
