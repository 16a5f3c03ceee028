//! Failures of the system while a checkpoint is loaded: typed errors.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::checkpoint::{OnCpu, Training, layout, saved};
use crate::common::{Trainer, device_with, rule};
use tempfile::tempdir;
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions};
use wgpu_optim::wgpu::{self, BufferDescriptor, BufferUsages};
use wgpu_optim::{Gpu, Layout};

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

/// Takes the device's memory until a buffer of that size finds no place.
fn take_memory(gpu: &Gpu, size: u64) -> Vec<wgpu::Buffer> {
    let mut taken = Vec::new();
    loop {
        let memory = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let usage = BufferUsages::STORAGE;
        taken.push(gpu.device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false }));
        if pollster::block_on(memory.pop()).is_some() {
            return taken;
        }
    }
}

/// Sets the address space that this process may take.
fn limit_memory(bytes: &str) {
    let process = format!("--pid={}", std::process::id());
    assert!(Command::new("prlimit").args([process, format!("--as={bytes}:")]).status().unwrap().success());
}

const ELEMENTS: usize = 16 << 20;

/// Loads a file of an optimizer that evaluates: the training parameters need a buffer.
#[test]
#[ignore = "runs in a process of its own"]
fn loader() {
    let path = std::env::var_os("SAVED").expect("the test that runs this one sets it");
    let (gpu, layout) = (device_with(|_| ()), Layout::flat(ELEMENTS).unwrap());
    let mut training =
        Trainer::new(&gpu, rule("schedule_free_sgd").checkpoint_window(1 << 16), &layout, &vec![1.0; ELEMENTS]);
    let params = (&training.params).into();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let used = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")).unwrap();
    let limit = 1024 * used.trim().parse::<u64>().unwrap() + (32 << 20);
    limit_memory(&limit.to_string());
    let taken = take_memory(&gpu, 4 * ELEMENTS as u64);
    let error = training.optimizer.load(&path, Some(params), &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, CheckpointError::Device(_)), "{error:?}");
    // The optimizer is as it was.
    drop(taken);
    limit_memory("unlimited");
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(training.step(&vec![1.0; ELEMENTS]).step, 1);
    let _ = training.optimizer.load(&path, Some((&training.params).into()), &LoadOptions::default()).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn loading_without_memory_is_an_error() {
    let (folder, layout) = (tempdir().unwrap(), Layout::flat(ELEMENTS).unwrap());
    let path = folder.path().join("saved");
    let mut training = OnCpu::new(&rule("schedule_free_sgd"), &layout, &vec![1.0; ELEMENTS]);
    training.eval();
    training.save(&path).unwrap();
    let mut loader = Command::new(std::env::current_exe().unwrap());
    loader.args(["--exact", "checkpoint_failures::loader", "--ignored", "--nocapture"]).env("SAVED", &path);
    let output = loader.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
