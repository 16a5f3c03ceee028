//! Failures of the system while a checkpoint is loaded: typed errors.

use std::fs::File;

use crate::checkpoint::{OnCpu, layout, saved};
use crate::common::rule;
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions};

/// The error names the file, wherever reading fails.
#[test]
fn a_file_that_fails_during_the_check_is_named() {
    let (_folder, path) = saved::<OnCpu>(&rule("adam"), &layout());
    let mut checkpoint = Checkpoint::open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(20_000).unwrap();
    let mut on_cpu = rule("adam").build_cpu(&layout()).unwrap();
    let error = on_cpu.load_from(&mut checkpoint, None, &LoadOptions::default()).unwrap_err();
    assert!(matches!(&error, CheckpointError::Io { path: named, .. } if *named == path), "{error:?}");
    assert!(error.to_string().contains("saved.safetensors"), "{error}");
}
