//! Parameters in a file of their own: other programs read it, and their files are loaded.

use std::fs;
use std::io::{Cursor, Read, Seek, SeekFrom};

use crate::common::numbers::random;
use crate::common::{device, device_with, rule};
use safetensors::{Dtype, SafeTensors};
use tempfile::tempdir;
use wgpu_optim::checkpoint::{
    Checkpoint, CheckpointError, LoadOptions, load_params, load_params_from, save_params, save_params_to,
};
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages};
use wgpu_optim::{Error, Gpu, Layout, LayoutBuilder, Optimizer};

fn tensors(builder: LayoutBuilder) -> Layout {
    let builder = builder.tensor("a", &[40, 30]).tensor("b", &[30]).group("own");
    builder.tensor("none", &[3, 0]).tensor("scalar", &[]).tensor("c", &[130, 129]).build().unwrap()
}

fn padded() -> Layout {
    tensors(Layout::builder())
}

fn optimizer(gpu: &Gpu, layout: &Layout) -> Optimizer {
    device::build(gpu, rule("sgd").checkpoint_window(1_000), layout).unwrap()
}

/// The parameters in buffers of at most 8,192 elements, tensor by tensor.
fn uploaded(gpu: &Gpu, layout: &Layout, params: &[f32]) -> Vec<Buffer> {
    let tensors = layout.tensors().iter().map(|tensor| &params[tensor.range()]);
    tensors.flat_map(|values| values.chunks(8192)).map(|values| device::upload(gpu, values)).collect()
}

fn slices(buffers: &[Buffer]) -> Vec<BufferSlice<'_>> {
    buffers.iter().map(|buffer| buffer.slice(..)).collect()
}

/// The values of all tensors, without padding.
fn values(layout: &Layout, params: &[f32]) -> Vec<f32> {
    layout.tensors().iter().flat_map(|tensor| params[tensor.range()].to_vec()).collect()
}

fn bytes_of(layout: &Layout, params: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    save_params_to(&mut bytes, layout, params).unwrap();
    bytes
}

#[test]
fn other_programs_read_the_parameters() {
    let (layout, folder) = (padded(), tempdir().unwrap());
    let (path, params) = (folder.path().join("params.safetensors"), random(1, layout.len()));
    save_params(&path, &layout, &params).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), layout.tensors().len());
    for tensor in layout.tensors() {
        let view = file.tensor(tensor.name()).unwrap();
        assert_eq!((view.dtype(), view.shape()), (Dtype::F32, tensor.shape()));
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(view.data()), params[tensor.range()]);
    }
    assert_eq!(bytes_of(&layout, &params), bytes);
}

/// One file, whichever engine, padding and list of buffers wrote it; each loads it.
#[test]
fn the_file_is_the_same_wherever_it_was_written() {
    let (folder, packed) = (tempdir().unwrap(), tensors(Layout::builder().packed()));
    let (path, expected) = (folder.path().join("params"), random(1, packed.len()));
    let bytes = bytes_of(&packed, &expected);
    let small = device_with(|limits| limits.max_buffer_size = 40 << 10);
    for (gpu, layout) in [(device::gpu(), &padded()), (device::gpu(), &packed), (&small, &packed)] {
        let (optimizer, buffers) = (optimizer(gpu, layout), uploaded(gpu, layout, &vec![7.0; layout.len()]));
        fs::write(&path, &bytes).unwrap();
        optimizer.load_params(&path, &slices(&buffers), &LoadOptions::default()).unwrap();
        let loaded: Vec<f32> = buffers.iter().flat_map(|buffer| device::download(gpu, buffer)).collect();
        assert_eq!(loaded, values(&packed, &expected));
        fs::remove_file(&path).unwrap();
        optimizer.save_params(&path, &slices(&buffers)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "another file");
        let mut on_host = vec![7.0; layout.len()];
        load_params(&path, layout, &mut on_host, &LoadOptions::default()).unwrap();
        assert_eq!(values(layout, &on_host), loaded);
        let untouched = on_host.iter().filter(|value| **value == 7.0).count();
        assert_eq!(untouched, layout.len() - loaded.len(), "padding has changed");
    }
}

/// As Python's safetensors writes it: other order of names and keys, metadata, an odd end of the header.
fn of_another_program(dtype: &str, shape: &str) -> Vec<u8> {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"bias":{{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}, "weight":{{"data_offsets":[0,8],"shape":{shape},"dtype":"{dtype}"}}}}"#
    );
    let values: Vec<u8> = [1.5f32, -2.0, 0.25].iter().flat_map(|value| value.to_le_bytes()).collect();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &values].concat()
}

fn two_tensors(weight: &str) -> Layout {
    Layout::builder().tensor("bias", &[1]).tensor(weight, &[2, 1]).build().unwrap()
}

#[test]
fn the_file_of_another_program_is_loaded() {
    let bytes = of_another_program("F32", "[2,1]");
    for (weight, options) in
        [("weight", LoadOptions::default()), ("kernel", LoadOptions::default().with_renamed("weight", "kernel"))]
    {
        let layout = two_tensors(weight);
        let mut params = vec![7.0; layout.len()];
        load_params_from(Cursor::new(&bytes), &layout, &mut params, &options).unwrap();
        assert_eq!(values(&layout, &params), [0.25, 1.5, -2.0]);
        let buffer = device::upload(device::gpu(), &vec![7.0; layout.len()]);
        let optimizer = optimizer(device::gpu(), &layout);
        optimizer.load_params_from(Cursor::new(&bytes), &buffer, &options).unwrap();
        assert_eq!(device::download(device::gpu(), &buffer), params);
    }
}

/// A refused file leaves the parameters as they were, on the host and on the device. Returns the error.
fn refused(bytes: &[u8], layout: &Layout, options: &LoadOptions) -> CheckpointError {
    let mut params = vec![7.0; layout.len()];
    let error = load_params_from(Cursor::new(bytes), layout, &mut params, options).unwrap_err();
    assert!(params.iter().all(|&value| value == 7.0), "changed by: {error}");
    let (gpu, optimizer) = (device::gpu(), optimizer(device::gpu(), layout));
    let buffer = device::upload(gpu, &params);
    let on_device = optimizer.load_params_from(Cursor::new(bytes), &buffer, options).unwrap_err();
    assert_eq!(on_device.to_string(), error.to_string());
    assert_eq!(device::download(gpu, &buffer), params);
    error
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let (layout, options) = (two_tensors("weight"), LoadOptions::default());
    let fitting = of_another_program("F32", "[2,1]");
    let error = refused(&fitting, &two_tensors("kernel"), &options);
    assert!(
        matches!(&error, CheckpointError::Tensors { missing, unknown, .. } if missing == &["kernel"] && unknown == &["weight"])
    );
    let error = refused(&of_another_program("F32", "[1,2]"), &layout, &options);
    assert!(
        matches!(&error, CheckpointError::Shape { file, program, .. } if (&file[..], &program[..]) == (&[1, 2], &[2, 1]))
    );
    let error = refused(&of_another_program("BF16", "[4,1]"), &layout, &options);
    assert!(
        matches!(&error, CheckpointError::Dtype { tensor, file, program } if [tensor, file, program] == ["weight", "BF16", "F32"])
    );
    let error = refused(&fitting, &layout, &options.clone().with_renamed("weight", "other"));
    assert!(matches!(&error, CheckpointError::UnknownTensor { tensor } if tensor == "other"), "{error:?}");
    // A file with further tensors.
    let error = refused(&fitting, &Layout::builder().tensor("bias", &[1]).build().unwrap(), &options);
    assert!(
        matches!(&error, CheckpointError::Tensors { missing, unknown, .. } if missing.is_empty() && unknown.len() == 1)
    );
    for len in 0..fitting.len() {
        let error = refused(&fitting[..len], &layout, &options);
        assert!(matches!(error, CheckpointError::Length { .. }), "{len} bytes: {error:?}");
    }
    let error = refused(&[&fitting[..], b"x"].concat(), &layout, &options);
    assert!(matches!(error, CheckpointError::Length { .. }), "{error:?}");
    let mut no_json = fitting.clone();
    no_json[8] = b'[';
    let error = refused(&no_json, &layout, &options);
    assert!(matches!(error, CheckpointError::NotSafetensors { .. }), "{error:?}");
    let error = Checkpoint::new(Cursor::new(&fitting)).unwrap_err();
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }), "{error:?}");
}

/// Errors of the caller, and of the file system, leave an older file as it is.
#[test]
fn bad_calls_are_refused() {
    let (layout, folder, gpu) = (two_tensors("weight"), tempdir().unwrap(), device::gpu());
    let (path, options) = (folder.path().join("params"), LoadOptions::default());
    let is_length = |error: CheckpointError| {
        assert!(matches!(error, CheckpointError::Optimizer(Error::LengthMismatch { what: "params", .. })), "{error:?}");
    };
    save_params(&path, &layout, &vec![1.0; layout.len()]).unwrap();
    let before = fs::read(&path).unwrap();
    is_length(save_params(&path, &layout, &[1.0]).unwrap_err());
    is_length(load_params(&path, &layout, &mut [1.0], &options).unwrap_err());
    let optimizer = optimizer(gpu, &layout);
    let short = device::upload(gpu, &[0.0; 4]);
    is_length(optimizer.save_params(&path, &short).unwrap_err());
    is_length(optimizer.load_params(&path, &short, &options).unwrap_err());
    let unusable = crate::common::storage(gpu, layout.buffer_size(), BufferUsages::STORAGE);
    let error = optimizer.save_params(&path, &unusable).unwrap_err();
    assert!(matches!(error, CheckpointError::Optimizer(Error::MissingUsage { .. })), "{error:?}");
    let reserved = Layout::builder().tensor("__metadata__", &[1]).build().unwrap();
    let error = save_params(&path, &reserved, &vec![1.0; reserved.len()]).unwrap_err();
    assert!(matches!(error, CheckpointError::ReservedName { .. }), "{error:?}");
    assert!(fs::read(&path).unwrap() == before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left");
    let nowhere = folder.path().join("no").join("params");
    for error in [
        save_params(&nowhere, &layout, &vec![1.0; layout.len()]).unwrap_err(),
        load_params(&nowhere, &layout, &mut vec![1.0; layout.len()], &options).unwrap_err(),
    ] {
        assert!(matches!(&error, CheckpointError::Io { path, .. } if *path == nowhere), "{error:?}");
    }
}

/// A stream that fails at a read.
struct Failing<'a>(Cursor<&'a [u8]>, usize);

impl Read for Failing<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1.checked_sub(1).ok_or(std::io::ErrorKind::TimedOut)?;
        self.0.read(into)
    }
}

impl Seek for Failing<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_stream_that_fails_at_any_read_is_told_apart() {
    let layout = padded();
    let (bytes, mut before, mut after) = (bytes_of(&layout, &random(1, layout.len())), 0, 0);
    for reads in 0.. {
        let mut params = vec![7.0; layout.len()];
        let source = Failing(Cursor::new(&bytes), reads);
        match load_params_from(source, &layout, &mut params, &LoadOptions::default()) {
            Ok(()) => break,
            Err(CheckpointError::ChangedWhileRead) => after += 1,
            Err(error) => {
                assert!(matches!(error, CheckpointError::Stream(_)), "{error:?}");
                assert!(params.iter().all(|&value| value == 7.0));
                before += 1;
            }
        }
    }
    assert_eq!((before, after), (6, 4));
}

/// The checkpoint beside the parameters needs none.
#[test]
fn training_goes_on_from_two_files() {
    let (layout, folder) = (padded(), tempdir().unwrap());
    let [params_path, path] = ["params", "optimizer"].map(|name| folder.path().join(name));
    let builder = rule("adamw");
    let mut optimizer = builder.clone().build_cpu(&layout).unwrap();
    let mut params = random(1, layout.len());
    optimizer.step(&mut params, &random(2, layout.len())).unwrap();
    save_params(&params_path, &layout, &params).unwrap();
    optimizer.save(&path, None).unwrap();
    let mut resumed = builder.build_cpu(&layout).unwrap();
    let mut loaded = vec![0.0; layout.len()];
    load_params(&params_path, &layout, &mut loaded, &LoadOptions::default()).unwrap();
    let _ = resumed.load(&path, None, &LoadOptions::default()).unwrap();
    for (optimizer, params) in [(&mut optimizer, &mut params), (&mut resumed, &mut loaded)] {
        optimizer.step(params, &random(3, layout.len())).unwrap();
    }
    assert_eq!(values(&layout, &params), values(&layout, &loaded));
}
