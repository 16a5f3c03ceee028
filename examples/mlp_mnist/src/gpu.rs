//! The network as WGSL kernels. A training step is one submission: forward, backward, optimizer.

mod feed;
pub mod kernel;
pub mod layer;
mod tally;

use std::collections::VecDeque;
#[cfg(feature = "program")]
use std::{fs::File, io::BufReader, path::Path};

#[cfg(feature = "program")]
use wgpu_optim::checkpoint::{Checkpoint, Loaded};
#[cfg(feature = "program")]
use wgpu_optim::history::History;
use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, BufferUsages, PollType};
use wgpu_optim::{Dtype, Gpu, Optimizer, Precision};

use crate::Result;
use crate::data::Data;
#[cfg(feature = "program")]
use crate::engine::load_options;
use crate::engine::{Engine, Report, Score};
use crate::model::Model;
use examples_common::numbers::Numbers;
use feed::{Feed, check_binding};
use kernel::{Binding, Kernel};
use layer::{Flat, Layer, LayerBuffers, Shaders};
use tally::{PendingReport, Tally};

/// Test examples per pass.
const TEST_BATCH: usize = 500;

/// Reports under way at most. Asking for one more waits for the oldest, which bounds the steps that queue up on the
/// device; the steps behind the oldest keep it busy meanwhile.
const REPORTS_IN_FLIGHT: usize = 4;

pub struct GpuEngine {
    pub gpu: Gpu,
    pub optimizer: Optimizer,
    pub parameters: wgpu::Buffer,
    pub grads: wgpu::Buffer,
    layers: Vec<Layer>,
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
    /// `precision` is that of the optimizer.
    pub fn new(
        gpu: Gpu,
        model: &Model,
        data: &Data,
        optimizer: Optimizer,
        precision: &Precision,
        batch_size: usize,
        parameters: &[f32],
    ) -> Result<Self> {
        let device = &gpu.device;
        let test_batch = TEST_BATCH.min(data.test.len());
        let rows = batch_size.max(test_batch);
        let (of_params, of_grads) = (precision.params.dtype(), precision.grads);
        check(device, model, rows, of_grads)?;
        let storage = |label: &str, elements: usize| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: elements as u64 * 4,
                usage: BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        };
        let mut parameters = Numbers::nearest(of_params, parameters)?.as_slice().bytes().to_vec();
        parameters.resize(model.layout.buffer_size_of(of_params) as usize, 0);
        let parameters = device.create_buffer_init(&BufferInitDescriptor {
            label: Some("parameters"),
            contents: &parameters,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        });
        let grads = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("grads"),
            size: model.layout.buffer_size_of(of_grads),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let x = storage("x", rows * data.train.pixels);
        let labels = storage("batch labels", rows);
        let outputs: Vec<_> = model.layers.iter().map(|layer| storage("outputs", rows * layer.outputs)).collect();
        let deltas: Vec<_> = model.layers.iter().map(|layer| storage("deltas", rows * layer.outputs)).collect();

        let shaders = Shaders::new(device);
        let layers = model.layers.iter().enumerate().map(|(index, shape)| {
            let buffers = LayerBuffers {
                parameters: Flat::new(&parameters, of_params)?,
                grads: Flat::new(&grads, of_grads)?,
                input: if index == 0 { &x } else { &outputs[index - 1] },
                output: &outputs[index],
                delta: &deltas[index],
                input_delta: index.checked_sub(1).map(|before| &deltas[before]),
            };
            Ok(Layer::new(device, &shaders, shape, &buffers))
        });
        let layers = layers.collect::<Result<Vec<_>>>()?;

        let (Some(logits), Some(delta), Some(last)) = (outputs.last(), deltas.last(), model.layers.last()) else {
            return Err("a network needs at least one layer".into());
        };
        let cross_entropy = device.create_shader_module(wgpu::include_wgsl!("shaders/cross_entropy.wgsl"));
        // Without a scaler the loss is not scaled.
        let one = device.create_buffer_init(&BufferInitDescriptor {
            label: Some("loss scale of 1"),
            contents: bytemuck::bytes_of(&1_f32),
            usage: BufferUsages::STORAGE,
        });
        let loss_scale = optimizer.loss_scale().unwrap_or_else(|| one.slice(..));
        let loss_scale = wgpu::BufferBinding {
            buffer: loss_scale.buffer(),
            offset: loss_scale.offset(),
            size: wgpu::BufferSize::new(loss_scale.size()),
        };
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
                    Binding::Read(loss_scale.clone()),
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

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Whether as many reports are under way as may be: asking for one more waits, and in a browser comes to nothing.
    pub fn is_behind(&self) -> bool {
        self.reports.len() >= REPORTS_IN_FLIGHT
    }

    fn record_forward(&self, pass: &mut wgpu::ComputePass, feed: &Feed, loss: &Kernel, batch: usize) {
        feed.gather(pass, batch);
        for layer in &self.layers {
            layer.forward(pass, feed.batches.rows(batch));
        }
        loss.dispatch(pass, [1, 1]);
    }

    /// Records what fills `grads` with the gradient of one training batch, and adds its score to the tally.
    pub fn record_gradients(&self, encoder: &mut wgpu::CommandEncoder, batch: usize) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        self.record_forward(&mut pass, &self.train, &self.train_loss, batch);
        for layer in self.layers.iter().rev() {
            layer.backward(&mut pass, self.train.batches.rows(batch));
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

    /// The optimizer's history after all steps.
    #[cfg(feature = "program")]
    pub fn history(&self) -> Result<History> {
        let mut encoder = self.encoder();
        let history = self.optimizer.history(&mut encoder)?;
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.device.poll(PollType::wait_indefinitely())?;
        Ok(pollster::block_on(history)?)
    }
}

/// Refuses what the device or the kernels cannot do with batches of `rows`.
fn check(device: &wgpu::Device, model: &Model, rows: usize, of_grads: Dtype) -> Result<()> {
    let most_rows = device.limits().max_compute_workgroups_per_dimension as usize;
    if rows > most_rows {
        return Err(
            format!("a batch of {rows} is more than this device's {most_rows}: choose a smaller --batch-size").into()
        );
    }
    for layer in &model.layers {
        let odd = [layer.inputs, layer.outputs].into_iter().find(|size| size % 2 == 1);
        if let (Some(odd), true) = (odd, of_grads != Dtype::F32) {
            return Err(format!(
                "a layer has {odd} inputs or outputs: kernels write 16-bit gradients in pairs along a row. \
                 Give even --hidden layers and even images, or --device cpu"
            )
            .into());
        }
        check_binding(device, "the activations of a batch", rows * layer.inputs.max(layer.outputs) * 4)?;
        check_binding(device, "the weights of a layer", layer.weight.len() * 4)?;
    }
    Ok(())
}

impl Engine for GpuEngine {
    fn begin_epoch(&mut self, order: &[u32]) {
        self.train.set_order(&self.gpu.queue, order);
    }

    fn perturb(&mut self, batch: usize) -> Result<()> {
        let mut encoder = self.encoder();
        self.record_gradients(&mut encoder, batch);
        self.optimizer.perturb(&mut encoder, &self.parameters, &self.grads)?;
        self.gpu.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn step(&mut self, batch: usize, report: bool) -> Result<()> {
        if report && self.reports.len() == REPORTS_IN_FLIGHT {
            let oldest = self.reports.front().map(|pending| pending.submission.clone());
            self.collect(PollType::Wait { submission_index: oldest, timeout: None })?;
        }
        let mut encoder = self.encoder();
        self.record_gradients(&mut encoder, batch);
        self.optimizer.step(&mut encoder, &self.parameters, &self.grads)?;
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

    #[cfg(feature = "program")]
    fn save(&self, path: &Path) -> Result<()> {
        Ok(self.optimizer.save(path, Some((&self.parameters).into()))?)
    }

    #[cfg(feature = "program")]
    fn load(&mut self, checkpoint: &mut Checkpoint<BufReader<File>>) -> Result<Loaded> {
        Ok(self.optimizer.load_from(checkpoint, Some((&self.parameters).into()), &load_options())?)
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
