//! Schedules against the learning rates of `torch.optim.lr_scheduler`, optax and transformers (`golden/schedules.json`).

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};
use wgpu_optim::schedule::{Chained, Constant, Cosine, Cyclic, OneCycle, PiecewiseConstant, PlateauMode};
use wgpu_optim::schedule::{ReduceLROnPlateau, Sequential, Warmup, WarmupType};
use wgpu_optim::{AdamW, CpuOptimizer, Error, Layout, Optimizer, Schedule, Sgd, Stats};

#[derive(Deserialize)]
pub struct Golden {
    pub schedules: Vec<ScheduleCase>,
    /// Rates of PyTorch's `LambdaLR` from 0.3, with each of [`lr_lambdas`].
    lambdas: Vec<Vec<f64>>,
    plateaus: Vec<PlateauCase>,
}

#[derive(Deserialize)]
pub struct ScheduleCase {
    pub source: String,
    pub schedule: Value,
    pub rates: Vec<f64>,
    /// Missing where the schedule leaves the momentum alone.
    pub momenta: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct PlateauCase {
    plateau: Value,
    /// Null is NaN.
    metrics: Vec<Option<f64>>,
    rates: Vec<f64>,
}

pub fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/schedules.json")).expect("schedules.json")
}

fn read(schedule: &Value) -> Result<Schedule, serde_json::Error> {
    serde_json::from_value(schedule.clone())
}

fn assert_close(lr: f64, expected: f64, what: &str, step: usize) {
    assert!((lr - expected).abs() <= 1e-12 * expected, "{what}, step {step}: {lr} instead of {expected}");
}

#[test]
fn every_schedule_equals_its_reference_at_every_step() {
    for ScheduleCase { source, schedule, rates, momenta } in golden().schedules {
        let what = format!("{source} {schedule}");
        let schedule = read(&schedule).expect(&what);
        for step in 0..rates.len() {
            let momentum = schedule.momentum(step as u64).expect(&what);
            assert_eq!(momentum.is_some(), momenta.is_some(), "{what}");
            if let (Some(momentum), Some(momenta)) = (momentum, &momenta) {
                assert_close(momentum, momenta[step], &what, step);
            }
        }
        for (step, expected) in rates.into_iter().enumerate() {
            assert_close(schedule.lr(step as u64).expect(&what), expected, &what, step);
        }
    }
}

fn lr_lambdas() -> [Schedule; 3] {
    [
        Schedule::lambda(0.3, |step| 0.95f64.powf(step as f64)),
        Schedule::lambda(0.3, |step| 1.0 / (1.0 + 0.1 * step as f64)),
        Schedule::lambda(0.3, |step| (step / 7) as f64),
    ]
}

#[test]
fn a_lambda_equals_its_reference_at_every_step() {
    let lambdas = golden().lambdas;
    assert_eq!(lambdas.len(), lr_lambdas().len());
    for (which, (schedule, rates)) in lr_lambdas().into_iter().zip(lambdas).enumerate() {
        for (step, expected) in rates.into_iter().enumerate() {
            assert_close(schedule.lr(step as u64).expect("a rate"), expected, &format!("lambda {which}"), step);
        }
    }
}

#[test]
fn every_schedule_has_three_parameter_sets() {
    let mut sets = HashMap::from([("lambda".to_owned(), lr_lambdas().len())]);
    for case in golden().schedules {
        *sets.entry(case.schedule["name"].as_str().expect("a name").to_owned()).or_default() += 1;
    }
    for &name in Schedule::NAMES {
        assert!(sets.get(name).is_some_and(|&count| count >= 3), "{name}: {:?}", sets.get(name));
    }
}

#[test]
fn a_plateau_reduces_when_pytorch_does_also_from_a_file_in_between() {
    for PlateauCase { plateau, metrics, rates } in golden().plateaus {
        let what = plateau.to_string();
        let mut plateau: ReduceLROnPlateau = serde_json::from_value(plateau).expect(&what);
        for (step, (metric, expected)) in metrics.into_iter().zip(rates).enumerate() {
            assert_close(plateau.step(metric.unwrap_or(f64::NAN)).expect(&what), expected, &what, step);
            let saved = serde_json::to_string(&plateau).expect(&what);
            plateau = serde_json::from_str(&saved).expect(&saved);
        }
    }
}

#[test]
fn a_plateau_remembers_an_infinite_best_from_a_file() {
    for (mode, best, written) in
        [(PlateauMode::Max, f64::INFINITY, "inf"), (PlateauMode::Min, f64::NEG_INFINITY, "-inf")]
    {
        let mut plateau = ReduceLROnPlateau::new(1.0).with_mode(mode).with_patience(0);
        assert_eq!(plateau.step(best).unwrap(), 1.0);
        let saved = serde_json::to_value(&plateau).unwrap();
        assert_eq!(saved["best"], written);
        let mut loaded: ReduceLROnPlateau = serde_json::from_value(saved).unwrap();
        assert_eq!(loaded, plateau);
        assert_eq!(loaded.step(0.5).unwrap(), 0.1);
    }
}

/// Learning rate, statistics and parameters of the steps from the present one to step `end`.
fn train(
    optimizer: &mut CpuOptimizer,
    params: &mut [f32],
    steps: std::ops::Range<usize>,
) -> Vec<(f64, Stats, Vec<f32>)> {
    let step = |step: usize| {
        let lr = optimizer.lr().unwrap();
        let stats = optimizer.step(&mut *params, &[0.5, -0.25 * step as f32]).unwrap();
        (lr, stats, params.to_vec())
    };
    steps.map(step).collect()
}

#[test]
fn every_schedule_resumed_from_every_step_equals_the_straight_run() {
    let golden = golden().schedules.into_iter().map(|case| (read(&case.schedule).unwrap(), case.rates.len()));
    let lambdas = lr_lambdas().into_iter().map(|lambda| (lambda, 20));
    for (schedule, steps) in golden.chain(lambdas) {
        let steps = steps.min(30);
        let builder = Optimizer::builder(AdamW::default()).schedule(schedule.clone());
        let mut optimizer = builder.build_cpu(&Layout::flat(2).unwrap()).unwrap();
        let (mut params, mut snapshots, mut straight) = ([1.0, -2.0], Vec::new(), Vec::new());
        for step in 0..steps {
            snapshots.push(optimizer.snapshot(&params).unwrap());
            straight.extend(train(&mut optimizer, &mut params, step..step + 1));
        }
        for (at, snapshot) in snapshots.iter().enumerate().rev() {
            optimizer.restore(&mut params, snapshot).unwrap();
            assert_eq!(train(&mut optimizer, &mut params, at..steps), straight[at..], "{schedule} from step {at}");
        }
    }
}

#[test]
fn a_plateau_resumed_from_every_step_equals_the_straight_run() {
    for PlateauCase { plateau, metrics, .. } in golden().plateaus {
        let what = plateau.to_string();
        let mut plateau: ReduceLROnPlateau = serde_json::from_value(plateau).expect(&what);
        let metrics: Vec<f64> = metrics.into_iter().map(|metric| metric.unwrap_or(f64::NAN)).collect();
        let (mut saved, mut straight) = (Vec::new(), Vec::new());
        for &metric in &metrics {
            saved.push(serde_json::to_string(&plateau).unwrap());
            straight.push(plateau.step(metric).unwrap());
        }
        for (at, saved) in saved.iter().enumerate() {
            let mut resumed: ReduceLROnPlateau = serde_json::from_str(saved).unwrap();
            let rates: Vec<f64> = metrics[at..].iter().map(|&metric| resumed.step(metric).unwrap()).collect();
            assert_eq!(rates, straight[at..], "{what} from step {at}");
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    for ScheduleCase { schedule, .. } in golden().schedules {
        let read_once = read(&schedule).expect("a schedule");
        let written = serde_json::to_value(&read_once).expect("a value");
        assert_eq!(read(&written).expect("what was written"), read_once);
        for (key, value) in schedule.as_object().expect("an object") {
            let nested = ["schedule", "schedulers"].contains(&key.as_str());
            assert!(nested || &written[key] == value, "{key}: {written} instead of {schedule}");
        }
    }
}

#[test]
fn an_unknown_name_or_key_is_named() {
    for (schedule, parts) in [
        (json!({"name": "cosin", "lr": 1.0}), &["cosin", "cosine_warm_restarts"][..]),
        (json!({"name": "step", "lr": 1.0, "step_size": 1, "gama": 0.1}), &["gama", "gamma"]),
        (json!({"name": "cosine", "lr": 1.0, "t_max": 4}), &["t_max", "T_max"]),
        (json!({"name": "step", "lr": 1.0}), &["missing", "step_size"]),
        (json!({"name": "lambda", "lr": 1.0}), &["lambda"]),
        (json!({"name": "chained", "schedulers": [{"name": "constant", "rate": 1.0}]}), &["rate", "lr"]),
    ] {
        let message = read(&schedule).expect_err("an error").to_string();
        for part in parts {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn a_lambda_multiplies_and_cannot_be_written() {
    let schedule = Schedule::lambda(0.5, |step| 0.5f64.powf(step as f64));
    assert_eq!(schedule.lr(2).expect("a rate"), 0.125);
    assert_eq!(schedule, schedule.clone());
    assert_ne!(schedule, Schedule::lambda(0.5, |_| 1.0));
    assert!(serde_json::to_string(&schedule).expect_err("an error").to_string().contains("closure"));
    let error = Schedule::lambda(0.5, |step| 1.0 - step as f64).lr(2).expect_err("an error");
    assert_eq!(error.to_string(), "lambda schedule: lr is -0.5; allowed: 0 or greater, finite in f32");
}

#[test]
fn schedules_print_themselves() {
    for (schedule, printed) in [
        (Schedule::constant(0.5), "constant(lr=0.5, factor=1.0, total_iters=5)"),
        (Cosine::new(1e-9, 4).into(), "cosine(lr=1e-9, T_max=4, eta_min=0.0)"),
        (
            Sequential::new(vec![Schedule::constant(1.0).with_warmup(2), Schedule::lambda(0.5, |_| 1.0)], vec![9])
                .into(),
            "sequential(schedulers=[warmup(schedule=constant(lr=1.0, factor=1.0, total_iters=5), warmup_steps=2, \
             warmup_type=Linear, start_factor=0.0), lambda(lr=0.5, lr_lambda=closure)], milestones=[9])",
        ),
    ] {
        assert_eq!(schedule.to_string(), printed);
        assert_eq!(format!("{schedule:?}"), printed);
    }
    let plateau = ReduceLROnPlateau::new(0.5).to_string();
    assert!(plateau.starts_with("reduce_lr_on_plateau(lr=0.5, mode=Min, factor=0.1, patience=10"), "{plateau}");
}

#[test]
fn a_field_out_of_range_is_named() {
    let one = || Schedule::constant(1.0);
    let bad = [
        ("constant", "lr", json!({"lr": -1.0})),
        ("constant", "factor", json!({"lr": 1.0, "factor": -1.0})),
        ("step", "step_size", json!({"lr": 1.0, "step_size": 0})),
        ("step", "gamma", json!({"lr": 1.0, "step_size": 1, "gamma": -0.1})),
        ("multi_step", "gamma", json!({"lr": 1.0, "milestones": [1], "gamma": -0.1})),
        ("exponential", "gamma", json!({"lr": 1.0, "gamma": 1e39})),
        ("linear", "start_factor", json!({"lr": 1.0, "start_factor": -0.1})),
        ("linear", "end_factor", json!({"lr": 1.0, "end_factor": -0.1})),
        ("linear", "total_iters", json!({"lr": 1.0, "total_iters": 0})),
        ("polynomial", "total_iters", json!({"lr": 1.0, "total_iters": 0})),
        ("polynomial", "power", json!({"lr": 1.0, "power": -1.0})),
        ("polynomial", "min_lr", json!({"lr": 1.0, "min_lr": -1.0})),
        ("inverse_sqrt", "warmup_steps", json!({"lr": 1.0, "warmup_steps": 0})),
        ("inverse_sqrt", "warmup_init_lr", json!({"lr": 1.0, "warmup_steps": 1, "warmup_init_lr": -1.0})),
        ("noam", "model_size", json!({"model_size": 0, "warmup_steps": 1})),
        ("noam", "warmup_steps", json!({"model_size": 1, "warmup_steps": 0})),
        ("noam", "factor", json!({"model_size": 1, "warmup_steps": 1, "factor": -1.0})),
        ("cosine", "T_max", json!({"lr": 1.0, "T_max": 0})),
        ("cosine", "eta_min", json!({"lr": 1.0, "T_max": 1, "eta_min": -1.0})),
        ("cosine_warm_restarts", "T_0", json!({"lr": 1.0, "T_0": 0})),
        ("cosine_warm_restarts", "T_mult", json!({"lr": 1.0, "T_0": 1, "T_mult": 0})),
        ("cosine_warm_restarts", "eta_min", json!({"lr": 1.0, "T_0": 1, "eta_min": -1.0})),
        ("warmup_cosine", "min_lr", json!({"lr": 1.0, "warmup_steps": 1, "total_steps": 2, "min_lr": 2.0})),
        ("warmup_cosine", "total_steps", json!({"lr": 1.0, "warmup_steps": 3, "total_steps": 2})),
        ("one_cycle", "max_lr", json!({"max_lr": -1.0, "total_steps": 2})),
        ("one_cycle", "total_steps", json!({"max_lr": 1.0, "total_steps": 0})),
        ("one_cycle", "pct_start", json!({"max_lr": 1.0, "total_steps": 2, "pct_start": 1.1})),
        ("one_cycle", "base_momentum", json!({"max_lr": 1.0, "total_steps": 2, "base_momentum": 0.0})),
        ("one_cycle", "max_momentum", json!({"max_lr": 1.0, "total_steps": 2, "max_momentum": 1.0})),
        ("cyclic", "base_momentum", json!({"base_lr": 1.0, "max_lr": 1.0, "base_momentum": 0.0})),
        ("cyclic", "max_momentum", json!({"base_lr": 1.0, "max_lr": 1.0, "max_momentum": 0.999_999_99})),
        ("one_cycle", "div_factor", json!({"max_lr": 1.0, "total_steps": 2, "div_factor": 0.0})),
        ("one_cycle", "final_div_factor", json!({"max_lr": 1.0, "total_steps": 2, "final_div_factor": -1.0})),
        ("cyclic", "base_lr", json!({"base_lr": -1.0, "max_lr": 1.0})),
        ("cyclic", "max_lr", json!({"base_lr": 1.0, "max_lr": -1.0})),
        ("cyclic", "gamma", json!({"base_lr": 1.0, "max_lr": 1.0, "gamma": -1.0})),
        ("cyclic", "step_size_up", json!({"base_lr": 1.0, "max_lr": 1.0, "step_size_up": 0})),
        ("cyclic", "step_size_down", json!({"base_lr": 1.0, "max_lr": 1.0, "step_size_down": 0})),
        ("warmup", "start_factor", json!({"schedule": one(), "warmup_steps": 2, "warmup_type": "constant"})),
        ("warmup", "start_factor", json!({"schedule": one(), "warmup_steps": 2, "start_factor": -1.0})),
        (
            "warmup_stable_decay",
            "min_lr",
            json!({"lr": 1.0, "warmup_steps": 1, "stable_steps": 1, "decay_steps": 1, "min_lr": -1.0}),
        ),
        ("piecewise_constant", "init_value", json!({"init_value": -1.0, "boundaries_and_scales": []})),
        (
            "piecewise_constant",
            "boundaries_and_scales",
            json!({"init_value": 1.0, "boundaries_and_scales": [[3, 0.5], [3, 0.5]]}),
        ),
        (
            "piecewise_interpolate",
            "boundaries_and_scales",
            json!({"interpolate_type": "linear", "init_value": 1.0, "boundaries_and_scales": [[3, -0.5]]}),
        ),
        ("sequential", "schedulers", json!({"schedulers": [], "milestones": []})),
        ("sequential", "milestones", json!({"schedulers": [one()], "milestones": [1]})),
        ("sequential", "milestones", json!({"schedulers": [one(), one(), one()], "milestones": [2, 2]})),
        ("chained", "schedulers", json!({"schedulers": []})),
    ];
    for (schedule, field, mut fields) in bad {
        fields["name"] = schedule.into();
        let schedule_of_field = read(&fields).expect("readable");
        let built = Optimizer::builder(Sgd::default())
            .schedule(schedule_of_field.clone())
            .build_cpu(&Layout::flat(1).expect("a layout"))
            .map(drop);
        for error in [schedule_of_field.lr(0).map(drop), built] {
            match error {
                Err(Error::Hyperparameter { owner, name, .. }) => {
                    assert_eq!((owner, name), (format!("{schedule} schedule"), field), "{fields}");
                }
                other => panic!("{fields}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_mistake_inside_is_found_from_outside() {
    let bad = || Schedule::from(Constant::new(-1.0));
    for schedule in [
        bad().with_warmup(3),
        Sequential::new(vec![Schedule::constant(1.0), bad()], vec![3]).into(),
        Chained::new(vec![Schedule::constant(1.0), bad()]).into(),
    ] {
        assert!(matches!(schedule.lr(0), Err(Error::Hyperparameter { name: "lr", value: -1.0, .. })), "{schedule}");
    }
}

#[test]
fn a_step_behind_the_end_of_one_cycle_is_refused_and_not_counted() {
    let schedule = Schedule::from(OneCycle::new(0.5, 3));
    assert!(schedule.lr(3).is_ok());
    let error = schedule.lr(4).expect_err("an error").to_string();
    assert_eq!(error, "one_cycle schedule: the step is 4; allowed: 0 to total_steps, which is 3");

    let mut optimizer = Optimizer::builder(Sgd::default())
        .schedule(OneCycle::new(0.5, 3).with_cycle_momentum(false))
        .build_cpu(&Layout::flat(1).expect("a layout"))
        .expect("an optimizer");
    let mut params = [1.0];
    for _ in 0..4 {
        optimizer.step(&mut params, &[0.25]).expect("a step");
    }
    let after = params;
    for _ in 0..2 {
        assert!(matches!(optimizer.step(&mut params, &[0.25]), Err(Error::ScheduleEnded { step: 4, steps: 3, .. })));
        assert!(matches!(optimizer.lr(), Err(Error::ScheduleEnded { .. })));
    }
    assert_eq!((params, optimizer.stats().step), (after, 4));
    optimizer.set_lr(1.0).expect("a rate");
    optimizer.step(&mut params, &[0.25]).expect("a step");
    assert_eq!(params[0], after[0] - 0.25);
}

#[test]
fn a_rate_that_is_set_takes_the_place_of_the_schedule() {
    let mut optimizer = Optimizer::builder(Sgd::default())
        .schedule(Schedule::warmup_cosine(1.0, 2, 8))
        .build_cpu(&Layout::flat(1).expect("a layout"))
        .expect("an optimizer");
    assert!(matches!(optimizer.set_lr(f64::NAN), Err(Error::Hyperparameter { name: "lr", .. })));
    assert_eq!(optimizer.lr().expect("a rate"), 0.0);
    optimizer.set_lr(0.5).expect("a rate");
    let mut params = [1.0];
    optimizer.step(&mut params, &[1.0]).expect("a step");
    assert_eq!((params, optimizer.lr().expect("a rate")), ([0.5], 0.5));
}

#[test]
fn a_plateau_names_its_fields() {
    for (field, plateau) in [
        ("factor", ReduceLROnPlateau::new(0.1).with_factor(1.0)),
        ("lr", ReduceLROnPlateau::new(-0.1)),
        ("threshold", ReduceLROnPlateau::new(0.1).with_threshold(-1.0)),
        ("min_lr", ReduceLROnPlateau::new(0.1).with_min_lr(f64::NAN)),
        ("eps", ReduceLROnPlateau::new(0.1).with_eps(-1.0)),
    ] {
        match plateau.clone().step(1.0) {
            Err(Error::Hyperparameter { name, .. }) => assert_eq!(name, field),
            other => panic!("{plateau}: {other:?}"),
        }
    }
}

#[test]
fn no_step_is_too_late() {
    let periodic: [Schedule; 4] = [
        Cosine::new(1.0, u64::MAX).into(),
        Cyclic::new(0.5, 1.0).with_step_size_up(u64::MAX).into(),
        Warmup::new(Box::new(Schedule::constant(1.0)), u64::MAX).with_warmup_type(WarmupType::Cosine).into(),
        PiecewiseConstant::new(1.0, vec![(u64::MAX, 0.5)]).into(),
    ];
    let cases = golden().schedules.into_iter().map(|case| read(&case.schedule).expect("a schedule"));
    for schedule in cases.chain(periodic) {
        let grows = matches!(&schedule, Schedule::Step(_) | Schedule::Exponential(_));
        for step in [1 << 40, u64::MAX - 1, u64::MAX] {
            match schedule.lr(step) {
                Ok(_) => {}
                Err(Error::ScheduleEnded { .. }) if matches!(schedule, Schedule::OneCycle(_)) => {}
                Err(Error::Hyperparameter { name: "lr", value, .. }) if grows && value.is_infinite() => {}
                Err(error) => panic!("{schedule}, step {step}: {error}"),
            }
        }
    }
}

#[test]
fn a_least_rate_reaches_the_schedule_behind_a_warm_up() {
    let schedule = Schedule::warmup_cosine(1.0, 0, 10).with_warmup(5).with_min_lr(0.25);
    assert_eq!(schedule.lr(15).unwrap(), 0.25);
}
