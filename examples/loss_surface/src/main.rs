//! The loss of the network of `mlp_mnist` on planes through its trained parameters. See the README of this package.

mod args;
mod contours;
mod curves;
mod directions;
mod plane;
mod relief;
mod sam;
mod sharpness;
mod sheet;
mod surface;
#[cfg(test)]
mod tests;
mod training;

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command, Common};
use examples_common::device::{self, Device};
use examples_common::outcome::exit_code;
use examples_common::{files, picture};
use mlp_mnist::Result;
use mlp_mnist::data::{CLASSES, Data, Examples};
use mlp_mnist::model::Model;
use plane::Plane;
use sheet::{Panel, Sheet};
use surface::{Axis, Surface};
use training::{Method, Plan, Trained};

/// Units of the hidden layer, as `mlp_mnist` has by default.
const HIDDEN: usize = 128;

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

/// What the losses on a plane are computed from.
struct Losses<'a> {
    device: &'a Device,
    model: &'a Model,
    examples: Examples,
    side: usize,
}

impl Losses<'_> {
    /// Around the end of a run, along random directions.
    fn random(&self, trained: &Trained, title: String, span: f64, seed: u64) -> Result<Surface> {
        let directions = directions::filter_normalised(self.model, trained.parameters(), seed);
        let axes = ["first", "second"]
            .map(|which| Axis { name: format!("{which} random direction"), unit: "norms of the filters".into() });
        self.surface(trained, title, axes, &directions, [-span..span, -span..span], Vec::new())
    }

    /// Along the two directions in which a run moved most, with its path.
    fn path(&self, trained: &Trained, title: String) -> Result<Surface> {
        let components = directions::components(&trained.path)?;
        let path = directions::project(&trained.path, trained.parameters(), &components.directions);
        let axes = [("first", 0), ("second", 1)].map(|(which, i)| Axis {
            name: format!("{which} principal component"),
            unit: format!("{:.1} % of the variance", 100.0 * components.shares[i]),
        });
        let ranges = [0, 1].map(|direction| around(path.iter().map(|at| at[direction])));
        self.surface(trained, title, axes, &components.directions, ranges, path)
    }

    fn surface(
        &self,
        trained: &Trained,
        title: String,
        axes: [Axis; 2],
        directions: &[Vec<f32>; 2],
        ranges: [Range<f64>; 2],
        path: Vec<[f64; 2]>,
    ) -> Result<Surface> {
        let plane = Plane { origin: trained.parameters(), directions, ranges, side: self.side };
        let losses = plane.losses(self.device, self.model, &self.examples)?;
        Ok(Surface::new(title, axes, &plane, &losses, path))
    }
}

/// The range of some values, with a quarter of it more on each side.
fn around(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let (low, high) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    let air = (high - low) / 4.0;
    low - air..high + air
}

fn run(args: &Args) -> Result<()> {
    if let Some(Command::Sam(args)) = &args.command {
        return sam::run(args);
    }
    let data = args.common.load_data()?;
    let [small, large] = args.checked_batch_sizes(&data)?;
    let device = open(&args.common)?;
    for path in draw(args, &data, &device, [small, large])? {
        println!("written: {}", path.display());
    }
    Ok(())
}

/// The device, and the folder for the pictures.
fn open(common: &Common) -> Result<Device> {
    fs::create_dir_all(&common.out).map_err(|error| format!("{}: {error}", common.out.display()))?;
    let (device, why) = device::choose(common.device)?;
    println!("device: {why}");
    Ok(device)
}

/// The first `count` examples, or all.
fn first(examples: &Examples, count: u32) -> Examples {
    let count = examples.len().min(count as usize);
    Examples {
        images: examples.images[..count * examples.pixels].to_vec(),
        labels: examples.labels[..count].to_vec(),
        pixels: examples.pixels,
    }
}

/// Trains, takes the losses and draws them; gives the files.
fn draw(args: &Args, data: &Data, device: &Device, batch_sizes: [usize; 2]) -> Result<Vec<PathBuf>> {
    picture::register_fonts()?;
    let Common { grid, span, ref out, seed, .. } = args.common;
    let model = Model::new(&[data.train.pixels, HIDDEN, CLASSES])?;
    let train = |batch_size| -> Result<(Trained, String)> {
        // The noise of Adam's steps stays about the same.
        let lr = args.lr * (batch_size as f64 / batch_sizes[0] as f64).sqrt();
        let plan = Plan { batch_size, epochs: args.epochs as usize, lr, seed, method: Method::Adam };
        let trained = training::train(device, &model, data, &plan)?;
        let title = format!("batch {batch_size}: {:.2} % of the test set correct", trained.test.accuracy());
        println!("{title}");
        Ok((trained, title))
    };
    let losses = Losses { device, model: &model, examples: first(&data.train, args.examples), side: grid as usize };

    let [(small, small_title), (large, large_title)] = [train(batch_sizes[0])?, train(batch_sizes[1])?];
    let random = losses.random(&small, small_title.clone(), span, seed)?;
    let beside = losses.random(&large, large_title, span, seed)?;
    let path = losses.path(&small, small_title)?;
    let mut written = Vec::new();
    for (name, panels) in [
        ("random", vec![Panel::Contours(&random), Panel::Relief(&random)]),
        ("path", vec![Panel::Contours(&path), Panel::Relief(&path)]),
        ("batches", vec![Panel::Contours(&random), Panel::Contours(&beside)]),
    ] {
        written.extend(files::save(&Sheet::new(panels), out, name)?);
    }
    Ok(written)
}
