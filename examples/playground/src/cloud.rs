//! Thousands of points on one function under one rule, in one flat buffer.

use examples_common::functions::{Function, KERNELS};
use wgpu_optim::rule::{ReduceBy, Reduction};
use wgpu_optim::wgpu::{self, BufferUsages};
use wgpu_optim::{CpuOptimizer, Gpu, Layout, Optimizer, SharedPipelines};

use crate::Result;
use crate::entry::Entry;
use crate::field;

const WORKGROUP: usize = 64;
/// Points along a side at most for rules with sums over tensors, to which each point is one.
pub const FEW: usize = 32;

/// Points along a side of the grid of starts that the rule can take.
///
/// # Errors
/// A rule with sums over all elements: its points would not be independent.
pub fn side(entry: &Entry, wanted: usize) -> Result<usize> {
    match entry.rule.rule().reduction().map(Reduction::by) {
        None if entry.sam.is_some() => {
            Err("SAM scales by the norm over all points, which would not be independent; race single points".into())
        }
        None => Ok(wanted),
        Some(ReduceBy::All) => Err(format!(
            "{} sums over all points, which would not be independent; race single points, or take another rule",
            entry.rule.rule().spec().name
        )
        .into()),
        Some(_) => Ok(wanted.min(FEW)),
    }
}

/// All points in one tensor; a tensor per point for a rule with sums.
fn layout(entry: &Entry, points: usize) -> Result<Layout> {
    if entry.rule.rule().reduction().is_none() {
        return Ok(Layout::flat(2 * points)?);
    }
    let builder = Layout::builder().packed();
    Ok((0..points).fold(builder, |layout, point| layout.tensor(format!("point{point}"), &[2])).build()?)
}

/// A cloud on the CPU engine.
pub struct CpuCloud {
    function: &'static Function,
    entry: Entry,
    optimizer: CpuOptimizer,
    starts: Vec<f32>,
    points: Vec<f32>,
    derivatives: Vec<f32>,
    steps: u64,
}

impl CpuCloud {
    /// # Errors
    /// Those of [`side`], and options that the rule refuses.
    pub fn new(function: &'static Function, entry: Entry, wanted: usize) -> Result<Self> {
        let starts = field::grid(function, side(&entry, wanted)?);
        let optimizer = entry.builder().build_cpu(&layout(&entry, starts.len() / 2)?)?;
        let derivatives = vec![0.0; starts.len()];
        Ok(Self { function, entry, optimizer, points: starts.clone(), starts, derivatives, steps: 0 })
    }

    fn derive(&mut self, derivative: fn([f32; 2]) -> [f32; 2]) {
        for (point, out) in self.points.chunks_exact(2).zip(self.derivatives.chunks_exact_mut(2)) {
            out.copy_from_slice(&derivative([point[0], point[1]]));
        }
    }

    /// # Errors
    /// A step past the end of the schedule.
    pub fn step(&mut self) -> Result<()> {
        if self.entry.needs_curvature(self.steps) {
            self.derive(self.function.curvature);
            self.optimizer.update_hessian(&mut self.points, &self.derivatives)?;
        }
        self.derive(self.function.gradient);
        self.optimizer.step(&mut self.points, &self.derivatives)?;
        self.steps += 1;
        Ok(())
    }

    pub fn starts(&self) -> &[f32] {
        &self.starts
    }

    pub fn points(&self) -> &[f32] {
        &self.points
    }
}

/// A kernel of [`KERNELS`] with its buffers.
struct Kernel {
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
}

/// A cloud on a device. Nothing is read back: pictures are drawn from the buffers.
pub struct GpuCloud {
    gpu: Gpu,
    entry: Entry,
    optimizer: Optimizer,
    pub starts: wgpu::Buffer,
    pub points: wgpu::Buffer,
    derivatives: wgpu::Buffer,
    gradients: Kernel,
    curvatures: Kernel,
    len: usize,
    steps: u64,
}

impl GpuCloud {
    /// # Errors
    /// Those of [`side`], and options that the rule refuses.
    pub fn new(
        gpu: &Gpu,
        shared: &SharedPipelines,
        function: &'static Function,
        entry: Entry,
        wanted: usize,
    ) -> Result<Self> {
        let starts = field::grid(function, side(&entry, wanted)?);
        let len = starts.len() / 2;
        let layout = layout(&entry, len)?;
        let optimizer = entry.builder().build_shared(shared, &gpu.queue, &layout)?;
        let buffer = |label, size| {
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
            gpu.device.create_buffer(&descriptor)
        };
        let buffers = ["starts", "points", "derivatives"].map(|label| buffer(label, layout.buffer_size()));
        let stays = buffer("stays", 4 * len as u64);
        for filled in &buffers[..2] {
            gpu.queue.write_buffer(filled, 0, bytemuck::cast_slice(&starts));
        }
        let [starts, points, derivatives] = buffers;
        let source = wgpu::ShaderSource::Wgsl([function.wgsl, KERNELS].concat().into());
        let label = Some(function.name);
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let kernel = |entry_point, bound: &[&wgpu::Buffer]| {
            let constants = [("DIMENSIONS", 2.0), ("TARGET", f64::from(function.target))];
            // A kernel has the constants that it uses alone.
            let constants = &constants[..if entry_point == "gradients" { 2 } else { 1 }];
            let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: None,
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
                cache: None,
            });
            let entries = bound.iter().zip(0..);
            let entries: Vec<_> = entries
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let buffers = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(entry_point),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            Kernel { pipeline, buffers }
        };
        Ok(Self {
            gradients: kernel("gradients", &[&points, &derivatives, &stays]),
            curvatures: kernel("curvatures", &[&points, &derivatives]),
            gpu: gpu.clone(),
            entry,
            optimizer,
            starts,
            points,
            derivatives,
            len,
            steps: 0,
        })
    }

    /// Number of points.
    #[expect(clippy::len_without_is_empty, reason = "no cloud is empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes some steps in one submission.
    ///
    /// # Errors
    /// A step past the end of the schedule.
    pub fn step(&mut self, steps: usize) -> Result<()> {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..steps {
            if self.entry.needs_curvature(self.steps) {
                self.derive(&mut encoder, &self.curvatures);
                self.optimizer.update_hessian(&mut encoder, &self.points, &self.derivatives)?;
            }
            self.derive(&mut encoder, &self.gradients);
            self.optimizer.step(&mut encoder, &self.points, &self.derivatives)?;
            self.steps += 1;
        }
        self.gpu.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn derive(&self, encoder: &mut wgpu::CommandEncoder, kernel: &Kernel) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&kernel.pipeline);
        pass.set_bind_group(0, &kernel.buffers, &[]);
        pass.dispatch_workgroups(self.len.div_ceil(WORKGROUP) as u32, 1, 1);
    }
}
