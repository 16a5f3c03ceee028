use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::{Args, Config, Device, Trace, run};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn safetensors(tensors: &[(&str, Dtype, Vec<u8>)]) -> Vec<u8> {
    let mut views = Vec::new();
    for (name, dtype, bytes) in tensors {
        let elements = bytes.len() / if *dtype == Dtype::F32 { 4 } else { 2 };
        views.push((*name, TensorView::new(*dtype, vec![elements], bytes).unwrap()));
    }
    safetensors::serialize(views, None).unwrap()
}

fn replay(folder: &Path, config: &str, trace: &[u8], device: Device) -> Result<Vec<u8>, String> {
    let path = |name: &str| folder.join(name);
    std::fs::write(path("config.json"), config).unwrap();
    std::fs::write(path("trace.safetensors"), trace).unwrap();
    let out = path("out.safetensors");
    let args = Args { config: path("config.json"), trace: path("trace.safetensors"), out, device, every_step: true };
    run(&args).map_err(|error| error.to_string())?;
    Ok(std::fs::read(&args.out).unwrap())
}

fn tensor(bytes: &[u8], name: &str) -> Vec<f32> {
    let tensors = SafeTensors::deserialize(bytes).unwrap();
    bytemuck::pod_collect_to_vec(tensors.tensor(name).unwrap().data())
}

const CONFIG: &str = r#"{
    "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.5},
    "schedule": {"name": "warmup_cosine", "warmup_steps": 1, "total_steps": 100},
    "clip": {"name": "global_norm", "max_norm": 1000.0},
    "groups": [{"start": 2, "end": 3, "lr_scale": 0.5}, {"start": 3, "end": 4, "frozen": true}],
    "tensors": [{"name": "w", "shape": [2, 2]}],
    "nonfinite": "skip"
}"#;

#[test]
fn a_trace_is_replayed_with_schedule_groups_and_skips_on_both_engines() {
    let folder = tempfile::tempdir().unwrap();
    let half = |values: [f32; 4]| values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
    let trace = safetensors(&[
        ("param", Dtype::F32, floats(&[1.0, 2.0, 3.0, 4.0])),
        ("grad.0", Dtype::F32, floats(&[8.0; 4])),
        ("grad.1", Dtype::BF16, half([2.0, 0.0, -2.0, 4.0])),
        ("grad.2", Dtype::F32, floats(&[f32::NAN, 1.0, 1.0, 1.0])),
    ]);
    for device in [Device::Cpu, Device::Gpu] {
        let out = replay(folder.path(), CONFIG, &trace, device).unwrap();
        // Step 0 has lr 0 and fills the buffer; step 1 has lr 0.5 and buffer 0.5 * 8 + grad; step 2 is skipped.
        assert_eq!(tensor(&out, "param.0"), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(tensor(&out, "param"), [1.0 - 3.0, 2.0 - 2.0, 3.0 - 0.5, 4.0]);
        assert_eq!(tensor(&out, "param.2"), tensor(&out, "param.1"));
        assert_eq!(tensor(&out, "momentum_buffer"), [6.0, 4.0, 2.0, 0.0]);
        assert_eq!(tensor(&out, "lr")[..2], [0.0, 0.5]);
        assert_eq!(tensor(&out, "clip_coef")[..2], [1.0, 1.0]);
        assert!((tensor(&out, "grad_norm")[0] - 192f32.sqrt()).abs() < 1e-5, "the frozen element does not count");
        let tensors = SafeTensors::deserialize(&out).unwrap();
        assert_eq!(tensors.tensor("skipped").unwrap().data(), [0, 0, 1]);
    }
}

#[test]
fn estimates_of_the_hessian_are_given_before_their_step() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"optimizer": {"name": "sophia", "lr": 0.5, "betas": [0.5, 0.5], "weight_decay": 0.0,
        "curvature": {"hutchinson": {"gamma": 1.0, "eps": 0.001}}}}"#;
    let trace = |steps: &[(&'static str, f32)]| {
        let steps = steps.iter().map(|&(name, value)| (name, Dtype::F32, floats(&[value; 2])));
        safetensors(&steps.collect::<Vec<_>>())
    };
    let given = trace(&[("param", 1.0), ("grad.0", 4.0), ("grad.1", 4.0), ("hessian.1", 32.0)]);
    for device in [Device::Cpu, Device::Gpu] {
        let out = replay(folder.path(), config, &given, device).unwrap();
        // Without curvature the step is clipped to lr; then 4 / (32 / 2).
        assert_eq!(tensor(&out, "param.0"), [0.5; 2]);
        assert_eq!(tensor(&out, "hessian"), [16.0; 2]);
        assert_eq!(tensor(&out, "param"), [0.5 - 0.5 * 0.25; 2]);
    }
    let message = replay(folder.path(), r#"{"optimizer": {"name": "sgd"}}"#, &given, Device::Cpu).unwrap_err();
    assert!(message.contains("update_hessian"), "{message}");
    let stranger = trace(&[("param", 1.0), ("grad.0", 4.0), ("hessian.1", 32.0)]);
    assert!(Trace::parse(&stranger).unwrap_err().to_string().contains("hessian.1"));
}

#[test]
fn factors_are_written_under_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"optimizer": {"name": "adafactor", "lr": 1.0, "eps": [null, 0.001]},
        "tensors": [{"name": "w", "shape": [2, 2]}, {"name": "b", "shape": [1]}]}"#;
    let trace = safetensors(&[
        ("param", Dtype::F32, floats(&[1.0; 5])),
        ("grad.0", Dtype::F32, floats(&[1.0, 2.0, 3.0, 4.0, 5.0])),
    ]);
    for device in [Device::Cpu, Device::Gpu] {
        let out = replay(folder.path(), config, &trace, device).unwrap();
        assert_eq!(tensor(&out, "row_var"), [2.5, 12.5]);
        assert_eq!(tensor(&out, "col_var"), [5.0, 10.0]);
        assert_eq!(tensor(&out, "variance"), [25.0]);
        // A step of the parameter's own size.
        assert_eq!(tensor(&out, "param")[4], 0.0);
    }
}

#[test]
fn a_convention_gives_defaults_that_other_keys_override() {
    let folder = tempfile::tempdir().unwrap();
    let trace = safetensors(&[("param", Dtype::F32, floats(&[1.0])), ("grad.0", Dtype::F32, floats(&[0.25]))]);
    // The first step with epsilon hat: lr · √(1 - 0.75)/(1 - 0.5) · 0.125 / (√(0.25 · 0.25²) + 0.125).
    let optimizer =
        r#"{"name": "adamw", "convention": "keras", "lr": 1.0, "betas": [0.5, 0.75], "eps": 0.125, "amsgrad": false}"#;
    for (weight_decay, decay) in [("", 0.004), (r#", "weight_decay": 0.5"#, 0.5)] {
        let config = format!(r#"{{"optimizer": {}}}"#, optimizer.replace('}', &format!("{weight_decay}}}")));
        let param = tensor(&replay(folder.path(), &config, &trace, Device::Cpu).unwrap(), "param")[0];
        let expected = 1.0 - decay - 0.125 / (0.125 + 0.125);
        assert!((param - expected).abs() < 1e-6, "{param} instead of {expected}");
    }
}

#[test]
fn a_schedule_starts_from_the_optimizers_rate_where_it_takes_one() {
    let folder = tempfile::tempdir().unwrap();
    let grads = ["grad.0", "grad.1", "grad.2"].map(|name| (name, Dtype::F32, floats(&[0.0; 4])));
    let trace = safetensors(&[&[("param", Dtype::F32, floats(&[0.0; 4]))], &grads[..]].concat());
    let halving = r#"{"name": "exponential", "gamma": 0.5}"#;
    for (schedule, lrs) in [
        (halving.to_owned(), [0.5, 0.25, 0.125]),
        (r#"{"name": "exponential", "gamma": 0.5, "lr": 4}"#.to_owned(), [4.0, 2.0, 1.0]),
        (r#"{"name": "piecewise_constant", "boundaries_and_scales": [[2, 0.5]]}"#.to_owned(), [0.5, 0.5, 0.25]),
        (r#"{"name": "cyclic", "base_lr": 1, "max_lr": 2, "step_size_up": 2}"#.to_owned(), [1.0, 1.5, 2.0]),
        (format!(r#"{{"name": "warmup", "warmup_steps": 1, "schedule": {halving}}}"#), [0.0, 0.5, 0.25]),
        (format!(r#"{{"name": "chained", "schedulers": [{halving}, {halving}]}}"#), [0.5, 0.125, 0.03125]),
        (
            format!(r#"{{"name": "sequential", "schedulers": [{halving}, {halving}], "milestones": [1]}}"#),
            [0.5, 0.5, 0.25],
        ),
    ] {
        let config = format!(r#"{{"optimizer": {{"name": "sgd", "lr": 0.5}}, "schedule": {schedule}}}"#);
        let out = replay(folder.path(), &config, &trace, Device::Cpu).expect(&schedule);
        assert_eq!(tensor(&out, "lr"), lrs, "{schedule}");
    }
}

#[test]
fn a_schedule_starts_from_the_default_rate_of_the_rule_or_convention() {
    let folder = tempfile::tempdir().unwrap();
    let grads = ["grad.0", "grad.1", "grad.2"].map(|name| (name, Dtype::F32, floats(&[1.0; 2])));
    let trace = safetensors(&[&[("param", Dtype::F32, floats(&[0.0; 2]))], &grads[..]].concat());
    let halving = r#"{"name": "step", "step_size": 2, "gamma": 0.5}"#;
    let dump = r#""lr": 0.25, "initial_lr": 0.5, "max_lr": 2.0, "min_lr": 0.125, "foreach": null"#;
    for (optimizer, lr) in [
        (r#"{"name": "sgd"}"#.to_owned(), 1e-3),
        (r#"{"name": "sgd", "convention": "keras"}"#.to_owned(), 1e-2),
        (format!(r#"{{"name": "sgd", {dump}}}"#), 0.5),
    ] {
        let config = format!(r#"{{"optimizer": {optimizer}, "schedule": {halving}}}"#);
        let out = replay(folder.path(), &config, &trace, Device::Cpu).expect(&config);
        assert_eq!(tensor(&out, "lr"), [lr, lr, lr / 2.0], "{config}");
        let config = format!(
            r#"{{"optimizer": {optimizer}, "groups": [{{"start": 0, "end": 1, "schedule": {{"name": "constant"}}}},
                {{"start": 1, "end": 2, "schedule": {halving}}}]}}"#
        );
        let params = tensor(&replay(folder.path(), &config, &trace, Device::Cpu).expect(&config), "param.2");
        assert_eq!(params, [0.0 - lr - lr - lr, 0.0 - lr - lr - lr / 2.0], "{config}");
    }
}

#[test]
fn a_group_has_a_schedule_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let grads = ["grad.0", "grad.1"].map(|name| (name, Dtype::F32, floats(&[1.0; 4])));
    let trace = safetensors(&[&[("param", Dtype::F32, floats(&[0.0; 4]))], &grads[..]].concat());
    let config = r#"{"optimizer": {"name": "sgd", "lr": 0.5}, "groups": [{"start": 2, "end": 4,
        "schedule": {"name": "exponential", "gamma": 0.5}}]}"#;
    for device in [Device::Cpu, Device::Gpu] {
        assert_eq!(
            tensor(&replay(folder.path(), config, &trace, device).unwrap(), "param"),
            [-1.0, -1.0, -0.75, -0.75]
        );
    }
}

#[test]
fn unknown_names_and_keys_are_named_with_what_is_allowed() {
    let wrong = [
        (r#"{"optimizer": {"name": "adamx"}}"#, ["adamx", "adamw"]),
        (r#"{"optimizer": {"name": "adamw", "beta": 1}}"#, ["beta", "betas"]),
        (r#"{"optimizer": {"name": "adamw", "convention": "pytorch"}}"#, ["pytorch", "bitsandbytes"]),
        (r#"{"optimizer": {"name": "sgd"}, "scheduler": {}}"#, ["scheduler", "schedule"]),
        (r#"{"optimizer": {"name": "sgd"}, "schedule": {"name": "cosin"}}"#, ["cosin", "warmup_cosine"]),
        (r#"{"optimizer": {"name": "sgd"}, "clip": {"name": "global_norm", "max": 1}}"#, ["max", "max_norm"]),
        (r#"{"optimizer": {"name": "sgd"}, "nonfinite": "ignore"}"#, ["ignore", "propagate"]),
        (r#"{"optimizer": {"name": "sgd"}, "groups": [{"start": 0, "end": 1, "lr": 1}]}"#, ["lr", "lr_scale"]),
        (r#"{"optimizer": {"name": "sgd", "lr": -1.0}}"#, ["-1", "allowed"]),
        (r#"{"optimizer": {"name": "sgd"}, "tensors": [{"name": "w", "shape": [3]}]}"#, ["3", "4"]),
        (r#"{"optimizer": {"name": "sgd"}, "groups": [{"start": 2, "end": 9}]}"#, ["2..9", "0..4"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let trace = safetensors(&[("param", Dtype::F32, floats(&[0.0; 4]))]);
    for (config, parts) in wrong {
        let message = replay(folder.path(), config, &trace, Device::Cpu).expect_err(config);
        assert!(parts.iter().all(|part| message.contains(part)), "{config}: {message}");
    }
    assert!(Config::parse("{}").unwrap_err().to_string().contains("optimizer"));
}

#[test]
fn traces_with_gaps_strangers_or_wrong_lengths_are_refused() {
    let param = ("param", Dtype::F32, floats(&[0.0; 4]));
    let grad = |name| (name, Dtype::F32, floats(&[0.0; 4]));
    let wrong = [
        (vec![grad("grad.0")], "param"),
        (vec![param.clone(), grad("grad.1")], "grad.0"),
        (vec![param.clone(), grad("grad.0"), grad("grads.1")], "grads.1"),
        (vec![param.clone(), ("grad.0", Dtype::F32, floats(&[0.0; 3]))], "3"),
        (vec![param.clone(), ("grad.0", Dtype::I16, vec![0; 8])], "BF16"),
    ];
    for (tensors, part) in wrong {
        let message = Trace::parse(&safetensors(&tensors)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(Trace::parse(b"no safetensors").is_err());
}
