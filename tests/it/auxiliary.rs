//! Auxiliary updates: Hessian estimates, and the switch to evaluation parameters and back.

use std::borrow::Cow;

use crate::common::numbers::{assert_same_bits, random, ulps};
use crate::common::{self, Trainer, device, device_with, encoder, finish};
use crate::oracle::{self, Averaging, Oracle, Rounded, ScheduleFreeOracle, SophiaOracle};
use wgpu_optim::rule::{AuxiliaryUpdates, Elements, RuleSpec, ScalarState, StepScalars};
use wgpu_optim::{Clip, Curvature, Error, GroupOptions, Layout, Optimizer, OptimizerBuilder, Schedule};
use wgpu_optim::{Rule, ScheduleFreeAdamW, ScheduleFreeSgd, Sophia, wgpu};

/// The last quad has one element.
const LEN: usize = 4097;

/// Two estimates after a step: the running average is the oracle's to 4 ULP, frozen elements keep theirs, and neither
/// parameters nor momentum nor the count of steps know of it.
#[test]
fn an_estimate_of_the_hessian_changes_the_hessian_alone() {
    let gpu = device::gpu();
    let betas = (0.875, 0.9375);
    let cases = [
        (Curvature::SampledLabels { rho: 0.04, bs: 480.0 }, oracle::Curvature::G { rho: 0.04, bs: 480.0 }),
        (Curvature::Hutchinson { gamma: 0.01, eps: 1e-8 }, oracle::Curvature::H { gamma: 0.01, eps: 1e-8 }),
    ];
    for (curvature, expected) in cases {
        let layout = Layout::builder().tensor("p", &[LEN]).packed().range(100..103, "still").build().unwrap();
        let builder = Optimizer::builder(Sophia::default().with_betas(betas).with_curvature(curvature))
            .schedule(Schedule::warmup_cosine(0.5, 2, 9))
            .clip(Clip::global_norm(1.0))
            .group("still", GroupOptions::default().frozen());
        let mut params = random(1, LEN);
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut reference = builder.build_cpu(&layout).unwrap();
        trainer.step(&random(2, LEN));
        reference.step(&mut params, &random(2, LEN)).unwrap();
        let (before, exp_avg, lr) =
            (trainer.params(), trainer.state("exp_avg"), trainer.optimizer.lr().expect("a rate"));
        let oracle = SophiaOracle { betas, curvature: expected };
        let mut states = vec![[0.0; 2]; LEN];
        for seed in [3, 4] {
            let estimate = random(seed, LEN);
            let buffer = device::upload(gpu, &estimate);
            let mut encoder = encoder(gpu);
            trainer.optimizer.update_hessian(&mut encoder, &trainer.params, &buffer).unwrap();
            let stats = finish(gpu, &trainer.optimizer, encoder);
            assert_eq!((stats.step, stats.skipped), (1, 0));
            reference.update_hessian(&mut params, &estimate).unwrap();
            let (got, of_reference) = (trainer.state("hessian"), reference.state("hessian").unwrap().to_f32());
            for i in 0..LEN {
                let old = states[i][1];
                if !(100..103).contains(&i) {
                    oracle.update_hessian(estimate[i].into(), &mut states[i]);
                }
                let exact = states[i][1];
                let scale = exact.abs().max(old.abs());
                assert!(ulps(got[i], exact, scale) <= 4.0, "element {i}: {} for {exact}", got[i]);
                assert!(
                    ulps(of_reference[i], exact, scale) <= 4.0,
                    "element {i}, CPU: {} for {exact}",
                    of_reference[i]
                );
            }
        }
        assert_same_bits(&trainer.params(), &before, "params");
        assert_same_bits(&trainer.state("exp_avg"), &exp_avg, "exp_avg");
        let lrs = [trainer.optimizer.lr(), reference.lr()].map(|lr| lr.expect("a rate"));
        assert_eq!((lrs, reference.stats().step), ([lr; 2], 1));
        assert!(states.iter().filter(|state| state[1] != 0.0).count() > LEN / 2);
    }
}

fn rules_with_evaluation() -> [(OptimizerBuilder, ScheduleFreeOracle); 2] {
    let averaging = Averaging { warmup_steps: 2, r: 0, weight_lr_power: 2 };
    let sgd = ScheduleFreeSgd::default().with_lr(0.125).with_momentum(0.75).with_warmup_steps(2);
    let adamw = ScheduleFreeAdamW::default().with_lr(0.125).with_betas((0.75, 0.9375)).with_warmup_steps(2);
    [
        (Optimizer::builder(sgd), ScheduleFreeOracle::new(0.75, None, averaging)),
        (Optimizer::builder(adamw), ScheduleFreeOracle::new(0.75, Some((0.9375, 1e-8)), averaging)),
    ]
}

/// Evaluation parameters are the oracle's to 4 ULP of the largest term, frozen ones stay, and the switch back loses
/// no bit: NaN, infinities, subnormals and -0 included. Steps go on as if nothing had been.
#[test]
fn evaluation_gives_back_the_training_parameters_to_the_bit() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("p", &[LEN]).packed().range(100..103, "still").build().unwrap();
    for (builder, oracle) in rules_with_evaluation() {
        let builder = builder.group("still", GroupOptions::default().frozen());
        let mut params = random(1, LEN);
        params[..6].copy_from_slice(&[f32::NAN, f32::INFINITY, -0.0, 1e-40, f32::from_bits(0x7fc0_1234), 1e38]);
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut unswitched = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut reference = builder.build_cpu(&layout).unwrap();
        for t in 0..4 {
            let training = trainer.params();
            let mut encoder = encoder(gpu);
            trainer.optimizer.eval(&mut encoder, &trainer.params).unwrap();
            gpu.queue.submit([encoder.finish()]);
            let of_reference = params.clone();
            reference.eval(&mut params).unwrap();
            let (got, z) = (trainer.params(), trainer.state("z"));
            if t == 0 {
                assert_same_bits(&got[6..], &training[6..], "before the first step all sequences are one");
            }
            let of_engines = [
                ("device", &got, &training, &z[..]),
                ("CPU", &params, &of_reference, reference.state("z").unwrap().as_f32().unwrap()),
            ];
            for (engine, got, training, z) in of_engines {
                for i in 6..LEN {
                    let (param, state) = (Rounded::exact(training[i].into()), [Rounded::exact(z[i].into())]);
                    let still = t == 0 || (100..103).contains(&i);
                    let exact = if still { param.value } else { oracle.eval(param, &state).value };
                    let error = ulps(got[i], exact, f64::from(training[i].abs().max(z[i].abs())));
                    assert!(error <= 4.0, "{engine}, step {t}, element {i}: {} for {exact}", got[i]);
                }
            }
            // After one step z and y are still close to each other.
            assert!(t < 2 || got[6..].iter().zip(&training[6..]).filter(|(x, y)| x != y).count() > LEN / 4);

            let mut encoder = common::encoder(gpu);
            trainer.optimizer.train(&mut encoder, &trainer.params).unwrap();
            // A second time changes nothing.
            trainer.optimizer.train(&mut encoder, &trainer.params).unwrap();
            gpu.queue.submit([encoder.finish()]);
            reference.train(&mut params).unwrap();
            reference.train(&mut params).unwrap();
            assert_same_bits(&trainer.params(), &training, "back in training");
            assert_same_bits(&params, &of_reference, "back in training on the CPU");
            let grads = random(10 + t, LEN);
            trainer.step(&grads);
            unswitched.step(&grads);
            reference.step(&mut params, &grads).unwrap();
        }
        assert_same_bits(&trainer.params(), &unswitched.params(), "with and without evaluation");
    }
}

/// However the parameters are cut, and however the copy is.
#[test]
fn evaluation_copies_parameters_in_pieces() {
    const LEN: usize = 40_003;
    let gpu = device_with(|limits| {
        limits.max_buffer_size = 1 << 16;
        limits.max_storage_buffer_binding_size = 1 << 16;
    });
    let (builder, _) = rules_with_evaluation().into_iter().next().unwrap();
    let mut optimizer = device::build(&gpu, builder, &Layout::flat(LEN).unwrap()).unwrap();
    let values = random(1, LEN);
    let cuts = [0, 13_001, 20_000, 36_383, LEN];
    let upload = |values: &[f32]| -> Vec<wgpu::Buffer> {
        cuts.windows(2).map(|cut| device::upload(&gpu, &values[cut[0]..cut[1]])).collect()
    };
    let download = |buffers: &[wgpu::Buffer]| -> Vec<f32> {
        buffers.iter().flat_map(|buffer| device::download(&gpu, buffer)).collect()
    };
    let (param_buffers, grad_buffers) = (upload(&values), upload(&random(2, LEN)));
    let params: Vec<_> = param_buffers.iter().map(|buffer| buffer.slice(..)).collect();
    let grads: Vec<_> = grad_buffers.iter().map(|buffer| buffer.slice(..)).collect();
    let mut encoder = encoder(&gpu);
    for _ in 0..2 {
        optimizer.step(&mut encoder, &params, &grads).unwrap();
    }
    gpu.queue.submit([encoder.finish()]);
    let training = download(&param_buffers);
    let mut encoder = common::encoder(&gpu);
    optimizer.eval(&mut encoder, &params).unwrap();
    gpu.queue.submit([encoder.finish()]);
    let evaluation = download(&param_buffers);
    assert!(cuts.windows(2).all(|cut| evaluation[cut[0]..cut[1]] != training[cut[0]..cut[1]]));
    let mut encoder = common::encoder(&gpu);
    optimizer.train(&mut encoder, &params).unwrap();
    gpu.queue.submit([encoder.finish()]);
    assert_same_bits(&download(&param_buffers), &training, "back in training");
}

#[test]
fn a_step_or_a_second_eval_is_refused_while_evaluating() {
    let gpu = device::gpu();
    let (builder, _) = rules_with_evaluation().into_iter().next().unwrap();
    let layout = Layout::flat(4).unwrap();
    let mut reference = builder.clone().build_cpu(&layout).unwrap();
    let mut params = [1.0; 4];
    let mut trainer = Trainer::new(gpu, builder, &layout, &params);
    let mut encoder = encoder(gpu);
    trainer.optimizer.eval(&mut encoder, &trainer.params).unwrap();
    reference.eval(&mut params).unwrap();
    let refused = [
        ("eval", trainer.optimizer.eval(&mut encoder, &trainer.params)),
        ("step", trainer.optimizer.step(&mut encoder, &trainer.params, &trainer.grads)),
        ("eval", reference.eval(&mut params)),
        ("step", reference.step(&mut params, &[1.0; 4]).map(drop)),
    ];
    for (name, result) in refused {
        let error = result.expect_err(name);
        assert!(matches!(error, Error::EvaluationMode { call } if call == name), "{error:?}");
        assert!(error.to_string().contains("call `train` first"), "{error}");
    }
    trainer.optimizer.train(&mut encoder, &trainer.params).unwrap();
    trainer.optimizer.step(&mut encoder, &trainer.params, &trainer.grads).unwrap();
    reference.train(&mut params).unwrap();
    assert_eq!(reference.step(&mut params, &[1.0; 4]).unwrap().step, 1);
    assert_eq!(finish(gpu, &trainer.optimizer, encoder).step, 1);
}

/// Puts what it is told of the step into the parameters: in its update the bias corrections, in its passes these or the
/// scalars.
#[derive(Debug)]
struct Told;

impl Rule for Told {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("told", 1.0).with_bias_corrected([0.5, 0.25, 0.75, 0.875])
    }
    fn scalar_state(&self) -> Option<&dyn ScalarState> {
        Some(self)
    }
    fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
        Some(self)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        "fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element { return Element(step.bias_correction); }
         fn corrections(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
             return Element(step.bias_correction);
         }
         fn scalars(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
             return Element(vec4<f32>(step.scalar_state.double, step.scalar_state.triple, step.scalar_state.up, step.scalar_state.down));
         }
         fn update_scalars(old: ScalarState, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> ScalarState {
             return ScalarState(2.0 * old.double, 3.0 * old.triple, old.up + 1.0, old.down - 1.0);
         }"
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        self.auxiliary_update("corrections", elements, step);
    }
}

impl ScalarState for Told {
    fn initial_scalars(&self) -> Vec<(&'static str, f32)> {
        vec![("double", 1.0), ("triple", 1.0), ("up", 0.0), ("down", 0.0)]
    }
    fn update_scalars(&self, scalars: &mut [f32; 4], _: f32, _: [f32; 4], _: u32) {
        let [double, triple, up, down] = *scalars;
        *scalars = [2.0 * double, 3.0 * triple, up + 1.0, down - 1.0];
    }
}

impl AuxiliaryUpdates for Told {
    fn auxiliary_names(&self) -> &'static [&'static str] {
        &["corrections", "scalars"]
    }
    fn auxiliary_update(&self, name: &str, elements: Elements<'_>, step: &StepScalars) {
        let mut told = if name == "scalars" { step.scalar_state } else { step.bias_correction }.into_iter();
        elements.each(|_, _, []| (told.next().unwrap(), []));
    }
}

/// Single-pass steps and those with a norm leave a pass what they had themselves.
#[test]
fn a_pass_sees_the_scalars_of_the_last_step() {
    let gpu = device::gpu();
    let layout = Layout::flat(4).unwrap();
    let scalars = |t: i32| [2f32.powi(t), 3f32.powi(t), t as f32, -t as f32];
    let corrections = |t: i32| [0.5f32, 0.25, 0.75, 0.875].map(|beta| 1.0 - beta.powi(t));
    for builder in [Optimizer::builder(Told), Optimizer::builder(Told).clip(Clip::global_norm(1.0))] {
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &[0.0; 4]);
        let (mut reference, mut params) = (builder.build_cpu(&layout).unwrap(), [0.0; 4]);
        for t in 1..=5 {
            trainer.step(&[1.0; 4]);
            reference.step(&mut params, &[1.0; 4]).unwrap();
            assert_eq!((&trainer.params()[..], params), (&corrections(t)[..], corrections(t)), "step {t}");
            for (pass, expected) in [("scalars", scalars(t)), ("corrections", corrections(t))] {
                let mut encoder = encoder(gpu);
                let (params_buffer, grads) = (&trainer.params, &trainer.grads);
                trainer.optimizer.auxiliary_update(pass, &mut encoder, params_buffer, grads).unwrap();
                finish(gpu, &trainer.optimizer, encoder);
                reference.auxiliary_update(pass, &mut params, &[0.0; 4]).unwrap();
                assert_eq!((&trainer.params()[..], params), (&expected[..], expected), "{pass} after step {t}");
            }
        }
    }
}
