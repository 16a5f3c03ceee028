//! Kernels of a fit on a device, and its optimizer.

use wgpu_optim::wgpu::{self, CommandEncoder};
use wgpu_optim::{Gpu, Optimizer, Remap};

use super::buffers::Buffers;
use super::kernel::Kernel;
use crate::Result;
use crate::fit::Plan;

/// Side of a tile, in pixels; as in `splat.wgsl`.
pub(super) const TILE: u32 = 8;
/// Invocations in a workgroup of the kernels with an invocation per row.
const ROWS: u32 = 64;

pub(super) struct Engine {
    optimizer: Optimizer,
    pub(super) buffers: Buffers,
    project: Kernel,
    forward: Kernel,
    sum: Kernel,
    backward: Kernel,
    growth: Kernel,
    divide: Kernel,
}

impl Engine {
    pub(super) fn new(gpu: &Gpu, plan: &Plan) -> Result<Self> {
        let device = &gpu.device;
        // Workgroups of two by two tiles.
        let groups = plan.size().map(|side| side.div_ceil(2 * TILE));
        let buffers = Buffers::new(device, plan, groups[0] * groups[1])?;
        let Buffers { params, grads, live, shapes, masks, errors, squares, scores, parents, .. } = &buffers;
        let Buffers { target, picture, statistics, sources, state_sources, .. } = &buffers;

        let capacity = plan.capacity as u32;
        let [width, height] = plan.size();
        let [wide, high, room] = [("WIDTH", width), ("HEIGHT", height), ("CAPACITY", capacity)]
            .map(|(name, value)| (name, f64::from(value)));
        let per_row = [capacity.div_ceil(ROWS), 1];
        let project = Kernel::new(
            device,
            ("project", include_str!("../shaders/project.wgsl")),
            &[wide, high, room],
            &[params, live, shapes, masks],
            per_row,
        );
        let forward = Kernel::new(
            device,
            ("forward", include_str!("../shaders/forward.wgsl")),
            &[wide, high, room],
            &[shapes, live, masks, target, picture, errors, squares],
            groups,
        );
        let sum = Kernel::new(
            device,
            ("statistics", include_str!("../shaders/statistics.wgsl")),
            &[],
            &[squares, live, statistics],
            [1, 1],
        );
        let backward = Kernel::new(
            device,
            ("backward", include_str!("../shaders/backward.wgsl")),
            &[wide],
            &[params, shapes, live, errors, grads, scores],
            [capacity, 1],
        );
        let growth = Kernel::new(
            device,
            ("growth", include_str!("../shaders/growth.wgsl")),
            &[room],
            &[params, scores, live, sources, state_sources, parents],
            [1, 1],
        );
        let divide =
            Kernel::new(device, ("divide", include_str!("../shaders/divide.wgsl")), &[], &[parents, params], per_row);
        let mut optimizer = plan.optimizer().build(device, &gpu.queue, &plan.layout()?)?;
        optimizer.set_live_rows(live)?;
        Ok(Self { optimizer, buffers, project, forward, sum, backward, growth, divide })
    }

    /// Records the picture, its errors and the statistics.
    pub(super) fn record_picture(&self, encoder: &mut CommandEncoder) {
        encoder.clear_buffer(&self.buffers.masks, 0, None);
        record(encoder, &[&self.project, &self.forward, &self.sum]);
    }

    /// Records the gradients at the recorded picture.
    pub(super) fn record_gradients(&self, encoder: &mut CommandEncoder) {
        record(encoder, &[&self.backward]);
    }

    /// Records one step of the optimizer.
    pub(super) fn record_step(&mut self, encoder: &mut CommandEncoder) -> Result<()> {
        Ok(self.optimizer.step(encoder, &self.buffers.params, &self.buffers.grads)?)
    }

    /// Records a growth: the rows that follow, the move of parameters and states, and the division of parents.
    pub(super) fn record_growth(&mut self, encoder: &mut CommandEncoder) -> Result<()> {
        record(encoder, &[&self.growth]);
        let Buffers { params, sources, kept_states, scores, .. } = &self.buffers;
        self.optimizer.remap(encoder, params, &Remap::new(sources).with_state_sources(kept_states))?;
        record(encoder, &[&self.divide]);
        encoder.clear_buffer(scores, 0, None);
        Ok(())
    }
}

fn record(encoder: &mut CommandEncoder, kernels: &[&Kernel]) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    for kernel in kernels {
        kernel.dispatch(&mut pass);
    }
}
