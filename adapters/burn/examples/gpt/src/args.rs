//! The command line, and the optimizer it describes.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use examples_common::arguments::check_folder;
use wgpu_optim::{Clip, Ema, OptimizerBuilder, Schedule};

use crate::precision::Format;
use crate::{Result, precision, rules};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Other {
    /// burn's own AdamW, with a global norm of burn's operations.
    Burn,
}

/// Trains a small GPT in burn with wgpu-optim. It speaks as it learns.
#[derive(Debug, Clone, Parser)]
#[command(name = "gpt", args_override_self = true)]
pub(crate) struct Args {
    /// UTF-8 text to learn [default: Alice's Adventures in Wonderland, which comes with the example]
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// Blocks of the network.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) layers: usize,

    /// Attention heads of a block.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) heads: usize,

    /// Width of the residual stream.
    #[arg(long, value_name = "N", default_value_t = 96)]
    pub(crate) width: usize,

    /// Characters that a prediction may look back at.
    #[arg(long, value_name = "N", default_value_t = 48)]
    pub(crate) context: usize,

    /// Share of activations that training sets to 0 at random.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, allow_hyphen_values = true)]
    pub(crate) dropout: f64,

    /// Windows of the text per backward pass.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(crate) batch_size: usize,

    /// Backward passes per optimizer step.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) accumulate: usize,

    /// Optimizer steps.
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub(crate) steps: u64,

    /// Update rule.
    #[arg(long, default_value = "adamw", value_parser = PossibleValuesParser::new(rules::names()))]
    pub(crate) optimizer: String,

    /// Peak learning rate [default: adamw 0.004, momentum 0.1, lion 0.0005, ...]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) lr: Option<f64>,

    /// Steps of the linear rise to the peak [default: a twentieth of all steps]
    #[arg(long, value_name = "STEPS")]
    pub(crate) warmup: Option<u64>,

    /// Weight decay of the weights; biases and norms have none [default: AdamW 0.1, schedule-free too, lion 1, others 0]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub(crate) weight_decay: Option<f64>,

    /// Clip gradients to this global norm; 0 only measures it.
    #[arg(long, value_name = "NORM", default_value_t = 1.0, allow_hyphen_values = true)]
    pub(crate) clip: f64,

    /// Decay of the parameters' running average, which is evaluated and speaks; 0 for none. Schedule-free rules have
    /// their own.
    #[arg(long, value_name = "DECAY", default_value_t = 0.99, allow_hyphen_values = true)]
    pub(crate) ema: f64,

    /// Storage formats of parameters, gradients and states.
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = PossibleValuesParser::new(precision::names()))]
    pub(crate) precision: String,

    /// Seed of the initial parameters, the windows, dropout and the samples.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// Steps from one evaluation, with a sample, to the next [default: a fifth of all steps]
    #[arg(long, value_name = "STEPS")]
    pub(crate) evaluate_every: Option<u64>,

    /// The beginning of a sample.
    #[arg(long, value_name = "TEXT", default_value = "Alice ")]
    pub(crate) prompt: String,

    /// Characters of a sample; 0 for no samples.
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) length: usize,

    /// Below 1, samples take likely characters more often.
    #[arg(long, default_value_t = 0.8, allow_hyphen_values = true)]
    pub(crate) temperature: f64,

    /// Save network and optimizer to this file after each evaluation, at the end, and on Ctrl-C.
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Continue the run that saved this file, with the same flags.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,

    /// File of the curves, as SVG [default: `gpt.svg`, in `target` where there is one]
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,

    /// Train with both optimizers from the same start, without average, and draw losses and times.
    #[arg(long, value_enum, conflicts_with_all = ["optimizer", "precision", "save", "resume"])]
    pub(crate) compare: Option<Other>,
}

impl Args {
    /// Refuses what would fail only later, or not at all.
    pub(crate) fn validate(&self) -> Result<()> {
        for (name, count) in [
            ("layers", self.layers),
            ("heads", self.heads),
            ("width", self.width),
            ("context", self.context),
            ("batch-size", self.batch_size),
            ("accumulate", self.accumulate),
            ("steps", self.steps as usize),
            ("evaluate-every", self.evaluate_every() as usize),
        ] {
            if count == 0 {
                return Err(format!("--{name} is 0; give at least 1").into());
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            return Err(format!(
                "--width is {}, which {} heads do not divide; give a multiple of --heads",
                self.width, self.heads
            )
            .into());
        }
        let number = |name: &str, value: f64, fits: fn(f64) -> bool, allowed: &str| {
            if fits(value) { Ok(()) } else { Err(format!("--{name} is {value}; give {allowed}")) }
        };
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        number("lr", self.lr(), not_negative, "a finite number of 0 or more, such as 0.001")?;
        number("weight-decay", self.weight_decay.unwrap_or(0.0), not_negative, "a finite number of 0 or more")?;
        number("clip", self.clip, not_negative, "a finite norm such as 1, or 0 to only measure it")?;
        number("dropout", self.dropout, share, "a number from 0 to below 1, such as 0.1")?;
        number("ema", self.ema, share, "a number from 0 to below 1, such as 0.99")?;
        number("temperature", self.temperature, |value| value > 0.0 && value.is_finite(), "a number above 0")?;
        if self.prompt.is_empty() && self.length > 0 {
            return Err("--prompt is empty; give at least one character of the text".into());
        }
        if self.warmup() > self.steps {
            let (warmup, steps) = (self.warmup(), self.steps);
            return Err(format!("--warmup is {warmup}, but the run has {steps} steps; give fewer").into());
        }
        check_folder("--plot", &self.plot_path())?;
        self.save.as_ref().map_or(Ok(()), |save| check_folder("--save", save))
    }

    pub(crate) fn plot_path(&self) -> PathBuf {
        let name = if self.compare.is_some() { "gpt_compare.svg" } else { "gpt.svg" };
        self.plot.clone().unwrap_or_else(|| {
            let target = Path::new("target");
            if target.is_dir() { target.join(name) } else { name.into() }
        })
    }

    pub(crate) fn evaluate_every(&self) -> u64 {
        self.evaluate_every.unwrap_or(self.steps.div_ceil(5))
    }

    pub(crate) fn lr(&self) -> f64 {
        self.lr.unwrap_or(rules::default_lr(&self.optimizer))
    }

    pub(crate) fn weight_decay(&self) -> f64 {
        self.weight_decay.or(rules::default_decay(&self.optimizer)).unwrap_or(0.0)
    }

    fn warmup(&self) -> u64 {
        self.warmup.unwrap_or(self.steps / 20)
    }

    pub(crate) fn max_norm(&self) -> f64 {
        if self.clip == 0.0 { f64::INFINITY } else { self.clip }
    }

    /// After the warm-up, half a cosine to a tenth of the peak, or a constant rate for schedule-free rules.
    pub(crate) fn schedule(&self) -> Result<Schedule> {
        let schedule = if rules::is_schedule_free(&self.optimizer) {
            Schedule::constant(self.lr()).with_warmup(self.warmup())
        } else {
            Schedule::warmup_cosine(self.lr(), self.warmup(), self.steps).with_min_lr(self.lr() / 10.0)
        };
        schedule.lr(0)?;
        Ok(schedule)
    }

    /// True if evaluations read a running average; schedule-free rules have one of their own.
    fn has_ema(&self) -> bool {
        self.ema > 0.0 && self.compare.is_none() && !rules::is_schedule_free(&self.optimizer)
    }

    /// True if evaluations read other parameters than those that are trained.
    pub(crate) fn has_average(&self) -> bool {
        self.has_ema() || rules::is_schedule_free(&self.optimizer)
    }

    pub(crate) fn format(&self) -> Result<Format> {
        Ok(Format::new(&self.precision, self.seed).ok_or_else(|| format!("no precision {}", self.precision))?)
    }

    /// The optimizer, but for its groups.
    pub(crate) fn builder(&self) -> Result<OptimizerBuilder> {
        let builder = rules::builder(&self.optimizer, self.lr(), self.weight_decay)?
            .schedule(self.schedule()?)
            .clip(Clip::global_norm(self.max_norm()));
        let builder = self.format()?.builder(builder);
        let builder = if self.has_ema() { builder.average(Ema::new(self.ema).with_warmup()) } else { builder };
        Ok(if self.accumulate > 1 { builder.accumulate_gradients() } else { builder })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(flags: &[&str]) -> String {
        let args = Args::try_parse_from(["gpt"].iter().chain(flags)).expect("well formed");
        let checked = args.validate().and_then(|()| args.builder().map(drop));
        checked.expect_err("these flags are wrong").to_string()
    }

    #[test]
    fn the_defaults_are_valid_for_every_rule_in_every_format() {
        for rule in rules::names() {
            for format in precision::names() {
                let flags = ["gpt", "--optimizer", rule, "--precision", format, "--accumulate", "2"];
                let args = Args::try_parse_from(flags).expect("well formed");
                args.validate().expect("valid");
                let layout = wgpu_optim::Layout::builder().aligned(256).tensor("w", &[8]).build().expect("valid");
                let built = args.builder().expect("valid").build_cpu(&layout);
                built.unwrap_or_else(|error| panic!("{rule}, {format}: {error}"));
            }
        }
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_allowed() {
        for (flags, found) in [
            (&["--batch-size", "0"] as &[&str], "--batch-size is 0; give at least 1"),
            (&["--steps", "0"], "--steps is 0; give at least 1"),
            (&["--width", "130"], "--width is 130, which 4 heads do not divide"),
            (&["--lr", "-0.1"], "--lr is -0.1; give a finite number of 0 or more"),
            (&["--weight-decay", "-1"], "--weight-decay is -1"),
            (&["--clip", "inf"], "--clip is inf"),
            (&["--dropout", "1"], "--dropout is 1; give a number from 0 to below 1"),
            (&["--ema", "1"], "--ema is 1; give a number from 0 to below 1"),
            (&["--temperature", "0"], "--temperature is 0; give a number above 0"),
            (&["--prompt", ""], "--prompt is empty"),
            (&["--steps", "10", "--warmup", "11"], "--warmup is 11, but the run has 10 steps"),
            (&["--optimizer", "rprop", "--weight-decay", "0.1"], "--optimizer rprop: unknown field `weight_decay`"),
            (&["--plot", "no/such/folder/curves.svg"], "--plot: no/such/folder is not a folder"),
            (&["--save", "no/such/folder/run"], "--save: no/such/folder is not a folder"),
        ] {
            let message = refusal(flags);
            assert!(message.contains(found), "{flags:?}: {message}");
        }
        for flag in ["--optimizer=sgd", "--precision=f32", "--save=x", "--resume=x"] {
            assert!(Args::try_parse_from(["gpt", "--compare", "burn", flag]).is_err(), "{flag}");
        }
    }
}
