//! Configuration files: PyTorch's parameter groups, and numbers that JSON lacks.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use wgpu_optim::clip::{Adaptive, GlobalNorm, Percentile};
use wgpu_optim::history::{GroupStats, HistoryOptions};
use wgpu_optim::schedule::{LrCurve, LrPoint, LrSuggestions, RangeTest, ReduceLROnPlateau};
use wgpu_optim::{
    Adam, AdamW, Clip, GroupOptions, Layout, NonFinite, Optimizer, OptimizerBuilder, RuleConfig, Schedule, Sophia,
    Stats,
};

/// `golden/param_groups.json` holds groups with default options.
#[test]
fn parameter_groups_of_pytorch_load_as_the_defaults() {
    let groups: Vec<Value> = serde_json::from_str(include_str!("../golden/param_groups.json")).unwrap();
    assert_eq!(groups.len(), 22);
    for group in groups {
        let rule: RuleConfig = serde_json::from_value(group.clone()).unwrap_or_else(|error| panic!("{group}: {error}"));
        assert_eq!(rule, serde_json::from_value(json!({ "name": group["name"] })).unwrap(), "{group}");
    }
}

#[test]
fn decoupled_adam_is_adamw() {
    let group = json!({"name": "adam", "weight_decay": 0.25, "decoupled_weight_decay": true, "fused": true});
    let adam: RuleConfig = serde_json::from_value(group).unwrap();
    assert_eq!(adam, RuleConfig::Adam(Adam::default().with_weight_decay(0.25).with_decoupled_weight_decay(true)));
    let stepped = |builder: OptimizerBuilder| {
        let mut optimizer = builder.build_cpu(&Layout::flat(2).unwrap()).unwrap();
        let mut params = [1.0, -2.0];
        for grads in [[0.5, 0.25], [-1.0, 4.0]] {
            optimizer.step(&mut params, &grads).unwrap();
        }
        params
    };
    assert_eq!(stepped(adam.builder()), stepped(Optimizer::builder(AdamW::default().with_weight_decay(0.25))));
}

/// The places of floats, and of missing values that may be floats.
fn float_places(value: &Value, place: &str, places: &mut Vec<String>) {
    match value {
        Value::Number(number) if number.is_f64() => places.push(place.to_owned()),
        Value::Null => places.push(place.to_owned()),
        Value::Array(values) => {
            for (i, value) in values.iter().enumerate() {
                float_places(value, &format!("{place}/{i}"), places);
            }
        }
        Value::Object(fields) => {
            for (key, value) in fields {
                float_places(value, &format!("{place}/{key}"), places);
            }
        }
        _ => {}
    }
}

/// Each float of `value`, replaced by a number that JSON lacks, is read and written back. Returns how many.
fn assert_floats_are_kept<T: Serialize + DeserializeOwned>(value: &T) -> usize {
    let (value, mut places, mut kept) = (serde_json::to_value(value).unwrap(), Vec::new(), 0);
    float_places(&value, "", &mut places);
    for place in places {
        for number in ["inf", "-inf", "nan"] {
            let mut changed = value.clone();
            let was = std::mem::replace(changed.pointer_mut(&place).unwrap(), number.into());
            match serde_json::from_value::<T>(changed.clone()) {
                Ok(read) => {
                    assert_eq!(serde_json::to_value(&read).unwrap(), changed, "{place}");
                    kept += 1;
                }
                // A missing count.
                Err(error) => assert!(was.is_null(), "{value}: {place}: {error}"),
            }
        }
        let mut changed = value.clone();
        *changed.pointer_mut(&place).unwrap() = "infinity".into();
        assert!(serde_json::from_value::<T>(changed).is_err(), "{place}");
    }
    kept
}

#[test]
fn floats_that_json_lacks_are_read_and_written() {
    for name in RuleConfig::NAMES {
        let rule: RuleConfig = serde_json::from_value(json!({ "name": name })).unwrap();
        assert!(assert_floats_are_kept(&rule) > 0, "{name}");
    }
    assert_eq!(assert_floats_are_kept(&Sophia::hutchinson()), 3 * 6);
    let golden: Value = serde_json::from_str(include_str!("../golden/schedules.json")).unwrap();
    for case in golden["schedules"].as_array().unwrap() {
        let schedule: Schedule = serde_json::from_value(case["schedule"].clone()).unwrap();
        assert!(assert_floats_are_kept(&schedule) > 0, "{schedule}");
    }
    assert_eq!(assert_floats_are_kept(&ReduceLROnPlateau::new(0.5)), 3 * 6);
    assert_eq!(assert_floats_are_kept(&RangeTest::default()), 3 * 4);
    let points = vec![LrPoint { lr: 0.5, loss: 0.5, smooth_loss: 0.5 }];
    assert_eq!(assert_floats_are_kept(&LrCurve { num_iter: 1, points, ended_nonfinite: false }), 3 * 3);
    assert_eq!(assert_floats_are_kept(&LrSuggestions { steepest: 0.5, valley: 0.5, minimum: 0.5 }), 3 * 3);
    for (clip, floats) in [
        (GlobalNorm::new(1.0).into(), 2),
        (Clip::value(1.0), 1),
        (Clip::group_norm(1.0), 1),
        (Adaptive::new(0.5).into(), 2),
        (Percentile::new(10.0).into(), 2),
    ] {
        assert_eq!(assert_floats_are_kept(&clip), 3 * floats, "{clip:?}");
    }
    assert_eq!(assert_floats_are_kept(&GroupOptions::default()), 3 * 2);
}

#[test]
fn statistics_that_json_lacks_are_read_and_written() {
    let layout = Layout::builder().tensor("w", &[2]).group("all").build().unwrap();
    let options = HistoryOptions::steps(1).with_norms_every(1).per_group();
    let builder = Optimizer::builder(Sophia::default()).history(options).on_nonfinite(NonFinite::Propagate);
    let mut optimizer = builder.build_cpu(&layout).unwrap();
    let mut params = vec![0.5; layout.len()];
    optimizer.step(&mut params, &vec![0.25; layout.len()]).unwrap();
    let history = optimizer.history().unwrap();
    assert_eq!(assert_floats_are_kept::<Stats>(&history.steps[0]), 3 * 10);
    assert_eq!(assert_floats_are_kept::<GroupStats>(&history.groups[0]), 3 * 7);
}
