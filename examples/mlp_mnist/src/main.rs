//! Trains a multilayer perceptron on MNIST: the kernels of forward and backward pass and the optimizer step go to the
//! device in one submission per step. See the README of this package.

mod args;
mod compare;
mod compare_precisions;
#[cfg(feature = "plot")]
mod plot;
#[cfg(test)]
mod tests;
mod train;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::ValueEnum;
use wgpu_optim::checkpoint::Checkpoint;
use wgpu_optim::history::write_csv;

use args::{Args, PLOT_HINT};
use examples_common::arguments;
use mlp_mnist::Result;
use mlp_mnist::engine::Engine;
use mlp_mnist::precision::Format;
use mlp_mnist::rules::Choice;
use mlp_mnist::setup::Session;
use train::{History, Plan, Saving, scales, train};

fn main() -> ExitCode {
    arguments::run(run)
}

fn run(args: &Args) -> Result<()> {
    args.validate()?;
    let session = args.setup.open()?;
    if cfg!(not(feature = "plot")) {
        println!("pictures: none in this build; {PLOT_HINT}");
    }
    let Args { epochs, max_steps, .. } = *args;
    let plan = Plan { batches: session.batches(), epochs, max_steps, seed: args.setup.seed, done: 0 };
    if args.compare_precisions {
        return compare_precisions::run(args, &session, &plan);
    }
    let format = args.setup.format(&args.setup.precision)?;
    if !args.compare.is_empty() {
        return compare::run(args, &session, &plan, &format);
    }
    let history = train_with(args, &session, &plan, &args.choice(), &format)?;
    #[cfg(feature = "plot")]
    {
        let path = args.plot_path();
        plot::draw(&history, &path)?;
        println!("curves: {}", path.display());
    }
    let (_, test) = history.test.last().ok_or("nothing was evaluated")?;
    println!("test accuracy: {:.2} %", test.accuracy());
    Ok(())
}

/// Continues an earlier run. Returns its number of steps.
fn resume(engine: &mut dyn Engine, path: &Path) -> Result<u64> {
    let mut checkpoint = Checkpoint::open(path)?;
    let loaded = engine.load(&mut checkpoint)?;
    for difference in &loaded.differences {
        println!("another setting than before: {difference}");
    }
    let done = checkpoint.stats().step + checkpoint.stats().skipped;
    println!("resumed: {} after {done} steps", path.display());
    Ok(done)
}

/// One run with a rule in some format.
fn train_with(args: &Args, session: &Session, plan: &Plan, choice: &Choice, format: &Format) -> Result<History> {
    let model = session.model(format)?;
    let mut engine = session.engine(&model, args.optimizer(choice, format, plan.total_steps())?, format)?;
    let schedule = args.schedule.to_possible_value();
    let schedule = schedule.as_ref().map_or("", |schedule| schedule.get_name());
    println!("training: {} with {schedule} lr {:?}; steps {}", choice.name, choice.lr, plan.total_steps());
    let plan = Plan { done: args.resume.as_ref().map_or(Ok(0), |path| resume(engine.as_engine(), path))?, ..*plan };
    let saving = Saving { path: args.save.clone(), ..Saving::default() };
    if saving.path.is_some() {
        let interrupted = saving.interrupted.clone();
        ctrlc::set_handler(move || {
            // A second Ctrl-C does not wait for the step.
            if interrupted.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })?;
    }
    let mut history = train(engine.as_engine(), &plan, &saving)?;
    if format.scaler.is_some() {
        history.scales = scales(&engine.history()?.steps);
    }
    if let Some(path) = &args.save {
        println!("saved: {}; continue with --resume {}", path.display(), path.display());
    }
    if let Some(last) = history.scales.last() {
        let (skipped, scale) = (history.skipped, last.scale);
        println!("loss scale: {scale} after {skipped} skipped steps, whose gradients were not finite");
    } else if history.skipped > 0 {
        println!("{} steps were skipped: their gradients were not finite; try a smaller --lr", history.skipped);
    }
    if let Some(path) = &args.history {
        write_csv(
            &engine.history()?.steps,
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))?,
        )?;
        println!("history: {}", path.display());
    }
    Ok(history)
}
