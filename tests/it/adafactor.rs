//! Adafactor, whose states are factors of rows and columns, on tensors of many shapes: against oracle and reference, and the
//! promises of every rule. Bounds are as in `tests/it/golden.rs`.

use std::borrow::Cow;

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{self, Trainer, assert_same_decision, device, device_with, set_state};
use crate::oracle::{AdafactorOracle, FACTORS, Factors, Oracle, Rounded, StepScalars, measured};
use wgpu_optim::rule::{self, Elements, Factored, RuleSpec, ScalarState};
use wgpu_optim::{
    Adafactor, Clip, Error, Gpu, GroupOptions, Layout, NonFinite, Optimizer, OptimizerBuilder, Rule, Schedule, Stats,
};

/// Nothing, less than a quad, matrices, rows and columns of one piece, of several, and of more than are added up at a time;
/// rows over blocks, and more lines than a small device's grid has lanes, of which chunks cut the later ones (the seventh).
const SHAPES: [&[usize]; 13] = [
    &[],
    &[0, 3],
    &[3],
    &[5, 13],
    &[2, 1, 40, 7],
    &[130, 70],
    &[3980, 3],
    &[9000, 1],
    &[1, 9000],
    &[2, 65, 64],
    &[5, 4],
    &[20_001],
    &[4, 6],
];
const NO_DECAY: usize = 3;
const FAST: usize = 5;
const FROZEN: usize = 10;
const LONG: usize = 11;
/// Elements of the sixth tensor and of the long vector.
const FROZEN_ELEMENTS: std::ops::Range<usize> = 77..4_000;

struct Case {
    name: &'static str,
    rule: Adafactor,
    oracle: AdafactorOracle,
}

impl Case {
    fn builder(&self) -> OptimizerBuilder {
        let builder = Optimizer::builder(self.rule.clone());
        let builder = builder.group("no_decay", GroupOptions::default().with_weight_decay(0.0));
        let builder = builder.group("fast", GroupOptions::default().with_lr_scale(4.0));
        builder.group("frozen", GroupOptions::default().frozen())
    }

    fn sign(&self) -> f32 {
        if self.rule.maximize { -1.0 } else { 1.0 }
    }
}

/// Hyperparameters are exact in f32.
fn cases() -> Vec<Case> {
    let rule = Adafactor::default().with_lr(0.125).with_weight_decay(0.25);
    // With a learning rate that 1/sqrt(t) is soon less than.
    let loose =
        rule.clone().with_lr(0.75).with_eps((Some(0.5), 16.0)).with_d(1.5).with_beta2_decay(-0.5).with_maximize(true);
    let optax = Adafactor::optax().with_lr(0.125).with_weight_decay(0.25).with_eps((Some(0.25), 1.0));
    let optax = optax.with_min_dim_size_to_factor(13);
    [("default", rule), ("loose", loose), ("optax", optax)]
        .into_iter()
        .map(|(name, rule)| {
            let eps = (rule.eps.0.unwrap_or(f32::EPSILON.into()), rule.eps.1);
            let optax = rule.eps_in_squares.then_some(rule.min_dim_size_to_factor);
            let oracle = AdafactorOracle { beta2_decay: rule.beta2_decay, eps, d: rule.d, optax };
            Case { name, rule, oracle }
        })
        .collect()
}

fn layout(packed: bool) -> Layout {
    let builder = SHAPES.iter().enumerate().fold(Layout::builder(), |builder, (i, shape)| {
        let builder = builder.tensor(format!("{i}"), shape);
        match i {
            NO_DECAY => builder.group("no_decay"),
            FAST => builder.group("fast"),
            FROZEN => builder.group("frozen"),
            _ => builder,
        }
    });
    let mut builder = if packed { builder.packed() } else { builder };
    let whole = builder.clone().build().unwrap();
    for tensor in [FAST, LONG] {
        let start = whole.tensors()[tensor].range().start;
        builder = builder.range(start + FROZEN_ELEMENTS.start..start + FROZEN_ELEMENTS.end, "frozen");
    }
    builder.build().unwrap()
}

/// Rate, decay and whether it is active, of one element of a tensor.
fn options(case: &Case, tensor: usize, element: usize) -> (StepScalars, bool) {
    let lr = if tensor == FAST { 4.0 * case.rule.lr } else { case.rule.lr };
    let weight_decay = if tensor == NO_DECAY { 0.0 } else { case.rule.weight_decay };
    let in_range = [FAST, LONG].contains(&tensor) && FROZEN_ELEMENTS.contains(&element);
    (StepScalars { t: 0, lr, weight_decay, measured: Vec::new() }, tensor != FROZEN && !in_range)
}

/// One step of the oracle: what each active element becomes, by its number.
fn exact_step(
    case: &Case,
    layout: &Layout,
    t: u64,
    params: &[f32],
    grads: &[f32],
    factors: &mut [Factors],
) -> Vec<(usize, Rounded)> {
    let mut updated = Vec::new();
    for (i, tensor) in layout.tensors().iter().enumerate().filter(|(i, _)| *i != FROZEN) {
        let start = tensor.range().start;
        let scalars = |e: usize| options(case, i, e - start);
        let grad = |e: usize| Rounded::exact((case.sign() * grads[e]).into());
        let counted = |e: usize| if scalars(e).1 { grad(e) } else { Rounded::exact(0.0) };
        let counted: Vec<Rounded> = tensor.range().map(counted).collect();
        let variances = case.oracle.settle_factors(t, tensor.shape(), &counted, &mut factors[i]);
        let active: Vec<usize> = tensor.range().filter(|&e| scalars(e).1).collect();
        let param = |e: usize| Rounded::exact(params[e].into());
        let terms =
            active.iter().map(|&e| case.oracle.measure(&scalars(e).0, param(e), grad(e), &[variances[e - start]]));
        let measured = measured(terms);
        for e in active {
            let step = StepScalars { t, measured: measured.clone(), ..scalars(e).0 };
            let mut state = [variances[e - start]];
            updated.push((e, case.oracle.update_rounded(&step, param(e), grad(e), &mut state)));
        }
    }
    updated
}

/// Gradients without the extremes whose squares f32 cannot hold, and some zeros.
fn gradients(seed: u64, len: usize) -> Vec<f32> {
    let mut grads = random(seed, len);
    grads.iter_mut().skip(1).step_by(7).for_each(|grad| *grad = 0.0);
    grads
}

fn assert_within(got: f32, exact: Rounded, what: &dyn Fn() -> String) {
    let error = (f64::from(got) - exact.value).abs();
    assert!(error <= exact.error, "{}: {got:e}, not {exact:?}, off by {error:e}", what());
}

#[test]
fn each_step_agrees_with_reference_and_oracle() {
    let gpu = device::gpu();
    for (case, packed) in cases().iter().flat_map(|case| [(case, false), (case, true)]) {
        let layout = layout(packed);
        let len = layout.len();
        let mut params = random(1, len);
        let mut trainer = Trainer::new(gpu, case.builder(), &layout, &params);
        let mut reference = case.builder().build_cpu(&layout).unwrap();
        assert_eq!(trainer.optimizer.state_names(), FACTORS);
        assert!(reference.state_names().eq(FACTORS));
        let mut factors = vec![Factors::default(); SHAPES.len()];
        for t in 1..=4 {
            let grads = gradients(100 + t, len);
            let mut reference_params = params.clone();
            assert_same_decision(&trainer.step(&grads), &reference.step(&mut reference_params, &grads).unwrap());
            let updated = exact_step(case, &layout, t, &params, &grads, &mut factors);
            let (new_params, mut moved, mut untouched) = (trainer.params(), 0, vec![true; len]);
            for (e, exact) in updated {
                untouched[e] = false;
                for (engine, got) in [("device", new_params[e]), ("CPU", reference_params[e])] {
                    let what = || format!("{}, packed {packed}, step {t}, element {e} on the {engine}", case.name);
                    assert_within(got, exact, &what);
                }
                moved += usize::from((exact.value - f64::from(params[e])).abs() > 100.0 * exact.error);
            }
            assert!(moved > len / 4, "{}: only {moved} of {len} clearly moved", case.name);
            for e in (0..len).filter(|&e| untouched[e]) {
                let now = [new_params[e], reference_params[e]].map(f32::to_bits);
                assert_eq!(now, [params[e].to_bits(); 2], "element {e} is frozen or padding");
            }
            for (number, name) in FACTORS.into_iter().enumerate() {
                let got = trainer.state(name);
                let mut of_all = got.iter().zip(reference.state(name).unwrap().as_f32().unwrap());
                for (i, shape) in SHAPES.iter().enumerate() {
                    let count = factors_of(shape, case.rule.min_dim_size_to_factor)[number];
                    let (exact, zero) = (&mut factors[i].0[number], Rounded { value: 0.0, error: 0.0 });
                    exact.resize(count, zero);
                    for (k, exact) in exact.iter_mut().enumerate() {
                        let (&on_device, &on_cpu) = of_all.next().unwrap();
                        for (engine, got) in [("device", on_device), ("CPU", on_cpu)] {
                            let what = || format!("{name}[{k}] of {shape:?} in step {t} on the {engine}");
                            assert_within(got, *exact, &what);
                        }
                        *exact = Rounded::exact(on_device.into());
                    }
                }
                assert_eq!(of_all.next(), None, "{name}");
                reference.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(&got);
            }
            params = new_params[..len].to_vec();
        }
    }
}

/// The number of a tensor's factors under each name.
fn factors_of(shape: &[usize], least: usize) -> [usize; 3] {
    let elements = shape.iter().product::<usize>();
    match *shape {
        [.., rows, columns] if elements > 0 && rows.min(columns) >= least => [elements / columns, elements / rows, 0],
        [..] if elements == 0 => [0; 3],
        _ => [0, 0, elements],
    }
}

/// NUMERICS: relative error of the parameter vector at most 1e-5 after 1,000 steps without re-synchronising.
#[test]
fn a_thousand_steps_stay_with_the_oracle() {
    let gpu = device::gpu();
    let shapes: [&[usize]; 4] = [&[7, 5], &[2, 3, 3], &[11], &[]];
    let builder =
        shapes.iter().enumerate().fold(Layout::builder(), |builder, (i, shape)| builder.tensor(format!("{i}"), shape));
    let layout = builder.packed().build().unwrap();
    let len = layout.len();
    for mut case in cases() {
        // A step is relative to the parameters, and so is the growth of an error.
        case.rule.lr = 1.0 / 512.0;
        let params = random(1, len);
        let mut trainer = Trainer::new(gpu, case.builder_without_groups(), &layout, &params);
        let mut reference = case.builder_without_groups().build_cpu(&layout).unwrap();
        let mut reference_params = params.clone();
        let exactly = |value: f64| Rounded { value, error: 0.0 };
        let mut expected: Vec<f64> = params.iter().map(|&param| param.into()).collect();
        let mut factors = vec![Factors::default(); shapes.len()];
        for t in 1..=1000 {
            let grads = random(t, len);
            trainer.step(&grads);
            reference.step(&mut reference_params, &grads).unwrap();
            for (tensor, factors) in layout.tensors().iter().zip(&mut factors) {
                let (lr, weight_decay) = (case.rule.lr, case.rule.weight_decay);
                let step = StepScalars { t, lr, weight_decay, measured: Vec::new() };
                let grads: Vec<Rounded> =
                    grads[tensor.range()].iter().map(|&grad| exactly((case.sign() * grad).into())).collect();
                let variances = case.oracle.settle_factors(t, tensor.shape(), &grads, factors);
                for factor in factors.0.iter_mut().flatten() {
                    factor.error = 0.0;
                }
                let params = &mut expected[tensor.range()];
                let terms = params.iter().zip(&grads).zip(&variances);
                let terms = terms
                    .map(|((&param, &grad), &v)| case.oracle.measure(&step, exactly(param), grad, &[exactly(v.value)]));
                let step = StepScalars { measured: measured(terms), ..step.clone() };
                for ((param, grad), variance) in params.iter_mut().zip(grads).zip(variances) {
                    *param = case.oracle.update(&step, *param, grad.value, &mut [variance.value]);
                }
            }
        }
        for (engine, got) in [("device", trainer.params()), ("CPU", reference_params)] {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let difference = norm(&mut got.iter().zip(&expected).map(|(&got, exact)| f64::from(got) - exact));
            let error = difference / norm(&mut expected.iter().copied());
            println!("{} on the {engine}: {error:e}", case.name);
            assert!(error <= 1e-5, "{} on the {engine}: relative error {error:e}", case.name);
        }
    }
}

impl Case {
    fn builder_without_groups(&self) -> OptimizerBuilder {
        Optimizer::builder(self.rule.clone())
    }
}

/// Parameters and states.
fn everything(trainer: &Trainer<'_>) -> Vec<f32> {
    let mut all = trainer.params();
    all.extend(FACTORS.iter().flat_map(|name| trainer.state(name)));
    all
}

/// Three steps, the second with a bad gradient that is skipped.
fn three_steps(gpu: &Gpu, case: &Case, layout: &Layout) -> (Vec<f32>, Vec<Stats>) {
    let builder = case.builder().clip(Clip::global_norm(10.0));
    let mut trainer = Trainer::new(gpu, builder, layout, &random(1, layout.len()));
    let mut stats = Vec::new();
    for t in 0..3 {
        let mut grads = gradients(2 + t, layout.len());
        if t == 1 {
            grads[layout.tensors()[FAST].range().start] = f32::NAN;
        }
        stats.push(trainer.step(&grads));
    }
    (everything(&trainer), stats)
}

#[test]
fn chunking_does_not_change_a_single_bit() {
    let small = device_with(|limits| {
        // Chunks of 16,384 elements; the table of factors is one binding.
        limits.max_storage_buffer_binding_size = 600 << 10;
        limits.max_compute_workgroups_per_dimension = 4;
    });
    for (case, packed) in cases().iter().flat_map(|case| [(case, false), (case, true)]) {
        let layout = layout(packed);
        let (all, stats) = three_steps(&small, case, &layout);
        let (expected, expected_stats) = three_steps(device::gpu(), case, &layout);
        assert_same_bits(&all, &expected, case.name);
        assert_eq!(format!("{stats:?}"), format!("{expected_stats:?}"), "a NaN is no equal of itself");
        let (again, _) = three_steps(device::gpu(), case, &layout);
        assert_same_bits(&again, &expected, "a rerun");
    }
}

/// A buffer per tensor, and buffers that are cut at multiples of 8,192 elements, through rows: the bits of one flat buffer.
#[test]
fn buffers_per_tensor_give_the_same_bits() {
    let gpu = device::gpu();
    let case = &cases()[0];
    for packed in [false, true] {
        let layout = layout(packed);
        let len = layout.len();
        let by_tensor: Vec<usize> = layout.tensors().iter().map(|tensor| tensor.range().start).chain([len]).collect();
        let by_block: Vec<usize> = (0..len).step_by(8192).chain([len]).collect();
        let mut flat = Trainer::new(gpu, case.builder(), &layout, &random(1, len));
        flat.step(&gradients(2, len));
        for cuts in [by_tensor, by_block] {
            // Three elements ahead of the gradients, so that nothing is aligned.
            for ahead in [0, 3] {
                let values = (&random(1, len)[..], &gradients(2, len)[..]);
                let (optimizer, got) = common::step_in_parts(gpu, case.builder(), &layout, values, &cuts, ahead);
                assert_same_bits(&got, &flat.params(), &format!("packed {packed}, ahead {ahead}"));
                for name in FACTORS {
                    assert_same_bits(&common::state(gpu, &optimizer, name), &flat.state(name), name);
                }
            }
        }
    }
}

#[test]
fn a_skipped_step_leaves_every_byte_unchanged() {
    let layout = layout(true);
    for case in cases() {
        let builder = case.builder().on_nonfinite(NonFinite::Skip);
        let mut trainer = Trainer::new(device::gpu(), builder, &layout, &random(1, layout.len()));
        trainer.step(&gradients(2, layout.len()));
        let before = everything(&trainer);
        let mut grads = gradients(4, layout.len());
        grads[5] = f32::INFINITY;
        let stats = trainer.step(&grads);
        assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (1, 1, Some(5)));
        assert_same_bits(&everything(&trainer), &before, case.name);
    }
}

/// The factors are those of the gradients that the step is made of.
#[test]
fn factors_are_of_scaled_and_clipped_gradients() {
    let (gpu, layout) = (device::gpu(), layout(true));
    let builder = cases()[0].builder();
    let (params, grads) = (random(1, layout.len()), gradients(2, layout.len()));
    let mut plain = Trainer::new(gpu, builder.clone(), &layout, &params);
    plain.step(&grads);
    let mut clipped = Trainer::new(gpu, builder.clip(Clip::global_norm(10.0)), &layout, &params);
    clipped.optimizer.set_grad_scale(4.0).unwrap();
    let coef = clipped.step(&grads).clip_coef / 4.0;
    assert!(coef < 0.1, "{coef} clips");
    for name in FACTORS {
        for (plain, clipped) in plain.state(name).into_iter().zip(clipped.state(name)) {
            let error = (clipped - coef * coef * plain).abs();
            assert!(error <= 1e-5 * clipped + f32::MIN_POSITIVE, "{name}: {clipped} instead of {coef}² · {plain}");
        }
    }
}

/// Pieces are added up in two rounds: one after the other, they would round 4,688 times, the same way each time.
#[test]
fn the_sum_of_a_long_row_keeps_its_digits() {
    let layout = Layout::builder().tensor("row", &[1, 64 * 4_688]).packed().build().unwrap();
    let (builder, grads) = (cases()[0].builder_without_groups(), vec![0.61f32; layout.len()]);
    let mut params = grads.clone();
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
    trainer.step(&grads);
    let mut reference = builder.build_cpu(&layout).unwrap();
    reference.step(&mut params, &grads).unwrap();
    let exact = f64::from(0.61f32).powi(2);
    for got in [trainer.state("row_var")[0], reference.state("row_var").unwrap().as_f32().unwrap()[0]] {
        let error = (f64::from(got) - exact).abs() / exact * f64::from(1 << 24);
        // Half ULP of 64 elements, 64 pieces, the rest of both; a square, a mean, and the power of t.
        assert!(error <= 64.0 + 64.0 + 74.0 + 1.0 + 5.0 + 24.0, "{got} instead of {exact}, off by {error} half ULP");
    }
}

/// A NaN reaches its whole matrix through the mean of the rows, and nothing else.
#[test]
fn a_nan_stays_in_its_tensor() {
    let (gpu, layout) = (device::gpu(), layout(true));
    let case = &cases()[0];
    let builder = case.builder().on_nonfinite(NonFinite::Propagate);
    let params = random(1, layout.len());
    let mut clean = Trainer::new(gpu, builder.clone(), &layout, &params);
    let mut bad = Trainer::new(gpu, builder.clone(), &layout, &params);
    let (mut reference, mut reference_params) = (builder.build_cpu(&layout).unwrap(), params);
    let mut grads = gradients(2, layout.len());
    clean.step(&grads);
    let tensor = layout.tensor("3").unwrap().range();
    grads[tensor.start + 5] = f32::NAN;
    assert_eq!(bad.step(&grads).step, 1);
    reference.step(&mut reference_params, &grads).unwrap();
    for (e, (clean, bad)) in clean.params().into_iter().zip(bad.params()).enumerate() {
        if tensor.contains(&e) {
            assert!(bad.is_nan() && reference_params[e].is_nan(), "element {e}: {bad}");
        } else {
            assert_eq!(clean.to_bits(), bad.to_bits(), "element {e}");
        }
    }
}

#[test]
fn a_frozen_tensor_keeps_its_factors() {
    let layout = Layout::builder().tensor("still", &[2, 3]).group("frozen").tensor("moving", &[3, 2]).packed();
    let layout = layout.tensor("stays", &[2]).group("frozen").build().unwrap();
    let builder = cases()[0].builder_without_groups().group("frozen", GroupOptions::default().frozen());
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &random(1, 14));
    let (mut reference, mut reference_params) = (builder.build_cpu(&layout).unwrap(), random(1, 14));
    for name in FACTORS {
        let state = reference.state_mut(name).unwrap().into_f32().unwrap();
        state.fill(3.0);
        set_state(trainer.gpu, &trainer.optimizer, name, state);
    }
    trainer.step(&random(2, 14));
    reference.step(&mut reference_params, &random(2, 14)).unwrap();
    let on_device = FACTORS.map(|name| trainer.state(name));
    let on_cpu = FACTORS.map(|name| reference.state(name).unwrap().as_f32().unwrap().to_vec());
    for [row_var, col_var, variance] in [on_device, on_cpu] {
        assert_eq!((&row_var[..2], &col_var[..3], &variance[..]), (&[3.0; 2][..], &[3.0; 3][..], &[3.0; 2][..]));
        assert!(row_var[2..].iter().chain(&col_var[3..]).all(|&factor| factor != 3.0));
    }
}

/// States have PyTorch's names and elements; written back, they continue where they were read.
#[test]
fn states_are_of_the_tensors_shapes_and_can_be_restored() {
    let (gpu, case) = (device::gpu(), &cases()[0]);
    let layout = Layout::builder().tensor("a", &[3, 4]).tensor("b", &[2, 5, 6]).build().unwrap();
    let builder = case.builder_without_groups();
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &random(1, layout.len()));
    assert_eq!(trainer.optimizer.state("variance").unwrap().len(), 0, "there are no vectors");
    assert!(trainer.optimizer.state("exp_avg").is_none());
    let reference = builder.clone().build_cpu(&layout).unwrap();
    for (name, count) in [("row_var", 3 + 10), ("col_var", 4 + 12), ("variance", 0)] {
        assert_eq!((trainer.state(name).len(), reference.state(name).unwrap().len()), (count, count), "{name}");
    }
    trainer.step(&gradients(2, layout.len()));
    // A rule that does not look at t, since there is no way to set it.
    let constant = Optimizer::builder(case.rule.clone().with_beta2_decay(0.0).with_lr(0.0));
    let mut restored = Trainer::new(gpu, constant, &layout, &trainer.params());
    for name in ["row_var", "col_var"] {
        set_state(gpu, &restored.optimizer, name, &trainer.state(name));
        assert_same_bits(&restored.state(name), &trainer.state(name), name);
    }
    restored.step(&gradients(2, layout.len()));
    for name in ["row_var", "col_var"] {
        assert_same_bits(&restored.state(name), &trainer.state(name), name);
    }
}

#[test]
fn an_empty_flat_space_counts_steps() {
    let layout = Layout::builder().tensor("a", &[0]).tensor("b", &[3, 0]).build().unwrap();
    let mut trainer = Trainer::new(device::gpu(), cases()[0].builder_without_groups(), &layout, &[]);
    assert_eq!(trainer.step(&[]).step, 1);
    assert_eq!(trainer.step(&[]).step, 2);
    let mut reference = cases()[0].builder_without_groups().build_cpu(&layout).unwrap();
    assert_eq!(reference.step(&mut [0.0; 0], &[0.0; 0]).unwrap().step, 1);
}

/// Adafactor's scalars of the step that the gradient names, in place of parameters.
#[derive(Debug)]
struct Scalars(Adafactor);

impl Rule for Scalars {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("scalars", 1.0).with_states(["greatest_rho"]).with_hyperparameters(self.0.spec().hyperparameters)
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(&self.0)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        let of_the_rule = self.0.wgsl();
        let (update_scalars, _) = of_the_rule.split_once("fn update_factor").unwrap();
        let lanes = ["x", "y", "z", "w"];
        let call = |lane: &&str| {
            format!("update_scalars(step.scalar_state, 0.0, hyper, step.bias_correction, u32(grad.{lane}))")
        };
        let call =
            |scalar: &str| lanes.iter().map(|lane| format!("{}.{scalar}", call(lane))).collect::<Vec<_>>().join(", ");
        format!(
            "{update_scalars}fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {{
                return Element(vec4<f32>({}), vec4<f32>({}));
            }}",
            call("one_minus_beta2"),
            call("greatest_rho")
        )
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &rule::StepScalars) {
        elements.each(|_, grad, [_]| {
            let mut scalars = [0.0; 4];
            self.0.update_scalars(&mut scalars, step.lr, step.bias_correction, grad as u32);
            (scalars[0], [scalars[1]])
        });
    }
}

/// Relative error of a power of t, at any t: 12 ULP as the oracle says.
#[test]
fn powers_of_any_step_are_good_to_12_ulp() {
    let steps: Vec<f32> =
        (1..3000).chain((0..32).flat_map(|bit| [1 << bit, 3 << (bit.max(1) - 1)])).map(|t: u32| t as f32).collect();
    let layout = Layout::flat(steps.len()).unwrap();
    for beta2_decay in [-0.75, -0.8, -2.0, 0.0] {
        let rule = || Optimizer::builder(Scalars(Adafactor::default().with_beta2_decay(beta2_decay)));
        let mut trainer = Trainer::new(device::gpu(), rule().schedule(Schedule::constant(1.0)), &layout, &steps);
        trainer.step(&steps);
        let (mut reference, mut params) = (rule().build_cpu(&layout).unwrap(), steps.clone());
        reference.step(&mut params, &steps).unwrap();
        for (powers, rhos) in [
            (trainer.params(), trainer.state("greatest_rho")),
            (params, reference.state("greatest_rho").unwrap().as_f32().unwrap().to_vec()),
        ] {
            for ((&t, power), rho) in steps.iter().zip(powers).zip(rhos) {
                for (got, exact, ulps) in
                    [(power, f64::from(t).powf(beta2_decay), 12.0), (rho, f64::from(t).powf(-0.5), 7.0)]
                {
                    let error = (f64::from(got) - exact).abs() / exact / f64::from(f32::EPSILON);
                    assert!(error <= ulps, "{t}^{beta2_decay}: {got:e} instead of {exact:e}, off by {error} ULP");
                }
            }
        }
    }
}

/// A rule that keeps factors and has no sums over each tensor cannot know which tensor an element lies in.
#[test]
fn factors_without_sums_over_tensors_are_refused() {
    #[derive(Debug)]
    struct OnlyFactored;
    impl Rule for OnlyFactored {
        fn spec(&self) -> RuleSpec {
            RuleSpec::new("factored", 1.0)
        }
        fn wgsl(&self) -> Cow<'_, str> {
            "".into()
        }
        fn update(&self, _: Elements<'_>, _: &rule::StepScalars) {}
        fn factored(&self) -> Option<&dyn Factored> {
            Some(self)
        }
    }
    impl Factored for OnlyFactored {
        fn update_factor(&self, old: f32, _: f32, _: [f32; 4], _: u32) -> f32 {
            old
        }
        fn floor_mean(&self, mean: f32) -> f32 {
            mean
        }
    }
    let error = Optimizer::builder(OnlyFactored).build_cpu(&Layout::flat(3).unwrap()).err().unwrap();
    assert!(matches!(&error, Error::RuleInterface { problem, .. } if problem.contains("reduction")), "{error}");
}
