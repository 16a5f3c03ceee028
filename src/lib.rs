#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod clip;
#[cfg(feature = "serde")]
mod config;
mod cpu;
mod error;
mod factors;
mod gpu;
mod groups;
mod kernels;
mod layout;
mod metrics;
mod optimizer;
mod plan;
pub mod rule;
mod rules;
pub mod schedule;
mod segments;
mod simd;
mod tile;
mod transform;
#[cfg(not(target_arch = "wasm32"))]
mod verify;

pub use builder::OptimizerBuilder;
pub use clip::{Clip, NonFinite};
#[cfg(feature = "serde")]
pub use config::RuleConfig;
pub use cpu::{CpuOptimizer, CpuSnapshot};
pub use error::Error;
pub use gpu::{FlatBuffer, Gpu, SharedPipelines};
pub use groups::GroupOptions;
pub use layout::{Layout, LayoutBuilder, MAX_ELEMENTS, TENSOR_ALIGNMENT, Tensor};
pub use metrics::history;
pub use metrics::{Pending, PendingStats, Stats};
pub use optimizer::{GradScale, Optimizer, Snapshot};
pub use rule::Rule;
pub use rules::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, Curvature, CustomRule, Lamb, Lars,
    LarsConvention, Lion, NAdam, NovoGrad, Prodigy, RAdam, RmsProp, Rprop, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd,
    SignSgd, Sophia, Yogi,
};
pub use schedule::Schedule;
pub use wgpu;
