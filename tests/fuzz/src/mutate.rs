//! Random changes of JSON: numbers out of range, other types, missing and repeated keys.

use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One change of a JSON value. Places are JSON pointers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    Set(String, Value),
    Remove(String),
}

pub fn chance(rng: &mut StdRng, probability: f64) -> bool {
    rng.random_bool(probability)
}

pub fn pick<T: Clone>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())].clone()
}

/// A schedule of each kind, with all of its required fields.
pub fn schedules() -> Vec<Value> {
    let constant = json!({"name": "constant", "lr": 0.5});
    let cycle = json!({"name": "one_cycle", "max_lr": 0.5, "total_steps": 9});
    vec![
        json!({"name": "step", "lr": 0.5, "step_size": 2, "gamma": 0.5}),
        json!({"name": "multi_step", "lr": 0.5, "milestones": [1, 2], "gamma": 0.5}),
        json!({"name": "exponential", "lr": 0.5, "gamma": 0.5}),
        json!({"name": "linear", "lr": 0.5, "start_factor": 0.5, "end_factor": 1, "total_iters": 3}),
        json!({"name": "polynomial", "lr": 0.5, "total_iters": 3, "power": 2, "min_lr": 0}),
        json!({"name": "inverse_sqrt", "lr": 0.5, "warmup_steps": 2, "warmup_init_lr": 0}),
        json!({"name": "noam", "model_size": 8, "warmup_steps": 2, "factor": 1}),
        json!({"name": "cosine", "lr": 0.5, "T_max": 3, "eta_min": 0}),
        json!({"name": "cosine_warm_restarts", "lr": 0.5, "T_0": 1, "T_mult": 2, "eta_min": 0}),
        json!({"name": "warmup_cosine", "lr": 0.5, "warmup_steps": 1, "total_steps": 4, "min_lr": 0}),
        json!({"name": "cyclic", "base_lr": 0.25, "max_lr": 0.5, "step_size_up": 2, "step_size_down": 1,
               "mode": "exp_range", "gamma": 0.5, "cycle_momentum": false, "base_momentum": 0.5, "max_momentum": 0.9}),
        json!({"name": "warmup", "schedule": constant, "warmup_steps": 2, "start_factor": 0}),
        json!({"name": "warmup_stable_decay", "lr": 0.5, "warmup_steps": 1, "stable_steps": 1, "decay_steps": 2,
               "decay_type": "1-sqrt", "min_lr": 0}),
        json!({"name": "piecewise_constant", "init_value": 0.5, "boundaries_and_scales": [[1, 0.5], [2, 0.5]]}),
        json!({"name": "piecewise_interpolate", "interpolate_type": "cosine", "init_value": 0.5,
               "boundaries_and_scales": [[1, 0.5], [2, 0.5]]}),
        json!({"name": "sequential", "schedulers": [cycle, constant], "milestones": [2]}),
        json!({"name": "chained", "schedulers": [constant, cycle]}),
        constant,
        cycle,
    ]
}

/// A value that few fields expect.
pub fn odd(rng: &mut StdRng) -> Value {
    let integers = [0, 1, 2, 3, 5, 127, 1 << 16, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 53, 1 << 63, u64::MAX];
    let floats = [-0.0, 0.5, 0.999_999_99, 1e-300, 1e-45, 1e-38, 1e38, 3.5e38, 1e300, f64::MAX, -1.0, -0.5];
    match rng.random_range(0..12) {
        0..4 => json!(pick(rng, &integers)),
        4..7 => json!(pick(rng, &floats)),
        7 => json!(pick(rng, &["nan", "inf", "-inf", "", "a/b", "buffer", "none"])),
        8 => pick(rng, &[json!(true), json!(false), Value::Null, json!([]), json!({}), json!([[]]), json!(i64::MIN)]),
        9 => pick(rng, &schedules()),
        10 => json!({"value": pick(rng, &floats)}),
        _ => Value::Array((0..rng.random_range(0..40)).map(|_| json!(rng.next_u64() % 5)).collect()),
    }
}

/// The places of all values inside.
pub fn places(value: &Value) -> Vec<String> {
    fn add(value: &Value, place: &str, found: &mut Vec<String>) {
        let mut child = |key: &str, value: &Value| {
            let place = format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
            found.push(place.clone());
            add(value, &place, found);
        };
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| child(key, value)),
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(i, value)| child(&i.to_string(), value));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    add(value, "", &mut found);
    found
}

/// A change at a random place.
pub fn change(rng: &mut StdRng, of: &Value) -> Change {
    let places = places(of);
    if places.is_empty() {
        return Change::Set(String::new(), odd(rng));
    }
    let place = pick(rng, &places);
    let old = of.pointer(&place).cloned().unwrap_or_default();
    let new = match (rng.random_range(0..10), &old) {
        (0, _) => return Change::Remove(place),
        (1, _) => of.pointer(&pick(rng, &places)).cloned().unwrap_or_default(),
        (2, Value::Array(values)) => Value::Array(values.iter().chain(values).cloned().collect()),
        (2, Value::Object(fields)) => {
            let mut fields = fields.clone();
            fields.insert("added".to_owned(), odd(rng));
            Value::Object(fields)
        }
        (3, Value::Object(_)) if old.get("lr").is_some() => nested(rng, &old, 1),
        (_, Value::Object(fields)) if fields.contains_key("name") => pick(rng, &schedules()),
        _ => odd(rng),
    };
    Change::Set(place, new)
}

/// A schedule inside of others.
fn nested(rng: &mut StdRng, schedule: &Value, depth: u32) -> Value {
    let steps = odd(rng);
    let outer = match rng.random_range(0..3) {
        0 => json!({"name": "warmup", "schedule": schedule, "warmup_steps": steps}),
        1 => json!({"name": "sequential", "schedulers": [schedule, pick(rng, &schedules())], "milestones": [steps]}),
        _ => json!({"name": "chained", "schedulers": [schedule, pick(rng, &schedules())]}),
    };
    if depth < 4 && chance(rng, 0.5) { nested(rng, &outer, depth + 1) } else { outer }
}

/// Makes a change. One whose place is gone changes nothing.
pub fn apply(value: &mut Value, change: &Change) {
    match change {
        Change::Set(place, new) => {
            if let Some(old) = value.pointer_mut(place) {
                *old = new.clone();
            } else if let Some((parent, key)) = place.rsplit_once('/') {
                if let Some(Value::Object(fields)) = value.pointer_mut(parent) {
                    fields.insert(key.replace("~1", "/").replace("~0", "~"), new.clone());
                }
            }
        }
        Change::Remove(place) => {
            let Some((parent, key)) = place.rsplit_once('/') else { return };
            match value.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.remove(&key.replace("~1", "/").replace("~0", "~"))),
                Some(Value::Array(values)) => {
                    let Ok(i) = key.parse::<usize>() else { return };
                    if i < values.len() {
                        values.remove(i);
                    }
                }
                _ => {}
            }
        }
    }
}

/// An empty object if it is none.
pub fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

/// The message of the last panic, if its hook is [`note_panic`]. Panics may begin in threads of rayon.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// A hook that prints nothing.
pub fn note_panic(info: &PanicHookInfo<'_>) {
    *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
}

/// The message of a panic, if `run` panics.
pub fn panic_of<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|_| {
        let message = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        format!("panic: {}", message.replace('\n', " "))
    })
}

/// The fewest of `parts` that still fail, by leaving out one after the other.
pub fn fewest<T: Clone>(parts: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut parts = parts;
    let mut at = 0;
    while at < parts.len() {
        let mut fewer = parts.clone();
        fewer.remove(at);
        if fails(&fewer) {
            parts = fewer;
        } else {
            at += 1;
        }
    }
    parts
}
