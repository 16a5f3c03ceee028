//! The step on the device: what is bound, what is compiled, and in which order it is recorded.

mod adapter;
mod buffer_slices;
pub(crate) mod chunking;
mod factors;
mod pipelines;
mod prepared_step;
pub(crate) mod shader;
mod shared_pipelines;
pub(crate) mod step_uniforms;

pub use adapter::Gpu;
pub use buffer_slices::FlatBuffer;
pub(crate) use buffer_slices::Piece;
pub(crate) use buffer_slices::check_usage;
pub(crate) use chunking::{PlanLimits, ScratchCopy, norm_blocks};
pub(crate) use pipelines::{Kernel, Pipelines, check_limit};
pub(crate) use prepared_step::{Bindings, Shared, Work, bound, init_buffer};
pub use shared_pipelines::SharedPipelines;
pub(crate) use step_uniforms::Slots;
