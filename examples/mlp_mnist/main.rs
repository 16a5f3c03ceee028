//! Trains a multilayer perceptron on MNIST: the kernels of forward and backward pass and the optimizer step go to the
//! device in one submission per step. See README.md beside this file.

mod args;
mod cpu;
mod data;
#[path = "../common/device.rs"]
mod device;
mod engine;
mod gemm;
mod gpu;
mod model;
#[path = "../common/picture.rs"]
mod picture;
mod plot;
#[cfg(test)]
mod tests;
mod train;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use args::Args;
use cpu::CpuEngine;
use data::CLASSES;
use device::Device;
use engine::{Batches, Engine};
use gpu::GpuEngine;
use model::Model;
use train::{Plan, train};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(message) => {
            // Help goes to stdout and is no failure; a wrong flag is.
            let failed = message.use_stderr();
            return if message.print().is_err() || failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A choice as it is written on the command line.
fn name(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn run(args: &Args) -> Result<()> {
    args.validate()?;
    let (data, origin) = args.load_data()?;
    if args.batch_size > data.train.len() {
        return Err(format!(
            "--batch-size is {}, but there are {} training examples; give at most that many",
            args.batch_size,
            data.train.len(),
        )
        .into());
    }
    let plan = Plan {
        batches: Batches { len: data.train.len(), size: args.batch_size },
        epochs: args.epochs,
        max_steps: args.max_steps,
        seed: args.seed,
    };
    let sizes: Vec<usize> =
        [data.train.pixels].into_iter().chain(args.hidden.iter().copied()).chain([CLASSES]).collect();
    let model = Model::new(&sizes)?;
    let optimizer = args.optimizer(plan.total_steps())?;
    let parameters = model.initial_parameters(args.seed);

    println!("data: {} training and {} test images, {origin}", data.train.len(), data.test.len());
    let (device, why) = device::choose(args.device)?;
    println!("device: {why}");
    let names: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    println!(
        "model: {}, {} parameters; {} with {} lr {:?}; steps {}, batch {}",
        names.join("-"),
        model.parameters(),
        name(&args.optimizer),
        name(&args.schedule),
        args.lr(),
        plan.total_steps(),
        args.batch_size,
    );
    let mut engine: Box<dyn Engine + '_> = match device {
        Device::Cpu => {
            let optimizer = optimizer.build_cpu(&model.layout)?;
            Box::new(CpuEngine::new(&model, &data, optimizer, args.batch_size, parameters))
        }
        Device::Gpu(gpu) => {
            let optimizer = optimizer.build(&gpu.device, &model.layout)?;
            Box::new(GpuEngine::new(gpu, &model, &data, optimizer, args.batch_size, &parameters)?)
        }
    };
    let history = train(&mut *engine, &plan)?;
    if history.skipped > 0 {
        println!("{} steps were skipped: their gradients were not finite; try a smaller --lr", history.skipped);
    }
    let path = args.plot_path();
    plot::draw(&history, &path)?;
    println!("curves: {}", path.display());
    let (_, test) = history.test.last().ok_or("nothing was evaluated")?;
    println!("test accuracy: {:.2} %", test.accuracy());
    Ok(())
}
