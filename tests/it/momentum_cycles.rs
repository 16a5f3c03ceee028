//! Schedules that cycle the momentum, or the first beta, against `torch.optim` (`golden/momentum.json`).

use crate::common::numbers::random;
use crate::common::{Trainer, assert_same_decision, device, encoder, finish};
use serde::Deserialize;
use wgpu_optim::schedule::{Chained, Cyclic, Exponential, OneCycle, Sequential};
use wgpu_optim::{Adagrad, Adam, Error, Layout, Lion, NonFinite, Optimizer, RuleConfig, Schedule, Sgd};

#[derive(Deserialize)]
struct Case {
    optimizer: RuleConfig,
    schedule: Schedule,
    start: Vec<f32>,
    grads: Vec<Vec<f32>>,
    /// After each step.
    params: Vec<Vec<f64>>,
}

fn golden() -> Vec<Case> {
    serde_json::from_str(include_str!("../golden/momentum.json")).unwrap()
}

/// To 1e-5 of the length of the vector, as after a thousand steps.
fn assert_near(got: &[f32], expected: &[f64], what: &str) {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let off = length(&mut got.iter().zip(expected).map(|(&got, expected)| f64::from(got) - expected));
    let most = 1e-5 * length(&mut expected.iter().copied());
    assert!(off <= most, "{what}: off by {off}, allowed {most}\n{got:?}\n{expected:?}");
}

#[test]
fn rules_follow_pytorch_while_their_momentum_cycles() {
    for Case { optimizer, schedule, mut start, grads, params } in golden() {
        let what = format!("{optimizer:?} {schedule}");
        let layout = Layout::builder().packed().tensor("p", &[start.len()]).build().unwrap();
        let builder = optimizer.builder().schedule(schedule);
        // A step that looks at all gradients first, and one that does not where the rule has no bias corrections.
        let checked = builder.clone().on_nonfinite(NonFinite::Skip);
        let mut trainers = [builder, checked].map(|builder| {
            let reference = builder.clone().build_cpu(&layout).unwrap();
            (Trainer::new(device::gpu(), builder, &layout, &start), reference, start.clone())
        });
        start.clear();
        for (step, (grads, expected)) in grads.iter().zip(&params).enumerate() {
            for (trainer, reference, params) in &mut trainers {
                let stats = trainer.step(grads);
                assert_same_decision(&stats, &reference.step(&mut *params, grads).unwrap());
                assert_near(&trainer.params(), expected, &format!("device, step {step}, {what}"));
                assert_near(params, expected, &format!("CPU, step {step}, {what}"));
            }
        }
    }
}

/// Every step has its own betas and powers of them, also where a step between does not count.
#[test]
fn steps_recorded_into_one_submission_keep_their_betas() {
    let gpu = device::gpu();
    let layout = Layout::builder().packed().tensor("p", &[5]).build().unwrap();
    let schedule = Cyclic::new(0.125, 0.5).with_step_size_up(2).with_base_momentum(0.25);
    let builder = Optimizer::builder(Adam::default()).schedule(schedule).on_nonfinite(NonFinite::Skip);
    let mut params = random(1, 5);
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
    let mut reference = builder.build_cpu(&layout).unwrap();
    let mut encoder = encoder(gpu);
    for step in 0..70 {
        let mut grads = random(2 + step, 5);
        if step % 3 == 1 {
            grads[0] = f32::NAN;
        }
        let buffer = device::upload(gpu, &grads);
        trainer.optimizer.step(&mut encoder, &trainer.params, &buffer).unwrap();
        reference.step(&mut params, &grads).unwrap();
    }
    let stats = finish(gpu, &trainer.optimizer, encoder);
    assert_same_decision(&stats, &reference.stats());
    assert_eq!((stats.step, stats.skipped), (47, 23));
    let expected: Vec<f64> = params.iter().map(|&param| param.into()).collect();
    assert_near(&trainer.params(), &expected, "device");
}

/// As PyTorch's schedulers set it: the rule's own momentum counts for nothing, not even 0.
#[test]
fn the_schedule_replaces_the_rules_momentum() {
    let layout = Layout::flat(3).unwrap();
    let updated = [0.0, 0.5].map(|momentum| {
        let builder = Optimizer::builder(Sgd::default().with_momentum(momentum)).schedule(OneCycle::new(0.5, 4));
        let mut optimizer = builder.build_cpu(&layout).unwrap();
        let mut params = [1.0; 3];
        for _ in 0..3 {
            optimizer.step(&mut params, &[0.5; 3]).unwrap();
        }
        (optimizer.state("momentum_buffer").unwrap().as_f32().unwrap().to_vec(), params)
    });
    assert_eq!(updated[0], updated[1]);
    assert!(Optimizer::builder(Lion::default()).schedule(OneCycle::new(0.5, 4)).build_cpu(&layout).is_ok());
}

#[test]
fn a_rule_without_momentum_is_refused_unless_it_is_left_alone() {
    let layout = Layout::flat(3).unwrap();
    let build = |schedule: OneCycle| Optimizer::builder(Adagrad::default()).schedule(schedule).build_cpu(&layout);
    let refused = build(OneCycle::new(0.5, 4)).map(drop);
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
    assert!(build(OneCycle::new(0.5, 4).with_cycle_momentum(false)).is_ok());
}

#[test]
fn the_momentum_of_composed_schedules_is_that_of_the_one_that_cycles_it() {
    let one_cycle = || Schedule::from(OneCycle::new(1.0, 20));
    let (decay, momentum) = (|| Schedule::from(Exponential::new(1.0, 0.5)), |step| one_cycle().momentum(step).unwrap());
    for (schedule, step, expected) in [
        (decay(), 3, None),
        (one_cycle().with_warmup(5), 2, momentum(0)),
        (one_cycle().with_warmup(5), 9, momentum(4)),
        (Chained::new(vec![decay(), one_cycle()]).into(), 7, momentum(7)),
        (Sequential::new(vec![decay(), one_cycle()], vec![4]).into(), 1, momentum(0)),
        (Sequential::new(vec![decay(), one_cycle()], vec![4]).into(), 6, momentum(2)),
        (Sequential::new(vec![one_cycle(), decay(), decay()], vec![4, 9]).into(), 30, momentum(3)),
    ] {
        assert_eq!(schedule.momentum(step).unwrap(), expected, "{schedule}, step {step}");
    }
    assert!(momentum(4) < momentum(0));
}
