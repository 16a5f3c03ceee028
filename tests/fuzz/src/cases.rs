//! Cases as tests: those that have failed once.

use crate::case::Case;
use crate::run::{Machine, Outcome};

fn assert_holds(text: &str) {
    let case: Case = serde_json::from_str(text).expect("a case");
    let mut machine = Machine::new().unwrap_or_else(|error| panic!("{error}"));
    let outcome = machine.run(&case);
    assert!(matches!(outcome, Outcome::Held(_)), "{outcome:?}");
}

/// Slices cut inside of a quad, and a step whose encoder is dropped.
#[test]
fn cut_parameters_and_a_dropped_step() {
    assert_holds(
        r#"{
            "rule": {"name": "adamw", "amsgrad": true},
            "tensors": [{"shape": [7, 5]}, {"shape": [0]}, {"shape": [65], "group": "a"}],
            "groups": [["a", {"frozen": true}]],
            "clip": {"name": "global_norm", "max_norm": 0.5},
            "param_places": [{"Cut": {"at": [3, 70], "ahead": 1, "one_buffer": true}}],
            "grad_places": [{"Tensors": {"ahead": 3, "one_buffer": false}}],
            "calls": [
                {"Step": {"seed": 1}},
                {"Dropped": [{"Step": {"seed": 2}}]},
                {"Step": {"seed": 3, "bad": [[0, "NaN"]]}},
                {"Step": {"seed": 4}}
            ]
        }"#,
    );
}

/// A gradient scale in a buffer outlasts a restoration whose encoder is dropped.
#[test]
fn a_scale_after_a_dropped_restoration() {
    assert_holds(
        r#"{
            "rule": {"name": "sophia"},
            "tensors": [{"shape": [1, 1]}],
            "packed": true,
            "calls": [
                {"Snapshot": 1},
                {"SetDeviceGradScale": 0.25},
                {"Dropped": [{"Restore": 1}]},
                {"SetGradScale": 1024.0},
                {"Step": {"seed": 904}}
            ]
        }"#,
    );
}

/// A snapshot of slices without padding, restored into a buffer with padding.
#[test]
fn padding_after_a_restoration() {
    assert_holds(
        r#"{
            "rule": {"name": "sgd"},
            "tensors": [{"shape": [1]}],
            "param_places": [{"Tensors": {"ahead": 0, "one_buffer": false}}, "Whole"],
            "calls": [{"Snapshot": 0}, {"Move": 1}, {"Restore": 0}]
        }"#,
    );
}

/// Encoders that are dropped after those of later calls were recorded, and after these were submitted.
#[test]
fn calls_that_are_dropped_late() {
    for submits_first in [false, true] {
        assert_holds(&format!(
            r#"{{
                "rule": {{"name": "schedule_free_adamw"}},
                "tensors": [{{"shape": [70]}}, {{"shape": [3]}}],
                "calls": [
                    {{"Step": {{"seed": 1}}}},
                    {{"Step": {{"seed": 2}}}},
                    {{"DroppedLate": {{"dropped": ["Eval"], "then": ["Train"], "submits_first": {submits_first}}}}},
                    {{"DroppedLate": {{
                        "dropped": [{{"Snapshot": 0}}],
                        "then": [{{"Step": {{"seed": 3}}}}],
                        "submits_first": {submits_first}
                    }}}},
                    "Eval",
                    {{"DroppedLate": {{"dropped": ["Train"], "then": ["Train"], "submits_first": {submits_first}}}}},
                    {{"Step": {{"seed": 4}}}}
                ]
            }}"#
        ));
    }
}
