//! Kernels in other shapes beside those of the crate: they show which shape suits an adapter.
//!
//! `update` is AdamW without clipping. `global_norm` sums squares without the scale and the finite check of the crate's
//! kernel. The crate itself has one shape of each.

use std::cell::RefCell;

use serde::Serialize;
use wgpu_optim::wgpu::{self, BufferUsages, Features, util::DeviceExt};
use wgpu_optim::{AdamW, Clip, Gpu, HostSlice, Layout, Optimizer};

use crate::Result;
use crate::gpu::{Clock, batch, flat, read, slices};
use crate::measure::{Subject, Times, measure_all};
use crate::stream::{SHAPES, Shape, Stream};

const LANES: [u32; 4] = [64, 128, 256, 512];
/// Quads of a tile.
const TILE: u32 = 2048;
/// Elements of the check: several tiles, and a part of one.
const CHECKED: usize = 5 * 8192 + 1000;
/// The bound of `OptimizerBuilder::verify`, relative to the largest of old and new value.
const UPDATE_BOUND: f64 = 64.0 * f32::EPSILON as f64;
/// The bound of the crate's norm in f32.
const NORM_BOUND: f64 = 1e-6;

/// One kernel.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Variant {
    kernel: &'static str,
    workgroup: u32,
    /// Per invocation.
    elements: u32,
    /// Quads loaded before the first store or sum.
    loads: u32,
    /// Lanes that read side by side.
    side: u32,
    /// Sum over a workgroup's lanes; empty for an update.
    sums: &'static str,
}

#[derive(Debug, Serialize)]
pub(crate) struct Row {
    adapter: String,
    #[serde(flatten)]
    variant: Variant,
    parameters: usize,
    seconds_median: f64,
    bytes_per_second: f64,
    /// Share of the streaming kernel's rate: over four streams for updates and steps, over the gradients for norms.
    ceiling_ratio: f64,
}

/// Records one pass or step.
type Record<'a> = dyn FnMut(&mut wgpu::CommandEncoder) -> Result<()> + 'a;

/// All updates.
fn updates(most_lanes: u32) -> Vec<Variant> {
    let mut variants = Vec::new();
    for workgroup in LANES.into_iter().filter(|lanes| *lanes <= most_lanes) {
        for quads in [1, 2, 4] {
            for loads in [1, 2, 4].into_iter().filter(|loads| *loads <= quads) {
                let sides = if quads == 1 { &[8][..] } else { &[8, workgroup] };
                variants.extend(sides.iter().map(|&side| Variant {
                    kernel: "update",
                    workgroup,
                    elements: 4 * quads,
                    loads,
                    side,
                    sums: "",
                }));
            }
        }
    }
    variants
}

/// All norms.
fn norms(most_lanes: u32, subgroups: bool) -> Vec<Variant> {
    let sums: &[&str] = if subgroups { &["workgroup", "subgroup"] } else { &["workgroup"] };
    let mut variants = Vec::new();
    for workgroup in LANES.into_iter().filter(|lanes| *lanes <= most_lanes) {
        let elements = 4 * TILE / workgroup;
        for side in [8, workgroup] {
            for loads in [2, 4, 8].into_iter().filter(|loads| 4 * loads <= elements) {
                let variant =
                    |sums: &&'static str| Variant { kernel: "global_norm", workgroup, elements, loads, side, sums };
                variants.extend(sums.iter().map(variant));
            }
        }
    }
    variants
}

impl Variant {
    fn shape(&self) -> Shape {
        Shape { lanes: self.workgroup, quads: self.elements / 4 }
    }

    fn source(&self) -> String {
        let quads: Vec<u32> = (0..self.elements / 4).collect();
        let blocks = quads.chunks(self.loads as usize);
        let at = |quad: &u32| format!("first + {}u", quad * self.side);
        let Shape { lanes, quads } = self.shape();
        let constants =
            format!("const LANES: u32 = {lanes}u;\nconst QUADS: u32 = {quads}u;\nconst SIDE: u32 = {}u;\n", self.side);
        let lines = |line: &dyn Fn(&u32) -> String, block: &[u32]| block.iter().map(line).collect::<String>();
        if self.kernel == "update" {
            let load = |quad: &u32| format!("let quad{quad} = load({});\n", at(quad));
            let store = |quad: &u32| format!("store({}, quad{quad});\n", at(quad));
            let calls: String = blocks.map(|block| lines(&load, block) + &lines(&store, block)).collect();
            return constants + &include_str!("variants.wgsl").replace("// CALLS", &calls);
        }
        let load = |quad: &u32| format!("let quad{quad} = load({});\n", at(quad));
        let add = |quad: &u32| format!("quads = quads + quad{quad} * quad{quad};\n");
        let calls: String = blocks.map(|block| lines(&load, block) + &lines(&add, block)).collect();
        let (builtins, reduce) = if self.sums == "subgroup" {
            let builtins = "@builtin(subgroup_id) subgroup: u32,\n@builtin(subgroup_invocation_id) place: u32,\n\
                            @builtin(num_subgroups) subgroups: u32,";
            let reduce = "sum = subgroupAdd(sum);\nif place == 0u { shared_sums[subgroup] = sum; }\nworkgroupBarrier();\n\
                          if lane == 0u {\nfor (var i = 1u; i < subgroups; i++) { sum += shared_sums[i]; }\n}";
            (builtins, reduce.to_owned())
        } else {
            let halves = (0..lanes.ilog2()).rev().map(|bit| 1 << bit);
            let half = |half: u32| {
                format!(
                    "shared_sums[lane] = sum;\nworkgroupBarrier();\n\
                     if lane < {half}u {{ sum += shared_sums[lane + {half}u]; }}\nworkgroupBarrier();\n"
                )
            };
            ("", halves.map(half).collect())
        };
        let text = include_str!("variants_norm.wgsl").replace("// CALLS", &calls);
        constants + &text.replace("// SUBGROUP", builtins).replace("// REDUCE", &reduce)
    }
}

/// The uniform of the first step with the defaults of AdamW: a bias correction cancels one minus its beta.
fn options() -> [f32; 8] {
    let (lr, weight_decay, eps) = (1e-3_f64, 1e-2, 1e-8);
    let (beta1, beta2) = (0.9_f64, 0.999_f64);
    let (one1, one2) = (1.0 - beta1, 1.0 - beta2);
    [lr / one1, lr * weight_decay, 1.0 / one2.sqrt(), eps, beta1, one1, beta2, one2].map(|value| value as f32)
}

/// A device with all limits, timestamps and subgroups of the adapter.
fn device(gpu: &Gpu) -> Result<Gpu> {
    let timestamps = Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("throughput variants"),
        required_features: (timestamps | Features::SUBGROUP) & gpu.adapter.features(),
        required_limits: gpu.adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(gpu.adapter.request_device(&descriptor))?;
    Ok(Gpu::from_parts(gpu.instance.clone(), gpu.adapter.clone(), device, queue))
}

/// Checks every variant, and measures all by turns.
pub(crate) fn run(gpu: &Gpu, parameters: usize, seconds: f64) -> Result<Vec<Row>> {
    let gpu = &device(gpu)?;
    let subgroups = gpu.device.features().contains(Features::SUBGROUP);
    if !subgroups {
        println!("no sums by subgroups: the adapter lacks the feature SUBGROUP");
    }
    let limits = gpu.device.limits();
    let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
    for left_out in LANES.into_iter().filter(|lanes| *lanes > most) {
        println!("no workgroups of {left_out}: the adapter has {most} invocations at most");
    }
    let (updates, norms) = (updates(most), norms(most, subgroups));
    let kernels = |variants: &[Variant], streams| {
        let sources = variants.iter().map(|variant| (variant.shape(), variant.source()));
        Stream::of(&gpu.device, streams, bytemuck::bytes_of(&options()), sources)
    };
    let (update, norm) = (kernels(&updates, 4), kernels(&norms, 2));
    check_updates(gpu, &update, &updates)?;
    check_norms(gpu, &norm, &norms)?;

    let layout = Layout::flat(parameters)?;
    let buffers: Vec<_> = [1e-3, 1.0, 0.0, 0.0].iter().map(|&value| flat(gpu, &layout, value)).collect();
    let streams: Vec<_> = buffers.iter().map(|buffers| slices(buffers)).collect();
    let ceiling = Stream::new(&gpu.device, 4);
    let ceiling_of_norm = Stream::new(&gpu.device, 1);
    let four = ceiling.bind(&gpu.device, &streams);
    let one = ceiling_of_norm.bind(&gpu.device, &streams[..1]);
    let two = norm.bind(&gpu.device, &streams[..2]);
    let all = update.bind(&gpu.device, &streams);
    let steps = [None, Some(Clip::global_norm(1.0))].map(|clip| {
        let builder = Optimizer::builder(AdamW::default());
        let builder = if let Some(clip) = clip { builder.clip(clip) } else { builder };
        builder.build(&gpu.device, &gpu.queue, &layout).map(RefCell::new)
    });
    let [step, clipped] = steps;
    let steps = [step?, clipped?];

    let passes = [(&ceiling, &four, SHAPES.len()), (&ceiling_of_norm, &one, SHAPES.len())];
    let passes = passes.into_iter().chain([(&update, &all, updates.len()), (&norm, &two, norms.len())]);
    let mut records: Vec<Box<Record<'_>>> = Vec::new();
    for (kernels, runs, count) in passes {
        records.extend((0..count).map(|kernel| -> Box<Record<'_>> {
            Box::new(move |encoder| {
                kernels.record(encoder, runs, kernel);
                Ok(())
            })
        }));
    }
    for optimizer in &steps {
        let (grads, params) = (&streams[0], &streams[1]);
        records.push(Box::new(move |encoder| Ok(optimizer.borrow_mut().step(encoder, params, grads)?)));
    }
    let clock = Clock::new(gpu);
    let subject = |record: &mut Box<Record<'_>>, turns| batch(gpu, clock.as_ref(), turns, &mut **record);
    let mut subjects: Vec<_> = records.iter_mut().map(|record| move |turns| subject(record, turns)).collect();
    let mut subjects: Vec<&mut Subject<'_>> = subjects.iter_mut().map(|subject| subject as &mut Subject<'_>).collect();
    let medians: Vec<f64> = measure_all(&mut subjects, seconds)?.iter().map(Times::median).collect();

    let (ceilings, medians) = medians.split_at(2 * SHAPES.len());
    let best = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
    let (streamed, read) = (best(&ceilings[..SHAPES.len()]), best(&ceilings[SHAPES.len()..]));
    let own = |kernel| Variant { kernel, workgroup: 64, elements: 16, loads: 1, side: 8, sums: "" };
    let own = [own("the crate's step"), own("the crate's step, clipped")];
    let stream = |kernel| Variant { kernel, workgroup: 0, elements: 0, loads: 0, side: 0, sums: "" };
    let ceilings = [(stream("stream"), streamed), (stream("stream of gradients"), read)];
    let measured = updates.into_iter().chain(norms).chain(own).zip(medians.iter().copied());
    let row = |(variant, seconds): (Variant, f64)| {
        let (bytes, ceiling) = match variant.kernel {
            "global_norm" | "stream of gradients" => (4, 4.0 / read),
            "the crate's step, clipped" => (32, 28.0 / streamed),
            _ => (28, 28.0 / streamed),
        };
        let bytes_per_second = f64::from(bytes) * parameters as f64 / seconds;
        Row {
            adapter: gpu.adapter.get_info().name,
            variant,
            parameters,
            seconds_median: seconds,
            bytes_per_second,
            ceiling_ratio: f64::from(bytes) / seconds / ceiling,
        }
    };
    Ok(ceilings.into_iter().chain(measured).map(row).collect())
}

/// Values of the check: gradients, parameters and states.
fn values() -> [Vec<f32>; 4] {
    let noise = |seed: u32| {
        let bits = |i: u32| (i.wrapping_mul(0x9e37_79b9) ^ seed).wrapping_mul(0x85eb_ca6b) >> 8;
        (0..CHECKED as u32).map(|i| bits(i) as f32 / 8_388_608.0 - 1.0).collect::<Vec<_>>()
    };
    [noise(1), noise(2), vec![0.0; CHECKED], vec![0.0; CHECKED]]
}

fn upload(gpu: &Gpu, values: &[f32]) -> wgpu::Buffer {
    gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
    })
}

/// The streams after one pass of a kernel.
fn after(gpu: &Gpu, kernels: &Stream, kernel: usize, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let buffers: Vec<_> = values.iter().map(|values| upload(gpu, values)).collect();
    let streams: Vec<_> = buffers.iter().map(|buffer| vec![buffer.slice(..)]).collect();
    let runs = kernels.bind(&gpu.device, &streams);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    kernels.record(&mut encoder, &runs, kernel);
    gpu.queue.submit([encoder.finish()]);
    buffers.iter().map(|buffer| read(gpu, buffer)).collect()
}

/// Compares one step of each variant with the CPU engine.
fn check_updates(gpu: &Gpu, kernels: &Stream, variants: &[Variant]) -> Result<()> {
    let values = values();
    let mut optimizer = Optimizer::builder(AdamW::default()).build_cpu(&Layout::flat(CHECKED)?)?;
    let mut params = values[1].clone();
    optimizer.step(&mut params, &values[0])?;
    let state = |name| optimizer.state(name).map(HostSlice::to_f32).unwrap_or_default();
    let expected = [values[0].clone(), params, state("exp_avg"), state("exp_avg_sq")];
    for (kernel, variant) in variants.iter().enumerate() {
        let found = after(gpu, kernels, kernel, &values);
        for ((found, expected), old) in found.iter().zip(&expected).zip(&values) {
            let bad = (0..CHECKED).find(|&i| {
                let [found, expected, old] = [found[i], expected[i], old[i]].map(f64::from);
                let distance = (found - expected).abs();
                distance.is_nan() || distance > UPDATE_BOUND * expected.abs().max(old.abs())
            });
            if let Some(i) = bad {
                return Err(format!("{variant:?}: {} instead of {} at {i}", found[i], expected[i]).into());
            }
        }
    }
    Ok(())
}

/// Compares the norm of each variant with one in f64.
fn check_norms(gpu: &Gpu, kernels: &Stream, variants: &[Variant]) -> Result<()> {
    let values = values();
    let expected = values[0].iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    for (kernel, variant) in variants.iter().enumerate() {
        let sums = &after(gpu, kernels, kernel, &values[..2])[1];
        let tiles = CHECKED.div_ceil(4 * TILE as usize);
        let norm = sums.chunks(4).take(tiles).map(|sum| f64::from(sum[0])).sum::<f64>().sqrt();
        if norm.is_nan() || (norm - expected).abs() > NORM_BOUND * expected {
            return Err(format!("{variant:?}: a norm of {norm} instead of {expected}").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_right_and_measured() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        let rows = run(&gpu, 16_384, 0.0).expect("all agree with the crate");
        assert!(rows.iter().all(|row| row.seconds_median > 0.0 && row.ceiling_ratio > 0.0), "{rows:?}");
        for kernel in ["update", "global_norm", "stream", "the crate's step, clipped"] {
            assert!(rows.iter().any(|row| row.variant.kernel == kernel), "{kernel}");
        }
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        let (updates, norms) = (updates(64), norms(64, false));
        let kernels = |variant: &Variant, streams, right: &str, wrong: &str| {
            let source = variant.source();
            assert!(source.contains(right), "{source}");
            let source = (variant.shape(), source.replace(right, wrong));
            Stream::of(&gpu.device, streams, bytemuck::bytes_of(&options()), [source])
        };
        let update = kernels(&updates[0], 4, "options.step.y * old.param", "options.step.y * old.grad");
        assert!(check_updates(&gpu, &update, &updates[..1]).is_err());
        let norm = kernels(&norms[0], 2, "quads + quad0 * quad0", "quad0 * quad0 + quad0 * quad0");
        assert!(check_norms(&gpu, &norm, &norms[..1]).is_err());
    }

    #[test]
    fn shapes_of_the_list_are_all_there() {
        let (updates, norms) = (updates(512), norms(512, true));
        let has = |lanes, elements, loads| {
            updates
                .iter()
                .any(|variant| (variant.workgroup, variant.elements, variant.loads) == (lanes, elements, loads))
        };
        for lanes in LANES {
            assert!(has(lanes, 4, 1) && has(lanes, 8, 2) && has(lanes, 16, 2) && has(lanes, 16, 4));
        }
        assert!(norms.iter().any(|variant| variant.sums == "subgroup" && variant.workgroup == 512));
    }
}
