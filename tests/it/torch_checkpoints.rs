//! Checkpoints of PyTorch's optimizers, by `scripts/torch_checkpoint.py`: training goes on here as it does there.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Trainer, device, repository};
use safetensors::SafeTensors;
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::{CpuOptimizer, Layout, OptimizerBuilder, RuleConfig};

const CASES: &[&str] = &[
    "adadelta",
    "adafactor",
    "adagrad",
    "adagrad_initial",
    "adam",
    "adam_amsgrad",
    "adamax",
    "adamw",
    "adamw_groups",
    "nadam",
    "radam",
    "rmsprop",
    "rmsprop_all",
    "rprop",
    "sgd",
    "sgd_momentum",
];
const STEPS: usize = 3;
const MORE: usize = 2;

fn folder() -> PathBuf {
    repository().join("tests/golden/torch_checkpoints")
}

/// Gradients of each step, and parameters, by `torch_checkpoints.py`.
struct Expected(Vec<u8>);

impl Expected {
    fn read() -> Self {
        Self(fs::read(folder().join("expected.safetensors")).unwrap())
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let part =
            |tensor: &str| bytemuck::pod_collect_to_vec(tensors.tensor(&format!("{name}/{tensor}")).unwrap().data());
        [part("weight"), part("bias")].concat()
    }
}

fn layout(case: &str) -> Layout {
    let builder = Layout::builder().packed().tensor("weight", &[3, 5]).tensor("bias", &[3]);
    let builder = if case.ends_with("groups") { builder.group("group1") } else { builder };
    builder.build().unwrap()
}

/// An optimizer with the settings of the checkpoint.
fn builder(path: &Path) -> OptimizerBuilder {
    OptimizerBuilder::from_checkpoint(&Checkpoint::open(path).unwrap()).unwrap()
}

fn assert_close(case: &str, engine: &str, found: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let apart = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max);
    assert!(apart <= 2e-6 * largest, "{case} on {engine}: {apart:e} apart at a largest parameter of {largest}");
}

#[test]
fn training_that_began_in_torch_goes_on_here() {
    let expected = Expected::read();
    for case in CASES {
        let (path, layout) = (folder().join(format!("{case}.safetensors")), layout(case));
        let mut params = vec![0.0; layout.len()];
        let mut on_cpu = builder(&path).build_cpu(&layout).unwrap();
        let loaded = on_cpu.load(&path, Some((&mut params).into()), &LoadOptions::default()).unwrap();
        assert_eq!(loaded.differences, [], "{case}");
        assert_eq!(on_cpu.stats().step, STEPS as u64);
        let mut on_device = Trainer::new(device::gpu(), builder(&path), &layout, &params);
        let all = on_device.params.slice(..4 * layout.len() as u64);
        let _ = on_device.optimizer.load(&path, Some(all.into()), &LoadOptions::default()).unwrap();
        for step in STEPS..STEPS + MORE {
            let grads = expected.get(&format!("grad{step}"));
            on_cpu.step(&mut params, &grads).unwrap();
            on_device.step(&grads);
        }
        assert_close(case, "the CPU", &params, &expected.get(case));
        assert_close(case, "the device", &on_device.params(), &expected.get(case));
    }
}

/// Every rule that torch has is among the cases.
#[test]
fn every_rule_of_torch_is_tested() {
    let rules: Vec<String> = serde_json::from_str::<Vec<serde_json::Value>>(
        &fs::read_to_string(repository().join("tests/golden/param_groups.json")).unwrap(),
    )
    .unwrap()
    .iter()
    .map(|group| group["name"].as_str().unwrap().to_owned())
    .collect();
    assert!(rules.len() > 10);
    assert!(rules.iter().all(|rule| CASES.contains(&rule.as_str()) && RuleConfig::NAMES.contains(&rule.as_str())));
}

/// Training that began here, for torch to continue.
fn trained(case: &str, expected: &Expected) -> (CpuOptimizer, Vec<f32>) {
    let path = folder().join(format!("{case}.safetensors"));
    let mut optimizer = builder(&path).build_cpu(&layout(case)).unwrap();
    let mut params = expected.get("start");
    for step in 0..STEPS {
        optimizer.step(&mut params, &expected.get(&format!("grad{step}"))).unwrap();
    }
    (optimizer, params)
}

/// Three steps here equal three steps there, in every state of the file.
#[test]
fn a_checkpoint_from_here_has_the_states_of_one_from_torch() {
    let expected = Expected::read();
    let folder_of_test = tempfile::tempdir().unwrap();
    let path = folder_of_test.path().join("saved");
    for case in CASES {
        let (optimizer, params) = trained(case, &expected);
        optimizer.save(&path, Some((&params).into())).unwrap();
        let (own, torch) = (fs::read(&path).unwrap(), fs::read(folder().join(format!("{case}.safetensors"))).unwrap());
        let (own, torch) = (SafeTensors::deserialize(&own).unwrap(), SafeTensors::deserialize(&torch).unwrap());
        for name in torch.names().into_iter().filter(|name| name.starts_with("states/") || name.starts_with("params/"))
        {
            let values = |file: &SafeTensors<'_>| bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data());
            assert_eq!(own.tensor(name).unwrap().shape(), torch.tensor(name).unwrap().shape(), "{case}: {name}");
            assert_close(&format!("{case}, {name}"), "the CPU", &values(&own), &values(&torch));
        }
    }
}

/// `TORCH_PYTHON=python cargo test -- --ignored torch_continues` with a Python that has torch and safetensors.
#[test]
#[ignore = "needs Python with torch: set TORCH_PYTHON to it"]
fn torch_continues_what_began_here() {
    let python = std::env::var_os("TORCH_PYTHON").expect("TORCH_PYTHON names a Python with torch");
    let (expected, files) = (Expected::read(), tempfile::tempdir().unwrap());
    for case in CASES {
        let (mut optimizer, mut params) = trained(case, &expected);
        optimizer.save(files.path().join(format!("{case}.safetensors")), Some((&params).into())).unwrap();
        for step in STEPS..STEPS + MORE {
            optimizer.step(&mut params, &expected.get(&format!("grad{step}"))).unwrap();
        }
        let view =
            |values, shape| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, values).unwrap();
        let (weight, bias) = (bytemuck::cast_slice(&params[..15]), bytemuck::cast_slice(&params[15..]));
        let tensors = [("weight", view(weight, vec![3, 5])), ("bias", view(bias, vec![3]))];
        let path = files.path().join(format!("{case}.expected"));
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
    }
    let mut check = std::process::Command::new(python);
    let script = repository().join("tests/golden/torch_checkpoints.py");
    assert!(check.arg(script).arg("check").arg(files.path()).status().unwrap().success());
}
