//! Steps on a device.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use wgpu_optim::wgpu::util::DeviceExt;
use wgpu_optim::wgpu::{self, BufferUsages, ErrorFilter, Features};
use wgpu_optim::{Gpu, Layout, Optimizer, SharedPipelines};

use crate::case::Case;
use crate::measure::{MOST_TURNS, measure, quantile};
use crate::row::{Compared, Row};
use crate::stream::{Run, Stream};
use crate::{Engine, Result, memory};

/// Bytes copied at a time where buffers are filled.
const FILL: u64 = 16 << 20;

/// Bytes that no device is asked for beforehand.
const SURELY_THERE: u64 = 256 << 20;

pub(crate) struct Device {
    gpu: Gpu,
    /// By number of streams.
    streams: HashMap<usize, Stream>,
    clock: Option<Clock>,
}

/// One copy of all buffers of a case.
struct Set {
    optimizer: Optimizer,
    /// What making it took.
    made_in: f64,
    params: Vec<wgpu::Buffer>,
    grads: Vec<wgpu::Buffer>,
    runs: Vec<Run>,
}

impl Device {
    pub(crate) fn new(gpu: Gpu) -> Self {
        let clock = Clock::new(&gpu);
        Self { streams: HashMap::new(), clock, gpu }
    }

    fn sets(&mut self, case: &Case) -> Result<VecDeque<Set>> {
        let streams = case.streams();
        let stream = self.streams.entry(streams).or_insert_with(|| Stream::new(&self.gpu.device, streams));
        // Of this case alone: its first step is to compile.
        let pipelines = SharedPipelines::new(&self.gpu.device);
        let set = |_| {
            let start = Instant::now();
            let optimizer = case.builder().build_shared(&pipelines, &self.gpu.queue, &case.layout)?;
            let made_in = start.elapsed().as_secs_f64();
            let (params, grads) = (flat(&self.gpu, &case.layout, 1.0), flat(&self.gpu, &case.layout, 1e-3));
            // Not the factors that a rule may keep beside them: they are small.
            let states = optimizer
                .state_names()
                .into_iter()
                .take(streams - 2)
                .map(|name| optimizer.state(name).unwrap_or_default());
            let slices: Vec<_> = [slices(&grads), slices(&params)].into_iter().chain(states).collect();
            let runs = stream.bind(&self.gpu.device, &slices);
            Ok(Set { optimizer, made_in, params, grads, runs })
        };
        (0..case.copies()).map(set).collect()
    }
}

impl Engine for Device {
    fn describe(&self) -> String {
        let clock = if self.clock.is_some() { "timestamps" } else { "no timestamps: times are those of the wall" };
        format!("{}, {clock}", self.gpu.describe())
    }

    fn has_room(&self, elements: usize, streams: usize) -> bool {
        let device_type = self.gpu.adapter.get_info().device_type;
        let bytes = 4 * elements as u64 * streams as u64;
        // Other kinds take the memory that programs have.
        let may_fit = device_type == wgpu::DeviceType::DiscreteGpu || bytes <= memory::available() / 2;
        may_fit && (bytes < SURELY_THERE || fits(&self.gpu, elements, streams))
    }

    fn run(&mut self, case: &Case, seconds: f64) -> Result<Row> {
        let mut sets = self.sets(case)?;
        // Of all of them: what is measured later finds memory touched and buffers bound.
        let first_steps: Vec<f64> = sets.iter_mut().map(|set| first_step(&self.gpu, set)).collect::<Result<_>>()?;
        let sets = RefCell::new(sets);
        let (gpu, clock, stream) = (&self.gpu, self.clock.as_ref(), &self.streams[&case.streams()]);
        let turn = |work: &mut dyn FnMut(&mut Set, &mut wgpu::CommandEncoder) -> Result<()>, turns| {
            batch(gpu, clock, turns, &mut |encoder| {
                let mut sets = sets.borrow_mut();
                sets.rotate_left(1);
                work(&mut sets[0], encoder)
            })
        };
        let mut record = Vec::new();
        let mut step = |turns| {
            let mut step = |set: &mut Set, encoder: &mut wgpu::CommandEncoder| {
                let (params, grads) = (slices(&set.params), slices(&set.grads));
                let start = Instant::now();
                set.optimizer.step(encoder, &params, &grads)?;
                record.push(start.elapsed().as_secs_f64() * 1e6);
                Ok(())
            };
            turn(&mut step, turns)
        };
        let streaming = |shape, turns| {
            let mut streaming = |set: &mut Set, encoder: &mut wgpu::CommandEncoder| {
                stream.record(encoder, &set.runs, shape);
                Ok(())
            };
            turn(&mut streaming, turns)
        };
        let mut copy = |turns| {
            let mut copy = |set: &mut Set, encoder: &mut wgpu::CommandEncoder| {
                encoder.copy_buffer_to_buffer(&set.params[0], 0, &set.grads[0], 0, set.grads[0].size());
                Ok(())
            };
            turn(&mut copy, turns)
        };
        let (mut one, mut four) = (|turns| streaming(0, turns), |turns| streaming(1, turns));
        let times = measure([&mut step, &mut one, &mut four, &mut copy], seconds)?;
        let sets = sets.borrow();
        let applied: u64 = sets.iter().map(|set| applied(gpu, &set.optimizer)).sum::<Result<_>>()?;
        let steps = (sets.len() + record.len()) as u64;
        if applied != steps {
            let name = &case.name;
            return Err(format!("{name}: {applied} of {steps} steps were applied; the times mean nothing").into());
        }
        let [step, one, four, copy] = times;
        let stream = if one.median() < four.median() { one } else { four };
        let info = gpu.adapter.get_info();
        let driver = format!("{} {}", info.driver, info.driver_info);
        let compared = Compared {
            step,
            stream,
            copy: (sets[0].grads[0].size(), copy),
            record_microseconds: Some(quantile(&record, 0.5)),
            first_step_seconds: first_steps[0],
        };
        Ok(Row::new(case, "gpu", (&info.name, driver.trim()), compared))
    }
}

/// Submits one encoder per turn, and waits for the last.
pub(crate) fn batch(
    gpu: &Gpu,
    clock: Option<&Clock>,
    turns: u32,
    record: &mut dyn FnMut(&mut wgpu::CommandEncoder) -> Result<()>,
) -> Result<Vec<f64>> {
    for turn in 0..turns {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        if let Some(clock) = clock {
            encoder.write_timestamp(&clock.queries, 2 * turn);
        }
        record(&mut encoder)?;
        if let Some(clock) = clock {
            encoder.write_timestamp(&clock.queries, 2 * turn + 1);
        }
        gpu.queue.submit([encoder.finish()]);
    }
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(clock.map(|clock| clock.read(gpu, turns)).unwrap_or_default())
}

/// Seconds from the builder to the end of the first step.
fn first_step(gpu: &Gpu, set: &mut Set) -> Result<f64> {
    // What filled the buffers is not the optimizer's.
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    let (params, grads) = (slices(&set.params), slices(&set.grads));
    let start = Instant::now();
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    set.optimizer.step(&mut encoder, &params, &grads)?;
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(set.made_in + start.elapsed().as_secs_f64())
}

fn applied(gpu: &Gpu, optimizer: &Optimizer) -> Result<u64> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let stats = optimizer.stats(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(pollster::block_on(stats)?.step)
}

/// The device's own clock.
pub(crate) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    seconds_per_tick: f64,
}

impl Clock {
    /// None where the device cannot write timestamps between passes.
    pub(crate) fn new(gpu: &Gpu) -> Option<Self> {
        let needed = Features::TIMESTAMP_QUERY | Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        if !gpu.device.features().contains(needed) {
            return None;
        }
        let count = 2 * MOST_TURNS;
        let label = Some("throughput clock");
        let queries =
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty: wgpu::QueryType::Timestamp, count });
        let resolved = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: u64::from(count) * 8,
            usage: BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Some(Self { queries, resolved, seconds_per_tick: f64::from(gpu.queue.get_timestamp_period()) * 1e-9 })
    }

    /// Seconds of the first turns.
    fn read(&self, gpu: &Gpu, turns: u32) -> Vec<f64> {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.resolve_query_set(&self.queries, 0..2 * turns, &self.resolved, 0);
        gpu.queue.submit([encoder.finish()]);
        let ticks = read::<u64>(gpu, &self.resolved);
        let turns = ticks[..2 * turns as usize].chunks_exact(2);
        turns.map(|turn| turn[1].saturating_sub(turn[0]) as f64 * self.seconds_per_tick).collect()
    }
}

/// The whole of a buffer.
pub(crate) fn read<T: bytemuck::Pod>(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<T> {
    let usage = BufferUsages::COPY_DST | BufferUsages::MAP_READ;
    let (label, size) = (Some("throughput read"), buffer.size());
    let staging = gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
    gpu.queue.submit([encoder.finish()]);
    staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("the device answers"));
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
    let view = staging.get_mapped_range(..).expect("it is mapped");
    bytemuck::pod_collect_to_vec(&view)
}

/// Buffers for the layout's elements, all of one value, divided where the optimizer divides its states.
pub(crate) fn flat(gpu: &Gpu, layout: &Layout, value: f32) -> Vec<wgpu::Buffer> {
    let buffers = pieces(gpu, layout.len());
    let largest = buffers.iter().map(wgpu::Buffer::size).max().unwrap_or_default().min(FILL);
    let block = gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: Some("throughput fill"),
        contents: bytemuck::cast_slice(&vec![value; largest as usize / 4]),
        usage: BufferUsages::COPY_SRC,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for buffer in &buffers {
        for offset in (0..buffer.size()).step_by(FILL as usize) {
            encoder.copy_buffer_to_buffer(&block, 0, buffer, offset, (buffer.size() - offset).min(FILL));
        }
    }
    gpu.queue.submit([encoder.finish()]);
    buffers
}

fn pieces(gpu: &Gpu, elements: usize) -> Vec<wgpu::Buffer> {
    let most = (gpu.device.limits().max_buffer_size / 4 / 8192 * 8192) as usize;
    let piece = |start: usize| {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let size = (4 * (elements - start).min(most) as u64).next_multiple_of(16);
        gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    (0..elements).step_by(most).map(piece).collect()
}

pub(crate) fn slices(buffers: &[wgpu::Buffer]) -> Vec<wgpu::BufferSlice<'_>> {
    buffers.iter().map(|buffer| buffer.slice(..)).collect()
}

/// Whether the device has memory for so many streams.
fn fits(gpu: &Gpu, elements: usize, streams: usize) -> bool {
    let scope = gpu.device.push_error_scope(ErrorFilter::OutOfMemory);
    let buffers: Vec<_> = (0..streams).map(|_| pieces(gpu, elements)).collect();
    let error = pollster::block_on(scope.pop());
    drop(buffers);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).is_ok() && error.is_none()
}
