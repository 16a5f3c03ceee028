//! The network as WGSL kernels. A training step is one submission: forward, backward, optimizer.

mod feed;
mod kernel;
mod tally;

use std::collections::VecDeque;

use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, BufferUsages, PollType};
use wgpu_optim::{Gpu, Optimizer};

use crate::Result;
use crate::data::Data;
use crate::engine::{Engine, Report, Score};
use crate::model::{Linear, Model};
use feed::{Feed, check_binding};
use kernel::{Binding, Kernel};
use tally::{PendingReport, Tally};

/// Rows and columns of the tile that one workgroup of `linear.wgsl` computes.
const TILE: usize = 32;

/// Test examples per pass.
const TEST_BATCH: usize = 500;

/// Reports under way at most. Asking for one more waits for the oldest, which bounds the steps that queue up on the
/// device; the steps behind the oldest keep it busy meanwhile.
const REPORTS_IN_FLIGHT: usize = 4;

/// The kernels of one linear layer.
struct LayerKernels {
    shape: Linear,
    forward: Kernel,
    grad_weight: Kernel,
    grad_bias: Kernel,
    /// The first layer's input needs no gradient.
    grad_input: Option<Kernel>,
}

pub(crate) struct GpuEngine {
    pub(crate) gpu: Gpu,
    optimizer: Optimizer,
    pub(crate) parameters: wgpu::Buffer,
    pub(crate) grads: wgpu::Buffer,
    layers: Vec<LayerKernels>,
    train: Feed,
    train_loss: Kernel,
    train_tally: Tally,
    test: Feed,
    test_loss: Kernel,
    test_tally: Tally,
    reports: VecDeque<PendingReport>,
    arrived: Vec<Report>,
}

impl GpuEngine {
    pub(crate) fn new(
        gpu: Gpu,
        model: &Model,
        data: &Data,
        optimizer: Optimizer,
        batch_size: usize,
        parameters: &[f32],
    ) -> Result<Self> {
        let device = &gpu.device;
        let test_batch = TEST_BATCH.min(data.test.len());
        let rows = batch_size.max(test_batch);
        let most_rows = device.limits().max_compute_workgroups_per_dimension as usize;
        if rows > most_rows {
            return Err(format!(
                "a batch of {rows} is more than this device's {most_rows}: choose a smaller --batch-size"
            )
            .into());
        }
        for layer in &model.layers {
            check_binding(device, "the activations of a batch", rows * layer.inputs.max(layer.outputs) * 4)?;
            check_binding(device, "the weights of a layer", layer.weight.len() * 4)?;
        }
        let storage = |label: &str, elements: usize| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: elements as u64 * 4,
                usage: BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let parameters = device.create_buffer_init(&BufferInitDescriptor {
            label: Some("parameters"),
            contents: bytemuck::cast_slice(parameters),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
        });
        let grads = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("grads"),
            size: model.layout.buffer_size(),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let x = storage("x", rows * data.train.pixels);
        let labels = storage("batch labels", rows);
        let outputs: Vec<_> = model.layers.iter().map(|layer| storage("outputs", rows * layer.outputs)).collect();
        let deltas: Vec<_> = model.layers.iter().map(|layer| storage("deltas", rows * layer.outputs)).collect();

        let linear = device.create_shader_module(wgpu::include_wgsl!("shaders/linear.wgsl"));
        let bias = device.create_shader_module(wgpu::include_wgsl!("shaders/bias.wgsl"));
        let mut layers = Vec::new();
        for (index, layer) in model.layers.iter().enumerate() {
            let constants = [("IN", layer.inputs), ("OUT", layer.outputs)];
            let input = if index == 0 { &x } else { &outputs[index - 1] };
            let whole = wgpu::Buffer::as_entire_buffer_binding;
            // Each tensor starts at a multiple of 256 bytes, so it can be bound on its own.
            let part = |buffer, range: &std::ops::Range<usize>| wgpu::BufferBinding {
                buffer,
                offset: range.start as u64 * 4,
                size: wgpu::BufferSize::new(range.len() as u64 * 4),
            };
            let weight = || Binding::Read(part(&parameters, &layer.weight));
            let delta = || Binding::Read(whole(&deltas[index]));
            layers.push(LayerKernels {
                shape: layer.clone(),
                forward: Kernel::new(
                    device,
                    &linear,
                    "forward",
                    &[constants[0], constants[1], ("RELU", layer.relu.into())],
                    &[
                        Binding::Read(whole(input)),
                        weight(),
                        Binding::ReadWrite(whole(&outputs[index])),
                        Binding::Read(part(&parameters, &layer.bias)),
                    ],
                ),
                grad_weight: Kernel::new(
                    device,
                    &linear,
                    "grad_weight",
                    &constants,
                    &[delta(), Binding::Read(whole(input)), Binding::ReadWrite(part(&grads, &layer.weight))],
                ),
                grad_bias: Kernel::new(
                    device,
                    &bias,
                    "grad_bias",
                    &constants[1..],
                    &[delta(), Binding::ReadWrite(part(&grads, &layer.bias))],
                ),
                grad_input: (index > 0).then(|| {
                    Kernel::new(
                        device,
                        &linear,
                        "grad_input",
                        &constants,
                        &[
                            delta(),
                            weight(),
                            Binding::ReadWrite(whole(&deltas[index - 1])),
                            Binding::Read(whole(input)),
                        ],
                    )
                }),
            });
        }

        let (Some(logits), Some(delta), Some(last)) = (outputs.last(), deltas.last(), model.layers.last()) else {
            return Err("a network needs at least one layer".into());
        };
        let cross_entropy = device.create_shader_module(wgpu::include_wgsl!("shaders/cross_entropy.wgsl"));
        let loss_into = |tally: &Tally| {
            Kernel::new(
                device,
                &cross_entropy,
                "cross_entropy",
                &[("CLASSES", last.outputs)],
                &[
                    Binding::Read(logits.as_entire_buffer_binding()),
                    Binding::Read(labels.as_entire_buffer_binding()),
                    Binding::ReadWrite(delta.as_entire_buffer_binding()),
                    Binding::ReadWrite(tally.buffer.as_entire_buffer_binding()),
                ],
            )
        };
        let (train_tally, test_tally) = (Tally::new(device, REPORTS_IN_FLIGHT), Tally::new(device, 1));
        Ok(Self {
            train: Feed::new(device, &data.train, batch_size, &x, &labels)?,
            train_loss: loss_into(&train_tally),
            train_tally,
            test: Feed::new(device, &data.test, test_batch, &x, &labels)?,
            test_loss: loss_into(&test_tally),
            test_tally,
            gpu,
            optimizer,
            parameters,
            grads,
            layers,
            reports: VecDeque::new(),
            arrived: Vec::new(),
        })
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    fn record_forward(&self, pass: &mut wgpu::ComputePass, feed: &Feed, loss: &Kernel, batch: usize) {
        feed.gather(pass, batch);
        let rows = feed.batches.rows(batch).div_ceil(TILE);
        for layer in &self.layers {
            layer.forward.dispatch(pass, [layer.shape.outputs.div_ceil(TILE), rows]);
        }
        loss.dispatch(pass, [1, 1]);
    }

    /// Records what fills `grads` with the gradient of one training batch, and adds its score to the tally.
    pub(crate) fn record_gradients(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.record_forward(&mut pass, &self.train, &self.train_loss, batch);
        let rows = self.train.batches.rows(batch).div_ceil(TILE);
        for layer in self.layers.iter().rev() {
            let (inputs, outputs) = (layer.shape.inputs, layer.shape.outputs);
            layer.grad_weight.dispatch(&mut pass, [inputs.div_ceil(TILE), outputs.div_ceil(TILE)]);
            layer.grad_bias.dispatch(&mut pass, [outputs.div_ceil(64), 1]);
            if let Some(grad_input) = &layer.grad_input {
                grad_input.dispatch(&mut pass, [inputs.div_ceil(TILE), rows]);
            }
        }
    }

    /// Moves the reports that have arrived to `arrived`, the oldest first.
    fn collect(&mut self, poll: PollType) -> Result<()> {
        self.gpu.device.poll(poll)?;
        while let Some(mut pending) = self.reports.pop_front() {
            let Some(report) = pending.try_take()? else {
                self.reports.push_front(pending);
                break;
            };
            self.arrived.push(report);
            self.train_tally.release(pending.score);
        }
        Ok(())
    }
}

impl Engine for GpuEngine {
    fn begin_epoch(&mut self, order: &[u32]) {
        self.train.set_order(&self.gpu.queue, order);
    }

    fn step(&mut self, batch: usize, report: bool) -> Result<()> {
        if report && self.reports.len() == REPORTS_IN_FLIGHT {
            let oldest = self.reports.front().map(|pending| pending.submission.clone());
            self.collect(PollType::Wait { submission_index: oldest, timeout: None })?;
        }
        let mut encoder = self.encoder();
        self.record_gradients(&mut encoder, batch);
        self.optimizer.step(&mut encoder, &self.gpu.queue, &self.parameters, &self.grads)?;
        let pending = if report { self.train_tally.fetch(&mut encoder) } else { None };
        let pending = pending.map(|score| (score, self.optimizer.stats(&mut encoder)));
        let submission = self.gpu.queue.submit([encoder.finish()]);
        if let Some((score, stats)) = pending {
            self.reports.push_back(PendingReport { score, arrived: None, stats, submission });
        }
        Ok(())
    }

    fn reports(&mut self, wait: bool) -> Result<Vec<Report>> {
        self.collect(if wait { PollType::wait_indefinitely() } else { PollType::Poll })?;
        Ok(std::mem::take(&mut self.arrived))
    }

    fn evaluate(&mut self) -> Result<Score> {
        let mut encoder = self.encoder();
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for batch in 0..self.test.batches.count() {
                self.record_forward(&mut pass, &self.test, &self.test_loss, batch);
            }
        }
        let pending = self.test_tally.fetch(&mut encoder).ok_or("an evaluation is under way already")?;
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.device.poll(PollType::wait_indefinitely())?;
        let score = pending.try_take()?.ok_or("the device was waited for and has not answered; it may be lost")?;
        self.test_tally.release(pending);
        Ok(score)
    }
}
