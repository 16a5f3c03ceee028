//! Statistics of steps.

pub mod history;
mod sampler;
mod stats;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub(crate) use history::*;
pub(crate) use sampler::{Observer, Reader, Totals};
pub(crate) use stats::StagingPool;
pub use stats::{Pending, PendingStats, Stats};
