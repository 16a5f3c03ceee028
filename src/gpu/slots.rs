use std::sync::{Arc, Mutex, PoisonError};

use super::bindings::bound;
use crate::control::SlotHead;

/// What bytes from one slot to the next are a multiple of: the largest alignment of dynamic offsets that WebGPU allows.
const STRIDE: u64 = 256;
/// Slots made at a time.
const SEGMENT: u32 = 64;
/// Hyperparameters a slot of the least size has room for.
pub(crate) const MAX_HYPERPARAMETERS: usize = (STRIDE as usize - size_of::<SlotHead>()) / 4;

/// What differs from step to step, in a slot of its own for each recorded step: `Queue::write_buffer` takes
/// effect before the next submit, so a slot may be written again only once its step was submitted or dropped.
#[derive(Debug)]
pub(crate) struct Slots {
    segments: Vec<(wgpu::Buffer, wgpu::BindGroup)>,
    free: Arc<Mutex<Vec<u32>>>,
    /// The head of the next slot, the hyperparameters, and learning rates of groups.
    bytes: Vec<u8>,
    /// Where those begin.
    group_lrs: usize,
}

/// Holds a slot until the step it was written for has run, or its encoder was dropped.
struct InUse {
    slot: u32,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.slot);
    }
}

impl Slots {
    /// Slots with room for the learning rates of groups, `lr_fours` times four.
    pub(crate) fn new(hyperparameters: &[(&str, f32)], lr_fours: u32) -> Self {
        let mut bytes = vec![0; size_of::<SlotHead>()];
        bytes.extend(hyperparameters.iter().flat_map(|(_, value)| value.to_ne_bytes()));
        // An empty `Hyper` has one unused member; uniform structs end on 16 bytes.
        let size = bytes.len().max(size_of::<SlotHead>() + 4).next_multiple_of(16);
        bytes.resize(size + lr_fours as usize * 16, 0);
        Self { segments: Vec::new(), free: Arc::default(), bytes, group_lrs: size }
    }

    /// Bytes of a slot.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn stride(&self) -> u64 {
        self.size().next_multiple_of(STRIDE)
    }

    /// Writes a slot for a step recorded into `encoder`; returns its bind group and dynamic offset.
    pub(crate) fn write(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &wgpu::CommandEncoder,
        layout: &wgpu::BindGroupLayout,
        powers: &wgpu::Buffer,
        (head, group_lrs): (SlotHead, &[f32]),
    ) -> (&wgpu::BindGroup, u32) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slot = free.unwrap_or_else(|| self.grow(device, layout, powers));
        let in_use = InUse { slot, free: self.free.clone() };
        encoder.on_submitted_work_done(move || drop(in_use));
        self.bytes[..size_of::<SlotHead>()].copy_from_slice(bytemuck::bytes_of(&head));
        let group_lrs = bytemuck::cast_slice(group_lrs);
        self.bytes[self.group_lrs..][..group_lrs.len()].copy_from_slice(group_lrs);
        let (buffer, bind_group) = &self.segments[(slot / SEGMENT) as usize];
        let offset = u64::from(slot % SEGMENT) * self.stride();
        queue.write_buffer(buffer, offset, &self.bytes);
        (bind_group, offset as u32)
    }

    /// Makes a segment, keeps its first slot and frees the others.
    fn grow(&mut self, device: &wgpu::Device, layout: &wgpu::BindGroupLayout, powers: &wgpu::Buffer) -> u32 {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim step slots"),
            size: self.stride() * u64::from(SEGMENT),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("wgpu-optim step slots"),
            layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: bound(&buffer, 0, self.size()) },
                wgpu::BindGroupEntry { binding: 1, resource: powers.as_entire_binding() },
            ],
        });
        let first = self.segments.len() as u32 * SEGMENT;
        self.segments.push((buffer, bind_group));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend((first + 1..first + SEGMENT).rev());
        first
    }
}
