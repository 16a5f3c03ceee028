//! Buffers of a fit on a device.

use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, Buffer, BufferUsages, Device};

use super::engine::TILE;
use crate::Result;
use crate::fit::Plan;
use crate::splats::Shape;

const USAGE: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

pub(super) struct Buffers {
    pub(super) params: Buffer,
    pub(super) grads: Buffer,
    /// The number of splats.
    pub(super) live: Buffer,
    pub(super) shapes: Buffer,
    /// A bit per splat for each tile.
    pub(super) masks: Buffer,
    /// RGBA, 8 bits each; the picture too.
    pub(super) target: Buffer,
    pub(super) picture: Buffer,
    pub(super) errors: Buffer,
    /// Squared errors of each workgroup of `forward`.
    pub(super) squares: Buffer,
    pub(super) statistics: Buffer,
    pub(super) scores: Buffer,
    pub(super) sources: Buffer,
    pub(super) state_sources: Buffer,
    pub(super) parents: Buffer,
    /// Sources of the states that are kept: `state_sources`, or none in any row.
    pub(super) kept_states: Buffer,
}

impl Buffers {
    /// Holds the first splats. `groups` is the number of workgroups of `forward`.
    pub(super) fn new(device: &Device, plan: &Plan, groups: u32) -> Result<Self> {
        let filled = |label, contents: &[u8]| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage: USAGE })
        };
        let zeros = |label, words: u32| {
            let size = 4 * u64::from(words);
            let descriptor =
                wgpu::BufferDescriptor { label: Some(label), size, usage: USAGE, mapped_at_creation: false };
            device.create_buffer(&descriptor)
        };
        let [pixels, tiles] = [1, TILE].map(|side| plan.size().map(|size| size.div_ceil(side)).iter().product::<u32>());
        let capacity = plan.capacity as u32;
        let words = (plan.layout()?.buffer_size() / 4) as u32;
        let first = plan.splats();
        let mut params = first.as_flattened().to_vec();
        params.resize(words as usize, 0.0);
        let target: Vec<_> = plan.target.pixels.iter().map(|&[red, green, blue]| [red, green, blue, 255]).collect();
        let state_sources = zeros("state_sources", capacity);
        let none = || filled("no states", bytemuck::cast_slice(&vec![-1_i32; plan.capacity]));
        Ok(Self {
            params: filled("splats", bytemuck::cast_slice(&params)),
            grads: zeros("grads", words),
            live: filled("live", bytemuck::bytes_of(&(first.len() as u32))),
            shapes: zeros("shapes", capacity * size_of::<Shape>() as u32 / 4),
            masks: zeros("masks", tiles * capacity.div_ceil(32)),
            target: filled("target", target.as_flattened()),
            picture: zeros("picture", pixels),
            errors: zeros("errors", 4 * pixels),
            squares: zeros("squares", groups),
            statistics: zeros("statistics", 2),
            scores: zeros("scores", capacity),
            sources: zeros("sources", capacity),
            parents: zeros("parents", capacity),
            kept_states: if plan.forgets_states { none() } else { state_sources.clone() },
            state_sources,
        })
    }
}
