#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
// Public input reaches no panic. Tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Calls that block are absent in browsers: links to them stay text there.
#![cfg_attr(target_arch = "wasm32", allow(rustdoc::broken_intra_doc_links))]

mod builder;
#[cfg(feature = "safetensors")]
pub mod checkpoint;
pub mod clip;
#[cfg(feature = "serde")]
mod config;
mod cpu;
pub mod distributed;
mod error;
mod factors;
mod gpu;
mod grad_scaler;
mod groups;
mod host;
mod kernels;
mod layout;
mod metrics;
mod nonfinite;
#[cfg(feature = "serde")]
mod number;
mod optimizer;
mod parallel;
mod params;
mod plan;
mod power_of_two;
mod precision;
mod projection;
mod random;
mod rows;
pub mod rule;
mod rules;
pub mod schedule;
mod segments;
mod simd;
mod states;
mod storage;
mod tile;
mod transform;
#[cfg(not(target_arch = "wasm32"))]
mod verify;

pub use builder::OptimizerBuilder;
pub use clip::Clip;
#[cfg(feature = "serde")]
pub use config::RuleConfig;
pub use cpu::{CpuOptimizer, CpuRemap, CpuSnapshot};
pub use error::Error;
pub use gpu::shader::shader_sources;
pub use gpu::{BufferSlices, Gpu, LiveRows, SharedPipelines, StateSize};
pub use grad_scaler::GradScaler;
pub use groups::GroupOptions;
pub use host::{HostSlice, HostSliceMut};
pub use layout::{Layout, LayoutBuilder, MAX_ELEMENTS, TENSOR_ALIGNMENT, TensorInfo};
pub use metrics::history;
pub use metrics::{Readback, ReadbackHistory, ReadbackStats, Stats};
pub use nonfinite::NonFinite;
pub use optimizer::{GradScale, Optimizer, Remap, Snapshot};
pub use params::{ParamFormat, Rounding};
pub use precision::{Formats, Precision};
pub use projection::Projection;
pub use rows::Rows;
pub use rule::Rule;
pub use rules::*;
pub use schedule::Schedule;
pub use storage::{Dtype, Moment};
pub use transform::{Average, Ema, Lookahead, Sam, Swa};
pub use {half, wgpu};
