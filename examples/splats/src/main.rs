//! Fits a picture with two-dimensional Gaussians, whose number grows while they are trained. See the README of this
//! package.

mod args;
mod cpu;
mod curves;
mod fit;
mod garden;
mod gpu;
mod growth;
mod movie;
mod picture;
mod reference;
mod splats;
#[cfg(test)]
mod tests;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use args::Args;
use curves::Curves;
use examples_common::device::{self, Device};
use examples_common::outcome::exit_code;
use examples_common::{files, picture as drawing};
use fit::{Plan, Point};
use picture::Picture;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Side of the built-in picture, in pixels.
const SIDE: usize = 256;

fn main() -> ExitCode {
    exit_code(run(&Args::parse()))
}

fn run(args: &Args) -> Result<()> {
    let target = args.image.as_deref().map_or_else(|| Ok(garden::picture(SIDE)), Picture::load)?;
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let (device, why) = device::choose(args.device)?;
    println!("device: {why}");

    let plan = Plan {
        target: &target,
        capacity: args.splats as usize,
        steps: args.steps,
        frames: &movie::frames(args.steps),
        forgets_states: args.forget_states,
    };
    let begin = Instant::now();
    let report = |step: u32, point: Point| {
        let seconds = begin.elapsed().as_secs_f64();
        println!("step {step}: {} splats, {:.2} dB, {seconds:.1} s", point.splats, point.psnr(&target));
    };
    let fit = match device {
        Device::Gpu(gpu) => gpu::fit(&gpu, &plan, report)?,
        Device::Cpu => cpu::fit(&plan, report)?,
    };

    drawing::register_fonts()?;
    let fitted = fit.frames.last().ok_or("the last step has no picture")?;
    let names = ["target.png", "fit.png", "fit.gif"].map(|name| args.out.join(name));
    target.save(&names[0])?;
    fitted.save(&names[1])?;
    movie::save(&fit.frames, &names[2])?;
    let drawn = files::save(&Curves { points: &fit.points, target: &target }, &args.out, "curves")?;
    for path in names.iter().chain(&drawn) {
        println!("written: {}", path.display());
    }
    println!("PSNR: {:.2} dB", fitted.psnr(&target));
    Ok(())
}
