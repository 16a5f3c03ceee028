//! Random configurations: settings from JSON, built and stepped on the CPU.

use std::fmt::Debug;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::ReduceLROnPlateau;
use wgpu_optim::{Clip, CpuOptimizer, GroupOptions, HostSlice, Layout, NonFinite, RuleConfig, Schedule};

use super::mutate::{apply, chance, change, odd, panic_of, pick, places, schedules};

/// The settings of an optimizer as a file may hold them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config(pub Value);

/// Configuration `number` of a seed.
pub fn config(seed: u64, number: u64) -> Config {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let rng = &mut rng;
    let name = RuleConfig::NAMES[(number % RuleConfig::NAMES.len() as u64) as usize];
    let defaults = serde_json::from_value::<RuleConfig>(json!({"name": name})).ok();
    let clips = [
        json!({"name": "global_norm", "max_norm": 0.5, "norm_type": 2, "exact": true}),
        json!({"name": "value", "clip_value": 0.5}),
        json!({"name": "group_norm", "max_norm": 0.5}),
        json!({"name": "adaptive", "clip_factor": 0.5, "eps": 0.001}),
        json!({"name": "percentile", "percentile": 50, "window": 3, "norm_type": "inf"}),
        Value::Null,
        Value::Null,
    ];
    let mut config = json!({
        "rule": defaults,
        "schedule": if chance(rng, 0.5) { pick(rng, &schedules()) } else { Value::Null },
        "clip": pick(rng, &clips),
        "on_nonfinite": pick(rng, &[Value::Null, json!("skip"), json!("stop"), json!("propagate")]),
        "max_consecutive_skips": 3,
        "group": {"lr_scale": 0.5, "weight_decay": 0.1, "frozen": false,
                  "schedule": if chance(rng, 0.3) { pick(rng, &schedules()) } else { Value::Null }},
        "history": {"steps": 3, "norms_every": 2, "per_group": true},
        "plateau": {"lr": 0.5, "factor": 0.5, "patience": 1},
        "position": match rng.random_range(0..10) {
            0..7 => json!(0),
            7 => json!(u32::MAX - 2),
            _ => odd(rng),
        },
        "lr": 0.5,
        "grad_scale": 2,
    });
    for _ in 0..rng.random_range(0..4) {
        let change = change(rng, &config);
        apply(&mut config, &change);
    }
    Config(config)
}

/// Whether settings, their text and three steps do without a panic.
///
/// # Errors
/// The panic, or a setting that its own JSON does not give again.
pub fn check(config: &Config) -> Result<bool, String> {
    panic_of(|| built_and_stepped(&config.0))?
}

/// The smallest configuration that still fails, by leaving out settings.
pub fn shrink(config: &Config) -> Config {
    let smaller = |gone: &[String]| {
        let mut value = config.0.clone();
        for place in gone {
            apply(&mut value, &super::mutate::Change::Remove(place.clone()));
        }
        Config(value)
    };
    let mut gone = Vec::new();
    // Leaves first: removing a list's first element renames the others.
    for place in places(&config.0).into_iter().rev() {
        gone.push(place);
        if check(&smaller(&gone)).is_ok() {
            gone.pop();
        }
    }
    smaller(&gone)
}

/// A setting of that name; `None` if it is missing or refused. Its JSON must give it again.
fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(config: &Value, name: &str) -> Result<Option<T>, String> {
    let Some(value) = config.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let Ok(setting) = serde_json::from_value::<T>(value.clone()) else { return Ok(None) };
    let text = serde_json::to_string(&setting).map_err(|error| format!("{name} cannot be written: {error}"))?;
    let again = serde_json::from_str::<T>(&text).map_err(|error| format!("{name} {text} cannot be read: {error}"))?;
    // NaN differs from itself, so the texts are compared.
    let same = format!("{again:?}") == format!("{setting:?}");
    if same { Ok(Some(setting)) } else { Err(format!("{name}: {setting:?} is written as {text}")) }
}

fn built_and_stepped(config: &Value) -> Result<bool, String> {
    let rule = read::<RuleConfig>(config, "rule")?;
    let schedule = read::<Schedule>(config, "schedule")?;
    let clip = read::<Clip>(config, "clip")?;
    let group = read::<GroupOptions>(config, "group")?;
    let history = read::<HistoryOptions>(config, "history")?;
    if let Some(mut plateau) = read::<ReduceLROnPlateau>(config, "plateau")? {
        for metric in [1.0, 2.0, 3.0, f64::NAN, f64::INFINITY] {
            let _ = plateau.step(metric);
        }
    }
    let position = config["position"].as_u64().unwrap_or_default();
    if let Some(schedule) = &schedule {
        for step in [0, 1, 2, 3, position, position.saturating_add(1), u64::MAX] {
            let _ = (schedule.lr(step), schedule.momentum(step), schedule.to_string());
        }
    }
    let Some(rule) = rule else { return Ok(false) };
    let mut builder = rule.builder();
    if let Some(schedule) = schedule {
        builder = builder.schedule(schedule);
    }
    if let Some(clip) = clip {
        builder = builder.clip(clip);
    }
    if let Some(group) = group {
        builder = builder.group("own", group);
    }
    // A long history is memory, which the program asked for.
    if let Some(history) = history.filter(|_| config["history"]["steps"].as_u64().is_some_and(|steps| steps < 10_000)) {
        builder = builder.history(history);
    }
    if let Some(skips) = config["max_consecutive_skips"].as_u64() {
        builder = builder.max_consecutive_skips(skips as u32);
    }
    if let Some(policy) = read::<NonFinite>(config, "on_nonfinite")? {
        builder = builder.on_nonfinite(policy);
    }
    let layout = layout();
    let Ok(mut optimizer) = builder.build_cpu(&layout) else { return Ok(false) };
    if position > 0 {
        let _ = optimizer.set_applied_steps(position);
    }
    let mut params = vec![0.5; layout.len()];
    use_optimizer(&mut optimizer, &mut params, &layout);
    if let Some(lr) = config["lr"].as_f64() {
        let _ = optimizer.set_lr(lr);
    }
    if let Some(scale) = config["grad_scale"].as_f64() {
        let _ = optimizer.set_grad_scale(scale as f32);
    }
    use_optimizer(&mut optimizer, &mut params, &layout);
    Ok(true)
}

pub fn layout() -> Layout {
    let builder = Layout::builder().tensor("a", &[5, 3]).tensor("b", &[4]).group("own").tensor("none", &[2, 0]);
    builder.tensor("c", &[7]).build().unwrap_or_else(|error| panic!("the layout: {error}"))
}

/// Every call that a training loop makes. Errors are fine; panics are not.
pub fn use_optimizer(optimizer: &mut CpuOptimizer, params: &mut [f32], layout: &Layout) {
    let len = layout.len();
    for grad in [0.25, f32::NAN, -3e38, 0.0] {
        let grads = vec![grad; len];
        let _ = optimizer.step(&mut *params, HostSlice::from(&grads[..]));
        let _ = (optimizer.lr(), optimizer.stats(), optimizer.history(), optimizer.scalar_states().len());
    }
    let _ = optimizer.update_hessian(&mut *params, &vec![0.5; len]);
    if optimizer.eval(&mut *params).is_ok() {
        let _ = optimizer.train(&mut *params);
    }
    if let Ok(snapshot) = optimizer.snapshot(&*params) {
        let _ = optimizer.step(&mut *params, HostSlice::from(&vec![0.5; len][..]));
        let _ = optimizer.restore(params, &snapshot);
    }
}
