//! Groups with schedules of their own.

use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, device_with, encoder, finish, step_in_parts};
use crate::oracle::{Oracle, Rounded, SgdOracle, StepScalars};
use wgpu_optim::schedule::{Exponential, OneCycle, Step};
use wgpu_optim::{
    AdamW, Clip, Error, GroupOptions, Layout, LayoutBuilder, Optimizer, OptimizerBuilder, RuleConfig, Schedule, Sgd,
};

/// Lengths of the tensors; number i but the first is group `i`, the last is frozen.
const LENGTHS: [usize; 9] = [1_003, 2_048, 1, 6, 3_001, 5, 4_100, 700, 13];

/// Packed, or each beginning at a multiple of 64 elements.
fn layouts() -> [Layout; 2] {
    [Layout::builder().packed(), Layout::builder()].map(layout)
}

fn layout(empty: LayoutBuilder) -> Layout {
    let builder = LENGTHS.iter().enumerate().fold(empty, |builder, (i, &len)| {
        let builder = builder.tensor(i.to_string(), &[len]);
        if i == 0 { builder } else { builder.group(i.to_string()) }
    });
    builder.build().unwrap()
}

/// The start of each tensor, and the end of all.
fn cuts(layout: &Layout) -> Vec<usize> {
    layout.tensors().iter().map(|tensor| tensor.range().start).chain([layout.len()]).collect()
}

/// Six learning rates, so that a second four of them is in use; two tensors share one.
fn scheduled(builder: OptimizerBuilder) -> OptimizerBuilder {
    let slow = GroupOptions::default().with_schedule(Step::new(0.0625, 2).with_gamma(0.25)).with_lr_scale(0.5);
    builder
        .schedule(Step::new(0.5, 3).with_gamma(0.5))
        .group("1", GroupOptions::default().with_schedule(Exponential::new(0.25, 0.5)))
        .group("2", slow.clone())
        .group("3", GroupOptions::default().with_lr_scale(0.125))
        .group("4", slow)
        .group("5", GroupOptions::default().with_schedule(Schedule::constant(0.75)).with_weight_decay(0.5))
        .group("6", GroupOptions::default().with_schedule(Schedule::lambda(1.0, |step| 1.0 / (1.0 + step as f64))))
        .group("8", GroupOptions::default().with_schedule(Schedule::constant(9.0)).frozen())
}

/// The same by hand.
fn lr(tensor: usize, step: u64) -> f64 {
    let of_optimizer = 0.5 * 0.5f64.powi((step / 3) as i32);
    match tensor {
        1 => 0.25 * 0.5f64.powi(step as i32),
        2 | 4 => 0.03125 * 0.25f64.powi((step / 2) as i32),
        3 => of_optimizer * 0.125,
        5 => 0.75,
        6 => 1.0 / (1 + step) as f64,
        8 => 0.0,
        _ => of_optimizer,
    }
}

/// None for padding.
fn tensor_of(layout: &Layout, element: usize) -> Option<usize> {
    layout.tensors().iter().position(|tensor| tensor.range().contains(&element))
}

fn assert_one_step(engine: &str, layout: &Layout, step: u64, before: &[f32], grads: &[f32], after: &[f32]) {
    let oracle = SgdOracle {
        momentum: 0.0,
        dampening: 0.0,
        nesterov: false,
        dampen_first_step: false,
        lr_in_buffer: false,
        cautious: false,
    };
    for i in 0..before.len() {
        let Some(tensor) = tensor_of(layout, i).filter(|&tensor| tensor != 8) else {
            assert_eq!(after[i].to_bits(), before[i].to_bits(), "{engine}, frozen element {i}");
            continue;
        };
        let weight_decay = if tensor == 5 { 0.5 } else { 0.25 };
        let scalars = StepScalars { t: step + 1, lr: lr(tensor, step), weight_decay, measured: Vec::new() };
        let [param, grad] = [before[i], grads[i]].map(|value| Rounded::exact(value.into()));
        let expected = oracle.update_rounded(&scalars, param, grad, &mut []);
        let off = (f64::from(after[i]) - expected.value).abs();
        assert!(off <= expected.error, "{engine}, step {step}, tensor {tensor}, element {i}: off by {off}");
    }
}

#[test]
fn each_group_follows_its_own_schedule() {
    let single_pass = scheduled(Optimizer::builder(Sgd::default().with_weight_decay(0.25)));
    let decided = single_pass.clone().clip(Clip::global_norm(f64::INFINITY));
    for (layout, builder) in layouts().iter().flat_map(|layout| [(layout, &single_pass), (layout, &decided)]) {
        let mut params = random(1, layout.len());
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), layout, &params);
        let mut reference = builder.clone().build_cpu(layout).unwrap();
        for step in 0..8 {
            let grads = random(2 + step, layout.len());
            let (before, of_reference) = (trainer.params(), params.clone());
            let stats = [trainer.step(&grads), reference.step(&mut params, &grads).unwrap()];
            assert_eq!(stats.map(|stats| f64::from(stats.lr)), [lr(0, step); 2]);
            assert_one_step("device", layout, step, &before, &grads, &trainer.params());
            assert_one_step("CPU", layout, step, &of_reference, &grads, &params);
        }
    }
}

/// Chunks of one span and of several, aligned and not.
#[test]
fn every_form_of_the_kernel_finds_the_groups_rate() {
    let builder = scheduled(Optimizer::builder(Sgd::default().with_weight_decay(0.25)));
    for layout in layouts() {
        let (params, grads) = (random(1, layout.len()), random(2, layout.len()));
        for cuts in [cuts(&layout), vec![0, 5, 1_500, 6_061, layout.len()], vec![0, layout.len()]] {
            for ahead in [0, 1] {
                let values = (&params[..], &grads[..]);
                let (_, updated) = step_in_parts(device::gpu(), builder.clone(), &layout, values, &cuts, ahead);
                assert_one_step("device", &layout, 0, &params, &grads, &updated);
            }
        }
    }
}

/// All active elements have the same options, with padding between them.
#[test]
fn one_group_that_has_all_tensors_follows_its_schedule() {
    let layout = (0..3).fold(Layout::builder(), |layout, i| layout.tensor(format!("{i}"), &[65]).group("all"));
    let layout = layout.build().unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(64.0))
        .group("all", GroupOptions::default().with_schedule(Exponential::new(1.0, 0.5)));
    let mut params = vec![0.0; layout.len()];
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
    let mut reference = builder.build_cpu(&layout).unwrap();
    let grads = vec![-1.0; layout.len()];
    for _ in 0..3 {
        trainer.step(&grads);
        reference.step(&mut params, &grads).unwrap();
    }
    for (engine, params) in [("device", trainer.params()), ("CPU", params)] {
        for (i, param) in params.into_iter().enumerate() {
            let expected = tensor_of(&layout, i).map_or(0.0, |_| 1.75);
            assert_eq!(param, expected, "{engine}, element {i}");
        }
    }
}

/// The learning rates of steps that are recorded together lie in slots of their own, also where those are long.
#[test]
fn steps_recorded_into_one_submission_keep_their_rates() {
    let gpu = device::gpu();
    let groups = 90;
    let layout = (0..groups).fold(Layout::builder().packed().tensor("p", &[500]), |layout, i| {
        layout.range(i * 5..i * 5 + 3, i.to_string())
    });
    let layout = layout.build().unwrap();
    let builder = (0..groups).fold(Optimizer::builder(Sgd::default().with_lr(1.0)), |builder, i| {
        let schedule = Exponential::new(f64::from(1 + i as u32), 0.5);
        builder.group(i.to_string(), GroupOptions::default().with_schedule(schedule))
    });
    let mut trainer = Trainer::new(gpu, builder, &layout, &vec![0.0; layout.len()]);
    gpu.queue.write_buffer(&trainer.grads, 0, bytemuck::cast_slice(&vec![-1.0f32; layout.len()]));
    let mut encoder = encoder(gpu);
    for _ in 0..3 {
        trainer.optimizer.step(&mut encoder, &trainer.params, &trainer.grads).unwrap();
    }
    assert_eq!(finish(gpu, &trainer.optimizer, encoder).step, 3);
    for (i, param) in trainer.params().into_iter().enumerate() {
        let group = i / 5;
        let expected = if group < groups && i % 5 < 3 { (1 + group) as f32 * 1.75 } else { 3.0 };
        assert_eq!(param, expected, "element {i}");
    }
}

/// Everything a rule does with the learning rate of an element it does with a group's: a schedule that is constant is a
/// scale, bit for bit.
#[test]
fn a_constant_schedule_is_a_scale_for_every_rule() {
    let layout = layout(Layout::builder());
    for &name in RuleConfig::NAMES {
        let rule: RuleConfig = serde_json::from_str(&format!(r#"{{"name": "{name}"}}"#)).unwrap();
        let builder = rule.builder().schedule(Schedule::constant(0.5));
        let of_groups = |options: [GroupOptions; 2]| {
            let [one, other] = options;
            builder.clone().group("1", one).group("6", other)
        };
        let scaled = of_groups([0.25, 0.0].map(|scale| GroupOptions::default().with_lr_scale(scale)));
        let scheduled = of_groups([
            GroupOptions::default().with_schedule(Schedule::constant(0.25)).with_lr_scale(0.5),
            GroupOptions::default().with_schedule(Schedule::constant(0.0)),
        ]);
        let mut bits: Vec<[Vec<u32>; 2]> = Vec::new();
        for builder in [scaled, scheduled] {
            let mut params = random(1, layout.len());
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
            let mut reference = builder.build_cpu(&layout).unwrap();
            // Always the same way, so that Prodigy's estimate grows, to which every group adds by its rate.
            let grads = random(2, layout.len());
            for step in 1..=8 {
                assert_eq!(trainer.step(&grads).step, step);
                reference.step(&mut params, &grads).unwrap();
            }
            bits.push([trainer.bits(), cpu_bits(&reference, &params)]);
        }
        assert!(bits[0] == bits[1], "{name}");
    }
}

#[test]
fn what_a_group_cannot_have_is_refused() {
    let layout = layout(Layout::builder());
    let build = |group: &str, options: GroupOptions| {
        Optimizer::builder(AdamW::default()).group(group, options).build_cpu(&layout).map(drop)
    };
    let negative = GroupOptions::default().with_schedule(Exponential::new(1.0, -0.5));
    assert!(matches!(build("1", negative), Err(Error::Hyperparameter { name: "gamma", value: -0.5, .. })));
    let cycles = GroupOptions::default().with_schedule(OneCycle::new(1.0, 9));
    assert!(matches!(build("1", cycles), Err(Error::Unsupported { .. })));
    let unknown = GroupOptions::default().with_schedule(Schedule::constant(1.0));
    assert!(matches!(build("9", unknown), Err(Error::UnknownGroup { .. })));
}

/// Uniform buffers are short: a slot must fit into one binding.
#[test]
fn more_rates_than_a_slot_can_hold_are_refused() {
    let small = device_with(|limits| limits.max_uniform_buffer_binding_size = 8 << 10);
    for (groups, fits) in [(2_039, true), (2_040, false)] {
        let layout = (0..groups)
            .fold(Layout::builder().tensor("p", &[groups + 1]), |layout, i| layout.range(i..i + 1, i.to_string()));
        let builder = (0..groups).fold(Optimizer::builder(Sgd::default()), |builder, i| {
            let schedule = Schedule::constant(f64::from(1 + i as u32));
            builder.group(i.to_string(), GroupOptions::default().with_schedule(schedule))
        });
        match builder.build(&small.device, &small.queue, &layout.build().unwrap()) {
            Ok(_) => assert!(fits, "{groups} groups"),
            Err(Error::DeviceLimit { limit: "max_uniform_buffer_binding_size", available: 8_192, .. }) => {
                assert!(!fits, "{groups} groups");
            }
            Err(error) => panic!("{groups} groups: {error}"),
        }
    }
}

#[test]
fn a_step_behind_the_end_of_a_groups_schedule_is_refused_and_not_counted() {
    let layout = layout(Layout::builder());
    let ends = GroupOptions::default().with_schedule(OneCycle::new(0.5, 1).with_cycle_momentum(false));
    let builder = Optimizer::builder(Sgd::default()).group("3", ends);
    let mut trainer = Trainer::new(device::gpu(), builder, &layout, &random(1, layout.len()));
    for step in 1..3 {
        assert_eq!(trainer.step(&random(step, layout.len())).step, step);
    }
    let before = trainer.bits();
    let mut encoder = encoder(trainer.gpu);
    for _ in 0..2 {
        let refused = trainer.optimizer.step(&mut encoder, &trainer.params, &trainer.grads);
        assert!(matches!(refused, Err(Error::ScheduleEnded { step: 2, steps: 1, .. })), "{refused:?}");
    }
    assert_eq!(finish(trainer.gpu, &trainer.optimizer, encoder).step, 2);
    assert!(trainer.bits() == before);
}

#[test]
fn a_rate_that_is_set_leaves_groups_with_schedules_alone() {
    let layout = Layout::builder().packed().tensor("0", &[1]).tensor("1", &[1]).group("1").build().unwrap();
    let builder = Optimizer::builder(Sgd::default())
        .group("1", GroupOptions::default().with_schedule(Exponential::new(0.5, 0.5)));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0; 2]);
    let mut reference = builder.build_cpu(&layout).unwrap();
    let mut params = [0.0; 2];
    for lr in [1.0, 2.0] {
        trainer.optimizer.set_lr(lr).unwrap();
        reference.set_lr(lr).unwrap();
        let stats = [trainer.step(&[-1.0; 2]), reference.step(&mut params, &[-1.0; 2]).unwrap()];
        assert_eq!(stats.map(|stats| f64::from(stats.lr)), [lr; 2]);
        assert_eq!(trainer.optimizer.lr().unwrap(), lr);
    }
    assert_eq!((&trainer.params()[..], &params), (&[3.0, 0.75][..], &[3.0, 0.75]));
}

#[test]
fn options_with_a_schedule_are_read_and_written() {
    let text = r#"{"lr_scale":0.5,"weight_decay":null,"frozen":false,"schedule":{"name":"exponential","lr":0.25,"gamma":0.5}}"#;
    let options = GroupOptions::default().with_lr_scale(0.5).with_schedule(Exponential::new(0.25, 0.5));
    assert_eq!(serde_json::to_string(&options).unwrap(), text);
    assert_eq!(serde_json::from_str::<GroupOptions>(text).unwrap(), options);
}
