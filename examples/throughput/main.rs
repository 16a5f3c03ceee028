//! What a step costs beside what its bytes cost: see the README beside this file.
//!
//! `cargo run --release --example throughput -- --help`

mod args;
mod case;
mod cpu;
mod gpu;
mod measure;
mod memory;
mod plot;
mod row;
mod stream;

use std::fs;

use clap::Parser;
use wgpu_optim::Gpu;

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
    /// The most elements a rule with so many streams (parameters, gradients and states) has room for.
    fn most_elements(&self, streams: usize) -> usize;
    /// Measures a case.
    fn run(&mut self, case: &Case, seconds: f64) -> Result<Row>;
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rules = args.rules()?;
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
    let mut rows = Vec::new();
    for engine in &mut engines {
        println!("\n{}\n{}", engine.describe(), heading());
        for (name, rule) in &rules {
            for &size in &args.sizes {
                let elements = match size {
                    Size::Elements(elements) => elements,
                    Size::Max => engine.most_elements(Case::streams_of(rule)),
                };
                for &clip in args.clip_modes() {
                    let case = Case::new(name, rule.clone(), clip, elements, args.tensors, args.groups)?;
                    let most = engine.most_elements(case.streams());
                    if elements > most {
                        println!("{name}: no room for {elements} elements; --sizes max takes {most}");
                        continue;
                    }
                    let row = engine.run(&case, args.seconds)?;
                    println!("{}", line(&row));
                    rows.push(row);
                }
            }
        }
    }
    println!("\nresident memory at the end: {:.0} MiB", memory::resident() as f64 / f64::from(1 << 20));
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&rows)?;
        fs::write(path, json).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&rows, path)?;
    }
    Ok(())
}
