//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engines {
    /// The CPU engine, and the best adapter there is (a software driver too).
    All,
    /// The best adapter there is.
    Gpu,
    /// The CPU engine.
    Cpu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClipModes {
    /// With and without.
    Both,
    /// Without clipping only.
    Off,
    /// With clipping by the global norm only.
    On,
}

/// What parameters, gradients and states are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Everything in 32 bits.
    F32,
}

/// Elements of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Elements(usize),
    /// As many as memory holds.
    Max,
}

/// Measures the optimizer step beside a kernel that streams the same memory and computes next to nothing.
#[derive(Debug, Clone, Parser)]
#[command(name = "throughput")]
pub(crate) struct Args {
    /// What takes the steps.
    #[arg(long, value_name = "ENGINE", default_value = "all")]
    pub(crate) engine: Engines,

    /// Rules by their names in configurations; beside them `sgd_momentum` (0.9), `adam_amsgrad`, `adamw_amsgrad`, and all.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "sgd,sgd_momentum,adamw,lion")]
    pub(crate) rules: Vec<String>,

    /// Parameters: a number, Ki, Mi or Gi of them, or max for as many as memory holds.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64Ki,1Mi,16Mi,64Mi", value_parser = size)]
    pub(crate) sizes: Vec<Size>,

    /// What is stored.
    #[arg(long, value_name = "FORMAT,...", value_delimiter = ',', default_value = "f32")]
    pub(crate) precision: Vec<Precision>,

    /// Whether gradients are clipped by their global norm.
    #[arg(long, value_name = "WHEN", default_value = "both")]
    pub(crate) clip: ClipModes,

    /// Tensors that the parameters are divided into.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tensors: Vec<u32>,

    /// Groups that the tensors are dealt out to, each with a learning-rate scale of its own; 0: none. As many as there are
    /// tensors at most.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0")]
    pub(crate) groups: Vec<u32>,

    /// Seconds to spend on measuring each case.
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Print name, driver, limits and features of the adapter as JSON, and measure nothing.
    #[arg(long)]
    pub(crate) describe: bool,

    /// Measure kernels in other shapes over so many parameters, beside those of the crate and the streaming kernel.
    #[arg(long, value_name = "N", value_parser = size, conflicts_with_all = ["describe", "plot"])]
    pub(crate) variants: Option<Size>,

    /// Measure AdamW in each storage format over so many parameters, on the CPU engine and on the best adapter, by turns.
    #[arg(long, value_name = "N", value_parser = size, conflicts_with_all = ["describe", "plot", "variants"])]
    pub(crate) formats: Option<Size>,

    /// Write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw rate against size as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

impl Args {
    /// Tensors, groups and whether to clip, for each measurement of a rule and a size.
    pub(crate) fn divisions(&self) -> impl Iterator<Item = (u32, u32, bool)> {
        let clip: &[bool] = match self.clip {
            ClipModes::Both => &[false, true],
            ClipModes::Off => &[false],
            ClipModes::On => &[true],
        };
        let divided = self.tensors.iter().flat_map(|&tensors| self.groups.iter().map(move |&groups| (tensors, groups)));
        divided.flat_map(move |(tensors, groups)| clip.iter().map(move |&clip| (tensors, groups, clip)))
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected 0 to 3600".to_owned())
}

fn size(text: &str) -> Result<Size, String> {
    if text == "max" {
        return Ok(Size::Max);
    }
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];
    let found = units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (digits, factor) = found.unwrap_or((text, 1));
    let elements = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    elements
        .filter(|elements| (1..=wgpu_optim::MAX_ELEMENTS).contains(&(*elements as u64)))
        .map(Size::Elements)
        .ok_or_else(|| format!("expected 1 to {}, also as 64Ki, 16Mi, 1Gi, or max", wgpu_optim::MAX_ELEMENTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_tensors_meets_every_number_of_groups() {
        let args = Args::parse_from(["throughput", "--tensors", "1,7", "--groups", "0,3", "--clip", "off"]);
        let divisions = [(1, 0, false), (1, 3, false), (7, 0, false), (7, 3, false)];
        assert!(args.divisions().eq(divisions));
        let args = Args::parse_from(["throughput"]);
        assert!(args.divisions().eq([(1, 0, false), (1, 0, true)]));
    }

    #[test]
    fn sizes_have_binary_units() {
        let sizes = ["7", "64Ki", "16Mi", "1Gi", "max"].map(|text| size(text).expect(text));
        assert_eq!(sizes[..4], [7, 65_536, 16_777_216, 1_073_741_824].map(Size::Elements));
        assert_eq!(sizes[4], Size::Max);
        for wrong in ["", "0", "-1", "1e6", "5Ti", "4Gi", "99999999999999999999Ki"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
