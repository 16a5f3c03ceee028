//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};
use examples_common::device::DeviceName;

/// Fits a picture with two-dimensional Gaussians, whose number grows while they are trained.
#[derive(Debug, Clone, Parser)]
#[command(name = "splats")]
pub(crate) struct Args {
    /// Picture to fit, a PNG file; default: a built-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,

    /// Maximum number of splats; the fit begins with a quarter.
    #[arg(long, value_name = "N", default_value_t = 4_000, value_parser = value_parser!(u32).range(4..=65_535))]
    pub(crate) splats: u32,

    /// Steps of the optimizer.
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = value_parser!(u32).range(1..=100_000))]
    pub(crate) steps: u32,

    /// Sets all states to zero at every growth, for comparison.
    #[arg(long)]
    pub(crate) forget_states: bool,

    /// Folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/splats")]
    pub(crate) out: PathBuf,

    /// Device of the fit.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceName,
}
