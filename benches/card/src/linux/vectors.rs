//! Vectors of other frameworks, replayed on the card by `replay`.
//!
//! The test suite holds every case of `tests/golden` to a bound per element. This stage replays one case per rule in a
//! process of its own, and compares the whole vector.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use super::child::Invocation;
use super::kit::Kit;
use super::plan::{Prepared, Task};
use super::read::Reads;
use super::results::Row;

/// Bound on ‖p - p₆₄‖ / ‖p₆₄‖, as in `tests/it/golden.rs`.
const BOUND: f64 = 1e-5;

/// Files of `tests/golden` whose options are those of a configuration, and a case of each.
const CASES: &[(&str, &str)] = &[
    ("adamw", "clip_schedule"),
    ("adam", "clip_schedule"),
    ("sgd", "clip_schedule"),
    ("lion", "clip_schedule"),
    ("lamb", "clip_schedule"),
    ("adafactor", "clip_schedule"),
    ("adabelief", "clip_schedule"),
    ("adadelta", "clip_schedule"),
    ("adagrad", "clip_schedule"),
    ("adamax", "clip_schedule"),
    ("adan", "clip_schedule"),
    ("ademamix", "clip_schedule"),
    ("lars", "clip_schedule"),
    ("nadam", "clip_schedule"),
    ("novograd", "clip_schedule"),
    ("prodigy", "clip_schedule"),
    ("radam", "clip_schedule"),
    ("rmsprop", "clip_schedule"),
    ("rprop", "clip_schedule"),
    ("signsgd", "clip_schedule"),
    ("stable_adamw", "clip_schedule"),
    ("yogi", "clip_schedule"),
];
/// Cases of a quick run: the first ones.
const QUICK: usize = 6;

#[derive(Debug, Clone)]
pub(crate) struct Case {
    name: String,
    expected: Vec<f64>,
    /// Output folder of `replay`.
    out: PathBuf,
}

pub(crate) fn tasks(kit: &Kit, work: &Path, quick: bool) -> Vec<Task> {
    let cases = if quick { &CASES[..QUICK] } else { CASES };
    cases.iter().map(|&(rule, case)| task(kit, work, rule, case)).collect()
}

fn task(kit: &Kit, work: &Path, rule: &str, case: &str) -> Task {
    let name = format!("{rule}/{case}");
    match prepare(kit, work, rule, case) {
        Ok((invocation, case)) => Task::of(name, 15, Reads::Vector(case), vec![invocation]),
        Err(reason) => Task::new(name, 0, Reads::Object, move |_| Prepared::Failed(reason.clone())),
    }
}

/// Writes configuration and trace, and returns how to replay them.
fn prepare(kit: &Kit, work: &Path, rule: &str, name: &str) -> Result<(Invocation, Case), String> {
    let golden = kit.repository().join("tests/golden").join(rule).with_extension("safetensors");
    let bytes = fs::read(&golden).map_err(|error| format!("{}: {error}", golden.display()))?;
    let wrong = |error: safetensors::SafeTensorError| format!("{}: {error}", golden.display());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(wrong)?;
    let described = metadata.metadata().as_ref().and_then(|metadata| metadata.get("cases"));
    let described: Value = described.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let case = &described["cases"][name];
    let data = case["data"].as_str().ok_or(format!("{} has no case {name}", golden.display()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(wrong)?;
    let param = tensors.tensor(&format!("data/{data}/param0")).map_err(wrong)?;
    let grads = tensors.tensor(&format!("data/{data}/grads")).map_err(wrong)?;
    let rows: Vec<_> = grads.data().chunks_exact(param.data().len()).collect();
    let steps = case["steps"].as_u64().unwrap_or_default() as usize;
    let shape = || param.shape().to_vec();
    let mut trace = vec![("param".to_owned(), param.clone())];
    for step in 0..steps {
        let grad = TensorView::new(Dtype::F32, shape(), rows[step % rows.len()]).map_err(wrong)?;
        trace.push((format!("grad.{step}"), grad));
    }
    let trace = safetensors::serialize(trace, None).map_err(wrong)?;
    let params = tensors.tensor(&format!("{name}/params")).map_err(wrong)?;
    let params = params.data().chunks_exact(8).filter_map(|word| Some(f64::from_le_bytes(word.try_into().ok()?)));
    let params: Vec<_> = params.collect();
    let expected = params[params.len() - param.data().len() / 4..].to_vec();

    let folder = work.join(format!("{rule}_{name}"));
    let [config, input, out] = ["config.json", "trace.safetensors", "out.safetensors"].map(|file| folder.join(file));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&config, configuration(rule, case).to_string()))
        .and_then(|()| fs::write(&input, trace))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    let [config, input, to] = [&config, &input, &out].map(|path| path.display().to_string());
    let words = ["--device", "gpu", "--config", &config, "--trace", &input, "--out", &to];
    Ok((Invocation::new(kit.program("replay"), words), Case { name: format!("{rule}/{name}"), expected, out }))
}

/// The configuration of a case, for `replay`.
fn configuration(rule: &str, case: &Value) -> Value {
    let mut optimizer = json!({"name": rule});
    // The vectors have no decay unless they say so; some rules of the crate have one. Rprop has no such option.
    if rule != "rprop" {
        optimizer["weight_decay"] = 0.0.into();
    }
    for (key, value) in case["options"].as_object().into_iter().flatten() {
        optimizer[key] = value.clone();
    }
    let mut config = json!({"optimizer": optimizer});
    if let Some(schedule) = case.get("schedule") {
        config["schedule"] = json!({
            "name": "warmup_cosine",
            "lr": schedule["peak"],
            "warmup_steps": schedule["warmup"],
            "total_steps": schedule["total_steps"],
            "min_lr": schedule["min_lr"],
        });
    }
    if let Some(max_norm) = case.get("max_norm") {
        config["clip"] = json!({"name": "global_norm", "max_norm": max_norm});
    }
    let tensors = case["groups"].as_array().into_iter().flatten().enumerate().map(|(number, group)| {
        let shape = group.get("shape").cloned().unwrap_or_else(|| json!([group["elements"]]));
        json!({"name": format!("tensor{number}"), "shape": shape})
    });
    config["tensors"] = tensors.collect();
    config
}

impl Case {
    /// The distance of the replayed parameters from the expected ones.
    pub(crate) fn row(&self) -> Result<Row, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", self.out.display());
        let bytes = fs::read(&self.out).map_err(|error| wrong(&error))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| wrong(&error))?;
        let param = tensors.tensor("param").map_err(|error| wrong(&error))?;
        let words = param.data().chunks_exact(4).filter_map(|word| Some(f32::from_le_bytes(word.try_into().ok()?)));
        let distance = distance(&words.map(f64::from).collect::<Vec<_>>(), &self.expected);
        // NaN is no distance.
        if distance.is_nan() || distance > BOUND {
            return Err(format!("distance {distance:.1e} from the expected parameters; allowed: {BOUND:.0e}"));
        }
        let mut row = Row::new();
        row.insert("vector".to_owned(), self.name.as_str().into());
        row.insert("distance".to_owned(), distance.into());
        Ok(row)
    }
}

/// ‖a - b‖ / ‖b‖; NaN for different lengths.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_have_the_options_of_their_case() {
        let case = json!({
            "options": {"betas": [0.9, 0.95], "weight_decay": 0.1},
            "schedule": {"warmup": 6, "total_steps": 34, "peak": 0.05, "min_lr": 0.0},
            "max_norm": 1.0,
            "groups": [{"elements": 3}, {"elements": 4, "shape": [2, 2]}],
        });
        let config = configuration("adamw", &case);
        assert_eq!(config["optimizer"], json!({"name": "adamw", "betas": [0.9, 0.95], "weight_decay": 0.1}));
        assert_eq!(configuration("rprop", &json!({}))["optimizer"], json!({"name": "rprop"}));
        assert_eq!(config["schedule"]["lr"], 0.05);
        assert_eq!(config["clip"]["max_norm"], 1.0);
        assert_eq!(config["tensors"][0]["shape"], json!([3]));
        assert_eq!(config["tensors"][1]["shape"], json!([2, 2]));
    }

    #[test]
    fn distances_are_relative_and_different_lengths_have_none() {
        assert_eq!(distance(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert!(distance(&[3.0], &[3.0, 4.0]).is_nan());
    }
}
