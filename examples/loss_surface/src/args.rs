//! The command line.

use std::path::PathBuf;

use clap::{Parser, value_parser};

use crate::Result;
use examples_common::device::DeviceName;
use mlp_mnist::data::{Data, digits, read_folder};

/// Trains the network of `mlp_mnist` with small and with large batches, and draws the loss around where they end.
#[derive(Debug, Clone, Parser)]
#[command(name = "loss_surface")]
pub(crate) struct Args {
    /// Folder with the four IDX files of MNIST, gzip or raw; default: digits drawn by the example.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Passes over the training set.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=1_000))]
    pub(crate) epochs: u32,

    /// Peak learning rate of Adam for the first batch size; for the other, times the root of their ratio.
    #[arg(long, default_value_t = 0.001)]
    pub(crate) lr: f64,

    /// Examples per step: of the network that is drawn in full, and of the one beside it.
    #[arg(long, value_name = "SMALL,LARGE", value_delimiter = ',', num_args = 1, default_value = "32,2048")]
    batch_sizes: Vec<usize>,

    /// Points along each side of a plane.
    #[arg(long, value_name = "N", default_value_t = 41, value_parser = value_parser!(u32).range(5..=501))]
    pub(crate) grid: u32,

    /// How far the planes of random directions reach, in norms of the filters.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) span: f64,

    /// Training examples over which the loss is taken, the first ones.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..))]
    pub(crate) examples: u32,

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

impl Args {
    /// # Errors
    /// A folder without the files.
    pub(crate) fn load_data(&self) -> Result<Data> {
        self.data.as_ref().map_or_else(|| Ok(digits::draw(self.seed)), |folder| read_folder(folder))
    }

    /// The small and the large batch.
    ///
    /// # Errors
    /// Not two sizes from 1 to the number of training examples; a span or a learning rate that is not above 0.
    pub(crate) fn checked_batch_sizes(&self, data: &Data) -> Result<[usize; 2]> {
        for (name, value) in [("span", self.span), ("lr", self.lr)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(format!("--{name} is {value}; give a finite number above 0").into());
            }
        }
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
        assert!(Args::try_parse_from(["loss_surface", "--grid", "4"]).is_err());
    }
}
