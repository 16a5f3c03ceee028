//! A differential fuzzer: random optimizers and programs on the device and on the CPU, compared after each call.
//!
//! `cargo xtask fuzz --seed N --cases N --minutes M`. A failing case is shrunk and printed as a test for `cases.rs`.

mod case;
#[cfg(test)]
mod cases;
mod generate;
mod numbers;
mod place;
mod records;
mod reference;
mod run;
mod shrink;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use case::Case;
use run::{Machine, Outcome};

/// Maximum time for shrinking a failing case.
const SHRINK_LIMIT: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(name = "cargo xtask fuzz", about = "Compare random optimizers and programs on both engines")]
struct Options {
    /// The same seed makes the same cases
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the first case
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Maximum number of cases
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    cases: u64,
    /// Maximum time
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
}

/// Counts of a run.
#[derive(Default)]
struct Tally {
    cases: u64,
    steps: u64,
    of_rules: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut machine = match Machine::new() {
        Ok(machine) => machine,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A panic is the outcome of a case, which is printed once.
    std::panic::set_hook(Box::new(|_| ()));
    println!("seed {} on {}", options.seed, machine.describe());
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(60.0 * options.minutes));
    let mut tally = Tally::default();
    for number in options.first..options.first.saturating_add(options.cases) {
        if start.elapsed() >= limit {
            break;
        }
        if number % generate::CASES_PER_RULE == 0 {
            machine.forget_kernels();
        }
        let case = generate::case(options.seed, number);
        tally.cases += 1;
        let rule = case.rule["name"].as_str().unwrap_or_default().to_owned();
        match machine.run(&case) {
            Outcome::Held(steps) => {
                *tally.of_rules.entry(rule).or_default() += 1;
                tally.steps += steps;
            }
            Outcome::Refused(error) => *tally.refused.entry(error).or_default() += 1,
            Outcome::Failed(difference) => {
                println!("case {number} ({rule}) failed: {difference}\nshrinking it");
                let is_panic = difference.starts_with("panic");
                let fails = |case: &Case| matches!(machine.run(case), Outcome::Failed(new) if new.starts_with("panic") == is_panic);
                let small = shrink::shrink(case, SHRINK_LIMIT, fails);
                report_failure(options.seed, number, &small, &machine.run(&small));
                tally.report(start.elapsed());
                return ExitCode::FAILURE;
            }
        }
    }
    tally.report(start.elapsed());
    ExitCode::SUCCESS
}

/// Prints a failing case as a test.
fn report_failure(seed: u64, number: u64, case: &Case, outcome: &Outcome) {
    let json = serde_json::to_string_pretty(case).unwrap_or_default();
    println!("{outcome:?}\n\nFor tests/fuzz/src/cases.rs:\n");
    println!("#[test]\nfn case_{seed}_{number}() {{\n    assert_holds(\n        r#\"{json}\"#,\n    );\n}}\n");
}

impl Tally {
    fn report(&self, time: Duration) {
        let refused: u64 = self.refused.values().sum();
        let share = 100.0 * refused as f64 / self.cases.max(1) as f64;
        println!(
            "{} cases in {:.0} s, {} steps compared, {refused} configurations ({share:.0} %) refused by both engines",
            self.cases,
            time.as_secs_f64(),
            self.steps
        );
        let rules: Vec<String> = self.of_rules.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        println!("cases per rule: {}", rules.join(", "));
        for (error, count) in &self.refused {
            println!("refused {count} times: {error}");
        }
    }
}
