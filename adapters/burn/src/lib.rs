#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
#[cfg(feature = "safetensors")]
mod checkpoint;
mod error;
mod filter;
mod leases;
mod mode;
mod optimizer;
mod parameters;
mod tensors;
mod traversal;

pub use builder::FusedOptimizerBuilder;
pub use error::{Error, StepError};
pub use filter::ParameterFilter;
pub use optimizer::FusedOptimizer;
pub use wgpu_optim;
