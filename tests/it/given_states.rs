//! States that the program gives: an optimizer continues from them as if it had made them itself.

use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, encoder, finish, rule, set_state};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::{
    Adam, AdamW, CpuOptimizer, Error, Layout, NonFinite, Optimizer, OptimizerBuilder, RuleConfig, Schedule, Sgd, Stats,
};

const LEN: usize = 40 * 30 + 30;

fn layout() -> Layout {
    Layout::builder().packed().tensor("a", &[40, 30]).tensor("b", &[30]).build().unwrap()
}

/// Gives the states of one optimizer to a new one.
fn given_on_device(from: &Trainer<'static>, builder: &OptimizerBuilder, steps: u64) -> Trainer<'static> {
    let gpu = from.gpu;
    let mut to = Trainer::new(gpu, builder.clone(), &layout(), &from.params());
    for name in from.optimizer.state_names() {
        set_state(gpu, &to.optimizer, name, &from.state(name));
    }
    if let Some(scalars) = from.optimizer.scalar_states() {
        to.optimizer.set_scalar_states(&device::download_slice(gpu, scalars)).unwrap();
    }
    if let Some(states) = from.optimizer.tensor_states() {
        to.optimizer.set_tensor_states(bytemuck::cast_slice(&device::download_slice(gpu, states))).unwrap();
    }
    to.optimizer.set_applied_steps(steps).unwrap();
    to
}

fn given_on_cpu(from: &CpuOptimizer, builder: &OptimizerBuilder, steps: u64) -> CpuOptimizer {
    let mut to = builder.clone().build_cpu(&layout()).unwrap();
    for name in from.state_names() {
        to.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(from.state(name).unwrap().as_f32().unwrap());
    }
    to.set_scalar_states(from.scalar_states()).unwrap();
    to.set_tensor_states(&from.tensor_states().collect::<Vec<_>>()).unwrap();
    to.set_applied_steps(steps).unwrap();
    to
}

fn given_states_continue(name: &str) {
    const STEPS: u64 = 3;
    let builder = rule(name).schedule(Schedule::warmup_cosine(0.125, 2, 20));
    let mut trained = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
    let mut reference = builder.clone().build_cpu(&layout()).unwrap();
    let mut params = random(1, LEN);
    for seed in 0..STEPS {
        trained.step(&random(10 + seed, LEN));
        reference.step(&mut params, &random(10 + seed, LEN)).unwrap();
    }
    let mut given = given_on_device(&trained, &builder, STEPS);
    let (mut given_reference, mut given_params) = (given_on_cpu(&reference, &builder, STEPS), params.clone());
    for seed in 0..2 {
        let grads = random(20 + seed, LEN);
        assert_eq!((given.step(&grads).step, trained.step(&grads).step), (STEPS + seed + 1, STEPS + seed + 1));
        assert!(given.bits() == trained.bits(), "{name} on the device, step {seed} after");
        reference.step(&mut params, &grads).unwrap();
        given_reference.step(&mut given_params, &grads).unwrap();
        let bits = [cpu_bits(&reference, &params), cpu_bits(&given_reference, &given_params)];
        assert!(bits[0] == bits[1], "{name} on the CPU, step {seed} after");
    }
}

tests_of! {
    [given_states_continue]
    every_rule
}

#[test]
fn every_rule_is_here() {
    assert_eq!(RULES, RuleConfig::NAMES);
}

/// One parameter of 0 after one step from given states, on each engine.
fn stepped(builder: &OptimizerBuilder, states: &[(&str, f32)], steps: u64) -> [f32; 2] {
    let layout = Layout::flat(1).unwrap();
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
    let (mut reference, mut params) = (builder.clone().build_cpu(&layout).unwrap(), [0.0]);
    for (name, value) in states {
        set_state(trainer.gpu, &trainer.optimizer, name, &[*value]);
        reference.state_mut(name).unwrap().into_f32().unwrap()[0] = *value;
    }
    trainer.optimizer.set_applied_steps(steps).unwrap();
    reference.set_applied_steps(steps).unwrap();
    trainer.step(&[1.0]);
    reference.step(&mut params, &[1.0]).unwrap();
    [trainer.params()[0], params[0]]
}

#[test]
fn a_given_momentum_buffer_is_averaged_in_the_first_step() {
    let builder = Optimizer::builder(Sgd::default().with_lr(1.0).with_momentum(0.9));
    assert_eq!(stepped(&builder, &[("momentum_buffer", 10.0)], 0), [-10.0; 2]);
}

#[test]
fn given_averages_are_corrected_for_the_given_steps() {
    let builder = Optimizer::builder(Adam::default().with_lr(1.0));
    let given = [("exp_avg", 1.0), ("exp_avg_sq", 1.0)];
    assert_eq!(stepped(&builder, &given, 1_000_000), [-1.0; 2]);
    // 1 / (1 - 0.9^2) over the root of 1 / (1 - 0.999^2).
    let expected = -f64::sqrt(1.0 - 0.999f64.powi(2)) / (1.0 - 0.9f64.powi(2));
    for param in stepped(&builder, &given, 1) {
        assert!((f64::from(param) - expected).abs() < 1e-6, "{param} for {expected}");
    }
}

/// Rules whose first step differs from others treat given states as those of any step, even with a count of 0.
#[test]
fn given_states_have_no_first_step() {
    for name in ["sgd", "lars", "rprop", "novograd", "prodigy", "schedule_free_sgd"] {
        let builder = match name {
            "sgd" => Optimizer::builder(Sgd::default().with_momentum(0.9)),
            name => rule(name),
        };
        let mut from = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
        let (mut reference, mut params) = (builder.clone().build_cpu(&layout()).unwrap(), random(1, LEN));
        from.step(&random(2, LEN));
        reference.step(&mut params, &random(2, LEN)).unwrap();
        let grads = random(3, LEN);
        let on_device = [0, 1].map(|steps| {
            let mut given = given_on_device(&from, &builder, steps);
            given.step(&grads);
            given.bits()
        });
        assert!(on_device[0] == on_device[1], "{name} on the device");
        let on_cpu = [0, 1].map(|steps| {
            let (mut given, mut params) = (given_on_cpu(&reference, &builder, steps), params.clone());
            given.step(&mut params, &grads).unwrap();
            cpu_bits(&given, &params)
        });
        assert!(on_cpu[0] == on_cpu[1], "{name} on the CPU");
    }
}

#[test]
fn high_step_counts_are_exact() {
    for (builder, kind) in [
        (Optimizer::builder(AdamW::default()), "in one pass"),
        (Optimizer::builder(AdamW::default()).clip(wgpu_optim::Clip::global_norm(1.0)), "decided"),
    ] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
        let (mut reference, mut params) = (builder.build_cpu(&layout()).unwrap(), random(1, LEN));
        for step in [256, 1 << 24, (1 << 32) - 2u64] {
            trainer.optimizer.set_applied_steps(step - 2).unwrap();
            reference.set_applied_steps(step - 2).unwrap();
            for t in [step - 1, step] {
                let grads = random(t, LEN);
                let stats = (trainer.step(&grads).step, reference.step(&mut params, &grads).unwrap().step);
                assert_eq!(stats, (t, t), "{kind}");
                assert_eq!(trainer.bits(), cpu_bits(&reference, &params), "{kind}, step {t}");
            }
        }
    }
}

#[test]
fn the_schedule_continues_at_the_given_step() {
    let builder = Optimizer::builder(Sgd::default()).schedule(Schedule::warmup_cosine(1.0, 4, 20));
    let mut reference = builder.clone().build_cpu(&layout()).unwrap();
    let mut trainer = Trainer::new(device::gpu(), builder, &layout(), &random(1, LEN));
    reference.set_applied_steps(2).unwrap();
    trainer.optimizer.set_applied_steps(2).unwrap();
    assert_eq!((reference.lr().unwrap(), trainer.optimizer.lr().unwrap()), (0.5, 0.5));
}

#[test]
fn other_counts_are_refused_and_change_nothing() {
    let builder = rule("novograd").schedule(Schedule::warmup_cosine(1.0, 4, 20));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
    let mut reference = builder.build_cpu(&layout()).unwrap();
    let before = trainer.optimizer.lr().unwrap();
    let too_many = (1 << 32) - 2;
    let text = trainer.optimizer.set_applied_steps(too_many).unwrap_err().to_string();
    assert!(text.contains("applied_steps is 4294967294") && text.contains("0 to 4294967293"), "{text}");
    assert!(reference.set_applied_steps(too_many).is_err());
    assert_eq!((trainer.optimizer.lr().unwrap(), reference.lr().unwrap()), (before, before));
    for refused in [trainer.optimizer.set_tensor_states(&[[0.0; 4]]), reference.set_tensor_states(&[[0.0; 4]])] {
        assert!(matches!(refused, Err(Error::StateCount { what: "tensor states", expected: 2, actual: 1 })));
    }
    for refused in [trainer.optimizer.set_scalar_states(&[1.0]), reference.set_scalar_states(&[1.0])] {
        assert!(matches!(refused, Err(Error::StateCount { what: "scalar states", expected: 0, actual: 1 })));
    }
}

#[test]
fn step_counts_wrap_around_on_both_engines() {
    for builder in [Optimizer::builder(Sgd::default()), rule("sgd").clip(wgpu_optim::Clip::global_norm(1.0))] {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
        let (mut reference, mut params) = (builder.build_cpu(&layout()).unwrap(), random(1, LEN));
        trainer.optimizer.set_applied_steps((1 << 32) - 3).unwrap();
        reference.set_applied_steps((1 << 32) - 3).unwrap();
        for step in [(1 << 32) - 2, (1 << 32) - 1, 0, 1] {
            let stats = [trainer.step(&random(2, LEN)), reference.step(&mut params, &random(2, LEN)).unwrap()];
            assert_eq!(stats.map(|stats| stats.step), [step; 2]);
            assert_eq!(trainer.bits(), cpu_bits(&reference, &params));
        }
    }
}

/// The sums of a sample before `set_applied_steps` belong to no later step.
#[test]
fn a_sample_of_another_step_is_not_reported() {
    let history = HistoryOptions::steps(4).with_norms_every(2);
    let builder = rule("sgd").on_nonfinite(NonFinite::Skip).history(history);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
    let (mut reference, mut params) = (builder.build_cpu(&layout()).unwrap(), random(1, LEN));
    // The third is sampled: two steps are applied then and one is skipped.
    for grads in [random(2, LEN), vec![f32::NAN; LEN], random(3, LEN)] {
        trainer.step(&grads);
        reference.step(&mut params, &grads).unwrap();
    }
    trainer.optimizer.set_applied_steps(1).unwrap();
    reference.set_applied_steps(1).unwrap();
    // The counts are those of the sampled step again.
    let after = [trainer.step(&random(4, LEN)), reference.step(&mut params, &random(4, LEN)).unwrap()];
    assert_eq!(after.map(|stats| (stats.step, stats.skipped, stats.param_norm)), [(2, 1, None); 2]);
}

/// A non-finite gradient before `set_applied_steps` is that of no later step.
#[test]
fn a_bad_gradient_of_another_step_is_not_reported() {
    let builder = rule("sgd");
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
    let (mut reference, mut params) = (builder.build_cpu(&layout()).unwrap(), random(1, LEN));
    let mut bad = random(2, LEN);
    bad[7] = f32::INFINITY;
    let found = [trainer.step(&bad), reference.step(&mut params, &bad).unwrap()];
    assert_eq!(found.map(|stats| stats.first_nonfinite), [Some(7); 2]);
    trainer.optimizer.set_applied_steps(2).unwrap();
    reference.set_applied_steps(2).unwrap();
    let after = [trainer.step(&random(3, LEN)), reference.step(&mut params, &random(3, LEN)).unwrap()];
    assert_eq!(after.map(|stats| (stats.step, stats.first_nonfinite)), [(3, None); 2]);
}

/// Step and every counter can be set and read.
#[test]
fn given_counts_continue() {
    let builder = rule("adamw").on_nonfinite(NonFinite::Skip).max_consecutive_skips(3);
    let builder = builder.history(HistoryOptions::steps(4).with_norms_every(1));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN));
    let (mut reference, mut params) = (builder.build_cpu(&layout()).unwrap(), random(1, LEN));
    let bad = vec![f32::NAN; LEN];
    trainer.step(&bad);
    reference.step(&mut params, &bad).unwrap();
    for (applied, skipped, consecutive) in [(5, 7, 2), (0, 1, 1), (3, 0, 0), (9, u32::MAX.into(), 2)] {
        trainer.optimizer.set_applied_steps(applied).unwrap();
        reference.set_applied_steps(applied).unwrap();
        trainer.optimizer.set_skipped_steps(skipped, consecutive).unwrap();
        reference.set_skipped_steps(skipped, consecutive).unwrap();
        let counts = |stats: &Stats| (stats.step, stats.skipped, stats.consecutive_skipped, stats.too_many_skips);
        let read = finish(trainer.gpu, &trainer.optimizer, encoder(trainer.gpu));
        for stats in [read, reference.stats()] {
            assert_eq!(counts(&stats), (applied, skipped, consecutive, false));
            assert_eq!(stats.param_norm, None, "the sums of another step");
        }
        // A skipped step counts on from there, and an applied one ends the row.
        let next = u64::from((skipped as u32).wrapping_add(1));
        for (grads, expected) in [
            (&bad, (applied, next, consecutive + 1, consecutive == 2)),
            (&random(2, LEN), (applied + 1, next, 0, false)),
        ] {
            assert_eq!(counts(&trainer.step(grads)), expected);
            assert_eq!(counts(&reference.step(&mut params, grads).unwrap()), expected);
        }
        // The history begins anew: it orders steps by their number.
        assert_eq!(trainer.history().steps.len(), 2);
        assert_eq!(reference.history().unwrap().steps.len(), 2);
    }
    let is_refused = |result: Result<(), Error>, field| {
        assert!(matches!(result, Err(Error::Hyperparameter { name, .. }) if name == field), "{result:?}");
    };
    for (skipped, consecutive, field) in [(1 << 32, 0, "skipped_steps"), (1, 2, "consecutive_skipped_steps")] {
        is_refused(trainer.optimizer.set_skipped_steps(skipped, consecutive), field);
        is_refused(reference.set_skipped_steps(skipped, consecutive), field);
    }
    assert_eq!(reference.history().unwrap().steps.len(), 2);
}
