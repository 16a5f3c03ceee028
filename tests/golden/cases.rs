//! Reads the files that `generate.py` wrote.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde_json::Value;
use wgpu_optim::Dtype;

use crate::common::repository;

pub struct Case {
    /// File and case, as in `adamw/clip`.
    pub name: String,
    pub rule: String,
    /// Format of the gradients: files whose names end in `_bf16` hold numbers that bf16 can store.
    pub grad_dtype: Dtype,
    /// Hyperparameters under PyTorch's names; those left out have the framework's defaults.
    options: Value,
    pub steps: usize,
    /// Steps without a non-finite gradient.
    pub applied: u64,
    /// Calls of step after which `params` has a row.
    pub checkpoints: Vec<usize>,
    pub schedule: Option<WarmupCosine>,
    pub max_norm: Option<f64>,
    pub grad_scale: Option<f64>,
    pub groups: Vec<Group>,
    pub param0: Vec<f32>,
    grads: Vec<Vec<f32>>,
    pub params: Vec<Vec<f64>>,
    /// At the end, by name.
    pub states: BTreeMap<String, Vec<f64>>,
    lr: Vec<f64>,
    /// Of every step, where the case clips.
    pub grad_norm: Option<Vec<f64>>,
    pub clip_coef: Option<Vec<f64>>,
    /// Estimates of the Hessian's diagonal, by the step before which they are given.
    hessians: BTreeMap<usize, Vec<f32>>,
    /// At the end, switched to evaluation.
    pub eval_params: Option<Vec<f64>>,
}

pub struct WarmupCosine {
    pub peak: f64,
    pub warmup: u64,
    pub total_steps: u64,
    pub min_lr: f64,
}

/// Consecutive elements with options of their own.
pub struct Group {
    pub elements: usize,
    /// As a tensor.
    pub shape: Vec<usize>,
    pub lr_scale: f64,
    pub weight_decay: Option<f64>,
    pub frozen: bool,
}

impl Case {
    pub fn option(&self, name: &str, default: f64) -> f64 {
        self.options.get(name).map_or(default, number)
    }

    pub fn optional(&self, name: &str) -> Option<f64> {
        self.options.get(name).map(number)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.options.get(name).map_or(default, |value| value.as_bool().expect("a flag"))
    }

    pub fn betas(&self, default: (f64, f64)) -> (f64, f64) {
        self.pair("betas", default)
    }

    /// Whose convention the case follows, where its rule has several.
    pub fn convention(&self) -> Option<&str> {
        self.options.get("convention").map(|name| name.as_str().expect("a name"))
    }

    pub fn pair(&self, name: &str, default: (f64, f64)) -> (f64, f64) {
        self.optional_pair(name).unwrap_or(default)
    }

    pub fn optional_pair(&self, name: &str) -> Option<(f64, f64)> {
        self.options.get(name).map(|pair| (number(&pair[0]), number(&pair[1])))
    }

    pub fn three_betas(&self, default: (f64, f64, f64)) -> (f64, f64, f64) {
        let read = |betas: &Value| (number(&betas[0]), number(&betas[1]), number(&betas[2]));
        self.options.get("betas").map_or(default, read)
    }

    pub fn steps_option(&self, name: &str) -> Option<u32> {
        self.options.get(name).map(|steps| integer(steps).try_into().expect("steps"))
    }

    pub fn weight_decay(&self) -> f64 {
        let default = match (self.rule.as_str(), self.convention()) {
            ("lion_conventions", Some("optax")) => 1e-3,
            ("adamw_conventions", Some("optax")) => 1e-4,
            ("adamw_conventions", Some("keras")) => 4e-3,
            ("adamw_conventions", Some("bitsandbytes")) => 1e-2,
            _ => 0.0,
        };
        self.option("weight_decay", default)
    }

    /// What step `step`, counted from 0, is given: multiplied by `grad_scale` where there is one.
    pub fn grads(&self, step: usize) -> &[f32] {
        &self.grads[step % self.grads.len()]
    }

    /// The Hessian estimate that is given before step `step`.
    pub fn hessian(&self, step: usize) -> Option<&[f32]> {
        self.hessians.get(&step).map(Vec::as_slice)
    }

    /// The first bad element of the gradient of a step that is to be skipped.
    pub fn first_nonfinite(&self, step: usize) -> Option<usize> {
        self.grads(step).iter().position(|grad| !grad.is_finite())
    }

    /// Of an element that belongs to no group.
    pub fn lr(&self, step: usize) -> f64 {
        self.lr[step.min(self.lr.len() - 1)]
    }

    /// The group of every element.
    pub fn group_of(&self) -> Vec<&Group> {
        self.groups.iter().flat_map(|group| std::iter::repeat_n(group, group.elements)).collect()
    }
}

/// Every case of `tests/golden/<rule>.safetensors`.
pub fn read(rule: &str) -> Vec<Case> {
    let path = repository().join("tests/golden").join(rule).with_extension("safetensors");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
    let described = &metadata.metadata().as_ref().expect("metadata")["cases"];
    let described: Value = serde_json::from_str(described).expect("JSON");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let cases = described["cases"].as_object().expect("cases by name");
    cases.iter().map(|(name, case)| read_case(&tensors, rule, name, case)).collect()
}

fn read_case(tensors: &SafeTensors, rule: &str, name: &str, case: &Value) -> Case {
    let data = format!("data/{}", case["data"].as_str().expect("a name"));
    let param0 = f32s(tensors, &format!("{data}/param0"));
    let elements = param0.len();
    let params = f64s(tensors, &format!("{name}/params")).expect("params");
    let others = ["params", "eval_params", "lr", "grad_norm", "clip_coef"];
    let of_case = tensors.names().into_iter().filter_map(|tensor| tensor.strip_prefix(&format!("{name}/")));
    let states = of_case
        .filter(|state| !others.contains(state))
        .filter_map(|state| Some((state.to_owned(), f64s(tensors, &format!("{name}/{state}"))?)))
        .collect();
    let hessian_steps = case.get("hessian_steps").map_or(&[][..], list);
    let hessian_steps: Vec<usize> = hessian_steps.iter().map(|step| integer(step) as usize).collect();
    let hessians = if hessian_steps.is_empty() { vec![] } else { f32s(tensors, &format!("{data}/hessian")) };
    let hessians = hessians.chunks(elements).map(<[f32]>::to_vec);
    let whole = Group { elements, shape: vec![elements], lr_scale: 1.0, weight_decay: None, frozen: false };
    let groups = case.get("groups").map_or_else(|| vec![whole], |groups| list(groups).iter().map(read_group).collect());
    assert_eq!(groups.iter().map(|group| group.elements).sum::<usize>(), elements, "{name}: groups cover all elements");
    Case {
        name: format!("{rule}/{name}"),
        rule: rule.trim_end_matches("_bf16").to_string(),
        grad_dtype: if rule.ends_with("_bf16") { Dtype::Bf16 } else { Dtype::F32 },
        options: case["options"].clone(),
        steps: integer(&case["steps"]) as usize,
        applied: integer(&case["applied"]),
        checkpoints: list(&case["checkpoints"]).iter().map(|step| integer(step) as usize).collect(),
        schedule: case.get("schedule").map(read_schedule),
        max_norm: case.get("max_norm").map(number),
        grad_scale: case.get("grad_scale").map(number),
        groups,
        grads: f32s(tensors, &format!("{data}/grads")).chunks(elements).map(<[f32]>::to_vec).collect(),
        param0,
        params: params.chunks(elements).map(<[f64]>::to_vec).collect(),
        states,
        lr: f64s(tensors, &format!("{name}/lr")).expect("lr"),
        grad_norm: f64s(tensors, &format!("{name}/grad_norm")),
        clip_coef: f64s(tensors, &format!("{name}/clip_coef")),
        hessians: hessian_steps.into_iter().zip(hessians).collect(),
        eval_params: f64s(tensors, &format!("{name}/eval_params")),
    }
}

fn read_schedule(schedule: &Value) -> WarmupCosine {
    WarmupCosine {
        peak: number(&schedule["peak"]),
        warmup: integer(&schedule["warmup"]),
        total_steps: integer(&schedule["total_steps"]),
        min_lr: number(&schedule["min_lr"]),
    }
}

fn read_group(group: &Value) -> Group {
    let elements = integer(&group["elements"]) as usize;
    let read_shape = |shape| list(shape).iter().map(|dim| integer(dim) as usize).collect();
    Group {
        elements,
        shape: group.get("shape").map_or_else(|| vec![elements], read_shape),
        lr_scale: group.get("lr_scale").map_or(1.0, number),
        weight_decay: group.get("weight_decay").map(number),
        frozen: group.get("frozen").is_some(),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn integer(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn f32s(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    tensor.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().expect("4 bytes"))).collect()
}

fn f64s(tensors: &SafeTensors, name: &str) -> Option<Vec<f64>> {
    let tensor = tensors.tensor(name).ok()?;
    assert_eq!(tensor.dtype(), safetensors::Dtype::F64, "{name}");
    Some(tensor.data().chunks_exact(8).map(|word| f64::from_le_bytes(word.try_into().expect("8 bytes"))).collect())
}
