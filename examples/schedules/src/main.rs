//! Draws every schedule over one run, and one that is given as JSON: see the README of this package.

mod gallery;
mod grid;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use examples_common::{files, picture};
use wgpu_optim::Schedule;

use grid::{Grid, Panel};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Draws learning rates over the steps of a run, as SVG and as PNG.
#[derive(Debug, Parser)]
#[command(name = "schedules")]
struct Args {
    /// Draw this schedule instead of all: JSON, such as '{"name": "exponential", "lr": 0.1, "gamma": 0.9}', or a file with it.
    #[arg(long, value_name = "JSON|FILE")]
    json: Option<String>,

    /// Steps of the run [default: 100]
    #[arg(long, value_name = "N", requires = "json", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: Option<u64>,

    /// Folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "target/schedules")]
    out: PathBuf,
}

fn main() -> Result<()> {
    for path in run(&Args::parse())? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Draws what is asked for; gives the files.
fn run(args: &Args) -> Result<[PathBuf; 2]> {
    let (name, grid) = match &args.json {
        None => ("schedules", gallery::all()?),
        Some(json) => {
            let schedule = read(json)?;
            println!("{schedule}");
            let title = schedule.to_string();
            // What has many schedules inside has a title that nobody could read.
            let title = if title.len() <= 110 { &title } else { title.split('(').next().unwrap_or_default() };
            let panel = Panel::new(title, &[("", schedule)], args.steps.unwrap_or(gallery::STEPS))?;
            ("schedule", Grid { panels: vec![panel], columns: 1, panel_size: (1_000, 520) })
        }
    };
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    picture::register_fonts()?;
    files::save(&grid, &args.out, name)
}

/// A schedule from JSON, or from a file that holds it.
fn read(json: &str) -> Result<Schedule> {
    if json.trim_start().starts_with('{') {
        return Ok(serde_json::from_str(json).map_err(|error| format!("--json: {error}"))?);
    }
    let text = fs::read_to_string(Path::new(json)).map_err(|error| format!("--json {json}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{json}: {error}"))?)
}
