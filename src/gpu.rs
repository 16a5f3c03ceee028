//! The step on the device: what is bound, what is compiled, and in which order it is recorded.

mod adapter;
mod bindings;
mod cache;
mod factors;
mod flat;
mod pipelines;
mod plan;
pub(crate) mod shader;
mod slots;

pub use adapter::Gpu;
pub(crate) use bindings::{Bindings, Shared, Work, bound, init_buffer};
pub use cache::SharedPipelines;
pub use flat::FlatBuffer;
pub(crate) use flat::Piece;
pub(crate) use flat::check_usage;
pub(crate) use pipelines::{Kernel, Pipelines, check_limit};
pub(crate) use plan::{PlanLimits, ScratchCopy, norm_blocks};
pub(crate) use slots::Slots;
