//! Replays recorded gradients through an optimizer and writes what our step makes of them, to compare with any other
//! framework. See this folder's README.
//!
//! `cargo run --release -p replay -- --config config.json --trace trace.safetensors --out out.safetensors`

mod config;
mod engine;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use config::Config;
use engine::Engine;
use examples_common::outcome::exit_code;
use trace::{Recording, Trace};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Device {
    /// Any adapter, software too.
    Gpu,
    /// The CPU engine.
    Cpu,
}

/// Replays a recorded run through an optimizer.
#[derive(Debug, Parser)]
struct Args {
    /// Optimizer, schedule, clipping, groups and tensors, as JSON
    #[arg(long)]
    config: PathBuf,
    /// `param`, `grad.0`, `grad.1`, …, and for Sophia `hessian.K`, as safetensors
    #[arg(long)]
    trace: PathBuf,
    /// Where to write parameters, states and statistics, as safetensors
    #[arg(long)]
    out: PathBuf,
    #[arg(long, value_enum, default_value = "gpu")]
    device: Device,
    /// Also write the parameters after every step, as `param.0`, `param.1`, …
    #[arg(long)]
    every_step: bool,
}

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    exit_code(run(&Args::parse()).map(|summary| println!("{summary}")))
}

fn run(args: &Args) -> Result<String, Error> {
    let config = Config::read(&args.config)?;
    let trace = Trace::read(&args.trace)?;
    let layout = config.layout(trace.param.len())?;
    let builder = config.builder()?;
    let mut engine = match args.device {
        Device::Cpu => Engine::cpu(builder.build_cpu(&layout)?, &trace.param),
        Device::Gpu => {
            let gpu = pollster::block_on(wgpu_optim::Gpu::new())?;
            Engine::gpu(builder.build(&gpu.device, &gpu.queue, &layout)?, gpu, &trace.param)
        }
    };
    let mut recording = Recording::default();
    for step in 0..trace.grads.len() {
        if let Some(estimate) = trace.hessians.get(&step) {
            engine.update_hessian(estimate)?;
        }
        let stats = engine.step(&trace.grads[step])?;
        recording.push(&stats);
        if args.every_step {
            recording.tensor(format!("param.{step}"), engine.params()?);
        }
    }
    recording.tensor("param".to_owned(), engine.params()?);
    for name in engine.state_names() {
        recording.tensor(name.clone(), engine.state(&name)?);
    }
    recording.write(&args.out)?;
    Ok(format!(
        "{} steps of {} on {} elements, {} skipped: {}",
        trace.grads.len(),
        engine.describe(),
        trace.param.len(),
        recording.skipped(),
        args.out.display()
    ))
}

#[cfg(test)]
mod tests;
