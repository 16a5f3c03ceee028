//! Statistics of the last step and of recent steps, and their readback from the device without stalls.

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
