//! Files with absurd contents and right checksums, and settings from random JSON: typed errors, no panic, nothing half
//! loaded. `cargo xtask fuzz --target checkpoint` runs the same generators for longer.

use std::io::{Cursor, Read, Seek, SeekFrom};

#[path = "../fuzz/src/configs.rs"]
mod configs;
#[path = "../fuzz/src/corpus.rs"]
mod corpus;
#[path = "../fuzz/src/files.rs"]
mod files;
#[path = "../fuzz/src/mutate.rs"]
mod mutate;

use files::{Edit, File};
use mutate::Change;
use serde_json::{Value, json};
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions};
use wgpu_optim::{Error, Schedule};

/// `cargo xtask fuzz` hides panics; tests print them.
const _: fn(&std::panic::PanicHookInfo<'_>) = mutate::note_panic;

#[test]
fn files_that_failed_once_are_refused_or_loaded() {
    for text in corpus::FILES {
        files::check(&serde_json::from_str(text).unwrap()).unwrap_or_else(|failure| panic!("{text}: {failure}"));
    }
}

#[test]
fn settings_that_failed_once_are_refused_or_built() {
    for text in corpus::CONFIGS {
        configs::check(&serde_json::from_str(text).unwrap()).unwrap_or_else(|failure| panic!("{text}: {failure}"));
    }
}

#[test]
fn random_files_are_refused_or_loaded() {
    let loaded = (0..1_500).filter(|&number| {
        let file = files::file(1, number);
        files::check(&file).unwrap_or_else(|failure| panic!("{failure}: {:?}", files::shrink(&file)))
    });
    assert!(loaded.count() > 200, "too few files are loaded");
}

#[test]
fn random_settings_are_refused_or_built() {
    let built = (0..3_000).filter(|&number| {
        let config = configs::config(1, number);
        configs::check(&config).unwrap_or_else(|failure| panic!("{failure}: {:?}", configs::shrink(&config)))
    });
    assert!(built.count() > 600, "too few settings are built");
}

fn file(rule: &str, flavor: u32, edits: Vec<Edit>) -> File {
    let rule = rule.to_owned();
    File { rule, flavor, program: flavor, keeps_schedule: false, without_params: false, edits }
}

fn set(place: &str, value: Value) -> Edit {
    Edit::Header(Change::Set(place.to_owned(), value))
}

/// The error of loading a file, which has changed nothing.
fn refused(file: &File) -> CheckpointError {
    let outcome = files::check(file);
    assert_eq!(outcome, Ok(false), "{file:?}");
    let (mut optimizer, mut params) = files::program(file);
    let bytes = files::bytes_of(file);
    let loaded = Checkpoint::new(Cursor::new(&bytes)).and_then(|mut checkpoint| {
        optimizer.load_from(&mut checkpoint, Some((&mut params).into()), &LoadOptions::default())
    });
    loaded.unwrap_err()
}

type IsExpected<'a> = &'a dyn Fn(&CheckpointError) -> bool;

#[test]
fn altered_headers_are_refused_by_typed_errors() {
    let is_hyperparameter =
        |error: &CheckpointError| matches!(error, CheckpointError::Optimizer(Error::Hyperparameter { .. }));
    let is_unsupported =
        |error: &CheckpointError| matches!(error, CheckpointError::Optimizer(Error::Unsupported { .. }));
    let is_no_checkpoint = |error: &CheckpointError| matches!(error, CheckpointError::NotACheckpoint { .. });
    let is_no_safetensors = |error: &CheckpointError| matches!(error, CheckpointError::NotSafetensors { .. });
    let is_dtype = |error: &CheckpointError| matches!(error, CheckpointError::Dtype { .. });
    let cycle = json!({"name": "one_cycle", "max_lr": 1, "total_steps": 9});
    let cases: &[(&str, u32, Edit, IsExpected)] = &[
        ("sgd", 2, set("/state/momentum", json!(5)), &is_hyperparameter),
        ("sgd", 2, set("/state/momentum", json!(-0.0)), &is_hyperparameter),
        ("adamw", 2, set("/state/momentum", json!(1)), &is_hyperparameter),
        ("adamw", 2, set("/state/momentum", json!("nan")), &is_hyperparameter),
        ("adamw", 2, set("/state/schedule", json!({"name": "constant", "lr": -1})), &is_hyperparameter),
        // The file cycles the momentum, and the program does not.
        ("adamw", 0, set("/state/schedule", cycle), &is_unsupported),
        ("adamw", 3, set("/state/grad_scale", json!({"value": 0})), &is_hyperparameter),
        ("adamw", 0, set("/state/recorded", json!(1u64 << 63)), &is_no_checkpoint),
        ("adamw", 0, set("/stats/step", json!(1u64 << 32)), &is_no_checkpoint),
        ("adamw", 0, set("/stats/step", json!(-1)), &is_no_checkpoint),
        ("adamw", 0, Edit::Header(Change::Remove("/stats/lr".to_owned())), &is_no_checkpoint),
        ("adamw", 0, Edit::Dtype("params/a".to_owned(), "I32".to_owned()), &is_dtype),
        ("adamw", 1, Edit::Dtype("history".to_owned(), "F32".to_owned()), &is_dtype),
        ("adamw", 2, Edit::Words("norms".to_owned(), vec![0xbf80_0000]), &is_no_checkpoint),
        ("adamw", 2, Edit::Words("norms".to_owned(), vec![0x7f80_0000]), &is_no_checkpoint),
        ("adamw", 0, Edit::Shape("params/a".to_owned(), vec![1 << 40, 1 << 40]), &is_no_safetensors),
        ("adamw", 0, Edit::Huge, &|error| matches!(error, CheckpointError::Length { expected: u64::MAX, .. })),
        ("adamw", 0, Edit::Length(100_000_000), &|error| matches!(error, CheckpointError::Length { .. })),
        ("adamw", 0, Edit::Length(u64::MAX), &is_no_safetensors),
        ("adafactor", 0, Edit::Shape("scalar_states".to_owned(), vec![9]), &|error| {
            matches!(error, CheckpointError::Shape { .. })
        }),
    ];
    for (rule, flavor, edit, is_expected) in cases {
        let error = refused(&file(rule, *flavor, vec![edit.clone()]));
        assert!(is_expected(&error), "{edit:?}: {error:?}");
    }
}

/// Lists longer than the program stores give their last values; other sizes of optional parts begin anew.
#[test]
fn lists_of_any_length_are_loaded() {
    for count in [0, 1, 2, 3, 4, 1_000] {
        assert_eq!(files::check(&file("adamw", 2, vec![Edit::Shape("norms".to_owned(), vec![count])])), Ok(true));
        assert_eq!(files::check(&file("adamw", 3, vec![Edit::Shape("history".to_owned(), vec![count, 28])])), Ok(true));
        for shape in [vec![count], vec![count, 29], vec![count, 28, 1]] {
            assert_eq!(files::check(&file("adamw", 3, vec![Edit::Shape("history".to_owned(), shape)])), Ok(true));
        }
    }
}

/// Deep schedules are refused before they exhaust a thread's stack; wide ones are loaded.
#[test]
fn schedules_of_any_size_are_refused_or_loaded() {
    let check = |schedule: Value| {
        let file = file("sgd", 0, vec![set("/state/schedule", schedule)]);
        let small = std::thread::Builder::new().stack_size(1 << 20);
        small.spawn(move || files::check(&file)).unwrap().join().unwrap()
    };
    let constant = json!({"name": "constant", "lr": 1});
    for depth in [10, 60, 100, 110, 120, 123] {
        let nest = |inner, _| json!({"name": "warmup", "warmup_steps": 1, "schedule": inner});
        check((0..depth).fold(constant.clone(), nest)).unwrap();
        let nest = |inner, _| json!({"name": "chained", "schedulers": [inner]});
        check((0..depth / 2).fold(constant.clone(), nest)).unwrap();
    }
    // Beyond the depth that JSON has here, which a value cannot show.
    let mut deep = String::new();
    (0..100_000).for_each(|_| deep.push_str(r#"{"name": "warmup", "warmup_steps": 1, "schedule": "#));
    assert!(serde_json::from_str::<Schedule>(&deep).is_err());
    let count = 100_000;
    let milestones: Vec<u64> = (1..count).collect();
    let wide = json!({"name": "sequential", "schedulers": vec![constant; count as usize], "milestones": milestones});
    assert_eq!(check(wide), Ok(true));
}

/// A stream that fails or changes once the checksums were checked.
struct Failing<'a> {
    bytes: Cursor<&'a [u8]>,
    reads_left: usize,
}

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(std::io::ErrorKind::TimedOut)?;
        self.bytes.read(into)
    }
}

impl Seek for Failing<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.bytes.seek(to)
    }
}

/// An error that leaves the optimizer half loaded says so; every other one has changed nothing.
#[test]
fn a_stream_that_fails_at_any_read_is_told_apart() {
    let file = file("adamw", 1, Vec::new());
    let bytes = files::bytes_of(&file);
    let (mut before, mut after) = (0, 0);
    for reads_left in 0.. {
        let (mut optimizer, mut params) = files::program(&file);
        let image = files::image(&optimizer, &params);
        let source = Failing { bytes: Cursor::new(&bytes), reads_left };
        let loaded = Checkpoint::new(source).and_then(|mut checkpoint| {
            optimizer.load_from(&mut checkpoint, Some((&mut params).into()), &LoadOptions::default())
        });
        match loaded {
            Ok(_) => break,
            Err(CheckpointError::ChangedWhileRead) => after += 1,
            Err(error) => {
                assert!(matches!(error, CheckpointError::Stream(_)), "{error:?}");
                assert!(files::image(&optimizer, &params) == image, "changed by: {error}");
                before += 1;
            }
        }
    }
    assert!(before > 5 && after > 5, "{before} before anything changes, {after} later");
}
