//! Snapshots: after `restore`, training goes on as if nothing had been since `snapshot`.

use crate::common::numbers::random;
use crate::common::{self, Trainer, cpu_bits, device, device_with, encoder, finish, rule};
use wgpu_optim::clip::Percentile;
use wgpu_optim::schedule::{Exponential, OneCycle};
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{
    Adam, Clip, CpuOptimizer, Error, GroupOptions, Layout, NonFinite, Optimizer, OptimizerBuilder, RuleConfig,
    Schedule, ScheduleFreeAdamW, Sgd, SharedPipelines, Sophia, Stats,
};

const LEN: usize = 40 * 30 + 30 + 130 * 129;

fn layout() -> Layout {
    let builder = Layout::builder().packed().tensor("a", &[40, 30]).tensor("b", &[30]).group("own");
    builder.tensor("c", &[130, 129]).build().unwrap()
}

/// The same training on either engine.
trait Training {
    fn step(&mut self, grads: &[f32]) -> Stats;
    fn set(&mut self, lr: f64, grad_scale: f32);
    /// All that a step may change, as bits, with the statistics.
    fn all(&self) -> (Vec<u32>, Vec<u32>, String);
    /// Restores what it was before `between`.
    fn undo(&mut self, between: &mut dyn FnMut(&mut Self));
    fn next_lr(&self) -> f64;
}

impl Training for Trainer<'static> {
    fn step(&mut self, grads: &[f32]) -> Stats {
        Trainer::step(self, grads)
    }

    fn set(&mut self, lr: f64, grad_scale: f32) {
        self.optimizer.set_lr(lr).unwrap();
        self.optimizer.set_grad_scale(grad_scale).unwrap();
    }

    fn all(&self) -> (Vec<u32>, Vec<u32>, String) {
        let tensor_states = self.optimizer.tensor_states();
        let tensor_states = tensor_states.map(|slice| device::download_slice(self.gpu, slice)).unwrap_or_default();
        let stats = finish(self.gpu, &self.optimizer, encoder(self.gpu));
        (self.bits(), tensor_states.into_iter().map(f32::to_bits).collect(), format!("{stats:?}"))
    }

    fn undo(&mut self, between: &mut dyn FnMut(&mut Self)) {
        let mut recorded = encoder(self.gpu);
        let snapshot = self.optimizer.snapshot(&mut recorded, &self.params).unwrap();
        self.gpu.queue.submit([recorded.finish()]);
        // A snapshot can be used again.
        for _ in 0..2 {
            between(self);
            let mut recorded = encoder(self.gpu);
            self.optimizer.restore(&mut recorded, &self.params, &snapshot).unwrap();
            self.gpu.queue.submit([recorded.finish()]);
        }
    }

    fn next_lr(&self) -> f64 {
        self.optimizer.lr().unwrap()
    }
}

struct OnCpu {
    optimizer: CpuOptimizer,
    params: Vec<f32>,
}

impl Training for OnCpu {
    fn step(&mut self, grads: &[f32]) -> Stats {
        self.optimizer.step(&mut self.params, grads).unwrap()
    }

    fn set(&mut self, lr: f64, grad_scale: f32) {
        self.optimizer.set_lr(lr).unwrap();
        self.optimizer.set_grad_scale(grad_scale).unwrap();
    }

    fn all(&self) -> (Vec<u32>, Vec<u32>, String) {
        let tensor_states = self.optimizer.tensor_states().flatten().map(f32::to_bits).collect();
        (cpu_bits(&self.optimizer, &self.params), tensor_states, format!("{:?}", self.optimizer.stats()))
    }

    fn undo(&mut self, between: &mut dyn FnMut(&mut Self)) {
        let snapshot = self.optimizer.snapshot(&self.params).unwrap();
        for _ in 0..2 {
            between(self);
            self.optimizer.restore(&mut self.params, &snapshot).unwrap();
        }
    }

    fn next_lr(&self) -> f64 {
        self.optimizer.lr().unwrap()
    }
}

/// Leaves the path of `untouched` after `before` steps, comes back, and follows it.
fn assert_undone<T: Training>(what: &str, mut trained: T, mut untouched: T, before: u64) {
    for seed in 0..before {
        trained.step(&random(10 + seed, LEN));
        untouched.step(&random(10 + seed, LEN));
    }
    let start = trained.all();
    trained.undo(&mut |trained| {
        // First as training goes on, then otherwise.
        trained.step(&random(20, LEN));
        trained.set(0.5, 0.25);
        trained.step(&random(21, LEN));
        let mut bad = random(22, LEN);
        bad[LEN / 2] = f32::NAN;
        trained.step(&bad);
        trained.step(&random(23, LEN));
        assert!(trained.all() != start, "{what}: nothing happened between");
    });
    assert!(trained.all() == untouched.all(), "{what}: not restored");
    for seed in 0..3 {
        assert_eq!(trained.next_lr(), untouched.next_lr(), "{what}");
        trained.step(&random(30 + seed, LEN));
        untouched.step(&random(30 + seed, LEN));
        assert!(trained.all() == untouched.all(), "{what}: another step {seed} after the snapshot");
    }
}

fn assert_undone_on_both(what: &str, builder: &OptimizerBuilder) {
    let params = random(1, LEN);
    for before in [0, 3] {
        let on_device = || Trainer::new(device::gpu(), builder.clone(), &layout(), &params);
        assert_undone(&format!("{what} on the device after {before} steps"), on_device(), on_device(), before);
        let on_cpu = || OnCpu { optimizer: builder.clone().build_cpu(&layout()).unwrap(), params: params.clone() };
        assert_undone(&format!("{what} on the CPU after {before} steps"), on_cpu(), on_cpu(), before);
    }
}

/// A snapshot holds the accumulator.
#[test]
fn accumulated_gradients_are_restored() {
    let layout = Layout::flat(300).unwrap();
    let mut training = Trainer::new(device::gpu(), rule("sgd").accumulate_gradients(), &layout, &random(1, 300));
    let accumulate = |training: &mut Trainer<'_>, weight: f32| {
        let mut recorded = encoder(training.gpu);
        training.optimizer.accumulate(&mut recorded, &training.grads, weight).unwrap();
        training.gpu.queue.submit([recorded.finish()]);
    };
    training.gpu.queue.write_buffer(&training.grads, 0, bytemuck::cast_slice(&[1.0f32; 300]));
    accumulate(&mut training, 0.5);
    let mut recorded = encoder(training.gpu);
    let snapshot = training.optimizer.snapshot(&mut recorded, &training.params).unwrap();
    training.gpu.queue.submit([recorded.finish()]);
    accumulate(&mut training, 8.0);
    let mut recorded = encoder(training.gpu);
    training.optimizer.restore(&mut recorded, &training.params, &snapshot).unwrap();
    training.optimizer.step_accumulated(&mut recorded, &training.params).unwrap();
    training.gpu.queue.submit([recorded.finish()]);
    let lr = Sgd::default().lr as f32;
    let expected: Vec<f32> = random(1, 300).into_iter().map(|param| param - lr * 0.5).collect();
    assert_eq!(training.params(), expected);
}

fn nothing_is_left_of_what_came_after_a_snapshot(name: &str) {
    let own = GroupOptions::default().with_schedule(Exponential::new(0.25, 0.5));
    let builder = rule(name).schedule(Schedule::warmup_cosine(0.125, 2, 20)).group("own", own);
    assert_undone_on_both(name, &builder);
}

tests_of! {
    [nothing_is_left_of_what_came_after_a_snapshot]
    every_rule
}

#[test]
fn every_rule_is_here() {
    assert_eq!(RULES, RuleConfig::NAMES);
}

#[test]
fn the_norms_that_autoclip_remembers_are_restored() {
    assert_undone_on_both("autoclip", &rule("adam").clip(Percentile::new(50.0).with_window(4)));
}

/// The ring of four holds steps from before the snapshot, which those after it have overwritten.
#[test]
fn a_history_knows_nothing_of_what_was_undone() {
    let layout = layout();
    let builder = rule("adam").clip(Clip::global_norm(1.0)).history(4);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &random(1, LEN));
    let (mut cpu, mut params) = (builder.build_cpu(&layout).unwrap(), random(1, LEN));
    let mut step = |trainer: &mut Trainer<'_>, cpu: &mut CpuOptimizer, seed: u64| {
        cpu.step(&mut params, &random(seed, LEN)).unwrap();
        trainer.step(&random(seed, LEN))
    };
    let mut expected: Vec<Stats> = (2..7).map(|seed| step(&mut trainer, &mut cpu, seed)).collect();
    let mut recorded = encoder(trainer.gpu);
    let snapshot = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
    finish(trainer.gpu, &trainer.optimizer, recorded);
    let (on_cpu, before) = (cpu.snapshot(&random(1, LEN)).unwrap(), cpu.history().unwrap());
    for seed in 20..23 {
        step(&mut trainer, &mut cpu, seed);
    }
    let mut recorded = encoder(trainer.gpu);
    trainer.optimizer.restore(&mut recorded, &trainer.params, &snapshot).unwrap();
    finish(trainer.gpu, &trainer.optimizer, recorded);
    cpu.restore(&mut random(1, LEN), &on_cpu).unwrap();
    assert_eq!(cpu.history().unwrap(), before);
    expected.push(trainer.step(&random(7, LEN)));
    let mut recorded = encoder(trainer.gpu);
    let history = trainer.optimizer.history(&mut recorded).unwrap();
    finish(trainer.gpu, &trainer.optimizer, recorded);
    assert_eq!(pollster::block_on(history).unwrap().steps, expected[2..]);
}

#[test]
fn the_norms_of_units_are_restored() {
    assert_undone_on_both("agc", &rule("adam").clip(Clip::adaptive(0.01)));
}

#[test]
fn a_cycled_momentum_and_the_powers_of_its_betas_are_restored() {
    for rule in ["sgd_momentum", "adam"] {
        let builder = match rule {
            "adam" => Optimizer::builder(Adam::default()),
            _ => Optimizer::builder(Sgd::default().with_momentum(0.5)),
        };
        assert_undone_on_both(rule, &builder.schedule(OneCycle::new(0.125, 20)));
    }
}

/// The first gradient that is not finite is looked for in the block that a single-pass step leaves beside its own.
#[test]
fn a_bare_step_starts_looking_for_bad_gradients_anew() {
    let mut trainer = Trainer::new(device::gpu(), rule("sgd"), &layout(), &random(1, LEN));
    Trainer::step(&mut trainer, &random(2, LEN));
    trainer.undo(&mut |trainer| {
        let mut bad = random(3, LEN);
        bad[7] = f32::NAN;
        assert_eq!(Trainer::step(trainer, &bad).first_nonfinite, Some(7));
    });
    assert_eq!(Trainer::step(&mut trainer, &random(4, LEN)).first_nonfinite, None);
}

#[test]
fn a_gradient_scale_in_a_buffer_is_forgotten() {
    let builder = || rule("adam").clip(Clip::global_norm(1.0));
    let start = || Trainer::new(device::gpu(), builder(), &layout(), &random(1, LEN));
    let (mut trainer, mut untouched) = (start(), start());
    let scale = device::upload(trainer.gpu, &[4.0]);
    trainer.undo(&mut |trainer| trainer.optimizer.set_grad_scale(&scale).unwrap());
    for trainer in [&mut trainer, &mut untouched] {
        Trainer::step(trainer, &random(2, LEN));
    }
    assert!(trainer.all() == untouched.all());
}

#[test]
fn an_optimizer_that_stopped_since_goes_on() {
    assert_undone_on_both("stop", &rule("adam").on_nonfinite(NonFinite::Stop));
}

#[test]
fn a_snapshot_among_evaluation_parameters_knows_the_training_parameters() {
    let builder = || Optimizer::builder(ScheduleFreeAdamW::default().with_lr(0.125));
    let gpu = device::gpu();
    let mut trainer = Trainer::new(gpu, builder(), &layout(), &random(1, LEN));
    // After one step both kinds of parameters would be the same.
    for seed in [2, 3] {
        Trainer::step(&mut trainer, &random(seed, LEN));
    }
    let trained = trainer.all();
    let switch = |trainer: &mut Trainer, to_eval: bool| {
        let mut encoder = encoder(gpu);
        if to_eval {
            trainer.optimizer.eval(&mut encoder, &trainer.params).unwrap();
        } else {
            trainer.optimizer.train(&mut encoder, &trainer.params).unwrap();
        }
        gpu.queue.submit([encoder.finish()]);
    };
    switch(&mut trainer, true);
    trainer.undo(&mut |trainer| {
        switch(trainer, false);
        Trainer::step(trainer, &random(3, LEN));
        switch(trainer, true);
    });
    switch(&mut trainer, false);
    assert!(trainer.all() == trained);

    let mut on_cpu = OnCpu { optimizer: builder().build_cpu(&layout()).unwrap(), params: random(1, LEN) };
    for seed in [2, 3] {
        on_cpu.step(&random(seed, LEN));
    }
    let trained = on_cpu.all();
    on_cpu.optimizer.eval(&mut on_cpu.params).unwrap();
    on_cpu.undo(&mut |on_cpu| {
        on_cpu.optimizer.train(&mut on_cpu.params).unwrap();
        on_cpu.step(&random(3, LEN));
    });
    on_cpu.optimizer.train(&mut on_cpu.params).unwrap();
    assert!(on_cpu.all() == trained);
}

#[test]
fn an_estimate_of_the_hessian_is_restored() {
    let mut trainer = Trainer::new(device::gpu(), Optimizer::builder(Sophia::default()), &layout(), &random(1, LEN));
    Trainer::step(&mut trainer, &random(2, LEN));
    let before = trainer.all();
    let estimate = device::upload(trainer.gpu, &random(3, LEN));
    trainer.undo(&mut |trainer| {
        let mut encoder = encoder(trainer.gpu);
        trainer.optimizer.update_hessian(&mut encoder, &trainer.params, &estimate).unwrap();
        finish(trainer.gpu, &trainer.optimizer, encoder);
    });
    assert!(trainer.all() == before);
}

/// Parameters are cut otherwise than the states, and otherwise at `restore`.
#[test]
fn parameters_may_be_cut_anywhere() {
    let gpu = device_with(|limits| {
        limits.max_buffer_size = 1 << 16;
        limits.max_storage_buffer_binding_size = 1 << 16;
    });
    let values = random(1, LEN);
    let mut optimizer = rule("sgd").build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let upload = |range: std::ops::Range<usize>| device::upload(&gpu, &[&[9.0; 64], &values[range]].concat());
    let parts = [upload(0..5_001), upload(5_001..12_000), upload(12_000..LEN)];
    let slices: Vec<_> = parts.iter().map(|part| part.slice(256..)).collect();
    let mut recorded = encoder(&gpu);
    let snapshot = optimizer.snapshot(&mut recorded, &slices).unwrap();
    let others =
        [0..7_000, 7_000..7_001, 7_001..15_000, 15_000..LEN].map(|range| device::upload(&gpu, &vec![0.0; range.len()]));
    let others: Vec<_> = others.iter().map(|part| part.slice(..)).collect();
    optimizer.restore(&mut recorded, &others, &snapshot).unwrap();
    gpu.queue.submit([recorded.finish()]);
    let restored: Vec<f32> = others.iter().flat_map(|part| device::download_slice(&gpu, *part)).collect();
    assert_eq!(restored, values);
}

#[test]
fn what_cannot_be_restored_is_refused_and_changes_nothing() {
    let gpu = device::gpu();
    let mut trainer = Trainer::new(gpu, rule("adam"), &layout(), &random(1, LEN));
    let mut recorded = encoder(gpu);
    let own = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
    let reference = Trainer::new(gpu, rule("adam"), &layout(), &random(2, LEN));
    let foreign = reference.optimizer.snapshot(&mut recorded, &reference.params).unwrap();
    gpu.queue.submit([recorded.finish()]);
    trainer.optimizer.set_lr(0.5).unwrap();
    Trainer::step(&mut trainer, &random(3, LEN));
    let before = trainer.all();
    let mut recorded = encoder(gpu);
    let refused = trainer.optimizer.restore(&mut recorded, &trainer.params, &foreign);
    assert!(matches!(refused, Err(Error::ForeignSnapshot)));
    let short = trainer.params.slice(..8);
    let refused = trainer.optimizer.restore(&mut recorded, short, &own);
    assert!(matches!(refused, Err(Error::LengthMismatch { what: "params", actual: 2, .. })));
    let unreadable = common::storage(gpu, 4 * LEN as u64, BufferUsages::STORAGE);
    let refused = trainer.optimizer.snapshot(&mut recorded, &unreadable);
    assert!(matches!(refused, Err(Error::MissingUsage { missing: BufferUsages::COPY_SRC, .. })));
    let refused = trainer.optimizer.restore(&mut recorded, &unreadable, &own).unwrap_err().to_string();
    assert!(refused.contains("`restore` copies them back"), "{refused}");
    gpu.queue.submit([recorded.finish()]);
    assert!(trainer.all() == before);
    assert_eq!(trainer.optimizer.lr().unwrap(), 0.5);

    let mut optimizer = rule("adam").build_cpu(&layout()).unwrap();
    let foreign = rule("adam").build_cpu(&layout()).unwrap().snapshot(&random(2, LEN)).unwrap();
    let own = optimizer.snapshot(&random(2, LEN)).unwrap();
    let mut params = random(1, LEN);
    assert!(matches!(optimizer.restore(&mut params, &foreign), Err(Error::ForeignSnapshot)));
    assert!(matches!(optimizer.restore(&mut params[1..], &own), Err(Error::LengthMismatch { .. })));
    assert!(matches!(optimizer.snapshot(&params[1..]), Err(Error::LengthMismatch { .. })));
    assert_eq!(params, random(1, LEN));
}

/// The momentum that a schedule set outlasts `set_lr`, also after a restoration.
#[test]
fn a_cycled_momentum_is_that_of_the_snapshot_after_set_lr() {
    let layout = Layout::flat(1).unwrap();
    let builder = Optimizer::builder(Sgd::default()).schedule(OneCycle::new(1.0, 10));
    for detour in [false, true] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
        let (mut reference, mut params) = (builder.clone().build_cpu(&layout).unwrap(), [0.0]);
        trainer.step(&[1.0]);
        reference.step(&mut params, &[1.0]).unwrap();
        if detour {
            let mut recorded = encoder(trainer.gpu);
            let snapshot = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
            trainer.gpu.queue.submit([recorded.finish()]);
            let cpu_snapshot = reference.snapshot(&params).unwrap();
            for _ in 0..2 {
                trainer.step(&[1.0]);
                reference.step(&mut params, &[1.0]).unwrap();
            }
            let mut recorded = encoder(trainer.gpu);
            trainer.optimizer.restore(&mut recorded, &trainer.params, &snapshot).unwrap();
            trainer.gpu.queue.submit([recorded.finish()]);
            reference.restore(&mut params, &cpu_snapshot).unwrap();
        }
        trainer.optimizer.set_lr(1.0).unwrap();
        reference.set_lr(1.0).unwrap();
        trainer.step(&[1.0]);
        reference.step(&mut params, &[1.0]).unwrap();
        // 0.04 of the first step; then 1 and 0.95 of the buffer.
        for param in [trainer.params()[0], params[0]] {
            assert!((param + 1.99).abs() < 1e-6, "{param}, detour: {detour}");
        }
    }
}

/// Snapshot and training parameters come from slices without padding, or from a buffer with other padding.
#[test]
fn padding_stays_as_it_is() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[1]).tensor("b", &[0]).tensor("c", &[64]).tensor("d", &[70]).build();
    let layout = layout.unwrap();
    let ranges: Vec<_> = layout.tensors().iter().map(wgpu_optim::TensorInfo::range).collect();
    let is_padding = |element: &usize| !ranges.iter().any(|range| range.contains(element));
    let padded = |padding: f32| {
        let mut values = random(1, layout.len());
        (0..layout.len()).filter(is_padding).for_each(|element| values[element] = padding);
        values
    };
    let parts: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).collect();
    let parts: Vec<_> = parts.into_iter().map(|range| device::upload(gpu, &padded(0.0)[range.clone()])).collect();
    let tensors: Vec<_> = parts.iter().map(|part| part.slice(..)).collect();
    let other = device::upload(gpu, &padded(9.0));
    let builder = Optimizer::builder(ScheduleFreeAdamW::default());
    for from in [wgpu_optim::BufferSlices::from(&tensors), (&other).into()] {
        let mut optimizer = builder.clone().build(&gpu.device, &gpu.queue, &layout).unwrap();
        let to = device::upload(gpu, &vec![7.0; layout.len()]);
        let mut recorded = encoder(gpu);
        let snapshot = optimizer.snapshot(&mut recorded, from).unwrap();
        optimizer.restore(&mut recorded, &to, &snapshot).unwrap();
        gpu.queue.submit([recorded.finish()]);
        assert_eq!(device::download(gpu, &to), padded(7.0), "after `restore`");
        let to = device::upload(gpu, &vec![7.0; layout.len()]);
        let mut recorded = encoder(gpu);
        optimizer.eval(&mut recorded, from).unwrap();
        optimizer.train(&mut recorded, &to).unwrap();
        gpu.queue.submit([recorded.finish()]);
        assert_eq!(device::download(gpu, &to), padded(7.0), "after `train`");
    }
}

/// Slices begin at any word. Grids have rows, and the parameters take several.
#[test]
fn parameters_between_other_words_are_restored_alone() {
    let gpu = device_with(|limits| {
        limits.max_compute_workgroups_per_dimension = 3;
        limits.max_storage_buffer_binding_size = 1 << 16;
    });
    let values = random(1, LEN);
    let mut optimizer = rule("adam").build(&gpu.device, &gpu.queue, &layout()).unwrap();
    let cuts = [0..1, 1..9_003, 9_003..LEN];
    // A word of another's stands before each slice and behind the last.
    let start = |number: usize| 1 + number + cuts[number].start;
    let fill = |values: &[f32]| {
        let mut words = vec![9.0; LEN + 4];
        for (number, cut) in cuts.iter().enumerate() {
            words[start(number)..start(number) + cut.len()].copy_from_slice(&values[cut.clone()]);
        }
        words
    };
    let params = device::upload(&gpu, &fill(&values));
    let byte = |word: usize| 4 * word as u64;
    let slice = |(i, cut): (usize, &std::ops::Range<usize>)| params.slice(byte(start(i))..byte(start(i) + cut.len()));
    let slices: Vec<_> = cuts.iter().enumerate().map(slice).collect();
    let mut recorded = encoder(&gpu);
    let snapshot = optimizer.snapshot(&mut recorded, &slices).unwrap();
    gpu.queue.submit([recorded.finish()]);
    gpu.queue.write_buffer(&params, 0, bytemuck::cast_slice(&fill(&vec![0.0; LEN])));
    let mut recorded = encoder(&gpu);
    optimizer.restore(&mut recorded, &slices, &snapshot).unwrap();
    gpu.queue.submit([recorded.finish()]);
    assert_eq!(device::download(&gpu, &params), fill(&values));
}

#[test]
fn the_copies_back_are_compiled_once() {
    let gpu = device_with(|_| {});
    let pipelines = SharedPipelines::new(&gpu.device);
    let params = device::upload(&gpu, &random(1, LEN));
    let compiled = || {
        let counters = gpu.device.get_internal_counters().hal;
        (counters.compute_pipelines.read(), counters.shader_modules.read())
    };
    let before = compiled();
    for name in ["adam", "sgd", "adam"] {
        let mut optimizer = rule(name).build_shared(&pipelines, &gpu.queue, &layout()).unwrap();
        let mut recorded = encoder(&gpu);
        let snapshot = optimizer.snapshot(&mut recorded, &params).unwrap();
        optimizer.restore(&mut recorded, &params, &snapshot).unwrap();
        optimizer.restore(&mut recorded, &params, &snapshot).unwrap();
        gpu.queue.submit([recorded.finish()]);
        assert_eq!(compiled(), (before.0 + 1, before.1 + 1), "{name}");
    }
}
