//! The command line, and the optimizer it describes.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use wgpu_optim::{Adam, AdamW, Clip, GroupOptions, Lion, Optimizer, OptimizerBuilder, Schedule, Sgd};

use crate::Result;
use crate::data::{Data, digits, download, read_folder};
use crate::device::DeviceName;
use crate::model::NO_DECAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    Adamw,
    Adam,
    Sgd,
    Lion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleName {
    /// The same learning rate throughout.
    Constant,
    /// A linear rise from 0, then half a cosine down to 0.
    WarmupCosine,
}

/// Trains a multilayer perceptron on MNIST with wgpu-optim, forward pass, backward pass and optimizer step recorded
/// into one submission.
#[derive(Debug, Clone, Parser)]
#[command(name = "mlp_mnist")]
pub(crate) struct Args {
    /// Folder with the four IDX files of MNIST (or a data set like it), gzip or raw.
    #[arg(long, value_name = "DIR", conflicts_with = "download")]
    pub(crate) data: Option<PathBuf>,

    /// Fetch MNIST into DIR (default: the user's cache) unless it is there already, and train on it.
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "absent, given, given with a folder")]
    pub(crate) download: Option<Option<PathBuf>>,

    /// Where --download finds the four files.
    #[arg(long, value_name = "BASE", default_value = download::MIRROR)]
    pub(crate) url: String,

    /// Sizes of the hidden layers, with commas between them.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "128")]
    pub(crate) hidden: Vec<usize>,

    /// Update rule.
    #[arg(long, value_enum, default_value = "adamw")]
    pub(crate) optimizer: Rule,

    /// Peak learning rate [default: adamw, adam 0.004, sgd 0.1, lion 0.0004]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) lr: Option<f64>,

    /// Momentum of sgd [default: 0.9]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) momentum: Option<f64>,

    /// Weight decay of the weights; biases have none [default: adamw 0.01, lion 0.1, adam and sgd 0]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub(crate) weight_decay: Option<f64>,

    /// Learning rate over time.
    #[arg(long, value_enum, default_value = "warmup-cosine")]
    pub(crate) schedule: ScheduleName,

    /// Steps of the linear rise [default: a twentieth of all steps]
    #[arg(long, value_name = "STEPS")]
    pub(crate) warmup: Option<u64>,

    /// Clip gradients to this global norm; 0 only measures it.
    #[arg(long, value_name = "NORM", default_value_t = 1.0, allow_hyphen_values = true)]
    pub(crate) clip: f64,

    /// Examples per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) batch_size: usize,

    /// Passes over the training set.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) epochs: usize,

    /// Stop after this many steps, evaluate all the same.
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<u64>,

    /// Seed of the initial parameters, the order of the examples and the drawn digits.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// What to train on.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) device: DeviceName,

    /// Where the curves are drawn, as SVG [default: `mlp_mnist.svg`, in `target` where there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
}

impl Args {
    /// Refuses what would fail only later, or not at all.
    pub(crate) fn validate(&self) -> Result<()> {
        let number = |name: &str, value: Option<f64>, fits: fn(f64) -> bool, allowed: &str| match value {
            Some(value) if !fits(value) => Err(format!("--{name} is {value}; give {allowed}")),
            _ => Ok(()),
        };
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        number("lr", self.lr, not_negative, "a finite number of 0 or more, such as 0.001")?;
        number("weight-decay", self.weight_decay, not_negative, "a finite number of 0 or more, such as 0.01")?;
        number("clip", Some(self.clip), not_negative, "a finite norm such as 1, or 0 to only measure it")?;
        number(
            "momentum",
            self.momentum,
            |value| (0.0..1.0).contains(&value),
            "a number from 0 to below 1, such as 0.9",
        )?;
        if self.momentum.is_some() && self.optimizer != Rule::Sgd {
            return Err("--momentum belongs to --optimizer sgd; leave it out with the other rules".into());
        }
        if self.warmup.is_some() && self.schedule == ScheduleName::Constant {
            return Err("--warmup belongs to --schedule warmup-cosine; leave it out with a constant rate".into());
        }
        if self.hidden.contains(&0) {
            return Err("--hidden has a layer of size 0; give every layer at least 1, such as 128 or 256,64".into());
        }
        for (name, value) in [("batch-size", self.batch_size as u64), ("epochs", self.epochs as u64)] {
            if value == 0 {
                return Err(format!("--{name} is 0; give at least 1").into());
            }
        }
        if self.max_steps == Some(0) {
            return Err("--max-steps is 0; give at least 1, or leave it out to train all epochs".into());
        }
        let plot = self.plot_path();
        let folder = plot.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(format!("--plot: {} is not a folder; make it, or draw elsewhere", folder.display()).into());
        }
        Ok(())
    }

    pub(crate) fn plot_path(&self) -> PathBuf {
        self.plot.clone().unwrap_or_else(|| {
            let target = Path::new("target");
            if target.is_dir() { target.join("mlp_mnist.svg") } else { "mlp_mnist.svg".into() }
        })
    }

    /// The data set, and a line that says which it is.
    pub(crate) fn load_data(&self) -> Result<(Data, String)> {
        if let Some(folder) = &self.data {
            return Ok((read_folder(folder)?, format!("from {}", folder.display())));
        }
        if let Some(folder) = &self.download {
            let folder = folder.clone().unwrap_or_else(download::default_folder);
            let fetched = download::download(&folder, &self.url)?;
            let origin = format!("MNIST from {} ({fetched} of 4 files fetched, checksums right)", folder.display());
            return Ok((read_folder(&folder)?, origin));
        }
        let origin = "synthetic digits drawn by the example; --download fetches the real MNIST, --data DIR reads it";
        Ok((digits::draw(self.seed), origin.to_owned()))
    }

    pub(crate) fn lr(&self) -> f64 {
        self.lr.unwrap_or(match self.optimizer {
            Rule::Adamw | Rule::Adam => 0.004,
            Rule::Sgd => 0.1,
            Rule::Lion => 0.0004,
        })
    }

    /// The optimizer for a run of `total_steps`.
    pub(crate) fn optimizer(&self, total_steps: u64) -> Result<OptimizerBuilder> {
        let lr = self.lr();
        let decay = |default| self.weight_decay.unwrap_or(default);
        let builder = match self.optimizer {
            Rule::Adamw => Optimizer::builder(AdamW::default().with_lr(lr).with_weight_decay(decay(0.01))),
            Rule::Adam => Optimizer::builder(Adam::default().with_lr(lr).with_weight_decay(decay(0.0))),
            Rule::Sgd => {
                let momentum = self.momentum.unwrap_or(0.9);
                Optimizer::builder(Sgd::default().with_lr(lr).with_momentum(momentum).with_weight_decay(decay(0.0)))
            }
            Rule::Lion => Optimizer::builder(Lion::default().with_lr(lr).with_weight_decay(decay(0.1))),
        };
        let schedule = match self.schedule {
            ScheduleName::Constant => Schedule::constant(lr),
            ScheduleName::WarmupCosine => {
                let warmup = self.warmup.unwrap_or(total_steps / 20);
                if warmup > total_steps {
                    return Err(format!("--warmup is {warmup}, but the run has {total_steps} steps; give fewer").into());
                }
                Schedule::warmup_cosine(lr, warmup, total_steps)
            }
        };
        let max_norm = if self.clip == 0.0 { f64::INFINITY } else { self.clip };
        Ok(builder
            .schedule(schedule)
            .clip(Clip::global_norm(max_norm))
            .group(NO_DECAY, GroupOptions::default().with_weight_decay(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flags: &[&str]) -> String {
        let args = Args::try_parse_from(["mlp_mnist"].iter().chain(flags)).expect("well formed");
        let checked = args.validate().and_then(|()| args.optimizer(100).map(drop));
        checked.expect_err("these flags are wrong").to_string()
    }

    #[test]
    fn the_defaults_are_valid_for_every_rule() {
        for rule in ["adamw", "adam", "sgd", "lion"] {
            let args = Args::try_parse_from(["mlp_mnist", "--optimizer", rule]).expect("well formed");
            args.validate().expect("valid");
            let layout = wgpu_optim::Layout::builder().tensor("w", &[1]).group(NO_DECAY).build().expect("valid");
            args.optimizer(100).expect("valid").build_cpu(&layout).expect("valid");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        for (flags, found) in [
            (&["--batch-size", "0"] as &[&str], "--batch-size is 0; give at least 1"),
            (&["--epochs", "0"], "--epochs is 0; give at least 1"),
            (&["--max-steps", "0"], "--max-steps is 0; give at least 1"),
            (&["--hidden", "128,0"], "--hidden has a layer of size 0"),
            (&["--lr", "-0.1"], "--lr is -0.1; give a finite number of 0 or more"),
            (&["--lr", "nan"], "--lr is NaN"),
            (&["--weight-decay", "-1"], "--weight-decay is -1"),
            (&["--clip", "-1"], "--clip is -1"),
            (&["--clip", "inf"], "--clip is inf"),
            (&["--optimizer", "sgd", "--momentum", "1"], "--momentum is 1; give a number from 0 to below 1"),
            (&["--momentum", "0.9"], "--momentum belongs to --optimizer sgd"),
            (&["--schedule", "constant", "--warmup", "5"], "--warmup belongs to --schedule warmup-cosine"),
            (&["--warmup", "101"], "--warmup is 101, but the run has 100 steps"),
            (&["--plot", "no/such/folder/curves.svg"], "--plot: no/such/folder is not a folder"),
        ] {
            let message = refusal(flags);
            assert!(message.contains(found), "{flags:?}: {message}");
        }
    }

    #[test]
    fn data_and_download_exclude_each_other() {
        assert!(Args::try_parse_from(["mlp_mnist", "--data", "x", "--download"]).is_err());
        let args = Args::try_parse_from(["mlp_mnist", "--download", "--epochs", "1"]).expect("well formed");
        assert_eq!(args.download, Some(None));
    }
}
