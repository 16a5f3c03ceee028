//! Device, text and network, made of the command line.

use burn::backend::wgpu::WgpuSetup;
use burn::prelude::*;
use wgpu_optim::GroupOptions;
use wgpu_optim_burn::FusedOptimizer;

use crate::Result;
use crate::args::Args;
use crate::batches::Batches;
use crate::burn_adamw::BurnAdamW;
use crate::model::{Gpt, GptConfig, NO_DECAY};
use crate::optimizer::Fused;
use crate::speak::Speech;
use crate::text::Text;

/// burn's device with autodiff, and the wgpu handles behind it.
#[derive(Clone)]
pub(crate) struct Gpu {
    pub(crate) device: Device,
    pub(crate) setup: WgpuSetup,
}

/// The adapter that burn prefers. To be called before burn's first operation, and once.
pub(crate) fn gpu() -> Result<Gpu> {
    let (device, setup) = Device::wgpu_options().init_with_setup()?;
    Ok(Gpu { device: device.autodiff(), setup })
}

/// All that several runs share.
pub(crate) struct Session {
    pub(crate) gpu: Gpu,
    pub(crate) text: Text,
    pub(crate) batches: Batches,
    pub(crate) speech: Speech,
    config: GptConfig,
}

impl Session {
    /// Reads the text, and says in a line each what there is.
    pub(crate) fn open(args: &Args, gpu: Gpu) -> Result<Self> {
        let text = Text::open(args.data.as_deref(), args.context)?;
        if args.length > 0 {
            text.vocabulary.encode(&args.prompt).map_err(|error| format!("--prompt: {error}"))?;
        }
        println!(
            "text: {} characters to learn and {} to validate, {} different; {}",
            text.train.len(),
            text.validation.len(),
            text.vocabulary.len(),
            text.origin
        );
        let info = gpu.setup.adapter.get_info();
        println!("device: {} ({:?}, {})", info.name, info.backend, info.driver_info);
        let config = GptConfig {
            vocabulary: text.vocabulary.len(),
            context: args.context,
            layers: args.layers,
            heads: args.heads,
            width: args.width,
            dropout: args.dropout,
        };
        let batches = Batches { size: args.batch_size, context: args.context, seed: args.seed };
        let (prompt, length, temperature) = (args.prompt.clone(), args.length, args.temperature);
        Ok(Self { gpu, text, batches, speech: Speech { prompt, length, temperature, seed: args.seed }, config })
    }

    /// The network at its start, the same for the same seed.
    pub(crate) fn model(&self, args: &Args) -> Result<Gpt> {
        let device = &self.gpu.device;
        device.seed(args.seed);
        let model = self.config.init(device);
        let GptConfig { layers, heads, width, context, .. } = self.config;
        let tensors = burn::module::list_param_ids(&model).len();
        println!(
            "model: {layers} layers, {heads} heads, width {width}, context {context}: {} parameters in {tensors} tensors",
            model.num_params(),
        );
        let adapter = self.gpu.setup.adapter.get_info().name;
        Ok(args.format()?.cast(model, device, &adapter)?)
    }

    /// wgpu-optim for a network.
    pub(crate) fn fused(&self, args: &Args, model: &Gpt) -> Result<Fused> {
        let builder = args.builder()?;
        let mut builder = FusedOptimizer::builder(builder);
        for name in NO_DECAY {
            builder = builder.group(&*format!("*.{name}"), GroupOptions::default().with_weight_decay(0.0));
        }
        Ok(Fused::new(builder.build(model, &self.gpu.setup)?, &self.gpu.setup, args.has_average()))
    }

    /// burn's AdamW with the same settings.
    pub(crate) fn burn_adamw(args: &Args) -> Result<BurnAdamW> {
        Ok(BurnAdamW::new(args.schedule()?, args.weight_decay(), args.max_norm()))
    }
}
