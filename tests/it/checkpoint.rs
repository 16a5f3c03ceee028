//! Checkpoints: after `load`, training goes on as if it had never stopped.

use std::fs;
use std::path::Path;

use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, device_with, encoder, finish, rule};
use tempfile::{TempDir, tempdir};
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions, Loaded};
use wgpu_optim::clip::{Adaptive, GroupNorm, Percentile, Value};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::{Exponential, OneCycle};
use wgpu_optim::wgpu::PollType;
use wgpu_optim::{
    Adam, AdamW, Average, Clip, CpuOptimizer, Ema, GroupOptions, Layout, Lookahead, NonFinite, OptimizerBuilder,
    RuleConfig, Schedule, ScheduleFreeAdamW, Stats, Swa,
};

/// Padded: the tensors begin at multiples of 64.
pub fn layout() -> Layout {
    let builder = Layout::builder().tensor("a", &[40, 30]).tensor("b", &[30]).group("own");
    builder.tensor("none", &[3, 0]).tensor("c", &[130, 129]).build().unwrap()
}

/// Training on either engine.
pub trait Training: Sized {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self;
    fn step(&mut self, grads: &[f32]) -> Stats;
    fn save(&self, path: &Path) -> Result<(), CheckpointError>;
    fn load(&mut self, path: &Path, options: &LoadOptions) -> Result<Loaded, CheckpointError>;
    fn eval(&mut self);
    fn train(&mut self);
    fn state(&self, name: &str) -> Vec<f32>;
    fn params(&self) -> Vec<f32>;
    fn set_lr(&mut self, lr: f64);
    fn accumulate(&mut self, grads: &[f32], weight: f32);
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

    fn state(&self, name: &str) -> Vec<f32> {
        Trainer::state(self, name)
    }

    fn params(&self) -> Vec<f32> {
        Trainer::params(self)
    }

    fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr).unwrap();
    }

    fn accumulate(&mut self, grads: &[f32], weight: f32) {
        self.gpu.queue.write_buffer(&self.grads, 0, bytemuck::cast_slice(grads));
        let mut recorded = encoder(self.gpu);
        self.optimizer.accumulate(&mut recorded, &self.grads, weight).unwrap();
        self.gpu.queue.submit([recorded.finish()]);
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

pub struct OnCpu {
    pub optimizer: CpuOptimizer,
    pub params: Vec<f32>,
}

impl Training for OnCpu {
    fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self {
        OnCpu { optimizer: builder.clone().build_cpu(layout).unwrap(), params: params.to_vec() }
    }

    fn step(&mut self, grads: &[f32]) -> Stats {
        self.optimizer.step(&mut self.params, grads).unwrap()
    }

    fn save(&self, path: &Path) -> Result<(), CheckpointError> {
        self.optimizer.save(path, Some((&self.params).into()))
    }

    fn load(&mut self, path: &Path, options: &LoadOptions) -> Result<Loaded, CheckpointError> {
        self.optimizer.load(path, Some((&mut self.params).into()), options)
    }

    fn eval(&mut self) {
        self.optimizer.eval(&mut self.params).unwrap();
    }

    fn train(&mut self) {
        self.optimizer.train(&mut self.params).unwrap();
    }

    fn state(&self, name: &str) -> Vec<f32> {
        self.optimizer.state(name).unwrap().as_f32().unwrap().to_vec()
    }

    fn params(&self) -> Vec<f32> {
        self.params.clone()
    }

    fn set_lr(&mut self, lr: f64) {
        self.optimizer.set_lr(lr).unwrap();
    }

    fn accumulate(&mut self, grads: &[f32], weight: f32) {
        self.optimizer.accumulate(grads, weight).unwrap();
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
pub fn grads(layout: &Layout, seed: u64) -> Vec<f32> {
    let (mut grads, values) = (vec![0.0; layout.len()], random(seed, layout.len()));
    for tensor in layout.tensors() {
        grads[tensor.range()].copy_from_slice(&values[tensor.range()]);
    }
    grads
}

/// Stops after `before` steps and `change`, resumes in a new optimizer, and compares with training that never stopped. Both
/// call `after` before they go on.
fn assert_resumed<T: Training>(
    what: &str,
    builder: &OptimizerBuilder,
    before: u64,
    change: impl Fn(&mut T),
    after: impl Fn(&mut T),
) {
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
    after(&mut straight);
    after(&mut resumed);
    for seed in 0..3 {
        straight.step(&grads(&layout, 30 + seed));
        resumed.step(&grads(&layout, 30 + seed));
        assert!(resumed.all() == straight.all(), "{what}: another step {seed} after {before}");
    }
}

fn assert_resumed_on_both(what: &str, builder: &OptimizerBuilder) {
    for before in [0, 1, 4] {
        assert_resumed::<Trainer>(&format!("{what} on the device"), builder, before, |_| {}, |_| {});
        assert_resumed::<OnCpu>(&format!("{what} on the CPU"), builder, before, |_| {}, |_| {});
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
fn averages_and_lookahead_go_on() {
    for average in [Average::from(Ema::new(0.9)), Ema::new(0.9).with_warmup().into(), Swa::new(2, 2).into()] {
        let builder = rule("adamw").average(average).lookahead(Lookahead::new(3, 0.5));
        assert_resumed_on_both("an average and Lookahead", &builder);
        assert_resumed::<Trainer>(
            "evaluation of an average on the device",
            &builder,
            3,
            Training::eval,
            Training::train,
        );
        assert_resumed::<OnCpu>("evaluation of an average on the CPU", &builder, 3, Training::eval, Training::train);
    }
    assert_resumed_on_both("a debiased average", &rule("sgd").average(Ema::new(0.9).debiased()));
}

/// The file holds the sum of the micro-batches so far.
#[test]
fn accumulation_goes_on() {
    let builder = rule("adamw").accumulate_gradients();
    let micro_batch = grads(&layout(), 50);
    assert_resumed::<Trainer>(
        "accumulation on the device",
        &builder,
        2,
        |training| {
            training.accumulate(&micro_batch, 0.5);
        },
        |_| {},
    );
    assert_resumed::<OnCpu>(
        "accumulation on the CPU",
        &builder,
        2,
        |training| training.accumulate(&micro_batch, 0.5),
        |_| {},
    );
    let (folder, layout) = (folder(), layout());
    let path = folder.path().join("saved");
    let mut training = OnCpu::new(&builder, &layout, &grads(&layout, 1));
    training.accumulate(&micro_batch, 0.5);
    training.save(&path).unwrap();
    let mut resumed = OnCpu::new(&builder, &layout, &grads(&layout, 2));
    resumed.accumulate(&micro_batch, 7.0);
    let _ = resumed.load(&path, &LoadOptions::default()).unwrap();
    // Both engines add no more: the sum is all that the step has.
    let mut on_device = <Trainer as Training>::new(&builder, &layout, &grads(&layout, 2));
    on_device.accumulate(&micro_batch, 7.0);
    let _ = on_device.load(&path, &LoadOptions::default()).unwrap();
    for training in [&mut training, &mut resumed] {
        training.optimizer.step_accumulated(&mut training.params).unwrap();
    }
    assert!(training.all() == resumed.all());
    let mut recorded = encoder(on_device.gpu);
    on_device.optimizer.step_accumulated(&mut recorded, &on_device.params).unwrap();
    on_device.gpu.queue.submit([recorded.finish()]);
    assert_eq!(on_device.params(), training.params);
    // A file without a sum leaves none.
    let without = path.with_extension("without");
    let other = OnCpu::new(&rule("adamw"), &layout, &grads(&layout, 1));
    other.save(&without).unwrap();
    on_device.accumulate(&micro_batch, 7.0);
    let loaded = on_device.load(&without, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.differences.len(), 1, "{:?}", loaded.differences);
    let mut straight = OnCpu::new(&builder, &layout, &grads(&layout, 1));
    straight.optimizer.step_accumulated(&mut straight.params).unwrap();
    let mut recorded = encoder(on_device.gpu);
    on_device.optimizer.step_accumulated(&mut recorded, &on_device.params).unwrap();
    on_device.gpu.queue.submit([recorded.finish()]);
    assert_eq!(on_device.params(), straight.params);
}

/// States of transforms that mean something else in the program are refused.
#[test]
fn averages_of_other_groups_and_weights_are_refused() {
    let frozen = rule("sgd").average(Ema::new(0.9)).group("own", GroupOptions::default().frozen());
    let (_folder, path) = saved::<OnCpu>(&frozen, &layout());
    let thawed = rule("sgd").average(Ema::new(0.9));
    let refused = |error: &CheckpointError| matches!(error, CheckpointError::Mismatch { .. });
    assert_refused(&thawed, &layout(), &path, &LoadOptions::default(), refused);
    let debiased = |decay| rule("sgd").average(Ema::new(decay).debiased());
    let (_folder, path) = saved::<OnCpu>(&debiased(0.9), &layout());
    assert_refused(&debiased(0.99), &layout(), &path, &LoadOptions::default(), refused);
    assert_refused(&rule("sgd").average(Ema::new(0.9)), &layout(), &path, &LoadOptions::default(), refused);
    // Other weights of an average without a bias are another setting.
    let (_folder, path) = saved::<OnCpu>(&rule("sgd").average(Ema::new(0.9)), &layout());
    let mut resumed = OnCpu::new(&rule("sgd").average(Ema::new(0.99)), &layout(), &grads(&layout(), 2));
    assert_eq!(resumed.load(&path, &LoadOptions::default()).unwrap().differences.len(), 1);
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
    assert_resumed::<Trainer>("evaluation on the device", &builder, 3, Training::eval, Training::train);
    assert_resumed::<OnCpu>("evaluation on the CPU", &builder, 3, Training::eval, Training::train);
}

#[test]
fn a_learning_rate_that_replaced_a_schedule_stays() {
    let builder = rule("sgd").schedule(OneCycle::new(1.0, 10));
    assert_resumed::<Trainer>("set_lr on the device", &builder, 2, |training| training.set_lr(0.5), |_| {});
    assert_resumed::<OnCpu>("set_lr on the CPU", &builder, 2, |training| training.set_lr(0.5), |_| {});
}

/// The file of a trained optimizer, and the gradients of its next step.
pub fn saved<T: Training>(builder: &OptimizerBuilder, layout: &Layout) -> (TempDir, std::path::PathBuf) {
    let folder = folder();
    let path = folder.path().join("saved.safetensors");
    let mut trained = T::new(builder, layout, &grads(layout, 1));
    for seed in 0..3 {
        trained.step(&grads(layout, 10 + seed));
    }
    trained.save(&path).unwrap();
    (folder, path)
}

/// A refused file leaves the optimizer as it was, on both engines. Returns the message.
pub fn assert_refused(
    builder: &OptimizerBuilder,
    layout: &Layout,
    path: &Path,
    options: &LoadOptions,
    is_expected: impl Fn(&CheckpointError) -> bool,
) -> String {
    fn refused<T: Training>(
        builder: &OptimizerBuilder,
        layout: &Layout,
        path: &Path,
        options: &LoadOptions,
    ) -> CheckpointError {
        let mut training = T::new(builder, layout, &grads(layout, 2));
        training.step(&grads(layout, 3));
        let before = training.all();
        let error = training.load(path, options).unwrap_err();
        assert!(training.all() == before, "changed by: {error}");
        error
    }
    let on_device = refused::<Trainer>(builder, layout, path, options);
    let on_cpu = refused::<OnCpu>(builder, layout, path, options);
    assert_eq!(on_device.to_string(), on_cpu.to_string());
    assert!(is_expected(&on_device), "{on_device:?}");
    on_device.to_string()
}

/// Everything but the tensors may come in any order, padding and number of buffers.
#[test]
fn a_permuted_layout_with_other_padding_is_loaded_by_name() {
    let (_folder, path) = saved::<OnCpu>(&rule("lamb"), &layout());
    let permuted = Layout::builder().packed().tensor("c", &[130, 129]).tensor("none", &[3, 0]).tensor("b", &[30]);
    let permuted = permuted.group("own").tensor("a", &[40, 30]).build().unwrap();
    let mut straight = OnCpu::new(&rule("lamb"), &layout(), &grads(&layout(), 1));
    for seed in 0..3 {
        straight.step(&grads(&layout(), 10 + seed));
    }
    let mut resumed = OnCpu::new(&rule("lamb"), &permuted, &vec![0.0; permuted.len()]);
    let mut on_device = Trainer::new(device::gpu(), rule("lamb"), &permuted, &vec![0.0; permuted.len() + 1]);
    let _ = resumed.load(&path, &LoadOptions::default()).unwrap();
    let params = on_device.params.slice(..4 * permuted.len() as u64);
    let _ = on_device.optimizer.load(&path, Some(params.into()), &LoadOptions::default()).unwrap();
    for tensor in layout().tensors() {
        let own = permuted.tensor(tensor.name()).unwrap().range();
        assert_eq!(resumed.params[own.clone()], straight.params[tensor.range()]);
        assert_eq!(on_device.params()[own.clone()], straight.params[tensor.range()]);
        for state in ["exp_avg", "exp_avg_sq"] {
            let of = |training: &OnCpu, range: std::ops::Range<usize>| {
                training.optimizer.state(state).unwrap().as_f32().unwrap()[range].to_vec()
            };
            assert_eq!(of(&resumed, own.clone()), of(&straight, tensor.range()));
            assert_eq!(on_device.state(state)[own.clone()], of(&straight, tensor.range()));
        }
    }
}

#[test]
fn a_renamed_tensor_needs_its_old_name() {
    let (_folder, path) = saved::<OnCpu>(&rule("adam"), &layout());
    let builder = Layout::builder().tensor("first", &[40, 30]).tensor("b", &[30]).group("own");
    let renamed = builder.tensor("none", &[3, 0]).tensor("c", &[130, 129]).build().unwrap();
    let message = assert_refused(&rule("adam"), &renamed, &path, &LoadOptions::default(), |error| {
        let CheckpointError::Tensors { missing, unknown, .. } = error else { return false };
        missing.contains(&"states/exp_avg/first".to_owned()) && unknown.contains(&"params/a".to_owned())
    });
    for part in ["params/first", "states/exp_avg/a", "with_renamed"] {
        assert!(message.contains(part), "{message}");
    }
    let unknown = LoadOptions::default().with_renamed("a", "second");
    assert_refused(
        &rule("adam"),
        &renamed,
        &path,
        &unknown,
        |error| matches!(error, CheckpointError::UnknownTensor { tensor } if tensor == "second"),
    );
}

/// Every entry of a tensor has its name: states, factors, sums of segments, members of groups.
#[test]
fn a_renamed_tensor_goes_on() {
    for (name, old) in
        [("adam", "a"), ("lamb", "a"), ("adafactor", "c"), ("adafactor", "b"), ("lamb", "b"), ("novograd", "b")]
    {
        let builder = rule(name).group("own", GroupOptions::default().with_lr_scale(0.5));
        let (_folder, path) = saved::<OnCpu>(&builder, &layout());
        let own = |name: &'static str| if name == old { "new" } else { name };
        let renamed = Layout::builder().tensor(own("a"), &[40, 30]).tensor(own("b"), &[30]).group("own");
        let renamed = renamed.tensor("none", &[3, 0]).tensor(own("c"), &[130, 129]).build().unwrap();
        let [mut straight, mut resumed] =
            [layout(), renamed].map(|layout| OnCpu::new(&builder, &layout, &grads(&layout, 2)));
        let _ = straight.load(&path, &LoadOptions::default()).unwrap();
        let loaded = resumed.load(&path, &LoadOptions::default().with_renamed(old, "new")).unwrap();
        assert_eq!(loaded.differences, [], "{name}, {old}");
        assert!(resumed.all() == straight.all(), "{name}, {old}");
        let again = path.with_extension("again");
        resumed.save(&again).unwrap();
        // A set: tensors without elements stand in the order of their names.
        let names = |path: &Path| {
            let checkpoint = Checkpoint::open(path).unwrap();
            checkpoint.tensors().map(|(name, _)| name.to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        let of_old = format!("/{old}");
        let new = |file: String| file.strip_suffix(&of_old).map_or(file.clone(), |start| format!("{start}/new"));
        assert_eq!(names(&again), names(&path).into_iter().map(new).collect(), "{name}, {old}");
    }
}

#[test]
fn files_of_other_optimizers_are_refused() {
    let (_folder, path) = saved::<OnCpu>(&rule("adam"), &layout());
    let message = assert_refused(&rule("lion"), &layout(), &path, &LoadOptions::default(), |error| {
        matches!(error, CheckpointError::Mismatch { what: "the rule", .. })
    });
    assert!(message.contains("adam") && message.contains("lion"), "{message}");
    // Another set of states.
    let amsgrad = wgpu_optim::Optimizer::builder(Adam::default().with_amsgrad(true));
    assert_refused(
        &amsgrad,
        &layout(),
        &path,
        &LoadOptions::default(),
        |error| matches!(error, CheckpointError::Tensors { missing, unknown, .. } if missing.len() == 4 && unknown.is_empty()),
    );
    // Another shape of the same number of elements.
    let builder = Layout::builder().tensor("a", &[30, 40]).tensor("b", &[30]).group("own");
    let transposed = builder.tensor("none", &[3, 0]).tensor("c", &[130, 129]).build().unwrap();
    assert_refused(
        &rule("adam"),
        &transposed,
        &path,
        &LoadOptions::default(),
        |error| matches!(error, CheckpointError::Shape { file, program, .. } if (&file[..], &program[..]) == (&[40, 30], &[30, 40])),
    );
    // A schedule that cycles the momentum, where the program's does not.
    let cycled = rule("adam").schedule(OneCycle::new(1.0, 10));
    let (_folder, cycling) = saved::<OnCpu>(&cycled, &layout());
    assert_refused(&rule("adam"), &layout(), &cycling, &LoadOptions::default(), |error| {
        matches!(error, CheckpointError::Optimizer(wgpu_optim::Error::Unsupported { .. }))
    });
    assert_refused(&cycled, &layout(), &path, &LoadOptions::default(), |error| {
        matches!(error, CheckpointError::Optimizer(wgpu_optim::Error::Unsupported { .. }))
    });
}

#[test]
fn other_settings_are_reported_or_refused() {
    let own = GroupOptions::default().with_weight_decay(0.5);
    let builder = |eps: f64| {
        let rule = AdamW::default().with_eps(eps);
        wgpu_optim::Optimizer::builder(rule).clip(Clip::global_norm(1.0))
    };
    let (_folder, path) = saved::<OnCpu>(&builder(1e-8).group("own", own), &layout());
    let other = builder(1e-6).on_nonfinite(NonFinite::Propagate);
    let mut resumed = OnCpu::new(&other, &layout(), &grads(&layout(), 2));
    let loaded = resumed.load(&path, &LoadOptions::default()).unwrap();
    let settings: Vec<_> = loaded.differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        settings,
        [
            r#"groups.own is {"frozen":false,"lr_scale":1.0,"schedule":null,"weight_decay":0.5} in the file, none in the program"#,
            r#"on_nonfinite is none in the file, "propagate" in the program"#,
            "rule.eps is 1e-8 in the file, 1e-6 in the program",
        ]
    );
    let message = assert_refused(
        &other,
        &layout(),
        &path,
        &LoadOptions::default().exact(),
        |error| matches!(error, CheckpointError::Settings(differences) if *differences == loaded.differences),
    );
    assert!(message.contains("rule.eps is 1e-8"), "{message}");
    // The file's settings, as asked.
    let from_file = OptimizerBuilder::from_checkpoint(&Checkpoint::open(&path).unwrap()).unwrap();
    let mut resumed = OnCpu::new(&from_file, &layout(), &grads(&layout(), 2));
    let loaded = resumed.load(&path, &LoadOptions::default().exact()).unwrap();
    assert_eq!(loaded.differences, []);
}

#[test]
fn the_program_may_keep_its_schedule() {
    let (_folder, path) = saved::<OnCpu>(&rule("sgd").schedule(Exponential::new(1.0, 0.5)), &layout());
    let other = rule("sgd").schedule(Exponential::new(2.0, 0.5));
    for (options, lr, differences) in
        [(LoadOptions::default(), 0.125, 0), (LoadOptions::default().keep_schedule(), 0.25, 1)]
    {
        let mut on_cpu = OnCpu::new(&other, &layout(), &grads(&layout(), 2));
        let loaded = on_cpu.load(&path, &options).unwrap();
        assert_eq!((on_cpu.optimizer.lr().unwrap(), loaded.differences.len()), (lr, differences));
        let mut on_device = <Trainer as Training>::new(&other, &layout(), &grads(&layout(), 2));
        let loaded = on_device.load(&path, &options).unwrap();
        assert_eq!((on_device.optimizer.lr().unwrap(), loaded.differences.len()), (lr, differences));
    }
}

/// A schedule that is a function stays the program's.
#[test]
fn a_schedule_that_is_a_function_is_not_saved() {
    let lambda = |lr: f64| rule("sgd").schedule(Schedule::lambda(lr, |step| 0.5f64.powi(step as i32)));
    let (_folder, path) = saved::<OnCpu>(&lambda(1.0), &layout());
    let mut resumed = OnCpu::new(&lambda(2.0), &layout(), &grads(&layout(), 2));
    let loaded = resumed.load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(resumed.optimizer.lr().unwrap(), 0.25);
    assert_eq!(loaded.differences.len(), 1);
    assert!(loaded.differences[0].file.contains("function"));
}

/// Every byte counts: an altered file is refused, whatever byte it is, and so is every shorter one.
#[test]
fn altered_and_cut_files_are_refused() {
    let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[2]).build().unwrap();
    let builder = rule("adam").clip(Percentile::new(50.0)).history(2);
    let (folder, path) = saved::<OnCpu>(&builder, &layout);
    let bytes = fs::read(&path).unwrap();
    let mut training = OnCpu::new(&builder, &layout, &grads(&layout, 2));
    training.step(&grads(&layout, 3));
    let before = training.all();
    let altered = folder.path().join("altered");
    let mut kinds = std::collections::BTreeSet::new();
    for at in 0..bytes.len() {
        for bit in [0, 5] {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            fs::write(&altered, &other).unwrap();
            let error = training.load(&altered, &LoadOptions::default()).unwrap_err();
            kinds.insert(format!("{error:?}").split([' ', '(', '{']).next().unwrap().to_owned());
        }
        fs::write(&altered, &bytes[..at]).unwrap();
        let error = training.load(&altered, &LoadOptions::default()).unwrap_err();
        assert!(matches!(error, CheckpointError::Length { .. }), "{at} bytes: {error:?}");
    }
    fs::write(&altered, [&bytes[..], b"x"].concat()).unwrap();
    let error = training.load(&altered, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::Length { .. }), "{error:?}");
    assert!(training.all() == before);
    assert!(kinds.contains("Damaged") && kinds.contains("NotACheckpoint") && kinds.contains("Length"), "{kinds:?}");
}

/// One file, whichever engine, device, padding or list of buffers wrote it.
#[test]
fn the_file_is_the_same_wherever_it_was_written() {
    let history = HistoryOptions::steps(3).with_norms_every(2).per_group();
    for (name, clip) in [("adamw", Clip::from(Percentile::new(50.0).with_window(2))), ("adafactor", Clip::value(1.0))] {
        let builder = rule(name).clip(clip).history(history.clone());
        let (folder, path) = saved::<OnCpu>(&builder, &layout());
        let expected = fs::read(&path).unwrap();
        let again = folder.path().join("again");
        let packed = Layout::builder().packed().tensor("a", &[40, 30]).tensor("b", &[30]).group("own");
        let packed = packed.tensor("none", &[3, 0]).tensor("c", &[130, 129]).build().unwrap();
        // Each state takes three buffers on the second device.
        let small = device_with(|limits| limits.max_buffer_size = 40 << 10);
        for (what, gpu, layout) in
            [("padded", device::gpu(), &layout()), ("packed", device::gpu(), &packed), ("cut", &small, &packed)]
        {
            // No multiple of anything: tensors and buffers end within windows.
            let mut optimizer = device::build(gpu, builder.clone().checkpoint_window(1_000), layout).unwrap();
            let buffers: Vec<_> = layout.tensors().iter().filter(|tensor| !tensor.range().is_empty()).collect();
            let buffers: Vec<_> = buffers.iter().map(|tensor| vec![0.0; tensor.range().len()]).collect();
            let cut: Vec<_> = buffers.iter().flat_map(|values| values.chunks(8192)).collect();
            let buffers: Vec<_> = cut.iter().map(|values| device::upload(gpu, values)).collect();
            let slices = buffers.iter().zip(&cut).map(|(buffer, values)| buffer.slice(..4 * values.len() as u64));
            let slices: Vec<_> = slices.collect();
            let loaded = optimizer.load(&path, Some((&slices).into()), &LoadOptions::default()).unwrap();
            assert_eq!(loaded.differences, [], "{what}");
            optimizer.save(&again, Some((&slices).into())).unwrap();
            assert!(fs::read(&again).unwrap() == expected, "{name}, {what}: another file");
        }
    }
}

/// Saves again and again, until the process is killed.
#[test]
#[ignore = "runs in a process of its own"]
fn saver() {
    let path = std::env::var_os("SAVED").expect("the test that runs this one sets it");
    let mut training = OnCpu::new(&rule("adam"), &layout(), &grads(&layout(), 1));
    loop {
        training.step(&grads(&layout(), 2));
        training.save(Path::new(&path)).unwrap();
    }
}

#[test]
fn a_killed_save_leaves_the_file_before() {
    let folder = folder();
    let path = folder.path().join("saved");
    let mut training = OnCpu::new(&rule("adam"), &layout(), &grads(&layout(), 1));
    training.save(&path).unwrap();
    let (mut steps, mut left_behind) = (std::collections::BTreeSet::new(), 0);
    for kill in 0..200 {
        let mut saver = std::process::Command::new(std::env::current_exe().unwrap());
        saver.args(["--exact", "checkpoint::saver", "--ignored"]).env("SAVED", &path);
        let mut saver = saver.stdout(std::process::Stdio::null()).spawn().unwrap();
        // Another moment of the process's life each time, the first ones before it saves.
        std::thread::sleep(std::time::Duration::from_micros(200 + 7919 * kill % 60_000));
        saver.kill().unwrap();
        saver.wait().unwrap();
        let _ = training.load(&path, &LoadOptions::default().exact()).unwrap();
        steps.insert(training.optimizer.stats().step);
        left_behind = fs::read_dir(folder.path()).unwrap().count() - 1;
    }
    assert!(steps.len() > 5, "the saver was killed too early: {steps:?}");
    assert!(left_behind > 0, "no save was interrupted");
}

/// A snapshot is saved in another thread while training goes on.
#[test]
fn a_snapshot_is_saved_as_it_was() {
    let history = HistoryOptions::steps(3).with_norms_every(2);
    for (name, evaluates) in [("adafactor", false), ("prodigy", false), ("schedule_free_adamw", true)] {
        let builder = rule(name).history(history.clone());
        let (folder, layout) = (folder(), layout());
        let [then, now, late] = ["then", "now", "late"].map(|file| folder.path().join(file));
        let mut training = <Trainer as Training>::new(&builder, &layout, &grads(&layout, 1));
        for seed in 0..3 {
            Training::step(&mut training, &grads(&layout, 10 + seed));
        }
        if evaluates {
            training.eval();
        }
        training.save(&then).unwrap();
        let mut recorded = encoder(training.gpu);
        let snapshot = training.optimizer.snapshot(&mut recorded, &training.params).unwrap();
        training.gpu.queue.submit([recorded.finish()]);
        if evaluates {
            training.train();
        }
        std::thread::scope(|scope| {
            let saving = scope.spawn(|| snapshot.save(&late));
            for seed in 0..5 {
                Training::step(&mut training, &grads(&layout, 20 + seed));
            }
            saving.join().unwrap().unwrap();
        });
        training.save(&now).unwrap();
        let [then, now, late] = [then, now, late].map(|file| fs::read(file).unwrap());
        assert!(late == then, "{name}: another file");
        assert!(late != now);
    }
}

#[test]
fn a_dropped_snapshot_is_not_saved() {
    let (folder, layout) = (folder(), layout());
    let path = folder.path().join("saved");
    let training = <Trainer as Training>::new(&rule("adam"), &layout, &grads(&layout, 1));
    let mut recorded = encoder(training.gpu);
    let snapshot = training.optimizer.snapshot(&mut recorded, &training.params).unwrap();
    drop(recorded);
    let error = snapshot.save(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Optimizer(wgpu_optim::Error::SnapshotDropped)), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The file of a lost device is the one before; the optimizer is rebuilt from it on another device.
#[test]
fn a_lost_device_leaves_the_last_file() {
    let (folder, layout) = (folder(), layout());
    let path = folder.path().join("saved");
    let builder = rule("adamw").clip(Clip::global_norm(1.0));
    let mut straight = OnCpu::new(&builder, &layout, &grads(&layout, 1));
    straight.step(&grads(&layout, 2));
    straight.save(&path).unwrap();
    let lost = device_with(|_| ());
    let mut optimizer = device::build(&lost, builder.clone(), &layout).unwrap();
    let params = device::upload(&lost, &grads(&layout, 1));
    let _ = optimizer.load(&path, Some((&params).into()), &LoadOptions::default()).unwrap();
    let before = fs::read(&path).unwrap();
    lost.device.destroy();
    let error = optimizer.save(&path, Some((&params).into())).unwrap_err();
    assert!(matches!(error, CheckpointError::Device(_)), "{error:?}");
    let error = optimizer.load(&path, Some((&params).into()), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::Device(_)), "{error:?}");
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    let from_file = OptimizerBuilder::from_checkpoint(&Checkpoint::open(&path).unwrap()).unwrap();
    let mut rebuilt = <Trainer as Training>::new(&from_file, &layout, &grads(&layout, 3));
    assert_eq!(rebuilt.load(&path, &LoadOptions::default()).unwrap().differences, []);
    assert_eq!(Training::step(&mut rebuilt, &grads(&layout, 4)).step, 2);
}

/// A disk with that much space.
struct Full(usize);
impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Folders that are missing, and disks that are full.
#[test]
fn a_file_that_cannot_be_written_is_an_error() {
    let training = OnCpu::new(&rule("adam"), &layout(), &grads(&layout(), 1));
    let error = training.save(Path::new("no/such/folder/saved")).unwrap_err();
    assert!(matches!(&error, CheckpointError::Io { path, .. } if path.ends_with("saved")), "{error:?}");
    let on_device = <Trainer as Training>::new(&rule("adam"), &layout(), &grads(&layout(), 1));
    for bytes in [0, 10, 3_000, 100_000] {
        let error = training.optimizer.save_to(Full(bytes), Some((&training.params).into())).unwrap_err();
        assert!(matches!(error, CheckpointError::Stream(_)), "{error:?}");
        let error = pollster::block_on(async {
            let saving = on_device.optimizer.save_to(Full(bytes), None);
            // Polls as a program does while it waits.
            let mut saving = std::pin::pin!(saving);
            std::future::poll_fn(|context| {
                let poll = saving.as_mut().poll(context);
                on_device.gpu.device.poll(PollType::wait_indefinitely()).unwrap();
                context.waker().wake_by_ref();
                poll
            })
            .await
        });
        assert!(matches!(error, Err(CheckpointError::Stream(_))), "{error:?}");
    }
}

/// A checkpoint as bytes, as browsers hold it.
#[test]
fn a_checkpoint_may_be_bytes() {
    let layout = layout();
    let mut training = OnCpu::new(&rule("lion"), &layout, &grads(&layout, 1));
    training.step(&grads(&layout, 2));
    let mut bytes = Vec::new();
    training.optimizer.save_to(&mut bytes, Some((&training.params).into())).unwrap();
    let mut checkpoint = Checkpoint::new(std::io::Cursor::new(&bytes)).unwrap();
    let mut resumed = <Trainer as Training>::new(&rule("lion"), &layout, &grads(&layout, 3));
    let params = Some((&resumed.params).into());
    let _ = resumed.optimizer.load_from(&mut checkpoint, params, &LoadOptions::default()).unwrap();
    assert!(resumed.params() == training.params && Training::step(&mut resumed, &grads(&layout, 4)).step == 2);
    // Without the parameters.
    let mut without = Vec::new();
    training.optimizer.save_to(&mut without, None).unwrap();
    let mut checkpoint = Checkpoint::new(std::io::Cursor::new(&without)).unwrap();
    let params = Some((&resumed.params).into());
    let error = resumed.optimizer.load_from(&mut checkpoint, params, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::NoParams), "{error:?}");
    let _ = resumed.optimizer.load_from(&mut checkpoint, None, &LoadOptions::default()).unwrap();
}
