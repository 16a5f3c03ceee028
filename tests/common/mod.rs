//! Shared by the tests: a device, buffers on it, and an optimizer with its buffers.

pub mod bf16;
pub mod both;
pub mod by_hand;
pub mod device;
pub mod numbers;
pub mod shader_cases;
pub mod words;

use std::path::PathBuf;

use wgpu_optim::history::History;
use wgpu_optim::wgpu::{self, Buffer, BufferUsages, CommandEncoder, CommandEncoderDescriptor, PollType};
use wgpu_optim::{CpuOptimizer, Gpu, Layout, Optimizer, OptimizerBuilder, RuleConfig, Stats};

/// A module per rule with a test for each of these functions, which take the rule's name; `RULES` has all the names.
/// `every_rule` stands for the names of configurations.
macro_rules! tests_of {
    (@ $rule:ident [$($test:ident)*]) => {
        $(#[test]
        fn $test() {
            super::$test(stringify!($rule));
        })*
    };
    ($tests:tt every_rule) => {
        tests_of! {
            $tests
            sgd adam adamw lion adagrad rmsprop adadelta adamax nadam radam adabelief yogi adan ademamix sophia rprop
            signsgd schedule_free_sgd schedule_free_adamw lars lamb novograd prodigy adafactor stable_adamw
        }
    };
    ($tests:tt $($rule:ident)*) => {
        const RULES: &[&str] = &[$(stringify!($rule)),*];
        $(mod $rule {
            tests_of!(@ $rule $tests);
        })*
    };
}

/// The folder of the repository: where cargo runs the tests, or where the environment says that a copy lies.
pub fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// An optimizer with its parameters and gradients on a device; one submission per step.
pub struct Trainer<'a> {
    pub gpu: &'a Gpu,
    pub optimizer: Optimizer,
    pub params: Buffer,
    pub grads: Buffer,
}

impl<'a> Trainer<'a> {
    pub fn new(gpu: &'a Gpu, builder: OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self {
        let optimizer = device::build(gpu, builder, layout).unwrap();
        // A buffer of no bytes cannot be written.
        let params = if params.is_empty() { &[0.0; 4] } else { params };
        let grads = vec![0.0; params.len()];
        Self { gpu, optimizer, params: device::upload(gpu, params), grads: device::upload(gpu, &grads) }
    }

    pub fn step(&mut self, grads: &[f32]) -> Stats {
        self.gpu.queue.write_buffer(&self.grads, 0, bytemuck::cast_slice(grads));
        let mut encoder = encoder(self.gpu);
        let len = 4 * grads.len() as u64;
        let (params, grads) = (self.params.slice(..len), self.grads.slice(..len));
        self.optimizer.step(&mut encoder, params, grads).unwrap();
        finish(self.gpu, &self.optimizer, encoder)
    }

    pub fn history(&self) -> History {
        let mut encoder = encoder(self.gpu);
        let history = self.optimizer.history(&mut encoder).unwrap();
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.device.poll(PollType::wait_indefinitely()).unwrap();
        pollster::block_on(history).unwrap()
    }

    pub fn params(&self) -> Vec<f32> {
        device::download(self.gpu, &self.params)
    }

    pub fn state(&self, name: &str) -> Vec<f32> {
        state(self.gpu, &self.optimizer, name)
    }

    /// Everything a step may change, as bits: parameters, then the states.
    pub fn bits(&self) -> Vec<u32> {
        let states = self.optimizer.state_names().into_iter().flat_map(|name| self.state(name));
        self.params().into_iter().chain(states).map(f32::to_bits).collect()
    }
}

/// A rule by its name in configurations, with its defaults.
pub fn rule(name: &str) -> OptimizerBuilder {
    serde_json::from_str::<RuleConfig>(&format!(r#"{{"name": "{name}"}}"#)).unwrap().builder()
}

pub fn encoder(gpu: &Gpu) -> CommandEncoder {
    gpu.device.create_command_encoder(&CommandEncoderDescriptor::default())
}

/// Runs a future that waits for the device.
pub fn block_on<T, E: std::fmt::Debug>(gpu: &Gpu, future: impl Future<Output = Result<T, E>>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result.unwrap();
        }
        gpu.device.poll(PollType::wait_indefinitely()).unwrap();
    }
}

/// Submits, waits, and returns the statistics.
pub fn finish(gpu: &Gpu, optimizer: &Optimizer, mut encoder: CommandEncoder) -> Stats {
    let stats = optimizer.stats(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(PollType::wait_indefinitely()).unwrap();
    pollster::block_on(stats).unwrap()
}

pub fn state(gpu: &Gpu, optimizer: &Optimizer, name: &str) -> Vec<f32> {
    let slices = optimizer.state(name).unwrap();
    slices.iter().flat_map(|slice| device::download_slice(gpu, *slice)).collect()
}

/// A new optimizer, and the parameters after its first step, where these and the gradients are cut into buffers of their
/// own; those of the gradients have `ahead` further elements before them.
pub fn step_in_parts(
    gpu: &Gpu,
    builder: OptimizerBuilder,
    layout: &Layout,
    (params, grads): (&[f32], &[f32]),
    cuts: &[usize],
    ahead: usize,
) -> (Optimizer, Vec<f32>) {
    let upload = |values: &[f32], ahead: usize| {
        let parts = cuts.windows(2).filter(|cut| cut[0] < cut[1]);
        let parts = parts.map(|cut| [&vec![0.0; ahead], &values[cut[0]..cut[1]]].concat());
        parts.map(|part| device::upload(gpu, &part)).collect::<Vec<_>>()
    };
    let mut optimizer = device::build(gpu, builder, layout).unwrap();
    let (params, grads) = (upload(params, 0), upload(grads, ahead));
    let mut recorded = encoder(gpu);
    let params: Vec<_> = params.iter().map(|part| part.slice(..)).collect();
    let grads: Vec<_> = grads.iter().map(|part| part.slice(4 * ahead as u64..)).collect();
    optimizer.step(&mut recorded, &params, &grads).unwrap();
    finish(gpu, &optimizer, recorded);
    let updated = params.iter().flat_map(|part| device::download_slice(gpu, *part)).collect();
    (optimizer, updated)
}

/// Writes a state of an optimizer on a device.
pub fn set_state(gpu: &Gpu, optimizer: &Optimizer, name: &str, values: &[f32]) {
    let mut rest = values;
    for slice in optimizer.state(name).unwrap() {
        let (now, later) = rest.split_at(slice.size() as usize / 4);
        gpu.queue.write_buffer(slice.buffer(), slice.offset(), bytemuck::cast_slice(now));
        rest = later;
    }
}

/// A device with its own limits on the shared adapter.
pub fn device_with(change: impl FnOnce(&mut wgpu::Limits)) -> Gpu {
    let Gpu { instance, adapter, .. } = device::gpu().clone();
    let mut required_limits = wgpu::Limits::default();
    change(&mut required_limits);
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Gpu::from_parts(instance, adapter, device, queue)
}

/// A buffer as users make them: exactly as long as asked for, whatever that is.
pub fn storage(gpu: &Gpu, bytes: u64, usage: BufferUsages) -> Buffer {
    let usage = usage | BufferUsages::COPY_DST;
    gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false })
}

/// The same statistics, whatever the norm's last bits.
pub fn assert_same_decision(gpu: &Stats, cpu: &Stats) {
    let decision = |stats: &Stats| (stats.step, stats.skipped, stats.lr, stats.first_nonfinite, stats.stopped);
    assert_eq!(decision(gpu), decision(cpu));
    assert_eq!(gpu.grad_norm.is_some(), cpu.grad_norm.is_some());
}

pub fn cpu_bits(optimizer: &CpuOptimizer, params: &[f32]) -> Vec<u32> {
    let states = optimizer.state_names().flat_map(|name| optimizer.state(name).unwrap().as_f32().unwrap());
    params.iter().chain(states).map(|value: &f32| value.to_bits()).collect()
}
