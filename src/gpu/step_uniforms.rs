use std::sync::{Arc, Mutex, PoisonError};

use super::resources::buffer_binding;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::StepHead;
use crate::rule::RuleSpec;

/// Alignment of the entries: the largest alignment of dynamic offsets that WebGPU allows.
const STRIDE: u64 = 256;
/// Entries of each buffer.
const ENTRIES: u32 = 64;

/// The uniforms of recorded steps, one entry per step. `Queue::write_buffer` takes effect before the next submission:
/// an entry must not be reused before its step has run or its encoder was dropped.
#[derive(Debug)]
pub(crate) struct StepUniforms {
    buffers: Vec<(wgpu::Buffer, wgpu::BindGroup)>,
    free: Arc<Mutex<Vec<u32>>>,
    /// The next entry: head, hyperparameters, learning rates of groups, and powers if these change.
    bytes: Vec<u8>,
    /// Offset of the learning rates.
    group_lrs: usize,
    /// Bytes of the first binding; the powers are the second.
    size: usize,
    has_powers: bool,
    /// Offset of the row table's first words, which only optimizers with rows have.
    rows: usize,
}

/// The uniforms of one recorded step.
pub(crate) struct UniformEntry<'a> {
    pub(crate) bind_group: &'a wgpu::BindGroup,
    /// Dynamic offsets.
    pub(crate) offsets: [u32; 2],
    /// Buffer and offset of the row table's first words.
    pub(crate) row_words: (&'a wgpu::Buffer, u64),
}

/// Holds an entry until its step has run or its encoder was dropped.
struct InUse {
    entry: u32,
    free: Arc<Mutex<Vec<u32>>>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.entry);
    }
}

impl StepUniforms {
    /// Entries with room for `lr_quads` times four learning rates of groups, with `has_rows` for the first words of the row
    /// table, and with `has_powers` for the powers of betas.
    pub(crate) fn new(spec: &RuleSpec, lr_quads: u32, has_rows: bool, has_powers: bool) -> Self {
        // An empty `Hyper` has one unused member; uniform structs end on 16 bytes.
        let hyperparameters = 4 * spec.hyperparameters.len().max(1);
        let group_lrs = (size_of::<StepHead>() + hyperparameters).next_multiple_of(16);
        let rows = group_lrs + lr_quads as usize * 16;
        let size = if has_rows { rows + 16 } else { rows };
        let powers = if has_powers { size.next_multiple_of(STRIDE as usize) + size_of::<BiasPowers>() } else { size };
        let (buffers, free) = (Vec::new(), Arc::default());
        let mut uniforms = Self { buffers, free, bytes: vec![0; powers], group_lrs, size, has_powers, rows };
        uniforms.set_spec(spec);
        uniforms
    }

    /// Sets the hyperparameters and powers of later entries.
    pub(crate) fn set_spec(&mut self, spec: &RuleSpec) {
        let hyperparameters = self.bytes[size_of::<StepHead>()..].chunks_exact_mut(4);
        for (bytes, (_, value)) in hyperparameters.zip(&spec.hyperparameters) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
        if self.has_powers {
            let powers = self.powers_offset() as usize;
            self.bytes[powers..].copy_from_slice(BiasPowers::new(&spec.bias_corrected).bytes());
        }
    }

    fn powers_offset(&self) -> u64 {
        self.size().next_multiple_of(STRIDE)
    }

    /// Bytes of the first binding.
    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Bytes of each buffer.
    pub(crate) fn buffer_size(&self) -> u64 {
        self.stride() * u64::from(ENTRIES)
    }

    fn stride(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(STRIDE)
    }

    /// Writes an entry for a step recorded into `encoder`, with the first words of the row table if there are rows.
    pub(crate) fn write(
        &mut self,
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        encoder: &wgpu::CommandEncoder,
        layout: &wgpu::BindGroupLayout,
        powers: &wgpu::Buffer,
        (head, group_lrs, row_words): (StepHead, &[f32], Option<[u32; 2]>),
    ) -> UniformEntry<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let entry = free.unwrap_or_else(|| self.grow(device, layout, powers));
        let in_use = InUse { entry, free: self.free.clone() };
        encoder.on_submitted_work_done(move || drop(in_use));
        self.bytes[..size_of::<StepHead>()].copy_from_slice(bytemuck::bytes_of(&head));
        let group_lrs = bytemuck::cast_slice(group_lrs);
        self.bytes[self.group_lrs..][..group_lrs.len()].copy_from_slice(group_lrs);
        if let Some(words) = row_words {
            self.bytes[self.rows..][..8].copy_from_slice(bytemuck::bytes_of(&words));
        }
        let (buffer, bind_group) = &self.buffers[(entry / ENTRIES) as usize];
        let offset = u64::from(entry % ENTRIES) * self.stride();
        queue.write_buffer(buffer, offset, &self.bytes);
        let offsets = [offset as u32, if self.has_powers { offset as u32 } else { 0 }];
        UniformEntry { bind_group, offsets, row_words: (buffer, offset + self.rows as u64) }
    }

    /// Creates a buffer; returns its first entry and frees the others.
    fn grow(&mut self, device: &wgpu::Device, layout: &wgpu::BindGroupLayout, powers: &wgpu::Buffer) -> u32 {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim step uniforms"),
            size: self.buffer_size(),
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let powers = if self.has_powers {
            buffer_binding(&buffer, self.powers_offset(), size_of::<BiasPowers>() as u64)
        } else {
            powers.as_entire_binding()
        };
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("wgpu-optim step uniforms"),
            layout,
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: buffer_binding(&buffer, 0, self.size()) },
                wgpu::BindGroupEntry { binding: 1, resource: powers },
            ],
        });
        let first = self.buffers.len() as u32 * ENTRIES;
        self.buffers.push((buffer, bind_group));
        self.free.lock().unwrap_or_else(PoisonError::into_inner).extend((first + 1..first + ENTRIES).rev());
        first
    }
}
