//! The time of a step beside the time of its bytes: see the README of this package.
//!
//! `cargo run --release -p throughput -- --help`

mod adapter;
mod args;
mod case;
mod cpu;
mod formats;
mod gpu;
mod measure;
mod memory;
mod plot;
mod row;
mod stream;
mod variants;

use std::fs;
use std::process::ExitCode;

use clap::Parser;
use examples_common::outcome::exit_code;
use examples_common::rules;
use wgpu_optim::{Gpu, RuleConfig};

use args::{Args, Engines, Size};
use case::Case;
use cpu::Cpu;
use gpu::Device;
use row::{Row, heading, line};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What takes the steps.
trait Engine {
    /// One line about it.
    fn describe(&self) -> String;
    /// Whether memory holds so many elements of a rule with so many streams (parameters, gradients and states).
    fn has_room(&self, elements: usize, streams: usize) -> bool;
    /// Measures a case.
    fn run(&mut self, case: &Case, seconds: f64) -> Result<Row>;
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    if args.describe {
        let gpu = pollster::block_on(Gpu::new())?;
        println!("{}", serde_json::to_string_pretty(&adapter::describe(&gpu))?);
        return Ok(());
    }
    if let Some(size) = args.variants {
        return measure_variants(args, size);
    }
    if let Some(size) = args.formats {
        return measure_formats(args, size);
    }
    let rules = rules::rules(&args.rules).map_err(|error| format!("--rules: {error}"))?;
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    if args.engine != Engines::Gpu {
        engines.push(Box::new(Cpu::new()));
    }
    if args.engine != Engines::Cpu {
        match pollster::block_on(Gpu::new()) {
            Ok(gpu) => engines.push(Box::new(Device::new(gpu))),
            Err(error) if args.engine == Engines::Gpu => return Err(error.into()),
            Err(error) => println!("no steps on a GPU: {error}"),
        }
    }
    let mut report = Report { args, rows: Vec::new(), failed: Vec::new() };
    // Before anything is measured: a file that cannot be written is an error now.
    report.write()?;
    for engine in &mut engines {
        println!("\n{}\n{}", engine.describe(), heading());
        for (name, rule) in &rules {
            for &size in &args.sizes {
                let elements = match size {
                    Size::Elements(elements) => elements,
                    Size::Max => most_elements(&**engine, Case::streams_of(rule)),
                };
                for division in args.divisions() {
                    let row = measure_one(&mut **engine, args.seconds, (name, rule), elements, division);
                    report.add(name, row)?;
                }
            }
        }
    }
    println!("\nresident memory at the end: {:.0} MiB", memory::resident() as f64 / f64::from(1 << 20));
    if report.failed.is_empty() { Ok(()) } else { Err(report.failed.join("\n").into()) }
}

fn measure_variants(args: &Args, size: Size) -> Result<()> {
    let Size::Elements(parameters) = size else { return Err("--variants max: give a number".into()) };
    let rows = variants::run(&pollster::block_on(Gpu::new())?, parameters, args.seconds)?;
    let json = serde_json::to_string_pretty(&rows)?;
    if let Some(path) = &args.json {
        return fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()).into());
    }
    println!("{json}");
    Ok(())
}

fn measure_formats(args: &Args, size: Size) -> Result<()> {
    let Size::Elements(parameters) = size else { return Err("--formats max: give a number".into()) };
    let gpu = if args.engine == Engines::Cpu { None } else { Some(pollster::block_on(Gpu::new())?) };
    let rows = formats::run(gpu.as_ref(), parameters, args.seconds)?;
    println!("{}", formats::table(&rows));
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn measure_one(
    engine: &mut dyn Engine,
    seconds: f64,
    (name, rule): (&str, &RuleConfig),
    elements: usize,
    division: (u32, u32, bool),
) -> Result<Row> {
    if elements == 0 || !engine.has_room(elements, Case::streams_of(rule)) {
        return Err(format!(
            "no room in memory for {elements} elements; --sizes max takes as many as there is room for"
        )
        .into());
    }
    engine.run(&Case::new(name, rule.clone(), elements, division)?, seconds)
}

/// The largest power of two, or one and a half of one, for which there is room.
fn most_elements(engine: &dyn Engine, streams: usize) -> usize {
    let sizes = (10..32).flat_map(|exponent| [1usize << exponent, 3 << (exponent - 1)]);
    let fitting =
        sizes.take_while(|&elements| elements as u64 <= wgpu_optim::MAX_ELEMENTS && engine.has_room(elements, streams));
    fitting.last().unwrap_or_default()
}

/// What was measured so far; written after every case, so that nothing is lost when a later one fails.
struct Report<'a> {
    args: &'a Args,
    rows: Vec<Row>,
    failed: Vec<String>,
}

impl Report<'_> {
    fn add(&mut self, name: &str, row: Result<Row>) -> Result<()> {
        match row {
            Ok(row) => {
                println!("{}", line(&row));
                self.rows.push(row);
                self.write()
            }
            Err(error) => {
                println!("{name}: {error}");
                self.failed.push(format!("{name}: {error}"));
                Ok(())
            }
        }
    }

    fn write(&self) -> Result<()> {
        if let Some(path) = &self.args.json {
            let json = serde_json::to_string_pretty(&self.rows)?;
            fs::write(path, json)
                .map_err(|error| format!("{} cannot be written: {error}; give --json another file", path.display()))?;
        }
        if let Some(path) = &self.args.plot {
            plot::draw(&self.rows, path)?;
        }
        Ok(())
    }
}
