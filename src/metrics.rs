//! Statistics of the last step and of recent steps, and their readback from the device without stalls.

#[cfg(feature = "serde")]
mod csv_json;
pub mod history;
mod history_options;
mod readback;
mod sampler;
mod stats;
#[cfg(feature = "tensorboard")]
mod tensorboard;

pub(crate) use history::{DeviceHistory, HostHistory};
pub use history::{History, ReadbackHistory};
#[cfg(feature = "safetensors")]
pub(crate) use history::{place_of, records_in_order};
pub use history_options::HistoryOptions;
pub use readback::Readback;
pub(crate) use readback::StagingPool;
pub(crate) use sampler::{MetricsSampler, RecordDecoder};
pub use stats::{ReadbackStats, Stats};
