//! What the command line says of data, network and device, and the engine made of that.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use wgpu_optim::history::History;
use wgpu_optim::{Clip, GroupOptions, OptimizerBuilder};

use crate::Result;
use crate::cpu::CpuEngine;
#[cfg(feature = "download")]
use crate::data::download;
use crate::data::{CLASSES, Data, MIRROR, digits, read_folder};
use crate::engine::{Batches, Engine};
use crate::gpu::GpuEngine;
use crate::model::{Model, NO_DECAY};
use crate::precision::{self, Format};
use crate::rules::{self, Choice};
use examples_common::device::{self, Device, DeviceName};

#[derive(Debug, Clone, clap::Args)]
pub struct Setup {
    /// Folder with the four IDX files of MNIST (or a data set like it), gzip or raw.
    #[arg(long, value_name = "DIR", conflicts_with = "download")]
    pub data: Option<PathBuf>,

    /// Fetch MNIST into DIR (default: the user's cache) unless it is there already, and train on it. Needs the feature
    /// `download`.
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub download: Option<Option<PathBuf>>,

    /// Where --download finds the four files.
    #[arg(long, value_name = "BASE", default_value = MIRROR)]
    pub url: String,

    /// Sizes of the hidden layers, with commas between them.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "128")]
    pub hidden: Vec<usize>,

    /// Update rule.
    #[arg(long, default_value = "adamw", value_parser = PossibleValuesParser::new(rules::names()))]
    pub optimizer: String,

    /// Momentum of the rule of that name [default: 0.9]
    #[arg(long, allow_hyphen_values = true)]
    pub momentum: Option<f64>,

    /// Weight decay of the weights; biases have none [default: adamw 0.01, lion 0.1, others 0]
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    pub weight_decay: Option<f64>,

    /// Clip gradients to this global norm; 0 only measures it.
    #[arg(long, value_name = "NORM", default_value_t = 1.0, allow_hyphen_values = true)]
    pub clip: f64,

    /// Storage formats of parameters, gradients and states.
    #[arg(long, value_name = "NAME", default_value = "f32", value_parser = PossibleValuesParser::new(precision::names()))]
    pub precision: String,

    /// First loss scale of --precision f16 [default: 65536]. A huge one shows how overflows lower it.
    #[arg(long, value_name = "SCALE", allow_hyphen_values = true)]
    pub init_scale: Option<f64>,

    /// Examples per step.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,

    /// Seed of the initial parameters, the order of the examples and the drawn digits.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// What to train on.
    #[arg(long, value_enum, default_value = "auto")]
    pub device: DeviceName,
}

impl Setup {
    /// Refuses what would fail only later, or not at all.
    pub fn validate(&self) -> Result<()> {
        let number = |name: &str, value: Option<f64>, fits: fn(f64) -> bool, allowed: &str| match value {
            Some(value) if !fits(value) => Err(format!("--{name} is {value}; give {allowed}")),
            _ => Ok(()),
        };
        let not_negative = |value: f64| value >= 0.0 && value.is_finite();
        number("weight-decay", self.weight_decay, not_negative, "a finite number of 0 or more, such as 0.01")?;
        number("clip", Some(self.clip), not_negative, "a finite norm such as 1, or 0 to only measure it")?;
        number(
            "momentum",
            self.momentum,
            |value| (0.0..1.0).contains(&value),
            "a number from 0 to below 1, such as 0.9",
        )?;
        if self.momentum.is_some() && !self.choice(None).has_momentum() {
            return Err("--momentum belongs to --optimizer momentum; leave it out with the other rules".into());
        }
        self.format(&self.precision)?;
        if self.hidden.contains(&0) {
            return Err("--hidden has a layer of size 0; give every layer at least 1, such as 128 or 256,64".into());
        }
        if self.batch_size == 0 {
            return Err("--batch-size is 0; give at least 1".into());
        }
        Ok(())
    }

    /// The formats of a name in [`precision::names`].
    pub fn format(&self, name: &str) -> Result<Format> {
        let format = Format::new(name, self.seed, self.init_scale).ok_or_else(|| format!("no precision {name}"))?;
        if self.init_scale.is_some() && format.scaler.is_none() {
            return Err("--init-scale belongs to --precision f16; leave it out with the other formats".into());
        }
        Ok(format)
    }

    /// The rule of `--optimizer`.
    pub fn choice(&self, lr: Option<f64>) -> Choice {
        Choice::new(&self.optimizer, lr)
    }

    /// The optimizer with a rule, but for its schedule.
    pub fn builder(&self, choice: &Choice) -> Result<OptimizerBuilder> {
        let max_norm = if self.clip == 0.0 { f64::INFINITY } else { self.clip };
        Ok(choice
            .builder(self.momentum, self.weight_decay)?
            .clip(Clip::global_norm(max_norm))
            .group(NO_DECAY, GroupOptions::default().with_weight_decay(0.0)))
    }

    /// The data set, and a line that says which it is.
    fn load_data(&self) -> Result<(Data, String)> {
        if let Some(folder) = &self.data {
            return Ok((read_folder(folder)?, format!("from {}", folder.display())));
        }
        #[cfg(not(feature = "download"))]
        if self.download.is_some() {
            let command = "cargo run --release -p mlp_mnist --features download -- --download";
            return Err(format!("--download is not in this build; run: {command}").into());
        }
        #[cfg(feature = "download")]
        if let Some(folder) = &self.download {
            let folder = folder.clone().unwrap_or_else(download::default_folder);
            let fetched = download::download(&folder, &self.url)?;
            let origin = format!("MNIST from {} ({fetched} of 4 files fetched, checksums right)", folder.display());
            return Ok((read_folder(&folder)?, origin));
        }
        let origin = "synthetic digits drawn by the example; --download fetches the real MNIST, --data DIR reads it";
        Ok((digits::draw(self.seed), origin.to_owned()))
    }

    /// Data, network and device, and a line on each.
    pub fn open(&self) -> Result<Session> {
        let (data, origin) = self.load_data()?;
        if self.batch_size > data.train.len() {
            return Err(format!(
                "--batch-size is {}, but there are {} training examples; give at most that many",
                self.batch_size,
                data.train.len(),
            )
            .into());
        }
        let sizes: Vec<usize> =
            [data.train.pixels].into_iter().chain(self.hidden.iter().copied()).chain([CLASSES]).collect();
        let model = Model::new(&sizes)?;
        println!("data: {} training and {} test images, {origin}", data.train.len(), data.test.len());
        let (device, why) = device::choose(self.device)?;
        println!("device: {why}");
        let names: Vec<String> = sizes.iter().map(ToString::to_string).collect();
        println!("model: {}, {} parameters; batch {}", names.join("-"), model.parameters(), self.batch_size);
        Ok(Session { sizes, seed: self.seed, data, device, batch_size: self.batch_size })
    }
}

/// All that several runs share.
pub struct Session {
    pub data: Data,
    pub device: Device,
    /// Of the layers.
    sizes: Vec<usize>,
    /// Of the parameters that every run starts from.
    seed: u64,
    batch_size: usize,
}

/// A network at its start, with its optimizer.
pub enum AnyEngine<'a> {
    Cpu(Box<CpuEngine<'a>>),
    Gpu(Box<GpuEngine>),
}

impl Session {
    pub fn batches(&self) -> Batches {
        Batches { len: self.data.train.len(), size: self.batch_size }
    }

    /// The network with the layout that a format needs.
    pub fn model(&self, format: &Format) -> Result<Model> {
        Ok(Model::aligned(&self.sizes, format.alignment())?)
    }

    /// An engine with the optimizer in these formats. `model` is that of [`Session::model`].
    pub fn engine<'a>(
        &'a self,
        model: &'a Model,
        optimizer: OptimizerBuilder,
        format: &Format,
    ) -> Result<AnyEngine<'a>> {
        let (optimizer, precision) = (format.builder(optimizer), &format.precision);
        let Self { data, device, batch_size, .. } = self;
        let parameters = &model.initial_parameters(self.seed);
        Ok(match device {
            Device::Cpu => {
                let optimizer = optimizer.build_cpu(&model.layout)?;
                AnyEngine::Cpu(Box::new(CpuEngine::new(model, data, optimizer, precision, *batch_size, parameters)?))
            }
            Device::Gpu(gpu) => {
                let optimizer = optimizer.build(&gpu.device, &gpu.queue, &model.layout)?;
                let gpu = gpu.clone();
                let engine = GpuEngine::new(gpu, model, data, optimizer, precision, *batch_size, parameters)?;
                AnyEngine::Gpu(Box::new(engine))
            }
        })
    }
}

impl AnyEngine<'_> {
    pub fn as_engine(&mut self) -> &mut dyn Engine {
        match self {
            Self::Cpu(engine) => &mut **engine,
            Self::Gpu(engine) => &mut **engine,
        }
    }

    /// What the optimizer has kept of its steps.
    pub fn history(&self) -> Result<History> {
        match self {
            Self::Cpu(engine) => Ok(engine.optimizer.history()?),
            Self::Gpu(engine) => engine.history(),
        }
    }
}
