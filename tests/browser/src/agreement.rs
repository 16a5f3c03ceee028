//! Rules, clipping, groups, schedules and formats on the browser's device and on the CPU engine, side by side.

use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_optim::clip::GlobalNorm;
use wgpu_optim::half::bf16;
use wgpu_optim::schedule::Schedule;
use wgpu_optim::wgpu::CommandEncoderDescriptor;
use wgpu_optim::{
    Adafactor, Adam, AdamW, Adan, Clip, Dtype, Ema, GroupOptions, HostSlice, HostSliceMut, Lamb, Layout, Lion,
    NonFinite, NovoGrad, Optimizer, OptimizerBuilder, Precision, Prodigy, RAdam, ScheduleFreeAdamW, Sgd, Sophia,
};

use crate::Outcome;
use crate::device::{default_device, download, upload};

const STEPS: u32 = 200;
/// Tolerance of the crate's tests after many steps: distance of the parameters, relative to their norm.
const TOLERANCE: f64 = 1e-5;

fn cases() -> Vec<(&'static str, OptimizerBuilder)> {
    let norm = || Clip::global_norm(1.0);
    let group = GroupOptions::default().with_lr_scale(0.5).with_weight_decay(0.1);
    vec![
        ("adam amsgrad", Optimizer::builder(Adam::default().with_amsgrad(true))),
        ("adamw, global norm", Optimizer::builder(AdamW::default()).clip(norm())),
        ("adamw, 3-norm", Optimizer::builder(AdamW::default()).clip(GlobalNorm::new(1.0).with_norm_type(3.0))),
        (
            "adamw, warmup and cosine",
            Optimizer::builder(AdamW::default()).schedule(Schedule::warmup_cosine(1e-2, 20, 200)),
        ),
        ("adamw, groups", Optimizer::builder(AdamW::default()).group("rest", group)),
        ("adamw, 8-bit moments", Optimizer::builder(AdamW::default()).precision(Precision::bf16_stochastic_8bit(7))),
        ("adamw, bf16 split", Optimizer::builder(AdamW::default()).precision(Precision::bf16_split())),
        ("adamw, bf16 gradients", Optimizer::builder(AdamW::default()).grad_dtype(Dtype::Bf16)),
        ("adamw, average", Optimizer::builder(AdamW::default()).average(Ema::new(0.99))),
        ("nesterov", Optimizer::builder(Sgd::default().with_lr(1e-2).with_momentum(0.9).with_nesterov(true))),
        ("sgd, skipping", Optimizer::builder(Sgd::default().with_lr(1e-2)).on_nonfinite(NonFinite::Skip)),
        ("lion", Optimizer::builder(Lion::default())),
        ("adafactor", Optimizer::builder(Adafactor::default())),
        ("lamb", Optimizer::builder(Lamb::default())),
        ("adan", Optimizer::builder(Adan::default())),
        ("prodigy", Optimizer::builder(Prodigy::default())),
        ("radam", Optimizer::builder(RAdam::default())),
        ("novograd", Optimizer::builder(NovoGrad::default())),
        ("schedule-free", Optimizer::builder(ScheduleFreeAdamW::default())),
        ("sophia", Optimizer::builder(Sophia::default())),
    ]
}

/// Names of the cases.
#[wasm_bindgen]
pub fn agreement_cases() -> Vec<String> {
    cases().into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// Steps a case on both engines, and compares the parameters.
///
/// # Errors
/// The engines disagree, or one refuses a step.
#[wasm_bindgen]
pub async fn agreement(name: String) -> Result<String, String> {
    compare(&name).await.map_err(|error| error.to_string())
}

async fn compare(name: &str) -> Outcome {
    let (_, builder) = cases().into_iter().find(|(known, _)| *known == name).ok_or("no case of that name")?;
    let gpu = default_device().await?;
    let layout = Layout::builder().tensor("weight", &[64, 100]).tensor("bias", &[3_607]).group("rest").build()?;
    let formats = builder.formats(&layout)?;
    let dtype_of = |stream: &str| formats.streams.iter().find(|(name, _)| name == stream).map(|(_, dtype)| *dtype);
    let (of_params, of_grads) = (dtype_of("param").unwrap_or_default(), dtype_of("grad").unwrap_or_default());
    let mut cpu = builder.clone().build_cpu(&layout)?;
    let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout)?;

    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let start = Numbers::random(of_params, layout.len(), 1.0, &mut seed);
    let mut expected = start.clone();
    let params = upload(&gpu, &start.bytes());
    let grads = upload(&gpu, &Numbers::random(of_grads, layout.len(), 0.0, &mut seed).bytes());
    let mut stats = None;
    for step in 0..STEPS {
        let scale = 1.0 + (step as f32 / 7.0).sin();
        let mut now = Numbers::random(of_grads, layout.len(), scale, &mut seed);
        if let (true, Numbers::F32(values)) = (step == 77 && name.ends_with("skipping"), &mut now) {
            values[5_000] = f32::NAN;
        }
        gpu.queue.write_buffer(&grads, 0, &now.bytes());
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &grads)?;
        if step + 1 == STEPS {
            stats = Some(optimizer.stats(&mut encoder));
        }
        gpu.queue.submit([encoder.finish()]);
        cpu.step(expected.as_mut(), now.as_ref())?;
    }
    let stats = stats.ok_or("no step")?.await?;
    let expected_stats = cpu.stats();
    if (stats.step, stats.skipped) != (expected_stats.step, expected_stats.skipped) {
        return Err(format!("the device has {stats:?}, the CPU engine {expected_stats:?}").into());
    }
    let found = download(&gpu, &params).await?;
    let is_same = found == expected.bytes();
    let found = Numbers::from_bytes(of_params, &found);
    let distance = |from: &Numbers| {
        let squares = found.values().zip(from.values()).map(|(a, b)| f64::from(a - b).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let norm = expected.values().map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    let (apart, moved) = (distance(&expected) / norm, distance(&start) / norm);
    // NaN fails both.
    if !(apart <= TOLERANCE && moved > 10.0 * TOLERANCE) {
        return Err(format!("the engines are {apart:e} apart and moved by {moved:e}").into());
    }
    Ok(format!("{} steps, {}", stats.step, if is_same { "equal bits".to_owned() } else { format!("{apart:e} apart") }))
}

/// Numbers in a storage format.
#[derive(Clone)]
enum Numbers {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Numbers {
    /// Numbers between -`scale` / 2 and `scale` / 2.
    fn random(dtype: Dtype, len: usize, scale: f32, seed: &mut u64) -> Self {
        let values = (0..len).map(|_| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            ((*seed >> 40) as f32 / (1 << 24) as f32 - 0.5) * scale
        });
        match dtype {
            Dtype::Bf16 => Self::Bf16(values.map(bf16::from_f32).collect()),
            _ => Self::F32(values.collect()),
        }
    }

    fn from_bytes(dtype: Dtype, bytes: &[u8]) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16(bytemuck::pod_collect_to_vec(bytes)),
            _ => Self::F32(bytemuck::pod_collect_to_vec(bytes)),
        }
    }

    /// The bytes of a buffer: whole words.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = match self {
            Self::F32(values) => bytemuck::cast_slice(values).to_vec(),
            Self::Bf16(values) => bytemuck::cast_slice(values).to_vec(),
        };
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn values(&self) -> Box<dyn Iterator<Item = f32> + '_> {
        match self {
            Self::F32(values) => Box::new(values.iter().copied()),
            Self::Bf16(values) => Box::new(values.iter().map(|value| value.to_f32())),
        }
    }

    fn as_ref(&self) -> HostSlice<'_> {
        match self {
            Self::F32(values) => values.into(),
            Self::Bf16(values) => values.into(),
        }
    }

    fn as_mut(&mut self) -> HostSliceMut<'_> {
        match self {
            Self::F32(values) => values.into(),
            Self::Bf16(values) => values.into(),
        }
    }
}
