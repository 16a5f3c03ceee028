//! Several rules from the same start, in one table and one picture.

#[cfg(feature = "plot")]
mod picture;

use std::fmt::Write;
use std::fs;
use std::time::Instant;

use crate::Result;
use crate::args::Args;
use crate::train::{History, Plan};
use mlp_mnist::engine::Score;
use mlp_mnist::precision::Format;
use mlp_mnist::rules::Choice;
use mlp_mnist::setup::Session;

/// Colours of the picture. A build without pictures takes as many rules.
const COLOURS: usize = 7;

/// A run with one rule.
struct Run {
    /// The rule and its learning rate.
    label: String,
    history: History,
    seconds: f64,
}

impl Run {
    fn last(&self) -> Score {
        self.history.test.last().map_or_else(Score::default, |(_, score)| *score)
    }
}

/// Refuses more rules than the picture has colours.
pub(crate) fn check(rules: &[Choice]) -> Result<()> {
    let (given, most) = (rules.len(), COLOURS);
    if given > most {
        return Err(format!("--compare has {given} rules; give at most {most}, for which there are colours").into());
    }
    Ok(())
}

/// Trains with each rule of `--compare`; writes table and picture.
pub(crate) fn run(args: &Args, session: &Session, plan: &Plan, format: &Format) -> Result<()> {
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let mut runs = Vec::new();
    for choice in &args.compare {
        let start = Instant::now();
        let history = crate::train_with(args, session, plan, choice, format)?;
        let label = format!("{}, lr {}", choice.name, choice.lr);
        runs.push(Run { label, history, seconds: start.elapsed().as_secs_f64() });
    }
    let table = table(&runs);
    print!("{table}");
    let file = args.out.join("compare.md");
    fs::write(&file, table).map_err(|error| format!("{}: {error}", file.display()))?;
    #[cfg(feature = "plot")]
    for path in picture::draw(runs, plan.total_steps(), &args.out)? {
        println!("{}", path.display());
    }
    println!("{}", file.display());
    Ok(())
}

/// As Markdown, the best first.
fn table(runs: &[Run]) -> String {
    let mut runs: Vec<_> = runs.iter().collect();
    runs.sort_by(|a, b| b.last().accuracy().total_cmp(&a.last().accuracy()));
    let mut table = "| rule | test accuracy | test loss | time |\n|---|---|---|---|\n".to_owned();
    for run in runs {
        let Run { label, seconds, .. } = run;
        let (accuracy, loss) = (run.last().accuracy(), run.last().loss());
        // Writing into a string cannot fail.
        let _ = writeln!(table, "| {label} | {accuracy:.2} % | {loss:.4} | {seconds:.1} s |");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::TrainPoint;

    pub(super) fn run(label: &str, correct: u64, steps: u64) -> Run {
        let score = |step: u64| Score { loss_sum: 200.0 / (1 + step) as f64, correct, examples: 100 };
        let point = |step| TrainPoint { step, score: score(step), lr: 1e-3, grad_norm: None };
        let test = (1..=steps).filter(|step| step % 50 == 0).map(|step| (step, score(step))).collect();
        let history = History { train: (1..=steps).map(point).collect(), test, ..History::default() };
        Run { label: label.to_owned(), history, seconds: 1.5 }
    }

    #[test]
    fn the_table_begins_with_the_best() {
        let table = table(&[run("sgd, lr 0.5", 80, 100), run("lion, lr 0.1", 90, 100)]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows, ["| lion, lr 0.1 | 90.00 % | 0.0198 | 1.5 s |", "| sgd, lr 0.5 | 80.00 % | 0.0198 | 1.5 s |"]);
    }
}
