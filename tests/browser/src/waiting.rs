//! Everything that waits for the device: the browser's event loop polls.

use std::io::Cursor;

use wasm_bindgen::prelude::wasm_bindgen;
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::RangeTest;
use wgpu_optim::wgpu::{Buffer, CommandEncoderDescriptor};
use wgpu_optim::{Adafactor, AdamW, Clip, Error, Gpu, Layout, Optimizer, RuleConfig};

use crate::Outcome;
use crate::device::{default_device, download, upload};

const LEN: usize = 1_000;

/// An optimizer with its buffers.
struct Training {
    gpu: Gpu,
    optimizer: Optimizer,
    params: Buffer,
    grads: Buffer,
}

impl Training {
    async fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let gpu = default_device().await?;
        let params = upload(&gpu, bytemuck::cast_slice(&[1.0_f32; LEN]));
        let grads = upload(&gpu, bytemuck::cast_slice(&[0.5_f32; LEN]));
        let builder = Optimizer::builder(AdamW::default().with_lr(0.01)).clip(Clip::global_norm(1.0));
        let builder = builder.history(HistoryOptions::steps(10).with_norms_every(1));
        let optimizer = builder.build(&gpu.device, &gpu.queue, &Layout::flat(LEN)?)?;
        Ok(Self { gpu, optimizer, params, grads })
    }

    fn step(&mut self) -> Result<(), Error> {
        let mut encoder = self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        self.optimizer.step(&mut encoder, &self.params, &self.grads)?;
        self.gpu.queue.submit([encoder.finish()]);
        Ok(())
    }
}

fn text(outcome: Outcome) -> Result<String, String> {
    outcome.map_err(|error| error.to_string())
}

/// Statistics and history arrive.
///
/// # Errors
/// They do not, or are not those of the steps.
#[wasm_bindgen]
pub async fn statistics() -> Result<String, String> {
    text(read_statistics().await)
}

async fn read_statistics() -> Outcome {
    let mut training = Training::new().await?;
    for _ in 0..3 {
        training.step()?;
    }
    let mut encoder = training.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let (stats, history) = (training.optimizer.stats(&mut encoder), training.optimizer.history(&mut encoder)?);
    training.gpu.queue.submit([encoder.finish()]);
    let (stats, history) = (stats.await?, history.await?);
    let steps: Vec<_> = history.steps.iter().map(|stats| stats.step).collect();
    if stats.step != 3 || steps != [1, 2, 3] || history.steps[2].param_norm.is_none() {
        return Err(format!("{stats:?} {history:?}").into());
    }
    Ok(format!("step {}, norm {:?}", stats.step, stats.grad_norm))
}

/// A checkpoint, saved in the browser and loaded into a second optimizer, continues with the same bits.
///
/// # Errors
/// It does not.
#[wasm_bindgen]
pub async fn checkpoint() -> Result<String, String> {
    text(save_and_load().await)
}

async fn save_and_load() -> Outcome {
    let mut first = Training::new().await?;
    for _ in 0..3 {
        first.step()?;
    }
    let mut file = Vec::new();
    first.optimizer.save_to(&mut file, Some((&first.params).into())).await?;
    // While training goes on.
    let mut encoder = first.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    let snapshot = first.optimizer.snapshot(&mut encoder, &first.params)?;
    first.gpu.queue.submit([encoder.finish()]);
    first.step()?;
    let mut of_snapshot = Vec::new();
    snapshot.save_to(&mut of_snapshot).await?;

    let mut second = Training::new().await?;
    for file in [&file, &of_snapshot] {
        let mut checkpoint = Checkpoint::new(Cursor::new(file.as_slice()))?;
        let params = Some((&second.params).into());
        let loaded = second.optimizer.load_from(&mut checkpoint, params, &LoadOptions::default())?;
        if !loaded.differences.is_empty() {
            return Err(format!("{:?}", loaded.differences).into());
        }
        second.step()?;
        if download(&first.gpu, &first.params).await? != download(&second.gpu, &second.params).await? {
            return Err("the loaded optimizer takes another step".into());
        }
    }
    Ok(format!("{} bytes", file.len()))
}

/// A range test awaits its losses, and leaves no trace.
///
/// # Errors
/// It leaves one, or a loss does not arrive.
#[wasm_bindgen]
pub async fn range_test() -> Result<String, String> {
    text(test_range().await)
}

async fn test_range() -> Outcome {
    let Training { gpu, mut optimizer, params, grads } = Training::new().await?;
    let before = download(&gpu, &params).await?;
    let test = RangeTest::default().with_start_lr(1e-3).with_end_lr(1.0).with_num_iter(10).with_stop_div(false);
    let curve = optimizer.range_test_async(&params, &test, async |optimizer: &mut Optimizer| {
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &grads)?;
        let stats = optimizer.stats(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        Ok::<_, Error>(f64::from(stats.await?.lr))
    });
    let curve = curve.await?;
    let losses: Vec<_> = curve.points.iter().map(|point| (point.loss - point.lr).abs() < 1e-6).collect();
    if losses != [true; 10] {
        return Err(format!("{curve:?}").into());
    }
    if download(&gpu, &params).await? != before {
        return Err("the test changed the parameters".into());
    }
    Ok(format!("{} rates", curve.points.len()))
}

/// Every rule steps on a device with the limits that no browser refuses; no step warns.
///
/// # Errors
/// A rule needs more.
#[wasm_bindgen]
pub async fn default_limits() -> Result<String, String> {
    text(step_every_rule().await)
}

async fn step_every_rule() -> Outcome {
    let gpu = default_device().await?;
    let layout = Layout::flat(LEN)?;
    let mut builders = Vec::new();
    for name in RuleConfig::NAMES {
        let rule: RuleConfig = serde_json::from_str(&format!("{{\"name\": \"{name}\"}}"))?;
        builders.push((*name, rule.builder().clip(Clip::global_norm(1.0))));
    }
    // Without a matrix it factors nothing.
    builders.push(("adafactor, no clipping", Optimizer::builder(Adafactor::default())));
    let (mut most, grads) = (0, upload(&gpu, bytemuck::cast_slice(&[0.5_f32; LEN])));
    for (name, builder) in builders {
        let params = upload(&gpu, bytemuck::cast_slice(&[1.0_f32; LEN]));
        let failed = |error: Error| format!("{name}: {error}");
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout).map_err(failed)?;
        most = most.max(optimizer.state_names().len());
        optimizer.prepare(&params, &grads).map_err(failed)?;
        optimizer.compiled().await.map_err(failed)?;
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        optimizer.step(&mut encoder, &params, &grads).map_err(failed)?;
        let stats = optimizer.stats(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        if stats.await?.step != 1 {
            return Err(format!("{name} took no step").into());
        }
    }
    let allowed = gpu.device.limits().max_storage_buffers_per_shader_stage;
    Ok(format!("up to {most} states, {allowed} storage buffers"))
}
