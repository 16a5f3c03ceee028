//! burn's `AdamW` and the fused step in one run, by turns: `cargo bench --bench step -- WHAT [N]`.
//!
//! - `speed` (default): medians of N rounds, from a device that is idle to one that is idle again.
//! - `finding`: the host's time to find parameters and gradients in burn's memory, medians of N rounds.
//! - `losses`: a network that each trains with its own gradients for N steps.
//! - `memory`: the process's resident memory over N steps.

use std::time::Instant;

use burn::backend::wgpu::WgpuSetup;
use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use wgpu_optim_burn::FusedOptimizer;
use wgpu_optim_burn::wgpu_optim::{AdamW, Clip, Ema, Optimizer};

#[path = "../examples/gpt/src/clip_global.rs"]
mod clip_global;

use clip_global::clip_global;

type Failure = Box<dyn std::error::Error>;

const ELEMENTS: usize = 100_000;
const MAX_NORM: f64 = 1.0;
const LR: f64 = 1e-3;

#[derive(Module, Debug)]
struct Many {
    tensors: Vec<Param<Tensor<1>>>,
}

impl Many {
    fn new(tensors: usize, device: &Device) -> Self {
        let len = |i: usize| ELEMENTS * (i + 1) / tensors - ELEMENTS * i / tensors;
        let tensor = |i| Initializer::Constant { value: 0.5 }.init::<1, _>([len(i)], device);
        Self { tensors: (0..tensors).map(tensor).collect() }
    }

    fn grads(&self) -> GradientsParams {
        let squares = self.tensors.iter().map(|tensor| (tensor.val() - 0.25).powi_scalar(2).sum());
        let loss = squares.reduce(|sum, square| sum + square).expect("tensors");
        GradientsParams::from_grads(loss.backward(), self)
    }
}

enum Engine {
    Burn(ModuleOptimizer),
    Fused(Box<FusedOptimizer>),
}

/// A model, its optimizer, and the times of both kinds of measurement.
struct Run {
    engine: Engine,
    clips: bool,
    model: Option<Many>,
    step: Vec<f64>,
    whole: Vec<f64>,
}

impl Run {
    fn step(&mut self, model: Many, grads: GradientsParams) -> Result<(), Failure> {
        self.model = Some(match &mut self.engine {
            Engine::Burn(optimizer) => {
                let grads = if self.clips { clip_global(&model, grads, MAX_NORM).0 } else { grads };
                optimizer.step(LR, model, grads)
            }
            Engine::Fused(optimizer) => optimizer.step(LR, model, grads)?,
        });
        Ok(())
    }

    /// One step alone, then one whole training step.
    fn round(&mut self, device: &Device) -> Result<(), Failure> {
        let model = self.model.take().ok_or("no model")?;
        let grads = model.grads();
        device.sync()?;
        let start = Instant::now();
        self.step(model, grads)?;
        device.sync()?;
        self.step.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        let model = self.model.take().ok_or("no model")?;
        let grads = model.grads();
        self.step(model, grads)?;
        device.sync()?;
        self.whole.push(start.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn fused(model: &Many, clips: bool, setup: &WgpuSetup) -> Result<FusedOptimizer, Failure> {
    let builder = Optimizer::builder(AdamW::default().with_lr(LR));
    let builder = if clips { builder.clip(Clip::global_norm(MAX_NORM)) } else { builder };
    Ok(FusedOptimizer::builder(builder).build(model, setup)?)
}

fn compare(tensors: usize, clips: bool, rounds: usize, device: &Device, setup: &WgpuSetup) -> Result<(), Failure> {
    let theirs = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).init();
    let (a, b) = (Many::new(tensors, device), Many::new(tensors, device));
    let ours = Engine::Fused(Box::new(fused(&b, clips, setup)?));
    let run = |engine, model| Run { engine, clips, model: Some(model), step: Vec::new(), whole: Vec::new() };
    let mut runs = [run(Engine::Burn(theirs), a), run(ours, b)];
    for round in 0..rounds + 3 {
        for run in &mut runs {
            run.round(device)?;
            if round < 3 {
                (run.step, run.whole) = (Vec::new(), Vec::new());
            }
        }
    }
    let [theirs, ours] = runs.map(|run| (median(&run.step), median(&run.whole)));
    println!(
        "| {tensors} | {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.2} | {:.1} |",
        if clips { "yes" } else { "no" },
        theirs.0,
        ours.0,
        theirs.0 / ours.0,
        theirs.1,
        ours.1,
        theirs.1 / ours.1,
    );
    Ok(())
}

/// The time in which a step finds its tensors: that of one in evaluation mode, which is refused before it records anything.
fn find(tensors: usize, rounds: usize, device: &Device, setup: &WgpuSetup) -> Result<f64, Failure> {
    let mut model = Many::new(tensors, device);
    let builder = Optimizer::builder(AdamW::default()).average(Ema::new(0.9));
    let mut optimizer = FusedOptimizer::builder(builder).build(&model, setup)?;
    let grads = model.grads();
    model = optimizer.step(LR, model, grads)?;
    model = optimizer.eval(model)?;
    let mut times = Vec::new();
    for _ in 0..rounds {
        let grads = model.grads();
        device.sync()?;
        let start = Instant::now();
        model = match optimizer.step(None, model, grads) {
            Ok(_) => return Err("a step in evaluation mode was not refused".into()),
            Err(refused) => refused.module,
        };
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&times))
}

fn speed(rounds: usize, device: &Device, setup: &WgpuSetup) -> Result<(), Failure> {
    println!("| tensors | clipped | burn: step, ms | ours, ms | ratio | burn: training step, ms | ours, ms | ratio |");
    println!("|---|---|---|---|---|---|---|---|");
    for tensors in [10, 100, 200, 500] {
        for clips in [false, true] {
            compare(tensors, clips, rounds, device, setup)?;
        }
    }
    Ok(())
}

/// Takes each parameter out of its place and puts it back.
struct Traversal;

impl ModuleMapper for Traversal {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, value, mapper) = param.consume();
        Param::from_mapped_value(id, value, mapper)
    }
}

/// The time of the two traversals of a step, without anything done in them.
fn traverse(tensors: usize, rounds: usize, device: &Device) -> f64 {
    let mut model = Many::new(tensors, device);
    let mut times = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        model = model.map(&mut Traversal).map(&mut Traversal);
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    median(&times)
}

fn finding(rounds: usize, device: &Device, setup: &WgpuSetup) -> Result<(), Failure> {
    println!(
        "| parameters | finding them and their gradients, µs | of it two traversals, µs | for each parameter, µs |"
    );
    println!("|---|---|---|---|");
    for tensors in [10, 100, 200, 500] {
        let (all, traversals) = (find(tensors, rounds, device, setup)?, traverse(tensors, rounds, device));
        println!("| {tensors} | {all:.0} | {traversals:.0} | {:.1} |", all / tensors as f64);
    }
    Ok(())
}

#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// Learns the signs of sums.
    fn loss(&self, step: usize, device: &Device) -> Tensor<1> {
        let noise = |i: usize| ((step % 50 * 4096 + i) as f32 * 12.9898).sin() * 43_758.547 % 1.0;
        let inputs =
            Tensor::<2>::from_data(TensorData::new((0..32 * 16).map(noise).collect::<Vec<f32>>(), [32, 16]), device);
        let targets = inputs.clone().sum_dim(1).sign();
        let mut x = inputs;
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            x = if number + 1 < self.layers.len() { x.tanh() } else { x };
        }
        (x - targets).powi_scalar(2).mean()
    }
}

/// Means of the losses of both, and their largest relative difference, for every tenth of the steps.
fn losses(steps: usize, device: &Device, setup: &WgpuSetup) -> Result<(), Failure> {
    let layers = [16, 64, 64, 1].windows(2).map(|pair| LinearConfig::new(pair[0], pair[1]).init(device)).collect();
    let mut theirs = Mlp { layers };
    let mut ours = theirs.clone();
    let mut burn: ModuleOptimizer = AdamWConfig::new().with_weight_decay(0.01).with_epsilon(1e-8).init();
    let mut fused = FusedOptimizer::builder(Optimizer::builder(AdamW::default())).build(&ours, setup)?;
    let mut pairs = Vec::new();
    for step in 0..steps {
        let (loss, other) = (theirs.loss(step, device), ours.loss(step, device));
        pairs.push((loss.clone().into_scalar::<f32>(), other.clone().into_scalar::<f32>()));
        let grads = GradientsParams::from_grads(loss.backward(), &theirs);
        theirs = burn.step(LR, theirs, grads);
        let grads = GradientsParams::from_grads(other.backward(), &ours);
        ours = fused.step(LR, ours, grads)?;
    }
    let apart = |pairs: &[(f32, f32)]| pairs.iter().map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f32::max);
    println!("first 20 steps: losses at most {:.1e} apart\n", apart(&pairs[..pairs.len().min(20)]));
    println!("| steps | mean loss, burn | ours | largest relative difference |");
    println!("|---|---|---|---|");
    for (number, part) in pairs.chunks((steps / 10).max(1)).enumerate() {
        let mean = |of: fn(&(f32, f32)) -> f32| part.iter().map(of).sum::<f32>() / part.len() as f32;
        let first = number * (steps / 10).max(1);
        println!(
            "| {}–{} | {:.5} | {:.5} | {:.1e} |",
            first + 1,
            first + part.len(),
            mean(|p| p.0),
            mean(|p| p.1),
            apart(part)
        );
    }
    Ok(())
}

fn memory(steps: usize, device: &Device, setup: &WgpuSetup) -> Result<(), Failure> {
    let mut model = Many::new(10, device);
    let mut optimizer = fused(&model, true, setup)?;
    println!("| steps | resident, MiB |");
    println!("|---|---|");
    for step in 1..=steps {
        let grads = model.grads();
        model = optimizer.step(LR, model, grads)?;
        if step.is_multiple_of((steps / 10).max(1)) {
            device.sync()?;
            let text = std::fs::read_to_string("/proc/self/statm")?;
            let pages: f64 = text.split_whitespace().nth(1).ok_or("no number of pages")?.parse()?;
            println!("| {step} | {:.1} |", pages / 256.0);
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let what = args.first().map_or("speed", String::as_str);
    let number = |default: usize| args.get(1).map_or(Ok(default), |text| text.parse());
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    let device = device.autodiff();
    let info = setup.adapter.get_info();
    let fusion = if cfg!(feature = "fusion") { "on" } else { "off" };
    println!("{} ({:?}, {}), burn 0.22, fusion {fusion}, AdamW\n", info.name, info.backend, info.driver_info);
    match what {
        "speed" => speed(number(30)?, &device, &setup),
        "finding" => finding(number(60)?, &device, &setup),
        "losses" => losses(number(1_000)?, &device, &setup),
        "memory" => memory(number(10_000)?, &device, &setup),
        other => Err(format!("{other}: give speed, finding, losses or memory").into()),
    }
}
