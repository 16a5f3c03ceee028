//! Every rule on the device against its CPU twin and its f64 oracle.

mod common;

use common::numbers::{random, ulps};
use common::oracle::{AdamOracle, LionOracle, Oracle, SgdOracle, StepScalars};
use common::{Trainer, assert_same_decision, cpu_bits, device, set_state};
use wgpu_optim::{Adam, AdamW, Layout, Lion, Optimizer, OptimizerBuilder, Sgd};

/// Tails, workgroups, norm blocks; 0 has nothing to compare but the counter.
const LENGTHS: [usize; 15] = [0, 1, 3, 4, 5, 63, 64, 65, 255, 256, 257, 1023, 1025, 8191, 8193];

struct Case {
    name: &'static str,
    builder: OptimizerBuilder,
    oracle: Box<dyn Oracle>,
    lr: f64,
    weight_decay: f64,
    sign: f64,
}

fn case(name: &'static str, rule: impl wgpu_optim::Rule + 'static, oracle: impl Oracle + 'static) -> Case {
    let (lr, weight_decay) = (f64::from(rule.lr() as f32), f64::from(rule.weight_decay() as f32));
    let sign = if rule.maximize() { -1.0 } else { 1.0 };
    Case { name, builder: Optimizer::builder(rule), oracle: Box::new(oracle), lr, weight_decay, sign }
}

/// Hyperparameters are exact in f32, so that the oracle need not guess how they were rounded; 1 - beta is too.
fn cases() -> Vec<Case> {
    let betas = (0.875, 0.9375);
    let adam = |decoupled, amsgrad| AdamOracle { betas, eps: 1.0 / 1024.0, decoupled, amsgrad };
    let sgd = |momentum, dampening, nesterov| SgdOracle { momentum, dampening, nesterov };
    let adam_rule = Adam::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0);
    let adamw_rule = AdamW::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let sgd_rule = Sgd::default().with_lr(0.125).with_weight_decay(0.25);
    let momentum_rule = sgd_rule.clone().with_momentum(0.75);
    vec![
        case("sgd", sgd_rule.clone(), sgd(0.0, 0.0, false)),
        case("sgd maximize", sgd_rule.with_maximize(true), sgd(0.0, 0.0, false)),
        case("momentum", momentum_rule.clone(), sgd(0.75, 0.0, false)),
        case("momentum dampening", momentum_rule.clone().with_dampening(0.5), sgd(0.75, 0.5, false)),
        case("nesterov", momentum_rule.with_nesterov(true), sgd(0.75, 0.0, true)),
        case("adam", adam_rule.clone().with_weight_decay(0.25), adam(false, false)),
        case("adam amsgrad", adam_rule.clone().with_amsgrad(true), adam(false, true)),
        case("adam maximize", adam_rule.with_maximize(true), adam(false, false)),
        case("adamw", adamw_rule.clone(), adam(true, false)),
        case("adamw amsgrad", adamw_rule.with_amsgrad(true), adam(true, true)),
        case("lion", Lion::default().with_lr(0.125).with_betas(betas).with_weight_decay(0.25), LionOracle { betas }),
    ]
}

/// NUMERICS: parameters within 4 ULP of max(|p|, |Δp|), states within 4 ULP of their largest term. Inputs of each
/// step are what the device held before it, so that errors do not add up.
#[test]
fn each_step_agrees_with_twin_and_oracle() {
    let gpu = device::gpu();
    for case in cases() {
        for len in LENGTHS {
            let layout = Layout::flat(len).unwrap();
            let mut params = random(1, len);
            let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &params);
            let mut twin = case.builder.clone().build_cpu(&layout).unwrap();
            let names = case.oracle.state_names();
            assert_eq!(trainer.optimizer.state_names(), names, "{}", case.name);
            for t in 1..=4 {
                let mut grads = random(100 + t, len);
                // A zero gradient must leave Lion where it is, on fresh states at least.
                grads.iter_mut().step_by(7).for_each(|grad| *grad = 0.0);
                let old_states: Vec<Vec<f32>> = names.iter().map(|name| trainer.state(name)).collect();
                let mut twin_params = params.clone();
                let stats = trainer.step(&grads);
                assert_same_decision(&stats, &twin.step(&mut twin_params, &grads).unwrap());
                assert_eq!(stats.step, t);

                let new_params = trainer.params();
                let new_states: Vec<Vec<f32>> = names.iter().map(|name| trainer.state(name)).collect();
                let step = StepScalars { t, lr: case.lr, weight_decay: case.weight_decay, ..StepScalars::default() };
                for i in 0..len {
                    let mut exact_state: Vec<f64> = old_states.iter().map(|state| state[i].into()).collect();
                    let old = f64::from(params[i]);
                    let grad = case.sign * f64::from(grads[i]);
                    let exact = case.oracle.update(&step, old, grad, &mut exact_state);
                    let at = format!("{}, {len} elements, step {t}, element {i}", case.name);
                    // Where the terms of a running average cancel, its 4 ULP of the largest term are more of what is
                    // left, and of Δp in proportion.
                    let cancelled = |s: usize| (f64::from(old_states[s][i]) / exact_state[s]).abs();
                    let amplified = (0..names.len()).map(cancelled).filter(|x| x.is_finite()).fold(1.0, f64::max);
                    let scale = old.abs().max((exact - old).abs() * amplified);
                    let error = ulps(new_params[i], exact, scale);
                    assert!(error <= 4.0, "{at}: {} for {exact}, {error:.1} ULP", new_params[i]);
                    let from_twin = ulps(new_params[i], twin_params[i].into(), scale);
                    assert!(from_twin <= 4.0, "{at}: {} and its twin {}", new_params[i], twin_params[i]);
                    for (s, name) in names.iter().enumerate() {
                        let scale = exact_state[s].abs().max(old_states[s][i].abs().into());
                        let got = new_states[s][i];
                        let error = ulps(got, exact_state[s], scale);
                        assert!(error <= 4.0, "{at}, {name}: {got} for {}, {error:.1} ULP", exact_state[s]);
                        let from_twin = ulps(got, twin.state(name).unwrap()[i].into(), scale);
                        assert!(from_twin <= 4.0, "{at}, {name}: {got} and its twin");
                    }
                    assert!(grads[i] == 0.0 || new_params[i] != params[i], "{at} did not move");
                }
                params = new_params[..len].to_vec();
                for (name, state) in names.iter().zip(&new_states) {
                    twin.state_mut(name).unwrap().copy_from_slice(state);
                }
            }
        }
    }
}

/// NUMERICS: relative error of the parameter vector at most 1e-5 after 1,000 steps without re-synchronising.
#[test]
fn a_thousand_steps_stay_with_the_oracle() {
    const LEN: usize = 67;
    let gpu = device::gpu();
    for case in cases() {
        let layout = Layout::flat(LEN).unwrap();
        let params = random(1, LEN);
        let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &params);
        let mut twin = case.builder.clone().build_cpu(&layout).unwrap();
        let mut twin_params = params.clone();
        let mut exact: Vec<f64> = params.iter().map(|&param| param.into()).collect();
        let mut states = vec![vec![0.0; case.oracle.state_names().len()]; LEN];
        for t in 1..=1000 {
            let grads = random(t, LEN);
            trainer.step(&grads);
            twin.step(&mut twin_params, &grads).unwrap();
            let step = StepScalars { t, lr: case.lr, weight_decay: case.weight_decay, ..StepScalars::default() };
            for i in 0..LEN {
                exact[i] = case.oracle.update(&step, exact[i], case.sign * f64::from(grads[i]), &mut states[i]);
            }
        }
        for (engine, got) in [("device", trainer.params()), ("CPU", twin_params)] {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let difference = norm(&mut got.iter().zip(&exact).map(|(&got, exact)| f64::from(got) - exact));
            let error = difference / norm(&mut exact.iter().copied());
            assert!(error <= 1e-5, "{} on the {engine}: relative error {error:e}", case.name);
        }
    }
}

/// NaN, infinities, subnormals and both zeros in each of parameter, gradient and states: the device and its twin
/// agree on what they become, up to flushed subnormals and the payload of NaN.
#[test]
fn special_values_take_the_same_way_on_both_engines() {
    let gpu = device::gpu();
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 0.0, -0.0, 1.5, f32::MAX, f32::MIN_POSITIVE];
    for case in cases() {
        let names = case.oracle.state_names();
        let streams = 2 + names.len();
        let len = special.len() * streams;
        let stream = |at: usize| -> Vec<f32> {
            (0..len).map(|i| if i / special.len() == at { special[i % special.len()] } else { 0.25 }).collect()
        };
        let layout = Layout::flat(len).unwrap();
        let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &stream(0));
        let mut twin = case.builder.clone().build_cpu(&layout).unwrap();
        for (s, name) in names.iter().enumerate() {
            // Squared gradients are not negative.
            let values: Vec<f32> =
                stream(2 + s).iter().map(|x| if name.ends_with("_sq") { x.abs() } else { *x }).collect();
            set_state(gpu, &trainer.optimizer, name, &values);
            twin.state_mut(name).unwrap().copy_from_slice(&values);
        }
        let mut twin_params = stream(0);
        trainer.step(&stream(1));
        twin.step(&mut twin_params, &stream(1)).unwrap();
        let expected = cpu_bits(&twin, &twin_params);
        for (i, (got, expected)) in trainer.bits().into_iter().zip(expected).enumerate() {
            let (got, expected) = (f32::from_bits(got), f32::from_bits(expected));
            let at = format!("{}, stream {}, element {}", case.name, i / len, i % len);
            if expected.is_nan() || expected.is_infinite() {
                assert!(
                    got.is_nan() == expected.is_nan() && got.is_infinite() == expected.is_infinite(),
                    "{at}: {got} for {expected}"
                );
            } else {
                // A flushed operand shifts a result by at most the smallest normal number over eps.
                let tolerance = 4.0 * f32::EPSILON * expected.abs() + f32::MIN_POSITIVE * 1024.0;
                assert!((got - expected).abs() <= tolerance, "{at}: {got} for {expected}");
            }
        }
    }
}
