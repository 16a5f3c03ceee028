//! The network of the example `mlp_mnist` in training, on a device or on the CPU engine.

use std::io::Cursor;
use std::path::Path;

use examples_common::numbers::{Numbers, with_vector};
use mlp_mnist::cpu::Network;
use mlp_mnist::data::{CLASSES, Data, digits, idx};
use mlp_mnist::engine::{Batches, Engine, Report, Score};
use mlp_mnist::gpu::GpuEngine;
use mlp_mnist::model::{Model, NO_DECAY};
use mlp_mnist::precision::Format;
use mlp_mnist::rules::Choice;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use wgpu_optim::wgpu;
use wgpu_optim::{Clip, CpuOptimizer, Dtype, Gpu, GroupOptions, OptimizerBuilder, Schedule};

use crate::Result;

const TRAIN_IMAGES: usize = 12_000;
const TEST_IMAGES: usize = 1_000;
const BATCH: usize = 64;
/// Test images that an evaluation takes.
const EVALUATED: usize = 500;
/// First loss scale with f16.
const LOSS_SCALE: f64 = 1024.0;

/// What may be changed while the network trains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A name in [`mlp_mnist::rules::names`].
    optimizer: String,
    lr: f64,
    #[serde(default)]
    schedule: Option<Schedule>,
    /// Largest norm of all gradients; `None` measures it alone.
    #[serde(default)]
    clip: Option<f64>,
    /// A name in [`mlp_mnist::precision::names`].
    precision: String,
}

impl Settings {
    /// # Errors
    /// Unknown keys, and values of another type.
    pub fn read(json: &str) -> Result<Self> {
        Ok(serde_json::from_str(json)?)
    }

    fn format(&self) -> Result<Format> {
        let format = Format::new(&self.precision, 0, Some(LOSS_SCALE).filter(|_| self.precision == "f16"));
        Ok(format.ok_or_else(|| {
            format!("no precision {}; known are {}", self.precision, mlp_mnist::precision::names().join(", "))
        })?)
    }

    fn builder(&self, format: &Format) -> Result<OptimizerBuilder> {
        let choice = Choice::read(&self.optimizer)?;
        let choice = Choice { lr: self.lr, ..choice };
        let builder = choice.builder(None, None)?.clip(Clip::global_norm(self.clip.unwrap_or(f64::INFINITY)));
        let builder = builder.group(NO_DECAY, GroupOptions::default().with_weight_decay(0.0));
        let builder = if let Some(schedule) = &self.schedule { builder.schedule(schedule.clone()) } else { builder };
        Ok(format.builder(builder))
    }
}

/// Numbers of one step, for the curves.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Steps of the optimizer so far, applied or skipped.
    pub step: u64,
    /// Mean cross-entropy in nats; `None` where it is not finite.
    pub loss: Option<f64>,
    /// Percent.
    pub accuracy: f64,
    pub lr: f32,
    pub grad_norm: Option<f32>,
    pub clip_coef: f32,
    pub loss_scale: Option<f32>,
    pub skipped: u64,
}

impl From<&Report> for Point {
    fn from(report: &Report) -> Self {
        let Report { score, stats } = report;
        Self {
            step: stats.step + stats.skipped,
            loss: Some(score.loss()).filter(|loss| loss.is_finite()),
            accuracy: score.accuracy(),
            lr: stats.lr,
            grad_norm: stats.grad_norm.filter(|norm| norm.is_finite()),
            clip_coef: stats.clip_coef,
            loss_scale: stats.loss_scale,
            skipped: stats.skipped,
        }
    }
}

/// The training half on the CPU engine.
struct CpuHalf {
    optimizer: CpuOptimizer,
    parameters: Numbers,
    grads: Numbers,
    reports: Vec<Report>,
}

enum Half {
    Cpu(Box<CpuHalf>),
    Gpu(Box<GpuEngine>),
}

/// A network, its data and its optimizer.
pub struct Training {
    gpu: Option<Gpu>,
    model: Model,
    data: Data,
    half: Half,
    dtype: Dtype,
    order: Vec<u32>,
    epoch: u64,
    batch: usize,
}

/// The drawn digits.
pub fn drawn() -> Data {
    digits::draw_counts(1, TRAIN_IMAGES, TEST_IMAGES)
}

/// Digits from IDX files, gzip or raw: images and labels for training, then for tests.
///
/// # Errors
/// Files that are not in the format, or do not belong together.
pub fn from_files(files: [&[u8]; 4]) -> Result<Data> {
    let [a, b, c, d] = files.map(Cursor::new);
    let train = (Path::new("the training images"), a, Path::new("the training labels"), b);
    let test = (Path::new("the test images"), c, Path::new("the test labels"), d);
    let [train, test] = [train, test].map(|(images, a, labels, b)| idx::read_examples_from((images, a), (labels, b)));
    let data = Data { train: train?, test: test? };
    if data.train.pixels != data.test.pixels || data.train.pixels != 784 {
        return Err(format!(
            "the training images have {} pixels and the test images {}; this page takes images of 28 by 28",
            data.train.pixels, data.test.pixels
        )
        .into());
    }
    if data.train.len() < BATCH {
        return Err(format!("{} training images are less than a batch of {BATCH}", data.train.len()).into());
    }
    Ok(data)
}

impl Training {
    /// `hidden`: units of the hidden layer. The parameters are the network's first ones unless given.
    ///
    /// # Errors
    /// Settings that the optimizer or the device refuses.
    pub fn new(gpu: Option<Gpu>, data: Data, hidden: usize, settings: &Settings) -> Result<Self> {
        let model = Model::new(&[data.train.pixels, hidden, CLASSES])?;
        let parameters = model.initial_parameters(0);
        let (half, dtype) = half(gpu.as_ref(), &model, &data, settings, &parameters)?;
        let order = (0..data.train.len() as u32).collect();
        let mut training = Self { gpu, model, data, half, dtype, order, epoch: 0, batch: 0 };
        training.begin_epoch();
        Ok(training)
    }

    /// Continues from these parameters with another optimizer, whose states start anew.
    ///
    /// # Errors
    /// Those of [`Training::new`]; training then goes on as before.
    pub fn configure(&mut self, settings: &Settings, parameters: &[f32]) -> Result<()> {
        (self.half, self.dtype) = half(self.gpu.as_ref(), &self.model, &self.data, settings, parameters)?;
        self.begin_epoch();
        Ok(())
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.batch = 0;
        self.order.shuffle(&mut StdRng::seed_from_u64(self.epoch));
        if let Half::Gpu(engine) = &mut self.half {
            engine.begin_epoch(&self.order);
        }
    }

    /// Whether the device is behind: steps would queue up.
    pub fn is_behind(&self) -> bool {
        matches!(&self.half, Half::Gpu(engine) if engine.is_behind())
    }

    /// Takes a step, and asks for its numbers unless the device is behind: later ones then count its examples.
    ///
    /// # Errors
    /// A step past the end of the schedule.
    pub fn step(&mut self) -> Result<()> {
        let batches = Batches { len: self.data.train.len(), size: BATCH };
        if self.batch == batches.count() {
            self.begin_epoch();
        }
        match &mut self.half {
            Half::Gpu(engine) => {
                let report = !engine.is_behind();
                engine.step(self.batch, report)?;
            }
            Half::Cpu(half) => {
                let indices = &self.order[batches.first(self.batch)..][..batches.rows(self.batch)];
                let mut network = Network::new(&self.model);
                network.gather(&self.data.train, indices.iter().map(|&index| index as usize));
                with_vector!(&half.parameters, parameters => network.forward(parameters));
                let score = network.cross_entropy();
                if let Some(scale) = half.optimizer.loss_scale() {
                    network.scale_loss(scale);
                }
                with_vector!(&half.parameters, parameters => {
                    with_vector!(&mut half.grads, grads => network.backward(parameters, grads));
                });
                let stats = half.optimizer.step(half.parameters.as_mut(), half.grads.as_slice())?;
                half.reports.push(Report { score, stats });
            }
        }
        self.batch += 1;
        Ok(())
    }

    /// The numbers that have arrived since the last call; never waits.
    ///
    /// # Errors
    /// A lost device.
    pub fn points(&mut self) -> Result<Vec<Point>> {
        let reports = match &mut self.half {
            Half::Gpu(engine) => engine.reports(false)?,
            Half::Cpu(half) => std::mem::take(&mut half.reports),
        };
        Ok(reports.iter().map(Point::from).collect())
    }

    /// The parameters as f32: now on the CPU, from a buffer on a device.
    pub fn parameters(&self) -> Parameters {
        match &self.half {
            Half::Cpu(half) => Parameters::Here(half.parameters.to_f32()),
            Half::Gpu(engine) => Parameters::There(engine.gpu.clone(), engine.parameters.clone(), self.dtype),
        }
    }

    /// Elements of the parameters.
    pub fn len(&self) -> usize {
        self.model.layout.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of parameters over some test images.
    pub fn evaluate(&self, parameters: &[f32]) -> Score {
        let mut network = Network::new(&self.model);
        network.gather(&self.data.test, 0..EVALUATED.min(self.data.test.len()));
        network.forward(parameters);
        network.cross_entropy()
    }

    /// The probabilities of the ten digits for an image of one byte per pixel.
    ///
    /// # Errors
    /// An image of another size.
    pub fn answer(&self, parameters: &[f32], image: &[u8]) -> Result<Vec<f32>> {
        let pixels = self.data.test.pixels;
        if image.len() != pixels {
            return Err(format!("an image has {} pixels; the network takes {pixels}", image.len()).into());
        }
        let mut network = Network::new(&self.model);
        let one = mlp_mnist::data::Examples { images: image.to_vec(), labels: vec![0], pixels };
        network.gather(&one, 0..1);
        network.forward(parameters);
        let logits = network.logits();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        Ok(powers.into_iter().map(|power| power / sum).collect())
    }

    /// Weights of the first layer in the parameters: `[hidden, pixels]`.
    pub fn first_weights(&self) -> std::ops::Range<usize> {
        self.model.layers[0].weight.clone()
    }

    pub fn steps_per_epoch(&self) -> usize {
        Batches { len: self.data.train.len(), size: BATCH }.count()
    }

    /// A test image and its label.
    pub fn example(&self, index: usize) -> (&[u8], u8) {
        let index = index % self.data.test.len();
        (self.data.test.image(index), self.data.test.labels[index])
    }
}

/// Where the parameters are.
pub enum Parameters {
    Here(Vec<f32>),
    There(Gpu, wgpu::Buffer, Dtype),
}

/// The f32 numbers of a buffer of parameters.
pub fn widened(bytes: &[u8], dtype: Dtype, len: usize) -> Vec<f32> {
    let half =
        |widen: fn(u16) -> f32| bytes.chunks_exact(2).map(move |two| widen(u16::from_le_bytes([two[0], two[1]])));
    match dtype {
        Dtype::Bf16 => half(|bits| f32::from_bits(u32::from(bits) << 16)).take(len).collect(),
        Dtype::F16 => half(|bits| wgpu_optim::half::f16::from_bits(bits).to_f32()).take(len).collect(),
        _ => bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .take(len)
            .collect(),
    }
}

/// The engine of the settings, and the storage format of its parameters.
fn half(
    gpu: Option<&Gpu>,
    model: &Model,
    data: &Data,
    settings: &Settings,
    parameters: &[f32],
) -> Result<(Half, Dtype)> {
    let format = settings.format()?;
    let builder = settings.builder(&format)?;
    let precision = &format.precision;
    let dtype = precision.params.dtype();
    let half = if let Some(gpu) = gpu {
        let optimizer = builder.build(&gpu.device, &gpu.queue, &model.layout)?;
        Half::Gpu(Box::new(GpuEngine::new(gpu.clone(), model, data, optimizer, precision, BATCH, parameters)?))
    } else {
        Half::Cpu(Box::new(CpuHalf {
            optimizer: builder.build_cpu(&model.layout)?,
            parameters: Numbers::nearest(dtype, parameters)?,
            grads: Numbers::nearest(precision.grads, &vec![0.0; parameters.len()])?,
            reports: Vec::new(),
        }))
    };
    Ok((half, dtype))
}
