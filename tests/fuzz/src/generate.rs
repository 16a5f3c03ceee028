//! Random cases.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use wgpu_optim::clip::{Adaptive, GlobalNorm, GroupNorm, Percentile};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::{
    Chained, Cosine, CosineWarmRestarts, Cyclic, Exponential, InverseSqrt, Linear, MultiStep, Noam, OneCycle,
    PiecewiseConstant, Polynomial, Sequential, Step, WarmupStableDecay,
};
use wgpu_optim::{Clip, Dtype, GroupOptions, NonFinite, RuleConfig, Sam, Schedule};

use crate::case::{Bad, Call, Case, Gradients, Place, Tensor};

/// Consecutive cases with the same rule: software drivers compile longer than they compute.
pub const CASES_PER_RULE: u64 = 8;

/// Case `number` of a seed.
pub fn case(seed: u64, number: u64) -> Case {
    let stream = |number: u64| StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let batch = number / CASES_PER_RULE;
    let mut of_batch = stream(u64::MAX - batch);
    // All rules come before any comes again.
    let name = RuleConfig::NAMES[((seed + batch) % RuleConfig::NAMES.len() as u64) as usize];
    let rule = allowed_rule(&mut of_batch, name);
    let clips = [clip(&mut of_batch), clip(&mut of_batch)];
    let sam = sam(&mut of_batch);
    of_rule(&mut stream(number), name, rule, (clips, sam))
}

fn of_rule(rng: &mut StdRng, name: &str, rule: Value, (clips, sam): ([Option<Clip>; 2], Option<Sam>)) -> Case {
    let tensors = tensors(rng);
    let mut case = Case {
        rule,
        tensors,
        packed: rng.random(),
        ranges: Vec::new(),
        groups: Vec::new(),
        schedule: chance(rng, 0.5).then(|| schedule(rng, 0)),
        clip: pick(rng, &clips),
        sam,
        on_nonfinite: pick(
            rng,
            &[None, None, Some(NonFinite::Skip), Some(NonFinite::Stop), Some(NonFinite::Propagate)],
        ),
        max_consecutive_skips: chance(rng, 0.2).then(|| rng.random_range(1..3)),
        history: None,
        grad_dtype: if chance(rng, 0.2) { Dtype::Bf16 } else { Dtype::F32 },
        param_places: Vec::new(),
        grad_places: Vec::new(),
        replays: chance(rng, 0.7),
        calls: Vec::new(),
    };
    if chance(rng, 0.3) {
        case.history = Some(history(rng, case.has_rough_norm()));
    }
    // Only a layout with too many elements is refused.
    let len = case.layout().map_or(0, |layout| layout.len());
    case.ranges = ranges(rng, len);
    case.groups = groups(rng, &case);
    case.param_places = (0..rng.random_range(0..3)).map(|_| place(rng, len)).collect();
    case.grad_places = (0..rng.random_range(0..4)).map(|_| place(rng, len)).collect();
    let count = rng.random_range(4..16);
    case.calls = (0..count).map(|_| call(rng, &case, name, len, Within::Program)).collect();
    if case.schedule.as_ref().is_some_and(cycles_momentum) {
        let mut step = || Call::Step(gradients(rng, &case, len));
        // The schedule goes with `SetLr`, and the momentum of the snapshot stays.
        let detour = [step(), Call::Snapshot(2), step(), Call::Restore(2), Call::SetLr(0.25), step(), Call::Restore(2)];
        case.calls.splice(0..0, detour);
    } else if chance(rng, 0.4) {
        add_detour(rng, &mut case, len);
    }
    case
}

/// Whether the schedule is of a kind that cycles momentum, and does.
fn cycles_momentum(schedule: &Schedule) -> bool {
    serde_json::to_value(schedule).is_ok_and(|schedule| schedule["cycle_momentum"] == true)
}

/// Restores a snapshot after some of the calls, and makes a step after that.
fn add_detour(rng: &mut StdRng, case: &mut Case, len: usize) {
    let end = rng.random_range(1..=case.calls.len());
    let mut after = vec![Call::Restore(2)];
    if rng.random() {
        after.push(Call::SetLr(0.25));
    }
    after.push(Call::Step(gradients(rng, case, len)));
    case.calls.splice(end..end, after);
    case.calls.insert(rng.random_range(0..end), Call::Snapshot(2));
}

fn chance(rng: &mut StdRng, probability: f64) -> bool {
    rng.random_bool(probability)
}

fn pick<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// A rule whose options most often go together: a refused one leaves nothing to compare.
fn allowed_rule(rng: &mut StdRng, name: &str) -> Value {
    loop {
        let rule = rule(rng, name);
        let config = serde_json::from_value::<RuleConfig>(rule.clone()).expect("fields of their types");
        if config.rule().validate().is_ok() || chance(rng, 0.05) {
            return rule;
        }
    }
}

/// Some fields of the rule differ from its defaults.
fn rule(rng: &mut StdRng, name: &str) -> Value {
    let mut fields = Map::from_iter([("name".to_owned(), json!(name))]);
    if chance(rng, 0.3) {
        let conventions = ["optax", "keras", "bitsandbytes", "apex"];
        let with = |convention: &str| json!({"name": name, "convention": convention});
        let known = |convention: &&str| serde_json::from_value::<RuleConfig>(with(convention)).is_ok();
        let known: Vec<&str> = conventions.into_iter().filter(known).collect();
        if !known.is_empty() {
            fields.insert("convention".to_owned(), json!(pick(rng, &known)));
        }
    }
    let complete = serde_json::from_value::<RuleConfig>(Value::Object(fields.clone())).expect("a rule by its name");
    let Ok(Value::Object(defaults)) = serde_json::to_value(complete) else { unreachable!("rules are objects") };
    for (key, value) in &defaults {
        if key != "name" && chance(rng, 0.35) {
            fields.insert(key.clone(), changed(rng, key, value));
        }
    }
    // A default rate of 1e-4 hides faults below the last bit of a parameter.
    if chance(rng, 0.7) {
        fields.insert("lr".to_owned(), json!(pick(rng, &[0.5, 0.125, 0.01])));
    }
    Value::Object(fields)
}

fn changed(rng: &mut StdRng, key: &str, value: &Value) -> Value {
    let beta = |rng: &mut StdRng| json!(pick(rng, &[0.0, 0.25, 0.5, 0.875, 0.9, 0.99, 0.999]));
    match (key, value) {
        (_, Value::Bool(flag)) => json!(!flag),
        ("betas", Value::Array(betas)) => betas.iter().map(|_| beta(rng)).collect(),
        ("momentum" | "alpha" | "rho" | "dampening" | "beta3", _) => beta(rng),
        ("lr", _) => json!(pick(rng, &[1.0, 0.1, 0.001])),
        ("weight_decay", _) => json!(pick(rng, &[0.0, 0.01, 0.25])),
        ("eps" | "eps_root", Value::Number(_)) => json!(pick(rng, &[0.0, 1e-8, 1e-3, 0.1])),
        ("eps", _) => json!([pick(rng, &[Value::Null, json!(1e-8)]), pick(rng, &[1e-3, 0.1])]),
        ("max_lr", _) => pick(rng, &[Value::Null, json!(0.75)]),
        ("t_alpha" | "t_beta3", _) => pick(rng, &[Value::Null, json!(1), json!(3)]),
        ("growth_rate", _) => pick(rng, &[Value::Null, json!(1.5)]),
        ("d0", _) => json!(pick(rng, &[1e-3, 1e-6])),
        ("ratio_range", _) => pick(rng, &[Value::Null, json!([0.01, 10.0]), json!([0.5, 0.75])]),
        ("curvature", _) => pick(
            rng,
            &[
                json!({"hutchinson": {"gamma": 0.75, "eps": 1e-3}}),
                json!({"sampled_labels": {"rho": 0.125, "bs": 6.0}}),
            ],
        ),
        ("equations", _) => pick(rng, &[json!("torch"), json!("optax")]),
        ("warmup_steps" | "min_dim_size_to_factor", _) => json!(rng.random_range(0..6)),
        ("beta2_decay", _) => json!(pick(rng, &[-0.5, -0.8, -1.0])),
        ("r" | "weight_lr_power", _) => json!(pick(rng, &[0.0, 1.0, 2.0])),
        ("etas", _) => json!([0.25, 1.5]),
        ("step_sizes", _) => json!([0.0625, 0.25]),
        (_, Value::Number(number)) => json!(number.as_f64().unwrap_or(1.0) * pick(rng, &[0.5, 2.0, 10.0])),
        _ => value.clone(),
    }
}

fn clip(rng: &mut StdRng) -> Option<Clip> {
    // Norms of ten to ten thousand elements lie in these four decades.
    let likely = 10f64.powi(rng.random_range(0..4)) * pick(rng, &[1.0, 2.0, 5.0]);
    let limit = pick(rng, &[1e-3, likely, likely, likely]);
    let order = pick(rng, &[1.0, 2.0, 2.0, f64::INFINITY]);
    Some(match rng.random_range(0..9) {
        0..3 => return None,
        3 => {
            let clip = GlobalNorm::new(limit).with_norm_type(pick(rng, &[order, order, 1.5, 3.0, 4.5]));
            if rng.random() { clip.exact() } else { clip }.into()
        }
        4 => GlobalNorm::new(limit).into(),
        5 => Clip::value(limit),
        6 => if rng.random() { GroupNorm::new(limit) } else { GroupNorm::new(limit).exact() }.into(),
        7 => {
            let clip = Adaptive::new(pick(rng, &[0.01, 0.5, 10.0]));
            if rng.random() { clip.per_tensor() } else { clip.with_eps(0.1) }.into()
        }
        _ => {
            let clip = Percentile::new(pick(rng, &[10.0, 50.0, 95.0])).with_norm_type(order);
            let clip = clip.with_window(pick(rng, &[2, 5, 100]));
            if rng.random() { clip } else { clip.exact() }.into()
        }
    })
}

fn sam(rng: &mut StdRng) -> Option<Sam> {
    let rho = pick(rng, &[0.05, 0.5, 100.0]);
    match rng.random_range(0..6) {
        0 => Some(Sam::new(rho)),
        1 => Some(Sam::adaptive(rho, pick(rng, &[0.0, 0.01]))),
        _ => None,
    }
}

fn schedule(rng: &mut StdRng, depth: u32) -> Schedule {
    let lr = pick(rng, &[1.0, 0.125, 0.01]);
    let steps = rng.random_range(2..12);
    let of_few = |rng: &mut StdRng| (0..2).map(|_| schedule(rng, depth + 1)).collect::<Vec<_>>();
    match rng.random_range(0..if depth == 0 { 24 } else { 12 }) {
        0 => Schedule::warmup_cosine(lr, steps / 2, steps),
        1 => Cosine::new(lr, steps).into(),
        2 => Exponential::new(lr, 0.5).into(),
        3 => Step::new(lr, 2).into(),
        4 => MultiStep::new(lr, vec![1, 3]).into(),
        5 => InverseSqrt::new(lr, 3).into(),
        6 => Linear::new(lr).into(),
        7 => Polynomial::new(lr).into(),
        8 => PiecewiseConstant::new(lr, vec![(1, 0.5), (3, 0.0)]).into(),
        9 => WarmupStableDecay::new(lr, 1, 2, steps).into(),
        10 => CosineWarmRestarts::new(lr, 2).into(),
        11 => Noam::new(64, 3).into(),
        // Ends after some steps.
        12 => OneCycle::new(lr, steps).into(),
        13..17 => OneCycle::new(lr, 40).with_cycle_momentum(chance(rng, 0.8)).into(),
        17..21 => Cyclic::new(lr, 10.0 * lr).with_cycle_momentum(chance(rng, 0.8)).into(),
        21 => Sequential::new(of_few(rng), vec![rng.random_range(1..4)]).into(),
        _ => Chained::new(of_few(rng)).into(),
    }
}

fn history(rng: &mut StdRng, has_rough_norm: bool) -> HistoryOptions {
    let options = HistoryOptions::steps(pick(rng, &[1, 2, 5, 100]));
    if has_rough_norm || rng.random() {
        return options;
    }
    let options = options.with_norms_every(rng.random_range(1..4));
    if rng.random() { options.per_group() } else { options }
}

/// Up to 30,000 elements.
fn tensors(rng: &mut StdRng) -> Vec<Tensor> {
    let dims = [0, 1, 2, 3, 4, 5, 7, 13, 31, 63, 64, 65, 127, 130, 255, 256, 257, 1023];
    let tensor = |rng: &mut StdRng| {
        let shape = match rng.random_range(0..12) {
            0 => vec![],
            1 => vec![pick(rng, &[8_191, 8_192, 8_193, 12_345])],
            2 => vec![pick(rng, &[3, 2_731]), pick(rng, &[3, 5])],
            3..7 => vec![pick(rng, &dims)],
            7 => vec![pick(rng, &dims[..8]), pick(rng, &dims[..8]), pick(rng, &dims[..6])],
            8 => vec![1, pick(rng, &dims), 1],
            _ => vec![pick(rng, &dims[1..13]), pick(rng, &dims[1..13])],
        };
        Tensor { shape, group: chance(rng, 0.4).then(|| pick(rng, &["a", "b", "c"]).to_owned()) }
    };
    (0..rng.random_range(1..6)).map(|_| tensor(rng)).collect()
}

fn ranges(rng: &mut StdRng, len: usize) -> Vec<(usize, usize, String)> {
    if len == 0 || chance(rng, 0.7) {
        return Vec::new();
    }
    let mut ends: Vec<usize> = (0..2 * rng.random_range(1..4)).map(|_| rng.random_range(0..=len)).collect();
    ends.sort_unstable();
    let group = |rng: &mut StdRng| pick(rng, &["a", "b", "d"]).to_owned();
    ends.chunks(2).map(|ends| (ends[0], ends[1], group(rng))).collect()
}

fn groups(rng: &mut StdRng, case: &Case) -> Vec<(String, GroupOptions)> {
    let Ok(layout) = case.layout() else { return Vec::new() };
    let options = |rng: &mut StdRng| {
        let mut options = GroupOptions::default();
        if chance(rng, 0.5) {
            options = options.with_lr_scale(pick(rng, &[0.0, 0.5, 3.0]));
        }
        if chance(rng, 0.4) {
            options = options.with_weight_decay(pick(rng, &[0.0, 0.125]));
        }
        if chance(rng, 0.2) {
            options = options.with_schedule(schedule(rng, 1));
        }
        if chance(rng, 0.25) { options.frozen() } else { options }
    };
    let mut named = Vec::new();
    for name in layout.groups() {
        if chance(rng, 0.8) {
            named.push((name.clone(), options(rng)));
        }
    }
    named
}

fn place(rng: &mut StdRng, len: usize) -> Place {
    let ahead = pick(rng, &[0, 0, 1, 3, 4, 64]);
    match rng.random_range(0..8) {
        0 => Place::Whole,
        1 => Place::Rounded,
        2 | 3 => Place::Slice { ahead },
        4 => Place::Tensors { ahead, one_buffer: rng.random() },
        5 => {
            let tiles = len / 8_192;
            let at = (0..2).map(|_| 8_192 * rng.random_range(0..=tiles)).collect();
            Place::Cut { at, ahead, one_buffer: rng.random() }
        }
        kind => {
            // Often at quads.
            let unit = if kind == 6 { 1 } else { 4 };
            let at = (0..rng.random_range(1..4)).map(|_| unit * rng.random_range(0..=len / unit)).collect();
            Place::Cut { at, ahead, one_buffer: rng.random() }
        }
    }
}

/// Place of a call.
#[derive(Clone, Copy, PartialEq)]
enum Within {
    Program,
    Encoder,
    Dropped,
}

fn call(rng: &mut StdRng, case: &Case, name: &str, len: usize, within: Within) -> Call {
    let has_eval = name.starts_with("schedule_free");
    let few = |rng: &mut StdRng, within| {
        let count = rng.random_range(1..5);
        (0..count).map(|_| call(rng, case, name, len, within)).collect()
    };
    if case.sam.is_some() && chance(rng, 0.25) {
        let perturb = Call::Perturb(gradients(rng, case, len));
        return if chance(rng, 0.9) { perturb } else { Call::Train };
    }
    if within == Within::Dropped {
        return match rng.random_range(0..5) {
            0 | 1 if has_eval => pick(rng, &[Call::Eval, Call::Train]),
            2 | 3 if !case.counts_recorded_steps() => Call::Step(gradients(rng, case, len)),
            0 | 2 => Call::Snapshot(rng.random_range(0..2)),
            _ => Call::Restore(rng.random_range(0..2)),
        };
    }
    // With a rough norm, the reference waits for the device's coefficient.
    let together = within == Within::Program && !case.has_rough_norm();
    match rng.random_range(0..24) {
        0 => Call::SetLr(pick(rng, &[1.0, 0.25, 0.01, 0.0])),
        1 => Call::SetGradScale(pick(rng, &[1.0, 0.5, 1024.0])),
        2 => Call::SetDeviceGradScale(pick(rng, &[1.0, 0.25, 65536.0])),
        3 => Call::Move(rng.random_range(0..case.param_places.len().max(1))),
        4 => Call::Prepare(rng.random_range(0..case.grad_places.len().max(1))),
        5 | 6 => Call::Snapshot(rng.random_range(0..2)),
        7 | 8 => Call::Restore(rng.random_range(0..2)),
        9 if name == "sophia" => Call::UpdateHessian(gradients(rng, case, len)),
        9 if has_eval => Call::Eval,
        10 if has_eval => Call::Train,
        11 if within == Within::Program => Call::Resume,
        12 if within == Within::Program => {
            Call::SetAppliedSteps(pick(rng, &[0, 1, 2, 9, 1_000, (1 << 24) - 1, (1 << 32) - 9]))
        }
        13 | 14 if together => Call::Together(few(rng, Within::Encoder)),
        15 | 16 => Call::Dropped(few(rng, Within::Dropped)),
        17 if within == Within::Program => {
            let snapshot = |rng: &mut StdRng| Call::Snapshot(rng.random_range(0..2));
            let (dropped, then) = if case.sam.is_some() {
                let calls = [Call::Perturb(gradients(rng, case, len)), Call::Train, snapshot(rng)];
                let dropped = (0..rng.random_range(1..4)).map(|_| pick(rng, &calls)).collect();
                (dropped, Call::Step(gradients(rng, case, len)))
            } else if has_eval {
                let calls = [Call::Eval, Call::Train, snapshot(rng)];
                ((0..rng.random_range(1..4)).map(|_| pick(rng, &calls)).collect(), Call::Train)
            } else {
                (vec![snapshot(rng)], Call::Step(gradients(rng, case, len)))
            };
            Call::DroppedLate { dropped, then: vec![then], submits_first: rng.random() }
        }
        _ => Call::Step(gradients(rng, case, len)),
    }
}

fn gradients(rng: &mut StdRng, case: &Case, len: usize) -> Gradients {
    let magnitudes: &[f32] = if case.has_rough_norm() { &[1.0, 1e-3] } else { &[1.0, 1.0, 1e-3, 1e4, 1e10] };
    let bad = if len > 0 && chance(rng, 0.15) { rng.random_range(1..3) } else { 0 };
    let bad =
        (0..bad).map(|_| (rng.random_range(0..len), pick(rng, &[Bad::NaN, Bad::NaN, Bad::Infinity, Bad::NegInfinity])));
    let bad = bad.collect();
    Gradients {
        seed: rng.next_u64() % 1_000,
        magnitude: pick(rng, magnitudes),
        bad,
        place: rng.random_range(0..case.grad_places.len().max(1)),
    }
}
