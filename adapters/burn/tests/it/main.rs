//! The adapter on this machine's adapter; a software driver will do.

mod burn_optim;
#[cfg(feature = "safetensors")]
mod checkpoints;
mod common;
mod modules;
mod refusals;
mod sharing;
mod threads;
