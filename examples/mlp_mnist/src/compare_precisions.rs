//! Every storage format from the same start, in one table.

use std::fmt::Write;
use std::fs;

use wgpu_optim::{Layout, OptimizerBuilder, Precision};

use crate::Result;
use crate::args::Args;
use crate::train::Plan;
use mlp_mnist::precision::{self, Format};
use mlp_mnist::setup::Session;

/// Bytes per parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bytes {
    params: f64,
    grads: f64,
    /// With what completes the parameters. Small tensors, whose moments stay f32 beside 8 bits, take more.
    states: f64,
}

impl Bytes {
    /// Of an optimizer with these formats.
    fn new(format: &Format, builder: OptimizerBuilder, layout: &Layout) -> Result<Self> {
        let Precision { params, grads, .. } = &format.precision;
        let [params, grads] = [params.dtype(), *grads].map(|dtype| dtype.bytes(1) as f64);
        let all = format.builder(builder).formats(layout)?.bytes_per_parameter();
        Ok(Self { params, grads, states: all - params - grads })
    }

    fn sum(self) -> f64 {
        self.params + self.grads + self.states
    }
}

/// A run in one format.
struct Run {
    name: &'static str,
    bytes: Bytes,
    skipped: u64,
    /// Over the test set, in percent.
    accuracy: f64,
}

/// Trains in each format of `--precision`; writes the table.
pub(crate) fn run(args: &Args, session: &Session, plan: &Plan) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let choice = args.choice();
    let mut runs = Vec::new();
    for name in precision::names() {
        println!("format: {name}");
        let format = args.setup.format(name)?;
        let layout = session.model(&format)?.layout;
        let bytes = Bytes::new(&format, args.optimizer(&choice, &format, plan.total_steps())?, &layout)?;
        let history = crate::train_with(args, session, plan, &choice, &format)?;
        let (_, test) = history.test.last().ok_or("nothing was evaluated")?;
        runs.push(Run { name, bytes, skipped: history.skipped, accuracy: test.accuracy() });
    }
    let table = table(&runs);
    print!("{table}");
    let file = args.out.join("precisions.md");
    fs::write(&file, table).map_err(|error| format!("{}: {error}", file.display()))?;
    println!("{}", file.display());
    Ok(())
}

/// As Markdown, in the order of the runs. Differences are those to the first.
fn table(runs: &[Run]) -> String {
    let mut table =
        "| format | params | grads | states | bytes per parameter | skipped steps | test accuracy | difference |\n\
                     |---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let first = runs.first().map_or(0.0, |run| run.accuracy);
    // Three digits at most, and no zeros behind the last.
    let short = |value: f64| (value * 1e3).round() / 1e3;
    for Run { name, bytes, skipped, accuracy } in runs {
        let Bytes { params, grads, states } = bytes;
        let [params, grads, states, all] = [*params, *grads, *states, bytes.sum()].map(short);
        let difference = accuracy - first;
        // Writing into a string cannot fail.
        let _ = writeln!(
            table,
            "| {name} | {params} | {grads} | {states} | {all} | {skipped} | {accuracy:.2} % | {difference:+.2} |"
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn bytes_are_those_of_the_formats() {
        let args = Args::try_parse_from(["mlp_mnist"]).expect("well formed");
        let layout = Layout::builder().tensor("w", &[8_192]).group(mlp_mnist::model::NO_DECAY).build().expect("valid");
        let bytes = |name: &str| {
            let format = args.setup.format(name).expect("known");
            let builder = args.optimizer(&args.choice(), &format, 100).expect("valid");
            let Bytes { params, grads, states } = Bytes::new(&format, builder, &layout).expect("valid");
            [params, grads, states]
        };
        // AdamW has two states.
        assert_eq!(bytes("f32"), [4.0, 4.0, 8.0]);
        assert_eq!(bytes("bf16"), [2.0, 2.0, 12.0]);
        assert_eq!(bytes("f16"), [2.0, 2.0, 12.0]);
        assert_eq!(bytes("split"), [2.0, 2.0, 10.0]);
        assert_eq!(bytes("bf16-sr"), [2.0, 2.0, 8.0]);
        // A code of each, and a scale in f32 for 256.
        assert_eq!(bytes("split-8bit"), [2.0, 2.0, 4.031_25]);
        assert_eq!(bytes("bf16-sr-8bit"), [2.0, 2.0, 2.031_25]);
    }

    #[test]
    fn the_table_has_the_difference_to_the_first() {
        let bytes = Bytes { params: 2.0, grads: 2.0, states: 8.078_125 };
        let run = |name, accuracy| Run { name, bytes, skipped: 3, accuracy };
        let table = table(&[run("f32", 97.5), run("f16", 97.25)]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows[0], "| f32 | 2 | 2 | 8.078 | 12.078 | 3 | 97.50 % | +0.00 |");
        assert_eq!(rows[1], "| f16 | 2 | 2 | 8.078 | 12.078 | 3 | 97.25 % | -0.25 |");
    }
}
