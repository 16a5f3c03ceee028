//! Checkpoints: after `load`, training goes on as if it had never stopped.

use std::fs;
use std::path::Path;

use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, encoder, finish, rule};
use tempfile::{TempDir, tempdir};
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions, Loaded};
use wgpu_optim::clip::{Adaptive, GroupNorm, Percentile, Value};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::{Exponential, OneCycle};
use wgpu_optim::{
    Adam, AdamW, Clip, CpuOptimizer, GroupOptions, Layout, NonFinite, OptimizerBuilder, RuleConfig, Schedule,
    ScheduleFreeAdamW, Sgd, Stats,
};

/// Padded: the tensors begin at multiples of 64.
fn layout() -> Layout {
    let builder = Layout::builder().tensor("a", &[40, 30]).tensor("b", &[30]).group("own");
    builder.tensor("none", &[3, 0]).tensor("c", &[130, 129]).build().unwrap()
}

/// Training on either engine.
trait Training {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self;
    fn step(&mut self, grads: &[f32]) -> Stats;
    fn save(&self, path: &Path) -> Result<(), CheckpointError>;
    fn load(&mut self, path: &Path, options: &LoadOptions) -> Result<Loaded, CheckpointError>;
    fn eval(&mut self);
    fn train(&mut self);
    fn set_lr(&mut self, lr: f64);
    /// All that a step may change, with the statistics of all steps.
    fn all(&self) -> (Vec<u32>, String);
}

impl Training for Trainer<'static> {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self {
        Trainer::new(device::gpu(), builder.clone(), layout, params)
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        Trainer::step(self, grads)
    }

    fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        self.optimizer.save(path, Some((&self.params).into()))
    }

    fn load(&mut self, path: &Path, options: &LoadOptions) -> Result<Loaded, CheckpointError> {
        self.optimizer.load(path, Some((&self.params).into()), options)
    }

    fn eval(&mut self) {
        let mut recorded = encoder(self.gpu);
        self.optimizer.eval(&mut recorded, &self.params).unwrap();
        self.gpu.queue.submit([recorded.finish()]);
    }

    fn train(&mut self) {
        let mut recorded = encoder(self.gpu);
        self.optimizer.train(&mut recorded, &self.params).unwrap();
        self.gpu.queue.submit([recorded.finish()]);
    }

    fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr).unwrap();
    }

    fn all(&self) -> (Vec<u32>, String) {
        let (mut bits, optimizer) = (self.bits(), &self.optimizer);
        for slice in optimizer.tensor_states().into_iter().chain(optimizer.scalar_states()) {
            bits.extend(device::download_slice(self.gpu, slice).into_iter().map(f32::to_bits));
        }
        let stats = finish(self.gpu, optimizer, encoder(self.gpu));
        let history = optimizer.history(&mut encoder(self.gpu)).is_ok().then(|| self.history());
        (bits, format!("{:?} {stats:?} {history:?}", optimizer.lr().unwrap()))
    }
}

struct OnCpu {
    optimizer: CpuOptimizer,
    params: Vec<f32>,
}

impl Training for OnCpu {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self {
        OnCpu { optimizer: builder.clone().build_cpu(layout).unwrap(), params: params.to_vec() }
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        self.optimizer.step(&mut self.params, grads).unwrap()
    }

    fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        self.optimizer.save(path, Some(&self.params))
    }

    fn load(&mut self, path: &Path, options: &LoadOptions) -> Result<Loaded, CheckpointError> {
        self.optimizer.load(path, Some(&mut self.params), options)
    }

    fn eval(&mut self) {
        self.optimizer.eval(&mut self.params).unwrap();
    }

    fn train(&mut self) {
        self.optimizer.train(&mut self.params).unwrap();
    }

    fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr).unwrap();
    }

    fn all(&self) -> (Vec<u32>, String) {
        let mut bits = cpu_bits(&self.optimizer, &self.params);
        let numbers = self.optimizer.tensor_states().flatten().chain(self.optimizer.scalar_states().iter().copied());
        bits.extend(numbers.map(f32::to_bits));
        let stats = (self.optimizer.lr().unwrap(), self.optimizer.stats());
        (bits, format!("{:?} {:?} {:?}", stats.0, stats.1, self.optimizer.history().ok()))
    }
}

fn folder() -> TempDir {
    tempdir().unwrap()
}

/// Gradients of a step; padding holds zeros.
fn grads(layout: &Layout, seed: u64) -> Vec<f32> {
    let (mut grads, values) = (vec![0.0; layout.len()], random(seed, layout.len()));
    for tensor in layout.tensors() {
        grads[tensor.range()].copy_from_slice(&values[tensor.range()]);
    }
    grads
}

/// Stops after `before` steps and `change`, resumes in a new optimizer, and compares with training that never stopped.
fn assert_resumed<T: Training>(what: &str, builder: &OptimizerBuilder, before: u64, change: impl Fn(&mut T)) {
    let (layout, folder) = (layout(), folder());
    let path = folder.path().join("saved.safetensors");
    let mut straight = T::new(builder, &layout, &grads(&layout, 1));
    for seed in 0..before {
        straight.step(&grads(&layout, 10 + seed));
    }
    change(&mut straight);
    straight.save(&path).unwrap();
    let mut resumed = T::new(builder, &layout, &grads(&layout, 2));
    resumed.step(&grads(&layout, 3));
    let loaded = resumed.load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.differences, [], "{what}");
    assert!(resumed.all() == straight.all(), "{what}: not loaded after {before} steps");
    let again = folder.path().join("again.safetensors");
    resumed.save(&again).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "{what}: another file");
    straight.train_if_needed(what);
    resumed.train_if_needed(what);
    for seed in 0..3 {
        straight.step(&grads(&layout, 30 + seed));
        resumed.step(&grads(&layout, 30 + seed));
        assert!(resumed.all() == straight.all(), "{what}: another step {seed} after {before}");
    }
}

/// Leaves evaluation, where the rule has it.
trait TrainIfNeeded {
    fn train_if_needed(&mut self, what: &str);
}

impl<T: Training> TrainIfNeeded for T {
    fn train_if_needed(&mut self, what: &str) {
        if what.contains("evaluation") {
            self.train();
        }
    }
}

fn assert_resumed_on_both(what: &str, builder: &OptimizerBuilder) {
    for before in [0, 1, 4] {
        assert_resumed::<Trainer>(&format!("{what} on the device"), builder, before, |_| {});
        assert_resumed::<OnCpu>(&format!("{what} on the CPU"), builder, before, |_| {});
    }
}

fn training_goes_on_as_if_it_had_never_stopped(name: &str) {
    let own = GroupOptions::default().with_schedule(Exponential::new(0.25, 0.5));
    let builder = rule(name).schedule(Schedule::warmup_cosine(0.125, 2, 20)).group("own", own);
    assert_resumed_on_both(name, &builder);
}

tests_of! { [training_goes_on_as_if_it_had_never_stopped] every_rule }

#[test]
fn every_rule_is_tested() {
    let mut rules = RULES.to_vec();
    rules.sort_unstable();
    let mut names = RuleConfig::NAMES.to_vec();
    names.sort_unstable();
    assert_eq!(rules, names);
}

#[test]
fn clipping_goes_on() {
    for (what, clip) in [
        ("by global norm", Clip::global_norm(0.5)),
        ("by value", Value::new(0.25).into()),
        ("by group norm", GroupNorm::new(0.5).into()),
        ("adaptively", Adaptive::new(0.01).into()),
        ("at a percentile", Percentile::new(50.0).with_window(3).into()),
    ] {
        assert_resumed_on_both(what, &rule("adamw").clip(clip));
    }
}

#[test]
fn histories_and_metrics_go_on() {
    for steps in [2, 5] {
        let history = HistoryOptions::steps(steps).with_norms_every(2).per_group();
        assert_resumed_on_both("a history with metrics", &rule("adamw").clip(Clip::global_norm(0.5)).history(history));
    }
}

#[test]
fn evaluation_goes_on() {
    let builder = ScheduleFreeAdamW::default();
    let builder = wgpu_optim::Optimizer::builder(builder);
    assert_resumed::<Trainer>("evaluation on the device", &builder, 3, Training::eval);
    assert_resumed::<OnCpu>("evaluation on the CPU", &builder, 3, Training::eval);
}

#[test]
fn a_learning_rate_that_replaced_a_schedule_stays() {
    let builder = rule("sgd").schedule(OneCycle::new(1.0, 10));
    assert_resumed::<Trainer>("set_lr on the device", &builder, 2, |training| training.set_lr(0.5));
    assert_resumed::<OnCpu>("set_lr on the CPU", &builder, 2, |training| training.set_lr(0.5));
}
