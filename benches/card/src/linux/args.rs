//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures the graphics card of this machine. A second run resumes an interrupted one.
#[derive(Debug, Clone, Parser)]
#[command(name = "run.sh")]
pub(crate) struct Args {
    /// Folder of the kit; run.sh gives its own.
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) kit: PathBuf,

    /// Folder for the results.
    pub(crate) out: PathBuf,

    /// Small sizes and few tests: shows that the kit works.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Limit of the whole run; those of the stages are shares of it.
    #[arg(long, default_value_t = super::plan::MINUTES, value_parser = minutes)]
    pub(crate) minutes: f64,

    /// Folder with the four IDX files of MNIST [default: digits drawn by the example]
    #[arg(long, value_name = "DIR")]
    pub(crate) mnist: Option<PathBuf>,

    /// Python for the comparison.
    #[arg(long, value_name = "FILE", default_value = "python3")]
    pub(crate) python: PathBuf,

    /// Only these stages.
    #[arg(long, value_name = "STAGE,...", value_delimiter = ',', value_parser = super::plan::STAGES)]
    pub(crate) only: Vec<String>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.0..=600.0).contains(minutes));
    minutes.ok_or_else(|| "expected 0 to 600".to_owned())
}
