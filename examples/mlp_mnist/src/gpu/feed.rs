//! A data set that lies on the device, cut into batches.

use wgpu_optim::wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_optim::wgpu::{self, BufferUsages};

use super::kernel::{Binding, Kernel, batch_layout};
use crate::Result;
use crate::data::Examples;
use crate::engine::Batches;

/// wgpu's default alignment of a uniform buffer's dynamic offset, in bytes.
const SLOT: usize = 256;

/// Refuses what the device cannot bind, before wgpu does.
pub(super) fn check_binding(device: &wgpu::Device, what: &str, bytes: usize) -> Result<()> {
    let limits = device.limits();
    let allowed = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    if bytes as u64 <= allowed {
        return Ok(());
    }
    Err(format!(
        "{what} take {} MiB and this device binds at most {} MiB: \
         choose a smaller --batch-size or --hidden, or --device cpu",
        bytes >> 20,
        allowed >> 20,
    )
    .into())
}

pub(super) struct Feed {
    pub(super) batches: Batches,
    gather: Kernel,
    slots: wgpu::BindGroup,
    order: wgpu::Buffer,
    pixels: usize,
}

impl Feed {
    /// Uploads `examples`; batches are gathered into `x` (`[rows, pixels]` f32) and `y` (`[rows]` u32).
    pub(super) fn new(
        device: &wgpu::Device,
        examples: &Examples,
        batch_size: usize,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
    ) -> Result<Self> {
        let batches = Batches { len: examples.len(), size: batch_size };
        let upload = |label, contents: &[u8], usage| {
            device.create_buffer_init(&BufferInitDescriptor { label: Some(label), contents, usage })
        };
        // The kernel reads four pixels at a time, so an image takes whole words.
        let words = examples.pixels.div_ceil(4);
        check_binding(device, "the images", examples.len() * words * 4)?;
        let mut image_words = Vec::with_capacity(examples.len() * words);
        for image in examples.images.chunks_exact(examples.pixels) {
            image_words.extend(
                image.chunks(4).map(|four| four.iter().rev().fold(0_u32, |word, &pixel| word << 8 | u32::from(pixel))),
            );
        }
        let images = upload("images", bytemuck::cast_slice(&image_words), BufferUsages::STORAGE);
        let labels: Vec<u32> = examples.labels.iter().map(|&label| label.into()).collect();
        let labels = upload("labels", bytemuck::cast_slice(&labels), BufferUsages::STORAGE);
        let order: Vec<u32> = (0..examples.len() as u32).collect();
        let order = upload("order", bytemuck::cast_slice(&order), BufferUsages::STORAGE | BufferUsages::COPY_DST);

        // What tells one step's kernels from another's is written once: `first` and `rows` of every batch.
        let mut slots = vec![0_u32; batches.count() * SLOT / 4];
        for (batch, slot) in slots.chunks_exact_mut(SLOT / 4).enumerate() {
            slot[0] = batches.first(batch) as u32;
            slot[1] = batches.rows(batch) as u32;
        }
        let slots = upload("batches", bytemuck::cast_slice(&slots), BufferUsages::UNIFORM);
        let slots = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("batches"),
            layout: &batch_layout(device),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &slots,
                    offset: 0,
                    size: wgpu::BufferSize::new(8),
                }),
            }],
        });

        let module = device.create_shader_module(wgpu::include_wgsl!("../shaders/gather.wgsl"));
        let gather = Kernel::new(
            device,
            &module,
            "gather",
            &[("PIXELS", examples.pixels)],
            &[
                Binding::Read(images.as_entire_buffer_binding()),
                Binding::Read(labels.as_entire_buffer_binding()),
                Binding::Read(order.as_entire_buffer_binding()),
                Binding::ReadWrite(x.as_entire_buffer_binding()),
                Binding::ReadWrite(y.as_entire_buffer_binding()),
            ],
        );
        Ok(Self { batches, gather, slots, order, pixels: examples.pixels })
    }

    /// Takes the examples in another order from the next submission on.
    pub(super) fn set_order(&self, queue: &wgpu::Queue, order: &[u32]) {
        queue.write_buffer(&self.order, 0, bytemuck::cast_slice(order));
    }

    /// Chooses the batch for the kernels that follow in the pass, and gathers it.
    pub(super) fn gather(&self, pass: &mut wgpu::ComputePass, batch: usize) {
        pass.set_bind_group(0, &self.slots, &[(batch * SLOT) as u32]);
        self.gather.dispatch(pass, [self.pixels.div_ceil(4).div_ceil(64), self.batches.rows(batch)]);
    }
}
