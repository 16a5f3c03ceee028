//! Hundreds of workers that train by `DiLoCo`, with machines and networks that are drawn: loss against bytes and hours.

mod picture;
mod simulation;
mod worker;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use examples_common::outcome::exit_code;
use mlp_mnist::data::digits;
use mlp_mnist::model::Model;
use simulation::{Run, simulate};

#[derive(Parser)]
struct Args {
    /// Workers
    #[arg(long, default_value_t = 200)]
    workers: usize,
    /// Steps of each worker
    #[arg(long, default_value_t = 500)]
    steps: u64,
    /// Steps from one exchange to the next, a run for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 20, 100, 500])]
    every: Vec<u64>,
    /// Parameters of the network whose bytes are counted
    #[arg(long, default_value_t = 1e8)]
    parameters: f64,
    /// An exchange waits for so many times the median of the workers' times
    #[arg(long, default_value_t = 1.5)]
    patience: f64,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of the pictures
    #[arg(long, default_value = "target/diloco_sim")]
    out: PathBuf,
}

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let data = digits::draw_counts(args.seed, 20_000, 1_000);
    let model = Model::aligned(&[784, 16, 10], 1)?;
    let scale = args.parameters / model.layout.len() as f64;
    let mut runs: Vec<Run> = Vec::new();
    println!("    H  exchanges  in the mean  loss   accuracy  GB per worker  hours");
    for &every in &args.every {
        let run = simulate(args, every, scale, &model, &data)?;
        if let Some(last) = run.points.last() {
            let (present, exchanges) = (100.0 * run.present, args.steps / every);
            let (loss, accuracy, gigabytes) = (last.score.loss(), last.score.accuracy(), last.bytes / 1e9);
            println!(
                "{every:5} {exchanges:10} {present:11.0}% {loss:6.3} {accuracy:8.2}% {gigabytes:14.2} {:6.2}",
                last.hours
            );
        }
        runs.push(run);
    }
    fs::create_dir_all(&args.out)?;
    for (name, axis) in [("loss_by_bytes.svg", picture::Axis::Bytes), ("loss_by_hours.svg", picture::Axis::Hours)] {
        let path = args.out.join(name);
        fs::write(&path, picture::render(&runs, axis)?)?;
        println!("{}", path.display());
    }
    Ok(())
}
