//! Fuzzers. `programs`: random optimizers and programs on the device and on the CPU, compared after each call.
//! `checkpoint`: files with absurd contents and right checksums. `config`: settings from random JSON.
//!
//! `cargo xtask fuzz --target T --seed N --cases N --minutes M`. A failing case is shrunk and printed as a test.

mod case;
#[cfg(test)]
mod cases;
mod configs;
mod corpus;
mod files;
mod generate;
mod mutate;
mod numbers;
mod place;
mod records;
mod reference;
mod run;
mod shrink;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde::Serialize;
use serde::de::DeserializeOwned;

use case::Case;
use run::{Machine, Outcome};

/// Maximum time for shrinking a failing case.
const SHRINK_LIMIT: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(name = "cargo xtask fuzz", about = "Random programs on both engines, random checkpoints, random settings")]
struct Options {
    #[arg(long, value_enum, default_value_t = Target::Programs)]
    target: Target,
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

/// The generator of the cases.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Target {
    /// Programs on both engines
    Programs,
    /// Checkpoints with absurd contents and right checksums, on the CPU
    Checkpoint,
    /// Settings from random JSON, on the CPU
    Config,
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
    match options.target {
        Target::Programs => programs(&options),
        Target::Checkpoint => on_cpu(&options, corpus::FILES, files::file, files::check, files::shrink),
        Target::Config => on_cpu(&options, corpus::CONFIGS, configs::config, configs::check, configs::shrink),
    }
}

impl Options {
    /// Numbers of the cases, until the time is over.
    fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        let (start, limit) = (Instant::now(), Duration::from_secs_f64(60.0 * self.minutes));
        (self.first..self.first.saturating_add(self.cases)).take_while(move |_| start.elapsed() < limit)
    }
}

/// Checks random cases on the CPU. `check` returns whether the case was accepted.
fn on_cpu<C: Serialize + DeserializeOwned>(
    options: &Options,
    corpus: &[&str],
    make: fn(u64, u64) -> C,
    check: fn(&C) -> Result<bool, String>,
    shrink: fn(&C) -> C,
) -> ExitCode {
    std::panic::set_hook(Box::new(mutate::note_panic));
    let (start, mut cases, mut accepted) = (Instant::now(), 0u64, 0u64);
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    let known = corpus.iter().map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    let random = options.numbers().map(|number| make(options.seed, number));
    for (number, case) in known.chain(random).enumerate() {
        cases += 1;
        match check(&case) {
            Ok(is_accepted) => accepted += u64::from(is_accepted),
            Err(failure) => {
                let count = failures.entry(failure.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    let small = shrink(&case);
                    let json = serde_json::to_string(&small).unwrap_or_default();
                    println!("case {number} failed: {failure}\nshrunk, it gives {:?}:\n{json}\n", check(&small).err());
                }
            }
        }
    }
    println!("{cases} cases in {:.0} s, {accepted} accepted", start.elapsed().as_secs_f64());
    for (failure, count) in &failures {
        println!("{count} times: {failure}");
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn programs(options: &Options) -> ExitCode {
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
    let (start, mut tally) = (Instant::now(), Tally::default());
    for number in options.numbers() {
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
