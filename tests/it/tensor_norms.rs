//! Rules with sums over tensors, on layouts of many tensors: against oracle and reference, and the promises of every rule.
//!
//! # Bounds
//! As in `tests/it/golden.rs`: the oracle is evaluated with [`Rounded`], from what the device held before the
//! step; the sums over a tensor carry the errors of their terms and of 27 roundings.

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{self, Trainer, assert_same_decision, device, device_with, encoder};
use crate::oracle::{
    LambOracle, LarsOracle, NovoGradOracle, Oracle, ProdigyOracle, Rounded, StableAdamWOracle, StepScalars, measured,
};
use wgpu_optim::{
    Clip, Error, Gpu, GroupOptions, Lamb, Lars, Layout, NonFinite, NovoGrad, Optimizer, OptimizerBuilder, Prodigy,
    StableAdamW, Stats,
};

struct Case {
    name: &'static str,
    builder: OptimizerBuilder,
    oracle: Box<dyn Oracle>,
    lr: f64,
    weight_decay: f64,
    sign: f32,
}

fn case(name: &'static str, rule: impl wgpu_optim::Rule + 'static, oracle: impl Oracle + 'static) -> Case {
    let spec = rule.spec();
    let (lr, weight_decay, sign) = (spec.lr, spec.weight_decay, if spec.maximize { -1.0 } else { 1.0 });
    Case { name, builder: Optimizer::builder(rule), oracle: Box::new(oracle), lr, weight_decay, sign }
}

/// Hyperparameters are exact in f32.
fn cases() -> Vec<Case> {
    cases_with(16.0)
}

/// `d_coef` makes Prodigy's estimate grow with gradients that lead nowhere: for a few steps 16 does, in many 0.25 is enough.
fn cases_with(d_coef: f64) -> Vec<Case> {
    let lars = |rule: Lars| {
        let Lars { momentum, dampening, nesterov, trust_coefficient, eps, equations, .. } = rule;
        let optax = equations == wgpu_optim::LarsEquations::Optax;
        (rule, LarsOracle { momentum, dampening, nesterov, trust_coefficient, eps, optax })
    };
    let torch = Lars::torch().with_lr(0.5).with_weight_decay(0.25).with_trust_coefficient(0.125).with_eps(0.0625);
    let optax = torch.clone().with_equations(wgpu_optim::LarsEquations::Optax).with_momentum(0.75);
    let all = [
        ("lars", lars(torch.clone())),
        ("lars momentum", lars(torch.clone().with_momentum(0.75))),
        ("lars dampening", lars(torch.clone().with_momentum(0.75).with_dampening(0.5))),
        ("lars nesterov", lars(torch.with_momentum(0.75).with_nesterov(true))),
        ("lars optax", lars(optax.clone())),
        ("lars optax nesterov", lars(optax.with_nesterov(true))),
    ];
    let mut cases: Vec<_> = all.into_iter().map(|(name, (rule, oracle))| case(name, rule, oracle)).collect();

    let (betas, eps) = ((0.875, 0.9375), 0.0625);
    let lamb = Lamb::apex().with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let all = [
        ("lamb", lamb.clone()),
        ("lamb as optax", lamb.clone().with_nvlamb(true)),
        ("lamb limited", lamb.with_ratio_range(Some((3.0, 3.5)))),
    ];
    cases.extend(all.map(|(name, rule)| {
        let oracle = LambOracle { betas, eps, always: rule.nvlamb, ratio_range: rule.ratio_range };
        case(name, rule, oracle)
    }));

    let novograd = NovoGrad::torch().with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let all = [
        ("novograd", novograd.clone()),
        ("novograd maximize", novograd.clone().with_maximize(true)),
        ("novograd averaging", novograd.with_grad_averaging(true)),
    ];
    cases.extend(all.map(|(name, rule)| {
        let oracle = NovoGradOracle { betas, eps, grad_averaging: rule.grad_averaging };
        case(name, rule, oracle)
    }));

    let stable = StableAdamW::default().with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let all = [("stable_adamw", stable.clone()), ("stable_adamw maximize", stable.with_maximize(true))];
    cases.extend(all.map(|(name, rule)| case(name, rule, StableAdamWOracle { betas, eps })));

    let prodigy = Prodigy::default().with_betas(betas).with_eps(eps).with_weight_decay(0.25).with_d0(0.015_625);
    let prodigy = prodigy.with_beta3(Some(0.875)).with_lr(0.5).with_d_coef(d_coef);
    let all = [
        ("prodigy", prodigy.clone()),
        ("prodigy coupled", prodigy.clone().with_decouple(false)),
        ("prodigy bias correction", prodigy.clone().with_use_bias_correction(true)),
        ("prodigy safeguard", prodigy.clone().with_safeguard_warmup(true)),
        ("prodigy growth maximize", prodigy.with_growth_rate(Some(1.125)).with_maximize(true)),
    ];
    cases.extend(all.map(|(name, rule)| {
        let Prodigy { beta3, decouple, use_bias_correction, safeguard_warmup, d0, d_coef, growth_rate, .. } = rule;
        let oracle = ProdigyOracle {
            betas,
            beta3,
            eps,
            decouple,
            use_bias_correction,
            safeguard_warmup,
            d0,
            d_coef,
            growth_rate,
        };
        case(name, rule, oracle)
    }));
    cases
}

/// The tensors that share sums, by number.
fn segments(case: &Case, layout: &Layout) -> Vec<std::ops::Range<usize>> {
    let count = layout.tensors().len();
    if case.oracle.whole() { std::iter::once(0..count).collect() } else { (0..count).map(|i| i..i + 1).collect() }
}

/// One element, none, less than a quad, tails, a block exactly, more than a block, and one over many.
const SIZES: [usize; 9] = [1, 0, 3, 65, 8192, 5, 20_001, 1, 700];

/// All tensors, the fourth without decay, the fifth with another rate, some elements of the seventh frozen, the eighth
/// wholly.
fn layout(packed: bool) -> Layout {
    let builder = SIZES.iter().enumerate().fold(Layout::builder(), |builder, (i, &size)| {
        let builder = builder.tensor(format!("{i}"), &[size]);
        match i {
            3 => builder.group("no_decay"),
            4 => builder.group("fast"),
            7 => builder.group("frozen"),
            _ => builder,
        }
    });
    let builder = if packed { builder.packed() } else { builder };
    let start = builder.clone().build().unwrap().tensor("6").unwrap().range().start;
    builder.range(start + 7..start + 12_000, "frozen").build().unwrap()
}

fn grouped(builder: &OptimizerBuilder) -> OptimizerBuilder {
    let builder = builder.clone().group("no_decay", GroupOptions::default().with_weight_decay(0.0));
    let builder = builder.group("fast", GroupOptions::default().with_lr_scale(4.0));
    builder.group("frozen", GroupOptions::default().frozen())
}

/// Rate, decay and whether it is active, of one element.
fn options(case: &Case, layout: &Layout, tensor: usize, element: usize) -> (StepScalars, bool) {
    let in_range = tensor == 6 && (7..12_000).contains(&(element - layout.tensors()[6].range().start));
    let lr = if tensor == 4 { 4.0 * case.lr } else { case.lr };
    let weight_decay = if tensor == 3 { 0.0 } else { case.weight_decay };
    (StepScalars { t: 0, lr, weight_decay, measured: Vec::new() }, tensor != 7 && !in_range)
}

/// One step of the oracle: what each active element becomes, by its number.
fn exact_step(
    case: &Case,
    layout: &Layout,
    t: u64,
    params: &[Rounded],
    grads: &[Rounded],
    states: &mut [Vec<Rounded>],
) -> Vec<(usize, Rounded)> {
    let mut updated = Vec::new();
    for segment in segments(case, layout) {
        let elements = segment.flat_map(|i| layout.tensors()[i].range().map(move |element| (i, element)));
        let active = elements.filter_map(|(i, element)| {
            let (scalars, active) = options(case, layout, i, element);
            active.then_some((element, StepScalars { t, ..scalars }))
        });
        let active: Vec<(usize, StepScalars)> = active.collect();
        let terms = active.iter().map(|(e, step)| case.oracle.measure(step, params[*e], grads[*e], &states[*e]));
        let measured = measured(terms);
        for (e, step) in active {
            let step = StepScalars { measured: measured.clone(), ..step };
            updated.push((e, case.oracle.update_rounded(&step, params[e], grads[e], &mut states[e])));
        }
    }
    updated
}

fn exact(values: &[f32], sign: f32) -> Vec<Rounded> {
    values.iter().map(|&value| Rounded::exact((sign * value).into())).collect()
}

/// Gradients without the extremes whose squares f32 cannot hold, and some zeros.
fn gradients(seed: u64, len: usize) -> Vec<f32> {
    let mut grads = random(seed, len);
    grads.iter_mut().step_by(7).for_each(|grad| *grad = 0.0);
    grads
}

/// The first word of a case's name.
fn rule_of(case: &Case) -> &'static str {
    case.name.split(' ').next().unwrap_or_default()
}

tests_of! {
    [each_step_agrees_with_reference_and_oracle a_thousand_steps_stay_with_the_oracle]
    lamb lars novograd prodigy stable_adamw
}

#[test]
fn every_case_is_tested_and_every_rule_has_cases() {
    let tested: Vec<_> = cases().iter().map(rule_of).collect();
    assert!(tested.iter().all(|rule| RULES.contains(rule)), "{tested:?}");
    assert!(RULES.iter().all(|rule| tested.contains(rule)), "{tested:?}");
}

fn each_step_agrees_with_reference_and_oracle(rule: &str) {
    let gpu = device::gpu();
    for case in cases().into_iter().filter(|case| rule_of(case) == rule) {
        for packed in [false, true] {
            let layout = layout(packed);
            let len = layout.len();
            let builder = grouped(&case.builder);
            let mut params = random(1, len);
            let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
            let mut reference = builder.build_cpu(&layout).unwrap();
            let names = case.oracle.state_names();
            assert_eq!(trainer.optimizer.state_names(), names, "{}", case.name);
            // The oracle carries its tensor states on. Everything else comes from the device.
            let mut states = vec![vec![Rounded::exact(0.0); case.oracle.state_count()]; len];
            for t in 1..=4 {
                let grads = gradients(100 + t, len);
                let mut reference_params = params.clone();
                assert_same_decision(&trainer.step(&grads), &reference.step(&mut reference_params, &grads).unwrap());
                let updated =
                    exact_step(&case, &layout, t, &exact(&params, 1.0), &exact(&grads, case.sign), &mut states);
                let (new_params, mut moved) = (trainer.params(), 0);
                let new_states: Vec<Vec<f32>> = names.iter().map(|name| trainer.state(name)).collect();
                let mut untouched = vec![true; len];
                for (e, exact) in updated {
                    untouched[e] = false;
                    let at = format!("{}, packed {packed}, step {t}, element {e}", case.name);
                    for (engine, got) in [("device", new_params[e]), ("CPU", reference_params[e])] {
                        let error = (f64::from(got) - exact.value).abs();
                        assert!(error <= exact.error, "{at} on the {engine}: {got:e}, not {exact:?}, off by {error:e}");
                    }
                    moved += usize::from((exact.value - f64::from(params[e])).abs() > 100.0 * exact.error);
                    for (s, name) in names.iter().enumerate() {
                        let exact = states[e][s];
                        for (engine, got) in
                            [("device", new_states[s][e]), ("CPU", reference.state(name).unwrap().as_f32().unwrap()[e])]
                        {
                            let error = (f64::from(got) - exact.value).abs();
                            assert!(error <= exact.error, "{at}, {name} on the {engine}: {got:e}, not {exact:?}");
                        }
                        states[e][s] = Rounded::exact(new_states[s][e].into());
                    }
                }
                assert!(moved > len / 4, "{}: only {moved} of {len} clearly moved", case.name);
                for e in (0..len).filter(|&e| untouched[e]) {
                    let now = [new_params[e], reference_params[e]].map(f32::to_bits);
                    assert_eq!(now, [params[e].to_bits(); 2], "element {e} is frozen or padding");
                }
                params = new_params[..len].to_vec();
                for (name, state) in names.iter().zip(&new_states) {
                    reference.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(state);
                }
            }
        }
    }
}

/// NUMERICS: relative error of the parameter vector at most 1e-5 after 1,000 steps without re-synchronising.
fn a_thousand_steps_stay_with_the_oracle(rule: &str) {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[37]).tensor("b", &[1]).tensor("c", &[29]).packed().build().unwrap();
    let len = layout.len();
    for case in cases_with(0.25).into_iter().filter(|case| rule_of(case) == rule) {
        let params = random(1, len);
        let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &params);
        let mut reference = case.builder.clone().build_cpu(&layout).unwrap();
        let mut reference_params = params.clone();
        // Without the errors, which f64 does not have.
        let exactly = |value: Rounded| Rounded { error: 0.0, ..value };
        let mut expected = exact(&params, 1.0);
        let mut states = vec![vec![Rounded::exact(0.0); case.oracle.state_count()]; len];
        for t in 1..=1000 {
            let grads = random(t, len);
            trainer.step(&grads);
            reference.step(&mut reference_params, &grads).unwrap();
            for segment in segments(&case, &layout) {
                let elements =
                    layout.tensors()[segment.start].range().start..layout.tensors()[segment.end - 1].range().end;
                let (lr, weight_decay) = (case.lr, case.weight_decay);
                let step = StepScalars { t, lr, weight_decay, measured: Vec::new() };
                let grad = |e: usize| Rounded::exact((case.sign * grads[e]).into());
                let terms = elements.clone().map(|e| case.oracle.measure(&step, expected[e], grad(e), &states[e]));
                let step = StepScalars { measured: measured(terms), ..step.clone() };
                for e in elements {
                    let mut state: Vec<f64> = states[e].iter().map(|state| state.value).collect();
                    let value = case.oracle.update(&step, expected[e].value, grad(e).value, &mut state);
                    expected[e] = exactly(Rounded { value, error: 0.0 });
                    states[e] = state.into_iter().map(|value| Rounded { value, error: 0.0 }).collect();
                }
            }
        }
        for (engine, got) in [("device", trainer.params()), ("CPU", reference_params)] {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let difference = norm(&mut got.iter().zip(&expected).map(|(&got, exact)| f64::from(got) - exact.value));
            let error = difference / norm(&mut expected.iter().map(|exact| exact.value));
            println!("{} on the {engine}: {error:e}", case.name);
            assert!(error <= 1e-5, "{} on the {engine}: relative error {error:e}", case.name);
        }
    }
}

/// Three steps, the second with a bad gradient that is skipped; everything there is, and the statistics.
fn three_steps(gpu: &Gpu, builder: &OptimizerBuilder, layout: &Layout) -> (Vec<f32>, Vec<Stats>) {
    let builder = grouped(builder).clip(Clip::global_norm(10.0));
    let mut trainer = Trainer::new(gpu, builder, layout, &random(1, layout.len()));
    let mut stats = Vec::new();
    for t in 0..3 {
        let mut grads = gradients(2 + t, layout.len());
        if t == 1 {
            grads[9] = f32::NAN;
            grads[layout.tensor("3").unwrap().range().start] = f32::NAN;
        }
        stats.push(trainer.step(&grads));
    }
    (everything(&trainer), stats)
}

/// Parameters, states, and the states of the tensors.
fn everything(trainer: &Trainer<'_>) -> Vec<f32> {
    let mut all = trainer.params();
    all.extend(trainer.optimizer.state_names().iter().flat_map(|name| trainer.state(name)));
    let tensors = trainer.optimizer.tensor_states().expect("a rule that measures");
    all.extend(device::download_slice(trainer.gpu, tensors));
    all
}

#[test]
fn chunking_does_not_change_a_single_bit() {
    // The nine tensors fill three rows of three workgroups, and leave one to spare in two rows of five.
    let small = [3, 5].map(|workgroups| {
        device_with(|limits| {
            limits.max_storage_buffer_binding_size = 40 << 10;
            limits.max_buffer_size = 200 << 10;
            limits.max_compute_workgroups_per_dimension = workgroups;
        })
    });
    for case in cases() {
        for packed in [false, true] {
            let layout = layout(packed);
            let (expected, expected_stats) = three_steps(device::gpu(), &case.builder, &layout);
            for small in &small {
                let (all, stats) = three_steps(small, &case.builder, &layout);
                assert_same_bits(&all, &expected, case.name);
                assert_eq!(format!("{stats:?}"), format!("{expected_stats:?}"), "a NaN is no equal of itself");
            }
            let (again, _) = three_steps(device::gpu(), &case.builder, &layout);
            assert_same_bits(&again, &expected, "a rerun");
        }
    }
}

/// A buffer per tensor, and buffers that are cut at multiples of 8,192 elements: the bits of one flat buffer.
#[test]
fn buffers_per_tensor_give_the_same_bits() {
    let gpu = device::gpu();
    for case in cases() {
        for packed in [false, true] {
            let layout = layout(packed);
            let len = layout.len();
            let starts = layout.tensors().iter().map(|tensor| tensor.range().start).chain([len]);
            let by_tensor: Vec<usize> = starts.collect();
            let by_block = vec![0, 8192, 24_576, len];
            let builder = grouped(&case.builder);
            let mut flat = Trainer::new(gpu, builder.clone(), &layout, &random(1, len));
            flat.step(&gradients(2, len));
            for cuts in [by_tensor, by_block] {
                // Three elements ahead of the gradients, so that nothing is aligned.
                for ahead in [0, 3] {
                    let values = (&random(1, len)[..], &gradients(2, len)[..]);
                    let (_, got) = common::step_in_parts(gpu, builder.clone(), &layout, values, &cuts, ahead);
                    assert_same_bits(&got, &flat.params(), &format!("{}, packed {packed}, ahead {ahead}", case.name));
                }
            }
        }
    }
}

#[test]
fn slices_that_cut_a_tensor_are_refused() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[10]).tensor("b", &[20_000]).packed().build().unwrap();
    let values = vec![1.0; layout.len()];
    // Neighbors of one buffer would be joined.
    let [params, first, second] = [(); 3].map(|()| device::upload(gpu, &values));
    let mut optimizer = device::build(gpu, Optimizer::builder(Lars::default()), &layout).unwrap();
    for (cut, allowed) in [(9u64, false), (10, true), (11, false), (8191, false), (8192, true), (16_384, true)] {
        let mut recorded = encoder(gpu);
        let grads = [first.slice(..4 * cut), second.slice(4 * cut..)];
        let result = optimizer.step(&mut recorded, &params, &grads);
        assert_eq!(result.is_ok(), allowed, "{cut}: {result:?}");
        if let Err(error) = result {
            assert!(matches!(error, Error::CutTensor { element, .. } if element == cut), "{error:?}");
            let message = error.to_string();
            assert!(message.contains("\"lars\"") && message.contains("8,192"), "{message}");
        }
    }
}

#[test]
fn a_skipped_step_leaves_every_byte_unchanged() {
    let gpu = device::gpu();
    for case in cases() {
        let layout = layout(true);
        let builder = grouped(&case.builder).on_nonfinite(NonFinite::Skip);
        let mut trainer = Trainer::new(gpu, builder, &layout, &random(1, layout.len()));
        trainer.step(&gradients(2, layout.len()));
        trainer.step(&gradients(3, layout.len()));
        let before = everything(&trainer);
        let mut grads = gradients(4, layout.len());
        grads[100] = f32::INFINITY;
        let stats = trainer.step(&grads);
        assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (2, 1, Some(100)));
        assert_same_bits(&everything(&trainer), &before, case.name);
    }
}

/// Nothing of one tensor reaches another, whatever it holds.
#[test]
fn a_nan_stays_in_its_tensor() {
    let gpu = device::gpu();
    for case in cases().into_iter().filter(|case| !case.oracle.whole()) {
        let layout = layout(true);
        let builder = grouped(&case.builder).on_nonfinite(NonFinite::Propagate);
        let params = random(1, layout.len());
        let mut clean = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut bad = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut reference = builder.build_cpu(&layout).unwrap();
        let mut reference_params = params.clone();
        let mut grads = gradients(2, layout.len());
        clean.step(&grads);
        let tensor = layout.tensor("4").unwrap().range();
        grads[tensor.start + 5] = f32::NAN;
        assert_eq!(bad.step(&grads).step, 1);
        reference.step(&mut reference_params, &grads).unwrap();
        for (e, (clean, bad)) in clean.params().into_iter().zip(bad.params()).enumerate() {
            if tensor.contains(&e) {
                assert!(bad.is_nan() && reference_params[e].is_nan(), "{}, element {e}: {bad}", case.name);
            } else {
                assert_eq!(clean.to_bits(), bad.to_bits(), "{}, element {e}", case.name);
            }
        }
    }
}

#[test]
fn an_empty_flat_space_counts_steps() {
    let layout = Layout::builder().tensor("a", &[0]).tensor("b", &[3, 0]).build().unwrap();
    for case in cases() {
        let mut trainer = Trainer::new(device::gpu(), case.builder.clone(), &layout, &[]);
        assert_eq!(trainer.step(&[]).step, 1);
        assert_eq!(trainer.step(&[]).step, 2);
    }
}

/// A first step by a gradient of 1 has a direction of 1 / (1 + eps).
#[test]
fn lamb_has_no_ratio_where_a_norm_is_zero() {
    let layout = Layout::flat(3).unwrap();
    let rule = Lamb::apex().with_lr(0.125).with_eps(0.25).with_weight_decay(0.0).with_nvlamb(true);
    for (param, grad, expected) in [(0.0, 1.0, -0.1), (1.0, 0.0, 1.0)] {
        let builder = Optimizer::builder(rule.clone());
        let mut params = [param; 3];
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
        trainer.step(&[grad; 3]);
        builder.build_cpu(&layout).unwrap().step(&mut params, &[grad; 3]).unwrap();
        for param in trainer.params().into_iter().chain(params) {
            assert!((param - expected).abs() <= 4.0 * f32::EPSILON * expected.abs(), "{param} for {expected}");
        }
    }
}

/// With a β₂ of 0.5, a gradient of g after one of 1 has a corrected second moment of (0.25 + 0.5 g²) / 0.75.
#[test]
fn stable_adamw_divides_its_rate_by_an_rms_above_one_only() {
    let layout = Layout::flat(5).unwrap();
    let rule = StableAdamW::default().with_lr(0.125).with_betas((0.0, 0.5)).with_eps(0.0);
    for (grad, divisor) in [(0.25f32, 1.0), (3.0, (9.0f64 / (4.75 / 0.75)).sqrt())] {
        for weight_decay in [0.0, 0.25] {
            let root = ((0.25 + 0.5 * f64::from(grad).powi(2)) / 0.75).sqrt();
            let (first, lr) = (2.0 - 0.125 * (weight_decay * 2.0 + 1.0), 0.125 / divisor);
            let expected = first - lr * (weight_decay * first + f64::from(grad) / root);
            let builder = Optimizer::builder(rule.clone().with_weight_decay(weight_decay));
            let mut params = [2.0; 5];
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
            let mut cpu = builder.build_cpu(&layout).unwrap();
            for grads in [[1.0; 5], [grad; 5]] {
                trainer.step(&grads);
                cpu.step(&mut params, &grads).unwrap();
            }
            for param in trainer.params()[..5].iter().chain(&params) {
                let error = (f64::from(*param) - expected).abs();
                assert!(error <= 4.0 * f64::from(f32::EPSILON), "{param} for {expected}, decay {weight_decay}");
            }
        }
    }
}

/// 0 / 0 in the one element is no NaN in the mean over both, whose RMS is below 1.
#[test]
fn stable_adamw_without_eps_counts_elements_without_gradients_as_zero() {
    let rule = StableAdamW::default().with_lr(0.125).with_eps(0.0).with_weight_decay(0.0);
    let builder = Optimizer::builder(rule);
    let mut params = [1.0; 2];
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &Layout::flat(2).unwrap(), &params);
    trainer.step(&[4.0, 0.0]);
    builder.build_cpu(&Layout::flat(2).unwrap()).unwrap().step(&mut params, &[4.0, 0.0]).unwrap();
    for param in [trainer.params()[0], params[0]] {
        assert!((param - 0.875).abs() <= 4.0 * f32::EPSILON, "{param}");
    }
}

#[test]
fn a_frozen_tensor_keeps_its_state() {
    let gpu = device::gpu();
    let layout =
        Layout::builder().tensor("still", &[5]).group("still").tensor("moving", &[7]).packed().build().unwrap();
    let builder = Optimizer::builder(NovoGrad::default().with_betas((0.5, 0.5)));
    let builder = builder.group("still", GroupOptions::default().frozen());
    let mut trainer = Trainer::new(gpu, builder, &layout, &random(1, 12));
    let states = trainer.optimizer.tensor_states().unwrap();
    gpu.queue.write_buffer(states.buffer(), states.offset(), bytemuck::cast_slice(&[3f32, 0.0, 0.0, 0.0]));
    for t in 1..4 {
        trainer.step(&random(t, 12));
    }
    let states = device::download_slice(gpu, trainer.optimizer.tensor_states().unwrap());
    assert_eq!(states[0], 3.0);
    assert!(states[4] > 0.0);
}

#[test]
fn a_rule_with_norms_skips_what_is_not_finite_unless_told_otherwise() {
    let layout = Layout::flat(4).unwrap();
    let builder = Optimizer::builder(Lamb::default());
    let mut params = [1.0; 4];
    let grads = [1.0, f32::NAN, 1.0, 1.0];
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
    let cpu = builder.build_cpu(&layout).unwrap().step(&mut params, &grads).unwrap();
    for (stats, params) in [(trainer.step(&grads), trainer.params()), (cpu, params.to_vec())] {
        assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (0, 1, Some(1)));
        assert_eq!(params, [1.0; 4]);
    }
}
