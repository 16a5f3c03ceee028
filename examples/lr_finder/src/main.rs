//! Smith's learning rate range test on the network of the example `mlp_mnist`: see the README of this package.

mod curve;
mod sweep;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use clap::Parser;
use examples_common::{files, picture};
use mlp_mnist::Result;
use mlp_mnist::setup::Setup;
use wgpu_optim::schedule::RangeTest;

use curve::Curve;

/// Finds a learning rate: trains a multilayer perceptron on MNIST with rates that rise from step to step, draws the loss over
/// them, and goes back to where it began.
#[derive(Debug, Parser)]
#[command(name = "lr_finder")]
struct Args {
    #[command(flatten)]
    setup: Setup,

    /// The test, as JSON: fields of `schedule::RangeTest`, such as `{"num_iter": 200}`.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    test: String,

    /// Folder for the curve as SVG, PNG and JSON.
    #[arg(long, value_name = "DIR", default_value = "target/lr_finder")]
    out: PathBuf,
}

fn main() -> Result<()> {
    run(&Args::parse())
}

fn run(args: &Args) -> Result<()> {
    args.setup.validate()?;
    let test: RangeTest = serde_json::from_str(&args.test).map_err(|error| format!("--test: {error}"))?;
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let session = args.setup.open()?;
    let choice = args.setup.choice(None);
    println!("{}: {test}", choice.name);

    let format = args.setup.format(&args.setup.precision)?;
    let model = session.model(&format)?;
    let mut engine = session.engine(&model, args.setup.builder(&choice)?, &format)?;
    let before = engine.as_engine().evaluate()?;
    let points = sweep::sweep(&mut engine, &test, session.batches())?;
    let after = engine.as_engine().evaluate()?;
    let steps = points.points.len();
    println!("{steps} steps; test loss {:.6} before them and {:.6} after going back", before.loss(), after.loss());

    let json = args.out.join("lr_finder.json");
    fs::write(&json, serde_json::to_string(&points)?).map_err(|error| format!("{}: {error}", json.display()))?;
    let curve = Curve { rule: choice.name, suggestions: points.suggestions(), points: points.points };
    for (name, lr) in curve.suggested() {
        println!("{name}: {lr:.1e}");
    }
    picture::register_fonts()?;
    for path in files::save(&curve, &args.out, "lr_finder")?.iter().chain([&json]) {
        println!("{}", path.display());
    }
    Ok(())
}
