//! A race on a device: the steps of all rules in few submissions, and nothing read back before the end.

use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, BufferUsages};
use wgpu_optim::{Gpu, Optimizer, SharedPipelines};

use crate::Result;
use crate::race::{Course, Entry, Record};
use examples_common::functions::KERNELS;
use examples_common::read::read;

/// Steps of one rule in a submission.
const STEPS: u32 = 100;
const WORKGROUP: usize = 64;

/// The kernels of `points.wgsl` for one function.
struct Kernels {
    gradients: wgpu::ComputePipeline,
    curvatures: wgpu::ComputePipeline,
}

/// A rule with its points.
struct Racer<'a> {
    entry: &'a Entry,
    optimizer: Optimizer,
    /// Bytes of the points.
    size: u64,
    params: wgpu::Buffer,
    derivatives: wgpu::Buffer,
    stays: wgpu::Buffer,
    gradients: wgpu::BindGroup,
    curvatures: wgpu::BindGroup,
    /// All that is kept of the first point, and all frames one after the other.
    path: wgpu::Buffer,
    frames: wgpu::Buffer,
}

/// Records the steps of all entries by turns.
pub(crate) fn race(gpu: &Gpu, course: &Course, entries: &[Entry]) -> Result<Vec<Record>> {
    let kernels = Kernels::new(&gpu.device, course);
    let shared = SharedPipelines::new(&gpu.device);
    let racers = entries.iter().map(|entry| Racer::new(gpu, &kernels, &shared, course, entry));
    let mut racers = racers.collect::<Result<Vec<_>>>()?;
    for first in (0..=course.steps).step_by(STEPS as usize) {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for step in first..(first + STEPS).min(course.steps + 1) {
            for racer in &mut racers {
                racer.record(&mut encoder, &kernels, course, step)?;
            }
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
    }
    racers.iter().map(|racer| racer.read(gpu, course)).collect()
}

impl Kernels {
    fn new(device: &wgpu::Device, course: &Course) -> Self {
        let label = Some("landscape");
        let source = [course.function.wgsl, KERNELS].concat();
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let constants =
            [("DIMENSIONS", course.function.dimensions as f64), ("TARGET", f64::from(course.function.target))];
        let pipeline = |entry_point, constants| {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: None,
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
                cache: None,
            })
        };
        Self { gradients: pipeline("gradients", &constants), curvatures: pipeline("curvatures", &constants) }
    }
}

impl<'a> Racer<'a> {
    fn new(gpu: &Gpu, kernels: &Kernels, shared: &SharedPipelines, course: &Course, entry: &'a Entry) -> Result<Self> {
        let starts = entry.starts(course);
        let dimensions = course.function.dimensions;
        let layout = entry.layout(course)?;
        let buffer = |words: u64| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor { label: None, size: 4 * words, usage, mapped_at_creation: false };
            gpu.device.create_buffer(&descriptor)
        };
        // The optimizer moves four elements at a time where the buffers' ends allow it.
        let words = layout.buffer_size() / 4;
        let derivatives = buffer(words);
        let stays = buffer((starts.len() / dimensions) as u64);
        let mut padded = starts.to_vec();
        padded.resize(words as usize, 0.0);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let contents = bytemuck::cast_slice(&padded);
        let params = gpu.device.create_buffer_init(&BufferInitDescriptor { label: None, contents, usage });
        let bind = |pipeline: &wgpu::ComputePipeline, buffers: &[&wgpu::Buffer]| {
            let entries: Vec<_> = buffers.iter().zip(0..).map(|(buffer, binding)| whole(buffer, binding)).collect();
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            })
        };
        let path = if course.path { u64::from(course.steps + 1) * dimensions as u64 } else { 1 };
        Ok(Self {
            optimizer: entry.rule.clone().builder().build_shared(shared, &gpu.queue, &layout)?,
            gradients: bind(&kernels.gradients, &[&params, &derivatives, &stays]),
            curvatures: bind(&kernels.curvatures, &[&params, &derivatives]),
            path: buffer(path),
            frames: buffer((starts.len() * course.frames.len()).max(1) as u64),
            size: size_of_val(starts) as u64,
            entry,
            params,
            derivatives,
            stays,
        })
    }

    /// What is kept of the points after `step` steps, and the step that follows.
    fn record(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        kernels: &Kernels,
        course: &Course,
        step: u32,
    ) -> Result<()> {
        if let Ok(frame) = course.frames.binary_search(&step) {
            encoder.copy_buffer_to_buffer(&self.params, 0, &self.frames, self.size * frame as u64, self.size);
        }
        if course.path {
            let point = 4 * course.function.dimensions as u64;
            encoder.copy_buffer_to_buffer(&self.params, 0, &self.path, point * u64::from(step), point);
        }
        if step < course.steps && self.entry.wants_curvature(step) {
            self.derive(encoder, &kernels.curvatures, &self.curvatures);
            self.optimizer.update_hessian(encoder, &self.params, &self.derivatives)?;
        }
        self.derive(encoder, &kernels.gradients, &self.gradients);
        if step < course.steps {
            self.optimizer.step(encoder, &self.params, &self.derivatives)?;
        }
        Ok(())
    }

    fn derive(&self, encoder: &mut wgpu::CommandEncoder, kernel: &wgpu::ComputePipeline, buffers: &wgpu::BindGroup) {
        let points = self.stays.size() as usize / 4;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(kernel);
        pass.set_bind_group(0, buffers, &[]);
        pass.dispatch_workgroups(points.div_ceil(WORKGROUP) as u32, 1, 1);
    }

    fn read(&self, gpu: &Gpu, course: &Course) -> Result<Record> {
        let path: Vec<f32> = if course.path { read(gpu, &self.path)? } else { Vec::new() };
        let frames: Vec<f32> = if course.frames.is_empty() { Vec::new() } else { read(gpu, &self.frames)? };
        Ok(Record {
            path: course.function.points(&path).collect(),
            frames: frames
                .chunks_exact(self.size as usize / 4)
                .map(|frame| course.function.points(frame).collect())
                .collect(),
            arrivals: read(gpu, &self.stays)?.into_iter().map(|stay| course.arrival(stay)).collect(),
        })
    }
}

fn whole(buffer: &wgpu::Buffer, binding: u32) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use examples_common::functions::FUNCTIONS;

    #[test]
    fn kernels_give_the_derivatives_of_their_references() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        let shared = SharedPipelines::new(&gpu.device);
        let rule = serde_json::from_str(r#"{"name": "sgd"}"#).expect("a rule");
        let entry = Entry::new("sgd", &rule, 1.0).expect("an entry");
        for function in &FUNCTIONS {
            let starts = function.starts(200);
            let course = Course { function, starts: &starts, few_starts: &starts, steps: 1, frames: &[], path: false };
            let kernels = Kernels::new(&gpu.device, &course);
            let racer = Racer::new(&gpu, &kernels, &shared, &course, &entry).expect("buffers");
            let references = [
                (&kernels.gradients, &racer.gradients, function.gradient),
                (&kernels.curvatures, &racer.curvatures, function.curvature),
            ];
            for (kernel, buffers, reference) in references {
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                racer.derive(&mut encoder, kernel, buffers);
                gpu.queue.submit([encoder.finish()]);
                let derivatives: Vec<f32> = read(&gpu, &racer.derivatives).expect("read");
                let derivatives = function.points(&derivatives[..starts.len()]);
                for (point, derivative) in function.points(&starts).zip(derivatives) {
                    for (ours, theirs) in derivative.iter().zip(reference(point)) {
                        // WGSL lets sines err by 2^-11.
                        let near = (ours - theirs).abs() <= 1e-3 * (1.0 + theirs.abs());
                        assert!(near, "{} at {point:?}: {derivative:?}", function.name);
                    }
                }
            }
        }
    }
}
