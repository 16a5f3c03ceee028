//! Files and settings that have failed once, smallest first.

/// As [`super::files::File`].
pub const FILES: &[&str] = &[
    // Positions at which the ring of the history, or the next step, overflows.
    r#"{"rule": "lion", "flavor": 3, "program": 3, "edits": [{"Header": {"Set": ["/state/recorded", 9223372036854775808]}}]}"#,
    r#"{"rule": "radam", "flavor": 0, "program": 0, "edits": [{"Header": {"Set": ["/state/recorded", 18446744073709551615]}}]}"#,
    // A schedule whose first part has no steps.
    r#"{"rule": "sgd", "flavor": 0, "program": 0, "edits": [{"Header": {"Set": ["/state/schedule", {"name": "sequential",
        "milestones": [0], "schedulers": [{"name": "constant", "lr": 1}, {"name": "constant", "lr": 1}]}]}}]}"#,
    // Counts of steps at the end of 32 bits.
    r#"{"rule": "sgd", "flavor": 3, "program": 3, "edits": [{"Header": {"Set": ["/stats/skipped", 4294967295]}}]}"#,
    r#"{"rule": "sgd", "flavor": 3, "program": 3, "edits": [{"Header": {"Set": ["/stats/consecutive_skipped", 4294967295]}}]}"#,
    r#"{"rule": "adagrad", "flavor": 0, "program": 0, "edits": [{"Header": {"Set": ["/stats/step", 4294967295]}}]}"#,
    // Offsets whose sum exceeds 64 bits.
    r#"{"rule": "lion", "flavor": 0, "program": 0, "edits": ["Huge"]}"#,
    // A momentum without a buffer.
    r#"{"rule": "sgd", "flavor": 2, "program": 2, "edits": [{"Header": {"Set": ["/state/momentum", -0.0]}}]}"#,
    // Evaluation without a way back.
    r#"{"rule": "sgd", "flavor": 0, "program": 0, "edits": [{"Header": {"Set": ["/state/mode", "evaluation"]}},
        {"Copy": ["params/a", "training_params/a"]}, {"Copy": ["params/b", "training_params/b"]},
        {"Copy": ["params/none", "training_params/none"]}, {"Copy": ["params/c", "training_params/c"]}]}"#,
];

/// As [`super::configs::Config`].
pub const CONFIGS: &[&str] = &[
    r#"{"schedule": {"name": "sequential", "milestones": [0],
        "schedulers": [{"name": "constant", "lr": 1}, {"name": "constant", "lr": 1}]}}"#,
    // A position after which the count of steps wraps around.
    r#"{"rule": {"name": "adagrad"}, "position": 4294967293}"#,
    r#"{"rule": {"name": "adafactor"}, "position": 4294967293}"#,
    r#"{"rule": {"name": "schedule_free_sgd", "r": 2}, "position": 4294967293}"#,
];
