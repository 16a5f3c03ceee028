//! The step on the device: composes and compiles kernels, binds buffers, encodes dispatches.

mod adapter;
mod buffer_slices;
mod chunking;
mod copy_if;
mod encode;
mod kernel;
mod limits;
mod pipelines;
mod prepared_step;
mod recorded_calls;
mod remap;
mod resources;
mod row_buffers;
pub(crate) mod shader;
mod shared_pipelines;
mod state_buffers;
mod step_uniforms;
mod submission;
#[cfg(feature = "safetensors")]
mod transfer;
mod verdict;

pub use adapter::Gpu;
pub use buffer_slices::BufferSlices;
#[cfg(feature = "safetensors")]
pub(crate) use buffer_slices::cut_word;
pub(crate) use buffer_slices::{
    BufferRange, FlatSpace, WHOLE_WORDS, check_usage, check_word_starts, copy_ranges, joined, runs,
};
pub(crate) use copy_if::CopyIf;
pub(crate) use encode::encode;
pub(crate) use limits::check_limit;
pub(crate) use pipelines::Pipelines;
pub(crate) use prepared_step::{PreparedStep, StepContext, decide_bind_group, is_same, key};
pub(crate) use recorded_calls::{HostState, RecordedCalls};
pub(crate) use remap::{KeptRemap, PreparedRemap, RemapBuffers, Remaps, StreamMove};
pub(crate) use resources::{PersistentBuffers, Resources, copied_ranges, gathered_ranges, state_ranges, stream_ranges};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use resources::{init_buffer, write_words};
pub use row_buffers::LiveRows;
pub(crate) use row_buffers::RowBuffers;
pub use shared_pipelines::SharedPipelines;
pub use state_buffers::StateSize;
pub(crate) use state_buffers::{GivenStates, OwnedSlices, STATE_USAGE};
pub(crate) use step_uniforms::StepUniforms;
pub(crate) use submission::Submission;
#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
pub(crate) use transfer::block_on;
#[cfg(feature = "safetensors")]
pub(crate) use transfer::{ByteRange, Transfer};
