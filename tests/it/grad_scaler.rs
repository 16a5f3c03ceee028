//! Dynamic loss scaling on the device, against `torch.amp.GradScaler`.

use crate::common::both::Both;
use crate::common::numbers::assert_same_bits;
use crate::common::{Trainer, device, encoder, repository};
use serde::Deserialize;
use std::io::Cursor;
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::wgpu::{
    BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize, ComputePassDescriptor,
    ComputePipelineDescriptor, PipelineCompilationOptions, ShaderModuleDescriptor, ShaderSource,
};
use wgpu_optim::{Clip, Error, GradScaler, Layout, NonFinite, Optimizer, OptimizerBuilder, Sgd};

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    options: GradScaler,
    overflows: Vec<usize>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    scale: f32,
    skipped: bool,
    params: Vec<f32>,
}

impl Case {
    /// The scaled gradients of a step.
    fn grads(&self, step: usize) -> [f32; 2] {
        let scale = step.checked_sub(1).map_or(self.options.init_scale as f32, |last| self.steps[last].scale);
        let bad = if step.is_multiple_of(2) { f32::NAN } else { f32::INFINITY };
        [0.5 * scale, if self.overflows.contains(&step) { bad } else { 0.25 * scale }]
    }
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(repository().join("tests/golden/grad_scaler.json")).unwrap();
    serde_json::from_str::<Vectors>(&text).unwrap().cases
}

fn builder(scaler: GradScaler) -> OptimizerBuilder {
    Optimizer::builder(Sgd::default().with_lr(0.125)).grad_scaler(scaler)
}

fn flat() -> Layout {
    Layout::flat(2).unwrap()
}

const START: [f32; 2] = [1.0, -2.0];

#[test]
fn scales_and_skips_are_those_of_torch() {
    let cases = cases();
    assert_eq!(cases.len(), 3);
    for case in cases {
        assert_eq!(case.steps.len(), 24);
        let mut both = Both::new(&builder(case.options).history(24), &flat(), &START);
        // All steps of the device are in one submission.
        let gpu = device::gpu();
        let grads: Vec<_> = (0..24).map(|step| device::upload(gpu, &case.grads(step))).collect();
        let mut recorded = encoder(gpu);
        let Trainer { optimizer, params, .. } = &mut both.on_device;
        for grads in &grads {
            optimizer.step(&mut recorded, params.slice(..8), grads.slice(..8)).unwrap();
        }
        gpu.queue.submit([recorded.finish()]);
        let mut skipped = 0;
        let history = both.on_device.history();
        for (number, (step, on_device)) in case.steps.iter().zip(&history.steps).enumerate() {
            let on_cpu = both.on_cpu.step(&mut both.params, &case.grads(number)).unwrap();
            skipped += u64::from(step.skipped);
            for stats in [on_cpu, *on_device] {
                assert_eq!(
                    (stats.loss_scale, stats.skipped),
                    (Some(step.scale), skipped),
                    "{:?}, step {number}",
                    case.options
                );
            }
            assert_same_bits(&both.params, &step.params, "CPU");
            assert_eq!(both.on_cpu.loss_scale(), Some(step.scale));
        }
        assert_same_bits(&both.params()[1], &case.steps[23].params, "device");
    }
}

/// The program's own kernel multiplies by the scale that the step before left, in one submission.
#[test]
fn kernels_of_the_program_read_the_scale() {
    let gpu = device::gpu();
    let scaler = GradScaler::default().with_init_scale(4.0).with_growth_interval(1).with_growth_factor(8.0);
    let mut trainer = Trainer::new(gpu, builder(scaler), &flat(), &START);
    for address_space in ["uniform", "storage"] {
        let source = format!(
            "@group(0) @binding(0) var<{address_space}> scale: f32;
            @group(0) @binding(1) var<storage, read_write> grads: array<f32>;
            @compute @workgroup_size(2)
            fn backward(@builtin(local_invocation_index) i: u32) {{ grads[i] = scale; }}"
        );
        let source = ShaderSource::Wgsl(source.into());
        let module = gpu.device.create_shader_module(ShaderModuleDescriptor { label: None, source });
        let pipeline = gpu.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: PipelineCompilationOptions::default(),
            cache: None,
        });
        let scale = trainer.optimizer.loss_scale().unwrap();
        let scale =
            BufferBinding { buffer: scale.buffer(), offset: scale.offset(), size: BufferSize::new(scale.size()) };
        let bindings = [BindingResource::Buffer(scale), trainer.grads.as_entire_binding()];
        let entries: Vec<_> =
            (0..).zip(bindings).map(|(binding, resource)| BindGroupEntry { binding, resource }).collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let group = gpu.device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries });
        let mut recorded = encoder(gpu);
        for _ in 0..5 {
            let mut pass = recorded.begin_compute_pass(&ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(1, 1, 1);
            drop(pass);
            trainer.optimizer.step(&mut recorded, trainer.params.slice(..8), trainer.grads.slice(..8)).unwrap();
        }
        gpu.queue.submit([recorded.finish()]);
    }
    // Unscaled, every gradient is 1.
    assert_eq!(trainer.params()[..2], [1.0 - 10.0 / 8.0, -2.0 - 10.0 / 8.0]);
    let stats = trainer.step(&[0.0, 0.0]);
    assert_eq!(stats.loss_scale, Some(4.0 * 8f32.powi(11)));
}

#[test]
fn a_scale_stays_where_it_has_a_normal_inverse() {
    let largest = 2f32.powi(126);
    let scaler = GradScaler::default().with_init_scale(largest.into()).with_growth_interval(1);
    let mut both = Both::new(&builder(scaler), &flat(), &START);
    both.step(&[1.0, 1.0]);
    assert_eq!(both.on_cpu.loss_scale(), Some(largest));
    assert_eq!(both.on_device.step(&[1.0, 1.0]).loss_scale, Some(largest));
    let scaler = GradScaler::default().with_init_scale(f32::MIN_POSITIVE.into()).with_growth_factor(1e30);
    let mut both = Both::new(&builder(scaler.with_growth_interval(1)), &flat(), &START);
    let mut scales = Vec::new();
    for grad in [f32::NAN, 0.0, 0.0, 0.0, f32::NAN] {
        let on_cpu = both.on_cpu.step(&mut both.params, &[grad, 0.0]).unwrap().loss_scale;
        assert_eq!(both.on_device.step(&[grad, 0.0]).loss_scale, on_cpu);
        scales.push(on_cpu.unwrap());
    }
    let [first, grown, again, full, last] = scales[..] else { panic!("five steps") };
    assert_eq!((first, grown), (f32::MIN_POSITIVE, f32::MIN_POSITIVE * 1e30));
    assert_eq!((again, full, last), (grown * 1e30, again, again / 2.0));
}

/// Norm and clipping see unscaled gradients; accumulated ones are divided once.
#[test]
fn norms_and_sums_are_unscaled() {
    let scaler = GradScaler::default().with_init_scale(1024.0);
    let builder = builder(scaler).clip(Clip::global_norm(2.5)).accumulate_gradients();
    let mut both = Both::new(&builder, &flat(), &[0.0; 2]);
    for grads in [[1024.0, 2048.0], [2048.0, 2048.0]] {
        both.on_cpu.accumulate(&grads, 1.0).unwrap();
        let gpu = both.on_device.gpu;
        let uploaded = device::upload(gpu, &grads);
        both.record(|optimizer, encoder, _| optimizer.accumulate(encoder, uploaded.slice(..8), 1.0));
    }
    let stats = both.on_cpu.step_accumulated(&mut both.params).unwrap();
    assert_eq!((stats.grad_norm, stats.loss_scale), (Some(5.0), Some(1024.0)));
    both.record(|optimizer, encoder, params| optimizer.step_accumulated(encoder, params));
    let [on_cpu, on_device] = both.params();
    assert_same_bits(&on_device, &on_cpu, "device");
    assert!((on_cpu[1] + 0.125 * 2.0).abs() < 1e-6, "{on_cpu:?}");
}

#[test]
fn checkpoints_and_snapshots_hold_the_scale() {
    for case in cases() {
        let mut both = Both::new(&builder(case.options), &flat(), &START);
        (0..10).for_each(|step| both.step(&case.grads(step)));
        let mut file = Vec::new();
        both.on_cpu.save_to(&mut file, Some((&both.params).into())).unwrap();
        let (folder, params) = (tempfile::tempdir().unwrap(), both.on_device.params.slice(..8));
        both.on_device.optimizer.save(folder.path().join("file"), Some(params.into())).unwrap();
        assert!(std::fs::read(folder.path().join("file")).unwrap() == file, "the engines' files differ");
        let checkpoint = || Checkpoint::new(Cursor::new(file.clone())).unwrap();
        let mut continued = Both::new(&OptimizerBuilder::from_checkpoint(&checkpoint()).unwrap(), &flat(), &[0.0; 2]);
        let options = LoadOptions::default();
        continued
            .on_cpu
            .load_from(&mut checkpoint(), Some((&mut continued.params).into()), &options)
            .map(drop)
            .unwrap();
        let params = continued.on_device.params.slice(..8);
        continued.on_device.optimizer.load_from(&mut checkpoint(), Some(params.into()), &options).map(drop).unwrap();
        let of_cpu = both.on_cpu.snapshot(&both.params).unwrap();
        let mut of_device = None;
        both.record(|optimizer, encoder, params| {
            of_device = Some(optimizer.snapshot(encoder, params)?);
            Ok(())
        });
        for round in 0..3 {
            let both = if round == 2 { &mut continued } else { &mut both };
            for (number, step) in case.steps.iter().enumerate().skip(10) {
                let on_cpu = both.on_cpu.step(&mut both.params, &case.grads(number)).unwrap();
                let on_device = both.on_device.step(&case.grads(number));
                assert_eq!(
                    [on_cpu.loss_scale, on_device.loss_scale],
                    [Some(step.scale); 2],
                    "round {round}, step {number}"
                );
            }
            both.params().iter().for_each(|params| assert_same_bits(params, &case.steps[23].params, "after 24 steps"));
            if round == 0 {
                both.on_cpu.restore(&mut both.params, &of_cpu).unwrap();
                both.record(|optimizer, encoder, params| {
                    optimizer.restore(encoder, params, of_device.as_ref().unwrap())
                });
            }
        }
    }
}

#[test]
fn mistakes_with_a_scaler_are_errors() {
    for (scaler, text) in [
        (GradScaler::default().with_init_scale(0.0), "grad scaler: init_scale is 0; allowed: 1.2e-38 to 8.5e37"),
        (GradScaler::default().with_init_scale(1e38), "init_scale is 10000000000"),
        (GradScaler::default().with_growth_factor(1.0), "growth_factor is 1; allowed: greater than 1"),
        (GradScaler::default().with_backoff_factor(1.0), "backoff_factor is 1; allowed: 1.2e-38 to below 1"),
        (GradScaler::default().with_backoff_factor(1e-39), "allowed: 1.2e-38 to below 1"),
        (GradScaler::default().with_growth_interval(0), "growth_interval is 0; allowed: 1 or more"),
    ] {
        let message = builder(scaler).build_cpu(&flat()).unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
    let propagates = builder(GradScaler::default()).on_nonfinite(NonFinite::Propagate).build_cpu(&flat());
    assert!(propagates.unwrap_err().to_string().contains("leave `on_nonfinite` out"));
    let mut both = Both::new(&builder(GradScaler::default()), &flat(), &START);
    assert!(matches!(both.on_cpu.set_grad_scale(2.0), Err(Error::OwnGradScale)));
    assert!(matches!(both.on_device.optimizer.set_grad_scale(2.0), Err(Error::OwnGradScale)));
    let buffer = device::upload(both.on_device.gpu, &[2.0; 4]);
    assert!(matches!(both.on_device.optimizer.set_grad_scale(&buffer), Err(Error::OwnGradScale)));
}
