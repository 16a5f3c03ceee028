//! Saving and loading a checkpoint beside a plain copy of the same file, by turns, in one run.
//!
//! `cargo bench --bench checkpoint -- [ELEMENTS_IN_MI] [FOLDER]` prints the times, their ratio to the copy's, and the
//! memory that the process took on top. The copy reads and writes 1 MiB at a time and flushes, as saving does.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::wgpu::{BufferDescriptor, BufferUsages, PollType};
use wgpu_optim::{AdamW, Gpu, Layout, Optimizer};

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let elements = arguments.next().map_or(Ok(64), |mi| mi.parse::<usize>())? << 20;
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    let [path, copy] = ["saved", "copy"].map(|name| folder.path().join(name));
    let layout = Layout::flat(elements)?;

    let mut params = vec![0.5; elements];
    let mut optimizer = Optimizer::builder(AdamW::default()).build_cpu(&layout)?;
    optimizer.step(&mut params, &vec![0.25; elements])?;
    let mut save = || Ok(optimizer.save(&path, Some((&params).into()))?);
    let saved = measure("CPU engine", "save", &mut save, &path, &copy)?;
    let mut load = || {
        let _ = optimizer.load(&path, Some((&mut params).into()), &LoadOptions::default())?;
        Ok(())
    };
    measure("CPU engine", "load", &mut load, &path, &copy)?;
    drop((optimizer, params));

    let gpu = pollster::block_on(Gpu::new())?;
    let name = gpu.adapter.get_info().name;
    let buffer = gpu.device.create_buffer(&BufferDescriptor {
        label: None,
        size: layout.buffer_size(),
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut optimizer = Optimizer::builder(AdamW::default()).build(&gpu.device, &gpu.queue, &layout)?;
    let _ = optimizer.load(&path, Some((&buffer).into()), &LoadOptions::default())?;
    let mut save = || Ok(optimizer.save(&path, Some((&buffer).into()))?);
    measure(&name, "save", &mut save, &path, &copy)?;
    let mut load = || {
        let _ = optimizer.load(&path, Some((&buffer).into()), &LoadOptions::default())?;
        gpu.device.poll(PollType::wait_indefinitely())?;
        Ok(())
    };
    measure(&name, "load", &mut load, &path, &copy)?;
    println!("file: {saved} bytes");
    Ok(())
}

/// Prints the best time of the operation and of the copy. Returns the bytes of the file.
fn measure(
    engine: &str,
    operation: &str,
    run: &mut dyn FnMut() -> Result<(), Box<dyn Error>>,
    path: &Path,
    copy: &Path,
) -> Result<u64, Box<dyn Error>> {
    let (mut best, mut best_copy, mut memory) = (f64::INFINITY, f64::INFINITY, None);
    for _ in 0..ROUNDS {
        let before = reset_peak();
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
        memory = memory.max(before.and_then(|before| Some(peak()?.saturating_sub(before))));
        let start = Instant::now();
        copy_file(path, copy)?;
        best_copy = best_copy.min(start.elapsed().as_secs_f64());
    }
    let memory = memory.map_or_else(|| "not measured".to_owned(), |kib| format!("{} MiB", kib / 1024));
    println!(
        "{engine}, {operation}: {best:.3} s; copy {best_copy:.3} s; speed {:.2} of the copy's; memory on top {memory}",
        best_copy / best
    );
    Ok(fs::metadata(path)?.len())
}

fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut from, mut to, mut bytes) = (File::open(from)?, File::create(to)?, vec![0; 1 << 20]);
    loop {
        let read = from.read(&mut bytes)?;
        if read == 0 {
            return to.sync_all();
        }
        to.write_all(&bytes[..read])?;
    }
}

/// Begins a new peak of the process's memory on Linux. Returns the present size in KiB.
fn reset_peak() -> Option<u64> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    status("VmRSS:")
}

fn peak() -> Option<u64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
