//! Statistics of steps: of the last one, of many, and how they come from the device without a stall.

#[cfg(feature = "serde")]
mod csv_json;
pub mod history;
mod readback;
mod sampler;
mod stats;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub(crate) use history::{DeviceHistory, HostHistory};
pub use history::{GroupStats, History, HistoryOptions};
pub(crate) use readback::StagingPool;
pub use readback::{Readback, ReadbackHistory, ReadbackStats};
pub(crate) use sampler::{MetricsSampler, RecordDecoder};
pub use stats::Stats;
