//! Both engines, and the oracles of the other tests, against trajectories made by PyTorch, lion-pytorch, timm, optax,
//! Keras and others in float64 (`tests/golden`).
//!
//! # Bounds
//! The frameworks compute in f64, the crate rounds to f32. The bound of the difference is counted, not measured:
//! the oracle is evaluated with [`Rounded`], in which each operation passes the errors of its operands
//! on and adds its own rounding as the WGSL specification allows it (half an ULP, 2.5 for a division, 4.5 for a square
//! root), each hyperparameter is rounded once, 1 - βᵗ is good to 2.5 ULP, the gradient norm to 1e-6, and a subnormal
//! number may become zero. What has added up so far is the bound of every parameter at every checkpoint and of every
//! state at the end. One step contributes about half an ULP of |p| (1.5 with decoupled decay), 2 ULP of |Δp| for SGD
//! and Lion and 27 for Adam (three divisions and two square roots), and 2 ULP of the largest term of a state.
//!
//! Beside it stands the promise for the whole: ‖p - p₆₄‖ ≤ 1e-5 ‖p₆₄‖ after any number of steps, 1,000 included.

#[path = "../golden/cases.rs"]
mod cases;
#[path = "../golden/engines.rs"]
mod engines;
#[path = "../golden/replay.rs"]
mod replay;

use crate::common::numbers::assert_same_bits;
use crate::oracle::{HALF_ULP, Rounded};
use cases::Case;
use engines::{Cpu, Device, Engine};
use replay::{CLIP_ERROR, NORM_ERROR, Replay, replay};

/// Error of the parameter vector after many steps.
const VECTOR_ERROR: f64 = 1e-5;
/// Error between the oracles and the frameworks, both in f64.
const ORACLE_ERROR: f64 = 1e-12;
const RULES: [&str; 47] = [
    "sgd",
    "adam",
    "adamw",
    "lion",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adamax",
    "rprop",
    "radam",
    "adabelief",
    "yogi",
    "adan",
    "signsgd",
    "ademamix",
    "nadam",
    "sophia",
    "sophia_h",
    "schedule_free_sgd",
    "schedule_free_adamw",
    "lars",
    "lars_optax",
    "lamb",
    "lamb_optax",
    "novograd",
    "novograd_optax",
    "adam_conventions",
    "adamw_conventions",
    "adamw_cautious",
    "lion_cautious",
    "sgd_conventions",
    "rmsprop_conventions",
    "adagrad_conventions",
    "lion_conventions",
    "prodigy",
    "adafactor",
    "adafactor_optax",
    "nadam_conventions",
    "radam_conventions",
    "adamax_conventions",
    "adam_cautious",
    "sgd_cautious",
    "adan_cautious",
    "stable_adamw",
    "adamw_bf16",
    "lamb_bf16",
    "adafactor_bf16",
];
/// Rules with sums over tensors, whose steps always measure the gradient's norm.
const MEASURING_RULES: [&str; 6] = ["lars", "lamb", "novograd", "prodigy", "adafactor", "stable_adamw"];

#[test]
fn the_oracles_compute_what_the_frameworks_compute() {
    for case in RULES.into_iter().flat_map(cases::read) {
        let replay = replay(&case);
        for (row, (expected, path)) in replay.params.iter().zip(case.params.iter().zip(&replay.paths)) {
            agree(&case, "params", row, expected, path);
        }
        if let (Some(expected), Some(path)) = (&case.eval_params, replay.paths.last()) {
            agree(&case, "eval_params", &replay.eval_params, expected, path);
        }
        assert_eq!(replay.states.len(), case.states.len(), "{}", case.name);
        for ((name, values), largest) in replay.states.iter().zip(&replay.largest_states) {
            agree(&case, name, values, &case.states[*name], largest);
        }
        for step in (0..case.steps).filter(|&step| case.first_nonfinite(step).is_none()) {
            let Some(norms) = &case.grad_norm else { break };
            let coefficient = case.clip_coef.as_ref().expect("beside the norm")[step];
            for (ours, theirs) in [(replay.grad_norm[step], norms[step]), (replay.clip_coef[step], coefficient)] {
                assert!((ours - theirs).abs() <= ORACLE_ERROR * theirs, "{} step {step}: {ours} {theirs}", case.name);
            }
        }
    }
}

#[test]
fn the_cpu_engine_follows_sgd_of_pytorch() {
    the_cpu_engine_follows("sgd");
}

#[test]
fn the_cpu_engine_follows_adam_of_pytorch() {
    the_cpu_engine_follows("adam");
}

#[test]
fn the_cpu_engine_follows_adamw_of_pytorch() {
    the_cpu_engine_follows("adamw");
}

#[test]
fn the_cpu_engine_follows_lion_of_lion_pytorch() {
    the_cpu_engine_follows("lion");
}

#[test]
fn the_cpu_engine_follows_adagrad_of_pytorch_and_optax() {
    the_cpu_engine_follows("adagrad");
}

#[test]
fn the_cpu_engine_follows_rmsprop_of_pytorch_and_optax() {
    the_cpu_engine_follows("rmsprop");
}

#[test]
fn the_cpu_engine_follows_adadelta_of_pytorch() {
    the_cpu_engine_follows("adadelta");
}

#[test]
fn the_cpu_engine_follows_adamax_of_pytorch() {
    the_cpu_engine_follows("adamax");
}

#[test]
fn the_cpu_engine_follows_rprop_of_pytorch() {
    the_cpu_engine_follows("rprop");
}

#[test]
fn the_device_follows_sgd_of_pytorch() {
    the_device_follows("sgd");
}

#[test]
fn the_device_follows_adam_of_pytorch() {
    the_device_follows("adam");
}

#[test]
fn the_device_follows_adamw_of_pytorch() {
    the_device_follows("adamw");
}

#[test]
fn the_device_follows_lion_of_lion_pytorch() {
    the_device_follows("lion");
}

#[test]
fn the_device_follows_adagrad_of_pytorch_and_optax() {
    the_device_follows("adagrad");
}

#[test]
fn the_device_follows_rmsprop_of_pytorch_and_optax() {
    the_device_follows("rmsprop");
}

#[test]
fn the_device_follows_adadelta_of_pytorch() {
    the_device_follows("adadelta");
}

#[test]
fn the_device_follows_adamax_of_pytorch() {
    the_device_follows("adamax");
}

#[test]
fn the_device_follows_rprop_of_pytorch() {
    the_device_follows("rprop");
}

#[test]
fn the_cpu_engine_follows_radam_of_pytorch() {
    the_cpu_engine_follows("radam");
}

#[test]
fn the_cpu_engine_follows_adabelief_of_optax() {
    the_cpu_engine_follows("adabelief");
}

#[test]
fn the_cpu_engine_follows_yogi_of_optax() {
    the_cpu_engine_follows("yogi");
}

#[test]
fn the_cpu_engine_follows_adan_of_timm_and_optax() {
    the_cpu_engine_follows("adan");
}

#[test]
fn the_cpu_engine_follows_signsgd_of_optax() {
    the_cpu_engine_follows("signsgd");
}

#[test]
fn the_cpu_engine_follows_ademamix_of_optax() {
    the_cpu_engine_follows("ademamix");
}

#[test]
fn the_device_follows_radam_of_pytorch() {
    the_device_follows("radam");
}

#[test]
fn the_device_follows_adabelief_of_optax() {
    the_device_follows("adabelief");
}

#[test]
fn the_device_follows_yogi_of_optax() {
    the_device_follows("yogi");
}

#[test]
fn the_device_follows_adan_of_timm_and_optax() {
    the_device_follows("adan");
}

#[test]
fn the_device_follows_signsgd_of_optax() {
    the_device_follows("signsgd");
}

#[test]
fn the_device_follows_ademamix_of_optax() {
    the_device_follows("ademamix");
}

#[test]
fn the_cpu_engine_follows_nadam_of_pytorch() {
    the_cpu_engine_follows("nadam");
}

#[test]
fn the_device_follows_nadam_of_pytorch() {
    the_device_follows("nadam");
}

#[test]
fn the_cpu_engine_follows_sophia_of_its_paper_and_optax() {
    the_cpu_engine_follows("sophia");
    the_cpu_engine_follows("sophia_h");
}

#[test]
fn the_device_follows_sophia_of_its_paper_and_optax() {
    the_device_follows("sophia");
    the_device_follows("sophia_h");
}

#[test]
fn the_cpu_engine_follows_the_schedulefree_package() {
    the_cpu_engine_follows("schedule_free_sgd");
    the_cpu_engine_follows("schedule_free_adamw");
}

#[test]
fn the_device_follows_the_schedulefree_package() {
    the_device_follows("schedule_free_sgd");
    the_device_follows("schedule_free_adamw");
}

#[test]
fn the_cpu_engine_follows_lars_of_torch_optimizer_and_optax() {
    the_cpu_engine_follows("lars");
    the_cpu_engine_follows("lars_optax");
}

#[test]
fn the_device_follows_lars_of_torch_optimizer_and_optax() {
    the_device_follows("lars");
    the_device_follows("lars_optax");
}

#[test]
fn the_cpu_engine_follows_lamb_of_apex_and_optax() {
    the_cpu_engine_follows("lamb");
    the_cpu_engine_follows("lamb_optax");
}

#[test]
fn the_device_follows_lamb_of_apex_and_optax() {
    the_device_follows("lamb");
    the_device_follows("lamb_optax");
}

#[test]
fn the_cpu_engine_follows_novograd_of_torch_optimizer_and_optax() {
    the_cpu_engine_follows("novograd");
    the_cpu_engine_follows("novograd_optax");
}

#[test]
fn the_device_follows_novograd_of_torch_optimizer_and_optax() {
    the_device_follows("novograd");
    the_device_follows("novograd_optax");
}

#[test]
fn the_cpu_engine_follows_stable_adamw_of_optimi() {
    the_cpu_engine_follows("stable_adamw");
}

#[test]
fn the_device_follows_stable_adamw_of_optimi() {
    the_device_follows("stable_adamw");
}

#[test]
fn the_cpu_engine_follows_gradients_in_bf16() {
    for rule in ["adamw_bf16", "lamb_bf16", "adafactor_bf16"] {
        the_cpu_engine_follows(rule);
    }
}

#[test]
fn the_device_follows_gradients_in_bf16() {
    for rule in ["adamw_bf16", "lamb_bf16", "adafactor_bf16"] {
        the_device_follows(rule);
    }
}

#[test]
fn the_cpu_engine_follows_adam_and_adamw_of_other_frameworks() {
    the_cpu_engine_follows("adam_conventions");
    the_cpu_engine_follows("adamw_conventions");
}

#[test]
fn the_device_follows_adam_and_adamw_of_other_frameworks() {
    the_device_follows("adam_conventions");
    the_device_follows("adamw_conventions");
}

#[test]
fn the_cpu_engine_follows_cautious_adamw_and_lion_of_timm() {
    the_cpu_engine_follows("adamw_cautious");
    the_cpu_engine_follows("lion_cautious");
}

#[test]
fn the_device_follows_cautious_adamw_and_lion_of_timm() {
    the_device_follows("adamw_cautious");
    the_device_follows("lion_cautious");
}

#[test]
fn the_cpu_engine_follows_keras_and_optax_where_pytorch_is_the_default() {
    the_cpu_engine_follows("sgd_conventions");
    the_cpu_engine_follows("rmsprop_conventions");
    the_cpu_engine_follows("adagrad_conventions");
    the_cpu_engine_follows("lion_conventions");
}

#[test]
fn the_device_follows_keras_and_optax_where_pytorch_is_the_default() {
    the_device_follows("sgd_conventions");
    the_device_follows("rmsprop_conventions");
    the_device_follows("adagrad_conventions");
    the_device_follows("lion_conventions");
}

#[test]
fn the_cpu_engine_follows_prodigy_of_prodigyopt() {
    the_cpu_engine_follows("prodigy");
}

#[test]
fn the_device_follows_prodigy_of_prodigyopt() {
    the_device_follows("prodigy");
}

#[test]
fn the_cpu_engine_follows_nadam_radam_and_adamax_of_optax() {
    the_cpu_engine_follows("nadam_conventions");
    the_cpu_engine_follows("radam_conventions");
    the_cpu_engine_follows("adamax_conventions");
}

#[test]
fn the_device_follows_nadam_radam_and_adamax_of_optax() {
    the_device_follows("nadam_conventions");
    the_device_follows("radam_conventions");
    the_device_follows("adamax_conventions");
}

#[test]
fn the_cpu_engine_follows_cautious_adam_sgd_and_adan_of_timm() {
    the_cpu_engine_follows("adam_cautious");
    the_cpu_engine_follows("sgd_cautious");
    the_cpu_engine_follows("adan_cautious");
}

#[test]
fn the_device_follows_cautious_adam_sgd_and_adan_of_timm() {
    the_device_follows("adam_cautious");
    the_device_follows("sgd_cautious");
    the_device_follows("adan_cautious");
}

#[test]
fn the_cpu_engine_follows_adafactor_of_pytorch_and_optax() {
    the_cpu_engine_follows("adafactor");
    the_cpu_engine_follows("adafactor_optax");
}

#[test]
fn the_device_follows_adafactor_of_pytorch_and_optax() {
    the_device_follows("adafactor");
    the_device_follows("adafactor_optax");
}

fn the_cpu_engine_follows(rule: &str) {
    for case in cases::read(rule) {
        follow(&case, &mut Cpu::new(&case), "CPU");
    }
}

fn the_device_follows(rule: &str) {
    for case in cases::read(rule) {
        follow(&case, &mut Device::new(&case, true), "device, padded buffers");
        follow(&case, &mut Device::new(&case, false), "device, exact buffers");
    }
}

/// Plays the case through an engine and compares all there is to compare. With `--nocapture` it prints the worst
/// error as a share of its bound.
fn follow(case: &Case, engine: &mut dyn Engine, engine_name: &str) {
    let bounds = replay(case);
    let what = format!("{} on {engine_name}", case.name);
    let (mut worst, mut worst_vector, mut checkpoint) = (Worst::default(), 0.0f64, 0);
    for step in 0..case.steps {
        if let Some(estimate) = case.hessian(step) {
            engine.update_hessian(estimate);
        }
        statistics_agree(case, engine, &bounds, step, &format!("{what}, step {step}"));
        if case.checkpoints.get(checkpoint) == Some(&(step + 1)) {
            let what = format!("{what}, params after step {step}");
            let (params, expected) = (engine.params(), &case.params[checkpoint]);
            worst.compare(&params, expected, &bounds.params[checkpoint], &what);
            let error = relative_error(&params, expected);
            assert!(error <= VECTOR_ERROR, "{what}: off by {error:e} of their norm");
            worst_vector = worst_vector.max(error);
            checkpoint += 1;
        }
    }
    assert_eq!(checkpoint, case.params.len(), "{what}");
    let moved = engine.params().into_iter().zip(&case.param0).zip(bounds.params.last().expect("a checkpoint"));
    let clearly = moved.filter(|((now, before), bound)| f64::from((now - *before).abs()) > 1e3 * bound.error).count();
    assert!(clearly >= 3, "{what}: only {clearly} parameters moved by a thousand times their bound");
    let mut worst_state = Worst::default();
    for (name, values) in &bounds.states {
        worst_state.compare(&engine.state(name), &case.states[*name], values, &format!("{what}, {name}"));
    }
    if let Some(expected) = &case.eval_params {
        let before = engine.params();
        engine.eval();
        worst.compare(&engine.params(), expected, &bounds.eval_params, &format!("{what}, eval"));
        engine.train();
        assert_same_bits(&engine.params(), &before, &format!("{what}, back in training"));
    }
    let (params, states) = (worst.0, worst_state.0);
    println!("{what}: params {params:.3} and states {states:.3} of their bounds, vector off by {worst_vector:.1e}");
}

/// Takes step `step` and compares what it reports.
fn statistics_agree(case: &Case, engine: &mut dyn Engine, bounds: &Replay, step: usize, what: &str) {
    let lr = case.lr(step);
    // The schedule rounds a few times in f64, near the end of the cosine to an ULP of the peak.
    let peak = case.schedule.as_ref().map_or(lr, |schedule| schedule.peak);
    assert!((engine.lr() - lr).abs() <= 1e-15 * peak, "{what}: lr {} instead of {lr}", engine.lr());
    let stats = engine.step(case.grads(step));
    let reported = f64::from(stats.lr);
    assert!((reported - lr).abs() <= HALF_ULP * lr + 1e-15 * peak, "{what}: lr {reported} instead of {lr}");
    let skipped = (0..=step).filter(|&step| case.first_nonfinite(step).is_some()).count() as u64;
    assert_eq!(stats.step, step as u64 + 1 - skipped, "{what}: applied steps");
    assert_eq!(stats.skipped, skipped, "{what}: skipped steps");
    assert!(!stats.stopped, "{what}");
    let first = case.first_nonfinite(step).map(|index| index as u64);
    assert_eq!(stats.first_nonfinite, first, "{what}: first non-finite gradient");
    if first.is_some() {
        return;
    }
    assert_eq!(
        stats.grad_norm.is_some(),
        case.max_norm.is_some()
            || case.grad_scale.is_some()
            || MEASURING_RULES.iter().any(|rule| case.rule.starts_with(rule)),
        "{what}: norm measured"
    );
    if let Some(norm) = stats.grad_norm {
        // A case without the framework's norm clips nothing. The oracle's norm serves.
        let expected = case.grad_norm.as_ref().map_or(bounds.grad_norm[step], |norms| norms[step]);
        let error = (f64::from(norm) - expected).abs();
        assert!(
            error <= NORM_ERROR * expected + f64::from(f32::MIN_POSITIVE),
            "{what}: norm {norm} instead of {expected}"
        );
    }
    let expected = case.clip_coef.as_ref().map_or(1.0, |coefficients| coefficients[step]);
    let error = (f64::from(stats.clip_coef) - expected).abs();
    assert!(error <= CLIP_ERROR * expected, "{what}: clip_coef {} instead of {expected}", stats.clip_coef);
}

/// The largest error so far, as a share of its bound.
#[derive(Default)]
struct Worst(f64);

impl Worst {
    fn compare(&mut self, actual: &[f32], expected: &[f64], bounds: &[Rounded], what: &str) {
        assert_eq!(actual.len(), expected.len(), "{what}");
        for (index, ((&actual, &expected), bound)) in actual.iter().zip(expected).zip(bounds).enumerate() {
            let (error, bound) = ((f64::from(actual) - expected).abs(), bound.error);
            assert!(
                error <= bound,
                "{what}[{index}]: {actual:e} instead of {expected:e}, off by {error:e} of {bound:e}"
            );
            if error > 0.0 {
                self.0 = self.0.max(error / bound);
            }
        }
    }
}

fn relative_error(actual: &[f32], expected: &[f64]) -> f64 {
    let difference = actual.iter().zip(expected).map(|(&actual, expected)| f64::from(actual) - expected);
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    norm(&mut difference.into_iter()) / norm(&mut expected.iter().copied())
}

fn agree(case: &Case, what: &str, ours: &[Rounded], theirs: &[f64], scales: &[f64]) {
    for (index, ((ours, theirs), scale)) in ours.iter().zip(theirs).zip(scales).enumerate() {
        let (ours, name) = (ours.value, &case.name);
        assert!(
            (ours - theirs).abs() <= ORACLE_ERROR * scale,
            "{name} {what}[{index}]: {ours:e} instead of {theirs:e}"
        );
    }
}
