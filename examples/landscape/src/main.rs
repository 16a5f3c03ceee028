//! Rules of the crate descend well-known functions from thousands of points, each rule in flat buffers of its own, and
//! pictures show how. See the README of this package.

mod args;
mod basins;
mod captions;
mod contours;
mod cpu;
mod gpu;
mod movie;
mod paths;
mod race;
mod table;
#[cfg(test)]
mod tests;

use std::fs;
use std::process::ExitCode;

use clap::Parser;

use args::Args;
use basins::Basins;
use examples_common::functions::Function;
use examples_common::outcome::exit_code;
use examples_common::{device, files, picture, rules};
use paths::Paths;
use race::{Course, Entry, Record, race};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Starting points of rules to which each is a tensor.
const FEW: usize = 100;

/// One function's race.
struct Run<'a> {
    function: &'a Function,
    entries: Vec<Entry>,
    records: Vec<Record>,
}

impl Run<'_> {
    /// The rules of these names, in their order.
    fn shown<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = (&'a Entry, &'a Record)> {
        let find = |name: &String| self.entries.iter().zip(&self.records).find(|(entry, _)| entry.name == *name);
        names.iter().filter_map(find)
    }
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let functions = args.functions()?;
    let rules = rules::rules(&args.rules).map_err(|error| format!("--rules: {error}"))?;
    let names: Vec<_> = rules.iter().map(|(name, _)| name.as_str()).collect();
    let shown = args.shown(&names)?;
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    picture::register_fonts()?;
    let (device, why) = device::choose(args.device)?;
    println!("device: {why}");

    let frames = movie::frames(args.steps);
    let mut tables = String::from("# Races\n");
    let mut runs = Vec::new();
    for function in functions {
        let entries = table::tune(&device, function, &rules, args.steps)?;
        let starts = function.starts(args.points as usize);
        let few_starts = function.starts(starts.len().min(FEW));
        let course = Course {
            function,
            starts: &starts,
            few_starts: &few_starts,
            steps: args.steps,
            frames: &frames,
            path: true,
        };
        let records = race(&device, &course, &entries)?;
        let table = table::markdown(&course, &entries, &records);
        println!("\n{table}");
        tables = format!("{tables}\n{table}");
        runs.push(Run { function, entries, records });
    }

    let table = args.out.join("races.md");
    fs::write(&table, tables)?;
    let mut written = vec![table];
    written.extend(files::save(&Paths { runs: &runs, shown: &shown }, &args.out, "paths")?);
    for run in runs.iter().filter(|run| run.function.minima.len() > 1) {
        let basins = Basins { run, shown: &shown, steps: args.steps };
        written.extend(files::save(&basins, &args.out, &format!("basins_{}", run.function.name))?);
    }
    if let Some(run) = runs.iter().find(|run| run.function.dimensions == 2) {
        written.push(movie::save(run, &shown, &frames, &args.out)?);
    }
    for path in written {
        println!("written: {}", path.display());
    }
    Ok(())
}
