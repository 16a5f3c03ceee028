//! A multilayer perceptron over MNIST: its data, its network and an engine for each device.
//!
//! The examples `lr_finder` and `loss_surface` train the same network.

pub mod cpu;
pub mod data;
pub mod engine;
pub mod gemm;
pub mod gpu;
pub mod model;
pub mod precision;
pub mod rules;
#[cfg(feature = "program")]
pub mod setup;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
