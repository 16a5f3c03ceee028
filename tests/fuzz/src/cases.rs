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
