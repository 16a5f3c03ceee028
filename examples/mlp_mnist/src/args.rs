//! The command line, and the optimizer it describes.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::{OptimizerBuilder, Schedule};

use crate::{Result, compare};
use examples_common::arguments::check_folder;
use mlp_mnist::precision::Format;
use mlp_mnist::rules::{Choice, check_lr};
use mlp_mnist::setup::Setup;

/// The way to a build with pictures.
pub(crate) const PLOT_HINT: &str = "for pictures run: cargo run --release -p mlp_mnist --features plot -- ...";

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
    #[command(flatten)]
    pub(crate) setup: Setup,

    /// Train with each of these rules from the same start, and show all in one table; with the feature `plot` also in one
    /// picture. An own learning rate is written `adamw:0.002`.
    #[arg(long, value_name = "RULE,...", value_delimiter = ',', value_parser = Choice::read, group = "comparison")]
    #[arg(conflicts_with_all = ["optimizer", "lr", "momentum", "weight_decay", "plot"])]
    pub(crate) compare: Vec<Choice>,

    /// Train in each format of --precision from the same start, and show bytes and accuracies in one table.
    #[arg(long, group = "comparison", conflicts_with_all = ["precision", "init_scale", "plot", "save", "resume", "history"])]
    pub(crate) compare_precisions: bool,

    /// Folder for the picture and the table of --compare, and the table of --compare-precisions.
    #[arg(long, value_name = "DIR", default_value = "target/mlp_mnist", requires = "comparison")]
    pub(crate) out: PathBuf,

    /// Peak learning rate [default: adamw, adam 0.004, momentum 0.1, lion 0.0004, ...]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) lr: Option<f64>,

    /// Learning rate over time.
    #[arg(long, value_enum, default_value = "warmup-cosine")]
    pub(crate) schedule: ScheduleName,

    /// Steps of the linear rise [default: a twentieth of all steps]
    #[arg(long, value_name = "STEPS")]
    pub(crate) warmup: Option<u64>,

    /// Passes over the training set.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) epochs: usize,

    /// Stop after this many steps, evaluate all the same.
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<u64>,

    /// File of the curves, as SVG [default: `mlp_mnist.svg`, in `target` where there is one]. Needs the feature
    /// `plot`.
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    /// Save network and optimizer to this file after each epoch, at the end, and on Ctrl-C.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(crate) save: Option<PathBuf>,

    /// Continue the run that saved this file, with the same flags.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(crate) resume: Option<PathBuf>,

    /// Write what the optimizer says of each step as CSV, with norms of parameters and updates in one of 50.
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    pub(crate) history: Option<PathBuf>,
}

impl Args {
    /// Refuses what would fail only later, or not at all.
    pub(crate) fn validate(&self) -> Result<()> {
        self.setup.validate()?;
        check_lr(self.lr)?;
        compare::check(&self.compare)?;
        if self.warmup.is_some() && self.schedule == ScheduleName::Constant {
            return Err("--warmup belongs to --schedule warmup-cosine; leave it out with a constant rate".into());
        }
        if self.epochs == 0 {
            return Err("--epochs is 0; give at least 1".into());
        }
        if self.max_steps == Some(0) {
            return Err("--max-steps is 0; give at least 1, or leave it out to train all epochs".into());
        }
        if self.plot.is_some() && cfg!(not(feature = "plot")) {
            return Err(format!("--plot is not in this build; {PLOT_HINT}").into());
        }
        check_folder("--plot", &self.plot_path())?;
        self.save.as_ref().map_or(Ok(()), |save| check_folder("--save", save))?;
        self.history.as_ref().map_or(Ok(()), |history| check_folder("--history", history))
    }

    pub(crate) fn plot_path(&self) -> PathBuf {
        self.plot.clone().unwrap_or_else(|| {
            let target = Path::new("target");
            if target.is_dir() { target.join("mlp_mnist.svg") } else { "mlp_mnist.svg".into() }
        })
    }

    /// The rule of a run without --compare.
    pub(crate) fn choice(&self) -> Choice {
        self.setup.choice(self.lr)
    }

    /// The optimizer for a run of `total_steps`, but for its formats. With a loss scale it stores every step.
    pub(crate) fn optimizer(&self, choice: &Choice, format: &Format, total_steps: u64) -> Result<OptimizerBuilder> {
        let schedule = match self.schedule {
            ScheduleName::Constant => Schedule::constant(choice.lr),
            ScheduleName::WarmupCosine => {
                let warmup = self.warmup.unwrap_or(total_steps / 20);
                if warmup > total_steps {
                    return Err(format!("--warmup is {warmup}, but the run has {total_steps} steps; give fewer").into());
                }
                Schedule::warmup_cosine(choice.lr, warmup, total_steps)
            }
        };
        let builder = self.setup.builder(choice)?.schedule(schedule);
        let steps = u32::try_from(total_steps).unwrap_or(u32::MAX);
        let history = HistoryOptions::steps(steps);
        Ok(match (&self.history, &format.scaler) {
            (Some(_), _) => builder.history(history.with_norms_every(50)),
            (None, Some(_)) => builder.history(history),
            (None, None) => builder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlp_mnist::model::NO_DECAY;
    use mlp_mnist::{precision, rules};

    fn refusal(flags: &[&str]) -> String {
        let args = Args::try_parse_from(["mlp_mnist"].iter().chain(flags)).expect("well formed");
        let checked = args.validate().and_then(|()| args.optimizer(&args.choice(), &Format::default(), 100).map(drop));
        checked.expect_err("these flags are wrong").to_string()
    }

    #[test]
    fn the_defaults_are_valid_for_every_rule_in_every_format() {
        for rule in rules::names() {
            let args = Args::try_parse_from(["mlp_mnist", "--optimizer", rule]).expect("well formed");
            args.validate().expect("valid");
            let layout = wgpu_optim::Layout::builder().tensor("w", &[1]).group(NO_DECAY).build().expect("valid");
            for name in precision::names() {
                let format = args.setup.format(name).expect("known");
                let optimizer = args.optimizer(&args.choice(), &format, 100).expect("valid");
                format.builder(optimizer).build_cpu(&layout).unwrap_or_else(|error| panic!("{rule}, {name}: {error}"));
            }
        }
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        let wrong_plot =
            if cfg!(feature = "plot") { "--plot: no/such/folder is not a folder" } else { "--features plot" };
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
            (&["--optimizer", "momentum", "--momentum", "1"], "--momentum is 1; give a number from 0 to below 1"),
            (&["--init-scale", "8"], "--init-scale belongs to --precision f16"),
            (&["--momentum", "0.9"], "--momentum belongs to --optimizer momentum"),
            (&["--schedule", "constant", "--warmup", "5"], "--warmup belongs to --schedule warmup-cosine"),
            (&["--warmup", "101"], "--warmup is 101, but the run has 100 steps"),
            (&["--optimizer", "rprop", "--weight-decay", "0.1"], "--optimizer rprop: unknown field `weight_decay`"),
            (&["--compare", "sgd,adam,adamw,lion,adan,lamb,nadam,radam"], "--compare has 8 rules; give at most 7"),
            (&["--plot", "no/such/folder/curves.svg"], wrong_plot),
            (&["--save", "no/such/folder/run"], "--save: no/such/folder is not a folder"),
            (&["--history", "no/such/folder/steps.csv"], "--history: no/such/folder is not a folder"),
        ] {
            let message = refusal(flags);
            assert!(message.contains(found), "{flags:?}: {message}");
        }
    }

    #[test]
    fn data_and_download_exclude_each_other() {
        assert!(Args::try_parse_from(["mlp_mnist", "--data", "x", "--download"]).is_err());
        let args = Args::try_parse_from(["mlp_mnist", "--download", "--epochs", "1"]).expect("well formed");
        assert_eq!(args.setup.download, Some(None));
    }

    #[test]
    fn compared_rules_have_the_rate_given_or_their_own() {
        let given = |rules: &str| Args::try_parse_from(["mlp_mnist", "--compare", rules]);
        let args = given("sgd:0.25,momentum").expect("well formed");
        let choice = |name: &str, lr| Choice { name: name.to_owned(), lr };
        assert_eq!(args.compare, [choice("sgd", 0.25), choice("momentum", 0.1)]);
        for (rules, found) in [
            ("adamx", "no rule adamx: known are sgd, adam, adamw"),
            ("sophia", "no rule sophia"),
            ("adam:x", "invalid float"),
            ("adam:-1", "--lr is -1"),
        ] {
            let message = given(rules).expect_err(rules).to_string();
            assert!(message.contains(found), "{rules}: {message}");
        }
        for flag in ["--optimizer=sgd", "--lr=1", "--plot=x.svg", "--compare-precisions"] {
            assert!(Args::try_parse_from(["mlp_mnist", "--compare", "sgd", flag]).is_err(), "{flag}");
        }
    }

    #[test]
    fn a_comparison_of_formats_has_no_format_of_its_own() {
        for flag in ["--precision=f16", "--init-scale=8", "--save=x", "--plot=x.svg", "--history=x"] {
            assert!(Args::try_parse_from(["mlp_mnist", "--compare-precisions", flag]).is_err(), "{flag}");
        }
        assert!(Args::try_parse_from(["mlp_mnist", "--compare-precisions", "--out=x", "--lr=1"]).is_ok());
        assert!(Args::try_parse_from(["mlp_mnist", "--out=x"]).is_err());
    }
}
