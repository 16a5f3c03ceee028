//! Steps of AdamW in each storage format, by turns in one run: their times as shares of that in f32.

use std::cell::RefCell;
use std::time::Instant;

use examples_common::numbers::Numbers;
use serde::Serialize;
use wgpu_optim::wgpu::{self, util::DeviceExt};
use wgpu_optim::{AdamW, Clip, Dtype, Gpu, Layout, Optimizer, OptimizerBuilder, Precision};

use crate::Result;
use crate::gpu::{Clock, batch};
use crate::measure::{Subject, Times, measure_all};

/// The result for one format, with and without clipping, on one engine.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    engine: String,
    format: &'static str,
    clip: bool,
    parameters: usize,
    bytes_per_parameter: f64,
    seconds_median: f64,
    /// Time as a share of that in f32 in the same run.
    ratio_to_f32: f64,
}

/// The formats, f32 first.
fn formats() -> Vec<(&'static str, Precision)> {
    let bf16_states = |all: Precision| all.with_state("exp_avg", Dtype::Bf16).with_state("exp_avg_sq", Dtype::Bf16);
    vec![
        ("f32", Precision::default()),
        ("bf16 gradients", Precision::default().with_grads(Dtype::Bf16)),
        ("bf16_master", Precision::bf16_master()),
        ("f16_master", Precision::f16_master()),
        ("8-bit blocks of 256", Precision::default().with_moments(Dtype::Dynamic8)),
        ("bf16_split", Precision::bf16_split()),
        ("bf16_split, bf16 states", bf16_states(Precision::bf16_split())),
        ("bf16_8bit", Precision::bf16_8bit()),
        ("bf16_split, groups of 32", Precision::bf16_split().with_moments(Dtype::Companded8)),
        ("bf16_stochastic", Precision::bf16_stochastic(0)),
        ("bf16_stochastic, bf16 states", bf16_states(Precision::bf16_stochastic(0))),
        ("bf16_stochastic_8bit", Precision::bf16_stochastic_8bit(0)),
        ("bf16_stochastic, groups of 32", Precision::bf16_stochastic(0).with_moments(Dtype::Companded8)),
    ]
}

/// Takes turns of one format on one engine.
type Turns = Box<dyn FnMut(u32) -> Result<Vec<f64>>>;

/// Measures every format on the CPU, and on the device if there is one.
pub(crate) fn run(gpu: Option<&Gpu>, parameters: usize, seconds: f64) -> Result<Vec<Row>> {
    let layout = Layout::flat(parameters)?;
    let mut rows = Vec::new();
    for clip in [false, true] {
        let builder = |precision: &Precision| {
            let builder = Optimizer::builder(AdamW::default()).precision(precision.clone());
            if clip { builder.clip(Clip::global_norm(1.0)) } else { builder }
        };
        let formats = formats();
        let on_cpu = formats.iter().map(|(_, precision)| on_cpu(builder(precision), precision, &layout));
        let mut engines = vec![("CPU engine".to_owned(), on_cpu.collect::<Result<Vec<_>>>()?)];
        if let Some(gpu) = gpu {
            let on_device = formats.iter().map(|(_, precision)| on_device(gpu, builder(precision), precision, &layout));
            engines.push((gpu.adapter.get_info().name, on_device.collect::<Result<_>>()?));
        }
        for (engine, mut turns) in engines {
            let mut subjects: Vec<&mut Subject<'_>> = turns.iter_mut().map(|turns| &mut **turns as _).collect();
            let times = measure_all(&mut subjects, seconds * formats.len() as f64)?;
            let in_f32 = times.first().map_or(f64::NAN, Times::median);
            for ((format, precision), times) in formats.iter().zip(&times) {
                rows.push(Row {
                    engine: engine.clone(),
                    format,
                    clip,
                    parameters,
                    bytes_per_parameter: builder(precision).formats(&layout)?.bytes_per_parameter(),
                    seconds_median: times.median(),
                    ratio_to_f32: times.median() / in_f32,
                });
            }
        }
    }
    Ok(rows)
}

/// A table in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let heading = "| engine | format | bytes per parameter | clipped | time, f32 = 1 |\n|---|---|---|---|---|\n";
    let line = |row: &Row| {
        let Row { engine, format, clip, bytes_per_parameter, ratio_to_f32, .. } = row;
        let clip = if *clip { "yes" } else { "no" };
        // Two digits at most, and no zeros behind the last.
        let bytes = (bytes_per_parameter * 100.0).round() / 100.0;
        format!("| {engine} | {format} | {bytes} | {clip} | {ratio_to_f32:.2} |\n")
    };
    heading.to_owned() + &rows.iter().map(line).collect::<String>()
}

fn on_cpu(builder: OptimizerBuilder, precision: &Precision, layout: &Layout) -> Result<Turns> {
    let [mut params, grads] = streams(precision, layout)?;
    let mut optimizer = builder.build_cpu(layout)?;
    Ok(Box::new(move |turns| {
        let mut turn = |_| {
            let start = Instant::now();
            optimizer.step(params.as_mut(), grads.as_slice())?;
            Ok(start.elapsed().as_secs_f64())
        };
        (0..turns).map(&mut turn).collect()
    }))
}

/// Parameters and gradients in their formats.
fn streams(precision: &Precision, layout: &Layout) -> Result<[Numbers; 2]> {
    let params = Numbers::nearest(precision.params.dtype(), &vec![1.0; layout.len()])?;
    Ok([params, Numbers::nearest(precision.grads, &vec![1e-3; layout.len()])?])
}

fn on_device(gpu: &Gpu, builder: OptimizerBuilder, precision: &Precision, layout: &Layout) -> Result<Turns> {
    let buffer = |numbers: &Numbers| {
        let mut contents = numbers.as_slice().bytes().to_vec();
        contents.resize(layout.buffer_size_of(numbers.as_slice().dtype()) as usize, 0);
        gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: Some("throughput formats"),
            contents: &contents,
            usage: wgpu::BufferUsages::STORAGE,
        })
    };
    let optimizer = RefCell::new(builder.build(&gpu.device, &gpu.queue, layout)?);
    let [params, grads] = streams(precision, layout)?.each_ref().map(buffer);
    let (clock, gpu) = (Clock::new(gpu), gpu.clone());
    Ok(Box::new(move |turns| {
        let mut step =
            |encoder: &mut wgpu::CommandEncoder| Ok(optimizer.borrow_mut().step(encoder, &params, &grads)?);
        batch(&gpu, clock.as_ref(), turns, &mut step)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_measured_on_both_engines() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        let rows = run(Some(&gpu), 4_096, 0.0).expect("all formats run");
        assert_eq!(rows.len(), 2 * 2 * formats().len());
        assert!(rows.iter().all(|row| row.seconds_median > 0.0 && row.ratio_to_f32 > 0.0), "{rows:?}");
        assert_eq!(table(&rows).lines().count(), 2 + rows.len());
        assert!(rows.iter().any(|row| row.format == "bf16_split" && row.bytes_per_parameter == 14.0));
    }
}
