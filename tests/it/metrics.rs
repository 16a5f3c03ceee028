//! Norms of parameters and updates, and shares of elements: what a history keeps of steps beside the control block.

use crate::common::numbers::random;
use crate::common::{Trainer, device, device_with, encoder, finish, set_state, step_in_parts};
use approx::assert_relative_eq;
use wgpu_optim::history::{GroupStats, HistoryOptions, write_csv, write_json_lines};
use wgpu_optim::{
    AdamW, Clip, Curvature, Error, GradScale, GroupOptions, Lamb, Layout, Lion, NonFinite, Optimizer, OptimizerBuilder,
    Prodigy, RuleConfig, Schedule, Sgd, Sophia, Stats,
};

/// Tensors and groups that begin inside fours of elements, and end inside blocks of 8,192.
fn layout() -> Layout {
    let tensors: [(&str, &[usize], &str); 5] = [
        ("a", &[3001], "first"),
        ("b", &[5], ""),
        ("c", &[2, 4099], "frozen"),
        ("d", &[3, 3001], "second"),
        ("e", &[2], "first"),
    ];
    let mut layout = Layout::builder();
    for (name, shape, group) in tensors {
        layout = layout.tensor(name, shape);
        if !group.is_empty() {
            layout = layout.group(group);
        }
    }
    layout.packed().build().unwrap()
}

/// Names of the groups that are not frozen, and their elements.
fn groups(layout: &Layout) -> [(Option<&'static str>, Vec<usize>); 3] {
    let range = |tensor: usize| layout.tensors()[tensor].range();
    [
        (Some("first"), range(0).chain(range(4)).collect()),
        (Some("second"), range(3).collect()),
        (None, range(1).collect()),
    ]
}

fn with_norms(builder: OptimizerBuilder) -> OptimizerBuilder {
    let options = HistoryOptions::steps(8).with_norms_every(1).per_group();
    builder.group("frozen", GroupOptions::default().frozen()).history(options)
}

fn norm(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt()
}

/// A step of either engine as seen from outside.
struct Seen<'a> {
    grads: &'a [f32],
    before: &'a [f32],
    after: &'a [f32],
}

/// The sums of up to 20,000 positive numbers in f32, none through more than 34 roundings: 2.1e-6 at most, half of it in the
/// root.
const SUMS: f64 = 1.5e-6;

impl Seen<'_> {
    fn check(&self, elements: &[usize], [grad, param, update, ratio]: [f32; 4]) {
        let of = |values: &[f32]| norm(elements.iter().map(|&i| values[i]));
        let changes: Vec<f32> = self.after.iter().zip(self.before).map(|(after, before)| after - before).collect();
        let [grads, params, updates] = [of(self.grads), of(self.before), of(&changes)];
        // A compiler may leave out that the new parameters, of which there are two on the way, are rounded to 24 bits.
        let rounding = 2.0 * 2f64.powi(-24) * of(self.after).max(params);
        let bound = SUMS * updates + rounding;
        assert_relative_eq!(f64::from(grad), grads, max_relative = 3.0 * SUMS, epsilon = 0.0);
        assert_relative_eq!(f64::from(param), params, max_relative = SUMS, epsilon = 0.0);
        assert!((f64::from(update) - updates).abs() <= bound, "{update} for {updates} to within {bound}");
        assert_relative_eq!(ratio, update / param, max_relative = 2.0 * f32::EPSILON, epsilon = 0.0);
    }

    fn check_live(&self, layout: &Layout, stats: &Stats) {
        let active: Vec<usize> = groups(layout).into_iter().flat_map(|(_, elements)| elements).collect();
        let Stats { grad_norm, param_norm, update_norm, update_ratio, .. } = *stats;
        let norms = [grad_norm, param_norm, update_norm, update_ratio];
        self.check(&active, norms.map(|norm| norm.expect("a sampled step")));
    }

    fn check_all(&self, layout: &Layout, stats: &Stats, of_groups: &[GroupStats]) {
        self.check_live(layout, stats);
        assert_eq!(of_groups.len(), 4);
        for (name, elements) in groups(layout) {
            let group = of_groups.iter().find(|group| group.group.as_deref() == name).unwrap();
            assert_eq!(group.step, stats.step);
            let GroupStats { grad_norm, param_norm, update_norm, update_ratio, .. } = *group;
            self.check(&elements, [grad_norm, param_norm, update_norm, update_ratio]);
        }
        let frozen = of_groups.iter().find(|group| group.group.as_deref() == Some("frozen")).unwrap();
        let GroupStats { grad_norm, param_norm, update_norm, update_ratio, clipped_fraction, .. } = *frozen;
        assert_eq!([grad_norm, param_norm, update_norm, update_ratio, clipped_fraction], [0.0; 5]);
    }
}

/// Takes steps on both engines, whose statistics have to say what was done; gives the last ones'.
fn check_steps(builder: &OptimizerBuilder, layout: &Layout, steps: u64) -> [(Stats, Vec<GroupStats>); 2] {
    let params = random(7, layout.len());
    let builder = with_norms(builder.clone());
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), layout, &params);
    let (mut cpu, mut cpu_params) = (builder.build_cpu(layout).unwrap(), params);
    let mut last = None;
    for step in 0..steps {
        let grads = random(20 + step, layout.len());
        let before = trainer.params();
        let stats = trainer.step(&grads);
        let of_groups = trainer.history().groups;
        let of_groups = of_groups[of_groups.len() - 4..].to_vec();
        Seen { grads: &grads, before: &before, after: &trainer.params() }.check_all(layout, &stats, &of_groups);

        let before = cpu_params.clone();
        let cpu_stats = cpu.step(&mut cpu_params, &grads).unwrap();
        let cpu_groups = cpu.history().unwrap().groups;
        let cpu_groups = cpu_groups[cpu_groups.len() - 4..].to_vec();
        Seen { grads: &grads, before: &before, after: &cpu_params }.check_all(layout, &cpu_stats, &cpu_groups);
        last = Some([(stats, of_groups), (cpu_stats, cpu_groups)]);
    }
    last.unwrap()
}

#[test]
fn the_norms_of_every_rule_are_those_of_what_it_did() {
    let layout = layout();
    for name in RuleConfig::NAMES {
        let rule: RuleConfig = serde_json::from_str(&format!(r#"{{"name": "{name}"}}"#)).unwrap();
        println!("{name}");
        check_steps(&rule.builder(), &layout, 2);
    }
}

/// Single-pass steps, those that `finish` decides on, cycled betas and schedules of groups.
#[test]
fn the_norms_of_every_kind_of_step_are_those_of_what_it_did() {
    let layout = layout();
    let adamw = Optimizer::builder(AdamW::default());
    let of_group = GroupOptions::default().with_schedule(Schedule::warmup_cosine(0.1, 3, 10)).with_weight_decay(0.5);
    let cycle = wgpu_optim::schedule::OneCycle::new(0.1, 10);
    for builder in [
        adamw.clone().clip(Clip::global_norm(1.0)),
        adamw.clone().on_nonfinite(NonFinite::Skip),
        adamw.clone().group("second", of_group),
        adamw.schedule(cycle),
        Optimizer::builder(Sgd::default().with_maximize(true)).clip(Clip::value(0.5)),
        Optimizer::builder(Lamb::default()).clip(Clip::global_norm(0.1)),
    ] {
        check_steps(&builder, &layout, 3);
    }
}

/// Whether an element is clipped, of those of a group with so large a norm.
type IsClipped = fn(f32, f64) -> bool;

#[test]
fn the_clipped_fraction_is_the_share_of_clipped_elements() {
    let layout = layout();
    let grads = random(20, layout.len());
    let groups = groups(&layout);
    let active: usize = groups.iter().map(|(_, elements)| elements.len()).sum();
    let sgd = Optimizer::builder(Sgd::default());
    let cases: [(Clip, IsClipped); 5] = [
        (Clip::value(0.25), |grad, _| grad.abs() > 0.25),
        (Clip::group_norm(20.0), |_, norm| norm > 20.0),
        (Clip::global_norm(20.0), |_, _| true),
        (Clip::global_norm(1e6), |_, _| false),
        (Clip::group_norm(1e6), |_, _| false),
    ];
    for (clip, is_clipped) in cases {
        for (stats, of_groups) in check_steps(&sgd.clone().clip(clip), &layout, 1) {
            let mut clipped = 0;
            for (name, elements) in &groups {
                let norm = norm(elements.iter().map(|&i| grads[i]));
                let own = elements.iter().filter(|&&i| is_clipped(grads[i], norm)).count();
                let group = of_groups.iter().find(|group| group.group.as_deref() == *name).unwrap();
                assert_eq!(group.clipped_fraction, (own as f64 / elements.len() as f64) as f32, "{clip:?} {name:?}");
                clipped += own;
            }
            assert_eq!(stats.clipped_fraction, Some((clipped as f64 / active as f64) as f32), "{clip:?}");
        }
    }
}

/// The grads of `check_steps` in its first step, and a state for both engines.
fn rule_fractions(builder: OptimizerBuilder, state: &str, values: &[f32]) -> [f32; 2] {
    let layout = Layout::flat(values.len()).unwrap();
    let builder = builder.history(HistoryOptions::steps(1).with_norms_every(1));
    let (mut params, grads) = (random(7, values.len()), random(20, values.len()));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
    set_state(trainer.gpu, &trainer.optimizer, state, values);
    let mut cpu = builder.build_cpu(&layout).unwrap();
    cpu.state_mut(state).unwrap().into_f32().unwrap().copy_from_slice(values);
    [trainer.step(&grads), cpu.step(&mut params, &grads).unwrap()].map(|stats| stats.rule_metric.unwrap())
}

fn share(values: &[f32], holds: impl Fn(f64, f64) -> bool) -> f32 {
    let grads = random(20, values.len());
    let held = grads.iter().zip(values).filter(|&(&grad, &value)| holds(grad.into(), value.into())).count();
    assert!(held > values.len() / 10 && held < values.len() * 9 / 10, "{held}: a share that says nothing");
    (held as f64 / values.len() as f64) as f32
}

#[test]
fn the_win_rate_is_the_share_of_updates_that_are_not_clipped() {
    const LEN: usize = 9001;
    let hessian: Vec<f32> = random(3, LEN).iter().map(|value| value.abs()).collect();
    let (rho, bs) = (1.0 / 64.0, 2.0);
    let sophia = Sophia::default().with_betas((0.875, 0.9375)).with_curvature(Curvature::SampledLabels { rho, bs });
    let expected = share(&hessian, |grad, hessian| (grad / 8.0).abs() < rho * bs * hessian + 1e-15);
    assert_eq!(rule_fractions(Optimizer::builder(sophia), "hessian", &hessian), [expected; 2]);

    let curvature = Curvature::Hutchinson { gamma: 0.5, eps: 0.125 };
    let sophia = Sophia::hutchinson().with_betas((0.875, 0.9375)).with_curvature(curvature);
    let expected = share(&hessian, |grad, hessian| grad.abs() < (hessian / 2.0).max(0.125));
    assert_eq!(rule_fractions(Optimizer::builder(sophia), "hessian", &hessian), [expected; 2]);
}

#[test]
fn the_sign_agreement_is_the_share_of_updates_with_the_sign_of_the_gradient() {
    let exp_avg: Vec<f32> = random(3, 9001).iter().map(|value| value / 4.0).collect();
    let lion = Lion::default().with_betas((0.875, 0.9375));
    let norm = norm(random(20, exp_avg.len()).into_iter());
    let unclipped = Optimizer::builder(lion);
    // Beside clipped gradients the average counts more.
    for (builder, coef) in [(unclipped.clone(), 1.0), (unclipped.clip(Clip::group_norm(1.0)), 1.0 / (norm + 1e-6))] {
        let expected = share(&exp_avg, |grad, exp_avg| (0.875 * exp_avg + 0.125 * coef * grad) * grad > 0.0);
        assert_eq!(rule_fractions(builder, "exp_avg", &exp_avg), [expected; 2]);
    }
}

#[test]
fn other_rules_count_nothing() {
    for (stats, of_groups) in check_steps(&Optimizer::builder(AdamW::default()), &layout(), 1) {
        assert_eq!(stats.rule_metric, None);
        assert!(of_groups.iter().all(|group| group.rule_metric.is_none()));
    }
}

/// Some steps are single-pass and some are not then, and yet all do what they did without a history.
#[test]
fn observing_some_steps_changes_none() {
    let layout = layout();
    let adamw = Optimizer::builder(AdamW::default()).schedule(Schedule::warmup_cosine(1e-2, 3, 10));
    for builder in [adamw.clone(), adamw.clip(Clip::global_norm(1.0)), Optimizer::builder(Prodigy::default())] {
        let params = random(7, layout.len());
        let sampled = builder.clone().history(HistoryOptions::steps(5).with_norms_every(3));
        let mut plain = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
        let mut trainer = Trainer::new(device::gpu(), sampled.clone(), &layout, &params);
        let (mut cpu_params, mut cpu) = (params.clone(), builder.build_cpu(&layout).unwrap());
        let (mut sampled_params, mut sampled_cpu) = (params, sampled.build_cpu(&layout).unwrap());
        for step in 0..8 {
            let grads = random(20 + step, layout.len());
            plain.step(&grads);
            cpu.step(&mut cpu_params, &grads).unwrap();
            let stats = [trainer.step(&grads), sampled_cpu.step(&mut sampled_params, &grads).unwrap()];
            assert_eq!(stats.map(|stats| stats.param_norm.is_some()), [step % 3 == 0; 2]);
            assert!(trainer.bits() == plain.bits() && sampled_params == cpu_params, "step {step}");
        }
        for history in [trainer.history(), sampled_cpu.history().unwrap()] {
            let sampled: Vec<bool> = history.steps.iter().map(|stats| stats.update_norm.is_some()).collect();
            assert_eq!(sampled, [true, false, false, true, false]);
            assert_eq!(history.groups, []);
        }
    }
}

#[test]
fn before_the_first_step_and_of_a_refused_one_there_are_no_norms() {
    let layout = Layout::flat(33).unwrap();
    let options = HistoryOptions::steps(3).with_norms_every(1).per_group();
    let builder = Optimizer::builder(AdamW::default()).on_nonfinite(NonFinite::Skip).history(options);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; 33]);
    let (mut cpu, mut params) = (builder.build_cpu(&layout).unwrap(), [1.0; 33]);
    let none = finish(trainer.gpu, &trainer.optimizer, encoder(trainer.gpu));
    assert_eq!([none, cpu.stats()].map(|stats| stats.param_norm), [None; 2]);
    for step in 0..3 {
        let mut grads = random(step, 33);
        if step == 1 {
            grads[5] = f32::INFINITY;
        }
        for stats in [trainer.step(&grads), cpu.step(&mut params, &grads).unwrap()] {
            assert_eq!(stats.param_norm.is_some(), step != 1);
        }
    }
    for history in [trainer.history(), cpu.history().unwrap()] {
        assert_eq!(
            history.steps.iter().map(|stats| stats.param_norm.is_some()).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!(history.groups.iter().map(|group| group.step).collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn a_restored_history_has_the_norms_of_then() {
    let layout = Layout::flat(33).unwrap();
    let builder =
        Optimizer::builder(AdamW::default()).history(HistoryOptions::steps(4).with_norms_every(2).per_group());
    let mut trainer = Trainer::new(device::gpu(), builder, &layout, &[1.0; 33]);
    let step = |trainer: &mut Trainer<'_>, number| trainer.step(&random(number, 33));
    for number in 0..3 {
        step(&mut trainer, number);
    }
    let mut recorded = encoder(trainer.gpu);
    let snapshot = trainer.optimizer.snapshot(&mut recorded, &trainer.params).unwrap();
    let then = finish(trainer.gpu, &trainer.optimizer, recorded);
    let history = trainer.history();
    let [next, other] = [3, 4].map(|number| step(&mut trainer, number));
    let mut recorded = encoder(trainer.gpu);
    trainer.optimizer.restore(&mut recorded, &trainer.params, &snapshot).unwrap();
    assert_eq!(finish(trainer.gpu, &trainer.optimizer, recorded), then);
    assert_eq!(trainer.history(), history);
    assert_eq!([3, 4].map(|number| step(&mut trainer, number)), [next, other]);
}

/// A power of two, so that no rounding differs.
const SCALE: f32 = 1024.0;

#[test]
fn norms_and_shares_are_those_after_the_gradient_scale() {
    let layout = layout();
    let (params, grads) = (random(7, layout.len()), random(20, layout.len()));
    let scaled: Vec<f32> = grads.iter().map(|grad| SCALE * grad).collect();
    let buffer = device::upload(device::gpu(), &[SCALE]);
    let sgd = Optimizer::builder(Sgd::default());
    for builder in [
        sgd.clone(),
        sgd.clone().clip(Clip::value(0.25)),
        sgd.clone().clip(Clip::global_norm(20.0)),
        sgd.clone().clip(Clip::group_norm(20.0)),
        Optimizer::builder(Lion::default()),
    ] {
        let builder = with_norms(builder);
        let on_device = |scale: Option<GradScale<'_>>| {
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
            if let Some(scale) = scale {
                trainer.optimizer.set_grad_scale(scale).unwrap();
            }
            trainer.step(if scale.is_some() { &scaled } else { &grads });
            trainer.history()
        };
        let unscaled = on_device(None);
        assert_eq!(on_device(Some(SCALE.into())), unscaled);
        assert_eq!(on_device(Some((&buffer).into())), unscaled);
        let on_cpu = |scale: f32, grads: &[f32]| {
            let mut cpu = builder.clone().build_cpu(&layout).unwrap();
            cpu.set_grad_scale(scale).unwrap();
            cpu.step(&mut params.clone(), grads).unwrap();
            cpu.history().unwrap()
        };
        assert_eq!(on_cpu(SCALE, &scaled), on_cpu(1.0, &grads));
    }
}

fn with_norms_of_all(builder: OptimizerBuilder) -> OptimizerBuilder {
    builder.history(HistoryOptions::steps(1).with_norms_every(1))
}

/// Slices may be cut between tensors and where blocks end.
#[test]
fn norms_of_slices_that_are_cut_inside_a_tensor_are_refused() {
    let layout = layout();
    let builder = with_norms(Optimizer::builder(AdamW::default()));
    let (params, grads) = (random(7, layout.len()), random(20, layout.len()));
    let end = layout.tensors()[1].range().end;
    let cuts = [0, end, layout.len()];
    let (optimizer, after) = step_in_parts(device::gpu(), builder.clone(), &layout, (&params, &grads), &cuts, 0);
    let stats = finish(device::gpu(), &optimizer, encoder(device::gpu()));
    Seen { grads: &grads, before: &params, after: &after }.check_live(&layout, &stats);

    let mut optimizer = device::build(device::gpu(), builder, &layout).unwrap();
    // Neighbors of one buffer would be joined.
    let buffers = [&params, &grads].map(|values| [(); 2].map(|()| device::upload(device::gpu(), values)));
    let halves = buffers.each_ref().map(|[first, second]| [first.slice(..400), second.slice(400..)]);
    let mut recorded = encoder(device::gpu());
    let refused = optimizer.step(&mut recorded, &halves[0], &halves[1]);
    assert!(matches!(refused, Err(Error::CutTensor { element: 100, .. })), "{refused:?}");
}

#[test]
fn options_that_cannot_be_are_refused() {
    let layout = Layout::flat(3).unwrap();
    for (options, field) in [
        (HistoryOptions::steps(0), "steps"),
        (HistoryOptions::steps(1_000_001), "steps"),
        (HistoryOptions::steps(1).with_norms_every(0), "norms_every"),
    ] {
        let refused = Optimizer::builder(AdamW::default()).history(options).build_cpu(&layout).unwrap_err();
        assert!(matches!(refused, Error::Hyperparameter { name, .. } if name == field), "{refused}");
    }
    let without_norms = HistoryOptions::steps(1).per_group();
    let refused = Optimizer::builder(AdamW::default()).history(without_norms).build_cpu(&layout).unwrap_err();
    assert!(matches!(refused, Error::Unsupported { .. }) && refused.to_string().contains("norms_every"), "{refused}");
    let small = device_with(|limits| limits.max_storage_buffers_per_shader_stage = 7);
    let builder = with_norms_of_all(Optimizer::builder(Prodigy::default()));
    let refused = builder.build(&small.device, &small.queue, &layout).unwrap_err();
    assert!(matches!(refused, Error::DeviceLimit { required: 8, available: 7, .. }), "{refused}");
}

#[test]
fn options_are_read_from_configurations() {
    let read = |json: &str| serde_json::from_str::<HistoryOptions>(json);
    assert_eq!(read(r#"{"steps": 8}"#).unwrap(), HistoryOptions::steps(8));
    let all = HistoryOptions::steps(8).with_norms_every(50).per_group();
    assert_eq!(read(r#"{"steps": 8, "norms_every": 50, "per_group": true}"#).unwrap(), all);
    assert_eq!(read(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    assert!(read(r#"{"steps": 8, "norms": 50}"#).unwrap_err().to_string().contains("norms_every"));
}

#[test]
fn groups_are_written_as_csv_and_json_lines() {
    let layout = layout();
    let (mut cpu, mut params) =
        (with_norms(Optimizer::builder(Lion::default())).build_cpu(&layout).unwrap(), random(7, layout.len()));
    cpu.step(&mut params, &random(20, layout.len())).unwrap();
    let groups = cpu.history().unwrap().groups;
    let (mut csv, mut json) = (Vec::new(), Vec::new());
    write_csv(&groups, &mut csv).unwrap();
    write_json_lines(&groups, &mut json).unwrap();
    let header = "group,step,grad_norm,param_norm,update_norm,update_ratio,clipped_fraction,rule_metric,lost_updates\n";
    assert!(csv.starts_with(header.as_bytes()));
    let mut rows = csv::Reader::from_reader(&csv[..]);
    assert!(rows.deserialize::<GroupStats>().map(|row| row.unwrap()).eq(groups.iter().cloned()));
    let rows = json.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    assert!(rows.map(|line| serde_json::from_slice::<GroupStats>(line).unwrap()).eq(groups));
}
