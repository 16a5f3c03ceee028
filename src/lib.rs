#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod clip;
#[cfg(feature = "serde")]
mod config;
mod control;
mod cpu;
mod error;
mod factors;
mod gpu;
mod groups;
pub mod history;
mod layout;
mod observer;
mod optimizer;
pub mod rule;
pub mod schedule;
mod segments;
mod stats;
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
pub use optimizer::{GradScale, Optimizer, Snapshot};
pub use rule::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, Curvature, CustomRule, Lamb, Lars,
    LarsConvention, Lion, NAdam, NovoGrad, Prodigy, RAdam, RmsProp, Rprop, Rule, ScheduleFreeAdamW, ScheduleFreeSgd,
    Sgd, SignSgd, Sophia, Yogi,
};
pub use schedule::Schedule;
pub use stats::{Pending, PendingStats, Stats};
pub use wgpu;
