//! Trains a small GPT in burn with wgpu-optim's fused optimizer, and lets it speak. See the README of this package.

mod args;
mod batches;
mod burn_adamw;
mod clip_global;
mod compare;
mod model;
mod optimizer;
mod plot;
mod precision;
mod rules;
mod session;
mod speak;
#[cfg(test)]
mod tests;
mod text;
mod train;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use args::Args;
use examples_common::arguments;
use session::Session;
use train::{Plan, Saving, train};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    arguments::run(run)
}

fn run(args: &Args) -> Result<()> {
    args.validate()?;
    let session = Session::open(args, session::gpu()?)?;
    if args.compare.is_some() {
        return compare::run(args, &session);
    }
    let model = session.model(args)?;
    let mut trainer = session.fused(args, &model)?;
    let (done, model) = match &args.resume {
        Some(path) => {
            let (done, model) = trainer.load(path, model)?;
            println!("resumed: {} after {done} steps", path.display());
            (done, model)
        }
        None => (0, model),
    };
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
    let (history, _) = train(&session, &Plan::new(args, done), &mut trainer, model, &saving)?;
    if let Some(path) = &args.save {
        println!("saved: {}; continue with --resume {}", path.display(), path.display());
    }
    let path = args.plot_path();
    plot::draw(&history, &args.schedule()?, &path)?;
    println!("curves: {}", path.display());
    Ok(())
}
