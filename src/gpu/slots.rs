use std::sync::{Arc, Mutex, PoisonError};

use super::bindings::bound;
use crate::control::SlotHead;

/// Bytes from one slot to the next: the largest alignment of dynamic offsets that WebGPU allows.
const STRIDE: u64 = 256;
/// Slots made at a time.
const SEGMENT: u32 = 64;
/// Hyperparameters a slot has room for.
pub(crate) const MAX_HYPERPARAMETERS: usize = (STRIDE as usize - size_of::<SlotHead>()) / 4;

/// What differs from step to step, in a slot of its own for each recorded step: `Queue::write_buffer` takes
/// effect before the next submit, so a slot may be written again only once its step was submitted or dropped.
#[derive(Debug)]
pub(crate) struct Slots {
    segments: Vec<(wgpu::Buffer, wgpu::BindGroup)>,
    free: Arc<Mutex<Vec<u32>>>,
    /// The head of the next slot, and the hyperparameters.
    bytes: Vec<u8>,
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
    pub(crate) fn new(hyperparameters: &[(&str, f32)]) -> Self {
        let mut bytes = vec![0; size_of::<SlotHead>()];
        bytes.extend(hyperparameters.iter().flat_map(|(_, value)| value.to_ne_bytes()));
        // An empty `Hyper` has one unused member; uniform structs end on 16 bytes.
        let size = bytes.len().max(size_of::<SlotHead>() + 4).next_multiple_of(16);
        bytes.resize(size, 0);
        Self { segments: Vec::new(), free: Arc::default(), bytes }
    }

    /// Writes a slot for a step recorded into `encoder`; returns its bind group and dynamic offset.
    pub(crate) fn write(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &wgpu::CommandEncoder,
        layout: &wgpu::BindGroupLayout,
        powers: &wgpu::Buffer,
        head: SlotHead,
    ) -> (&wgpu::BindGroup, u32) {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let slot = free.unwrap_or_else(|| self.grow(device, layout, powers));
        let in_use = InUse { slot, free: self.free.clone() };
        encoder.on_submitted_work_done(move || drop(in_use));
        self.bytes[..size_of::<SlotHead>()].copy_from_slice(bytemuck::bytes_of(&head));
        let (buffer, bind_group) = &self.segments[(slot / SEGMENT) as usize];
        let offset = u64::from(slot % SEGMENT) * STRIDE;
        queue.write_buffer(buffer, offset, &self.bytes);
        (bind_group, offset as u32)
    }

    /// Makes a segment, keeps its first slot and frees the others.
    fn grow(&mut self, device: &wgpu::Device, layout: &wgpu::BindGroupLayout, powers: &wgpu::Buffer) -> u32 {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim step slots"),
            size: STRIDE * u64::from(SEGMENT),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("wgpu-optim step slots"),
            layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: bound(&buffer, 0, self.bytes.len() as u64) },
                wgpu::BindGroupEntry { binding: 1, resource: powers.as_entire_binding() },
            ],
        });
        let first = self.segments.len() as u32 * SEGMENT;
        self.segments.push((buffer, bind_group));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend((first + 1..first + SEGMENT).rev());
        first
    }
}
