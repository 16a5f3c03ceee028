//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, value_parser};
use wgpu_optim::Sam;

use crate::Result;
use examples_common::device::DeviceName;
use mlp_mnist::data::{Data, digits, read_folder};

/// Trains the network of `mlp_mnist` with small and with large batches, and draws the loss around where they end.
#[derive(Debug, Clone, Parser)]
#[command(name = "loss_surface", args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) common: Common,

    /// Passes over the training set.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) epochs: u32,

    /// Peak learning rate of Adam for the first batch size; for the other, times the root of their ratio.
    #[arg(long, default_value_t = 0.001)]
    pub(crate) lr: f64,

    /// Examples per step: of the network that is drawn in full, and of the one beside it.
    #[arg(long, value_name = "SMALL,LARGE", value_delimiter = ',', num_args = 1, default_value = "32,2048")]
    batch_sizes: Vec<usize>,

    /// Training examples over which the loss is taken, the first ones.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..))]
    pub(crate) examples: u32,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Trains with SGD and with SAM from the same parameters over the same batches, and compares the sharpness of both ends.
    Sam(SamArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SamArgs {
    #[command(flatten)]
    pub(crate) common: Common,

    /// Length of SAM's perturbation [default: 0.2, with --adaptive 1]
    #[arg(long, allow_hyphen_values = true)]
    rho: Option<f64>,

    /// Adaptive SAM, with an eta of 0.01.
    #[arg(long)]
    adaptive: bool,

    /// Passes over the training examples.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) epochs: u32,

    /// Peak learning rate of SGD with a momentum of 0.9, with and without SAM.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) lr: f64,

    /// Examples per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) batch_size: usize,

    /// Training examples, the first ones. All losses but those of the test set are means over them.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..))]
    pub(crate) examples: u32,
}

/// Flags of both comparisons.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Common {
    /// Folder with the four IDX files of MNIST, gzip or raw; default: digits drawn by the example.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Points along each side of a plane.
    #[arg(long, value_name = "N", default_value_t = 41, value_parser = value_parser!(u32).range(5..=501))]
    pub(crate) grid: u32,

    /// How far the planes of random directions reach, in norms of the filters.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) span: f64,

    /// Folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/loss_surface")]
    pub(crate) out: PathBuf,

    /// What trains and computes the losses.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceName,

    /// Seed of the first parameters, the order of the examples, the directions and the drawn digits.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

impl Common {
    /// # Errors
    /// A folder without the files.
    pub(crate) fn load_data(&self) -> Result<Data> {
        self.data.as_ref().map_or_else(|| Ok(digits::draw(self.seed)), |folder| read_folder(folder))
    }
}

fn check_above_0(numbers: &[(&str, f64)]) -> Result<()> {
    for &(name, value) in numbers {
        if !(value > 0.0 && value.is_finite()) {
            return Err(format!("--{name} is {value}; give a finite number above 0").into());
        }
    }
    Ok(())
}

impl SamArgs {
    pub(crate) fn sam(&self) -> Sam {
        if self.adaptive { Sam::adaptive(self.rho.unwrap_or(1.0), 0.01) } else { Sam::new(self.rho.unwrap_or(0.2)) }
    }

    /// # Errors
    /// A span, a learning rate or a rho that is not above 0; an even grid; a batch size that is not from 1 to the number of
    /// training examples.
    pub(crate) fn check(&self, examples: usize) -> Result<()> {
        check_above_0(&[("span", self.common.span), ("lr", self.lr), ("rho", self.sam().rho)])?;
        if self.common.grid.is_multiple_of(2) {
            return Err("--grid is even; give an odd number, so that the trained network is a point".into());
        }
        if !(1..=examples).contains(&self.batch_size) {
            return Err(format!("--batch-size is {}; give 1 to {examples}", self.batch_size).into());
        }
        Ok(())
    }
}

impl Args {
    /// The small and the large batch.
    ///
    /// # Errors
    /// Not two sizes from 1 to the number of training examples; a span or a learning rate that is not above 0.
    pub(crate) fn checked_batch_sizes(&self, data: &Data) -> Result<[usize; 2]> {
        check_above_0(&[("span", self.common.span), ("lr", self.lr)])?;
        match self.batch_sizes[..] {
            [small, large] if [small, large].iter().all(|size| (1..=data.train.len()).contains(size)) => {
                Ok([small, large])
            }
            _ => Err(format!("--batch-sizes: give two from 1 to {}, such as 32,2048", data.train.len()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_numbers_are_refused_with_what_is_allowed() {
        let data = digits::draw_counts(0, 100, 10);
        let check = |flags: &[&str]| {
            Args::try_parse_from([&["loss_surface"], flags].concat()).expect("well formed").checked_batch_sizes(&data)
        };
        assert_eq!(check(&["--batch-sizes", "1,100"]).expect("valid"), [1, 100]);
        for (flags, found) in [
            (&["--batch-sizes", "32,101"] as &[&str], "two from 1 to 100"),
            (&["--batch-sizes", "0,32"], "two from 1 to 100"),
            (&["--batch-sizes", "32"], "two from 1 to 100"),
            (&["--span", "0"], "--span is 0; give a finite number above 0"),
            (&["--lr", "nan"], "--lr is NaN"),
        ] {
            let message = check(flags).expect_err("wrong").to_string();
            assert!(message.contains(found), "{flags:?}: {message}");
        }
        for flags in [&["--grid", "4"] as &[&str], &["--seed", "1", "sam"], &["sam", "--epochs", "0"]] {
            assert!(Args::try_parse_from([&["loss_surface"], flags].concat()).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn wrong_numbers_of_sam_are_refused_with_what_is_allowed() {
        let parse = |flags: &[&str]| {
            let args = Args::try_parse_from([&["loss_surface", "sam"], flags].concat()).expect("well formed");
            let Some(Command::Sam(args)) = args.command else { panic!("no command") };
            args
        };
        for (flags, sam) in [
            (&[] as &[&str], Sam::new(0.2)),
            (&["--adaptive"], Sam::adaptive(1.0, 0.01)),
            (&["--rho", "3", "--adaptive"], Sam::adaptive(3.0, 0.01)),
        ] {
            assert_eq!(parse(flags).sam(), sam);
            assert!(parse(flags).check(64).is_ok());
        }
        for (flags, found) in [
            (&["--batch-size", "101"] as &[&str], "--batch-size is 101; give 1 to 100"),
            (&["--batch-size", "0"], "give 1 to 100"),
            (&["--rho", "-1"], "--rho is -1; give a finite number above 0"),
            (&["--lr", "inf"], "--lr is inf"),
            (&["--grid", "40"], "odd"),
        ] {
            let message = parse(flags).check(100).expect_err("wrong").to_string();
            assert!(message.contains(found), "{flags:?}: {message}");
        }
    }
}
