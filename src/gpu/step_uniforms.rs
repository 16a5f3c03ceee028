use std::sync::{Arc, Mutex, PoisonError};

use super::prepared_step::bound;
use crate::kernels::control::{BiasPowers, SlotHead};
use crate::rule::Rule;

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
    /// Bytes up to here are one binding; the powers of the betas follow in a second, if they change.
    size: usize,
    cycles: bool,
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
    /// Slots with room for the learning rates of groups, `lr_fours` times four, and, where the momentum `cycles`, for the
    /// powers of its betas.
    pub(crate) fn new(rule: &dyn Rule, lr_fours: u32, cycles: bool) -> Self {
        // An empty `Hyper` has one unused member; uniform structs end on 16 bytes.
        let hyperparameters = 4 * rule.hyperparameters().len().max(1);
        let group_lrs = (size_of::<SlotHead>() + hyperparameters).next_multiple_of(16);
        let size = group_lrs + lr_fours as usize * 16;
        let powers = if cycles { size.next_multiple_of(STRIDE as usize) + size_of::<BiasPowers>() } else { size };
        let bytes = vec![0; powers];
        let mut slots = Self { segments: Vec::new(), free: Arc::default(), bytes, group_lrs, size, cycles };
        slots.set_rule(rule);
        slots
    }

    /// Takes the numbers of a rule for the slots to come.
    pub(crate) fn set_rule(&mut self, rule: &dyn Rule) {
        let hyperparameters = self.bytes[size_of::<SlotHead>()..].chunks_exact_mut(4);
        for (bytes, (_, value)) in hyperparameters.zip(rule.hyperparameters()) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        if self.cycles {
            let powers = self.powers_offset() as usize;
            self.bytes[powers..].copy_from_slice(BiasPowers::new(&rule.bias_corrected()).bytes());
        }
    }

    fn powers_offset(&self) -> u64 {
        self.size().next_multiple_of(STRIDE)
    }

    /// Bytes of a slot's first binding.
    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Of each buffer that is made.
    pub(crate) fn buffer_size(&self) -> u64 {
        self.stride() * u64::from(SEGMENT)
    }

    fn stride(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(STRIDE)
    }

    /// Writes a slot for a step recorded into `encoder`; returns its bind group and dynamic offsets.
    pub(crate) fn write(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &wgpu::CommandEncoder,
        layout: &wgpu::BindGroupLayout,
        powers: &wgpu::Buffer,
        (head, group_lrs): (SlotHead, &[f32]),
    ) -> (&wgpu::BindGroup, [u32; 2]) {
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
        (bind_group, [offset as u32, if self.cycles { offset as u32 } else { 0 }])
    }

    /// Makes a segment, keeps its first slot and frees the others.
    fn grow(&mut self, device: &wgpu::Device, layout: &wgpu::BindGroupLayout, powers: &wgpu::Buffer) -> u32 {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim step slots"),
            size: self.buffer_size(),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let powers = if self.cycles {
            bound(&buffer, self.powers_offset(), size_of::<BiasPowers>() as u64)
        } else {
            powers.as_entire_binding()
        };
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("wgpu-optim step slots"),
            layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: bound(&buffer, 0, self.size()) },
                wgpu::BindGroupEntry { binding: 1, resource: powers },
            ],
        });
        let first = self.segments.len() as u32 * SEGMENT;
        self.segments.push((buffer, bind_group));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend((first + 1..first + SEGMENT).rev());
        first
    }
}
