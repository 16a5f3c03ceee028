//! The browser's device, and numbers to it and back.

use wgpu_optim::Gpu;
use wgpu_optim::wgpu::{
    Buffer, BufferDescriptor, BufferUsages, CommandEncoderDescriptor, DeviceDescriptor, Instance, InstanceDescriptor,
    MapMode, RequestAdapterOptions,
};

/// A device with the limits that every browser grants without being asked.
pub(crate) async fn default_device() -> Result<Gpu, Box<dyn std::error::Error>> {
    let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&RequestAdapterOptions::default()).await?;
    let (device, queue) = adapter.request_device(&DeviceDescriptor::default()).await?;
    Ok(Gpu::from_parts(instance, adapter, device, queue))
}

pub(crate) fn upload(gpu: &Gpu, bytes: &[u8]) -> Buffer {
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let descriptor = BufferDescriptor { label: None, size: bytes.len() as u64, usage, mapped_at_creation: false };
    let buffer = gpu.device.create_buffer(&descriptor);
    gpu.queue.write_buffer(&buffer, 0, bytes);
    buffer
}

/// The contents of a buffer after all submissions so far.
pub(crate) async fn download(gpu: &Gpu, buffer: &Buffer) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
    let descriptor = BufferDescriptor { label: None, size: buffer.size(), usage, mapped_at_creation: false };
    let staging = gpu.device.create_buffer(&descriptor);
    let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    gpu.queue.submit([encoder.finish()]);
    mapped(&staging).await?;
    let bytes = staging.get_mapped_range(..)?.to_vec();
    Ok(bytes)
}

/// Resolves once the buffer is mapped.
async fn mapped(buffer: &Buffer) -> Result<(), Box<dyn std::error::Error>> {
    let mut outcome = None;
    let promise = js_sys::Promise::new(&mut |resolve, _| {
        outcome = Some(resolve);
    });
    let resolve = outcome.ok_or("a promise calls its function")?;
    buffer.map_async(MapMode::Read, .., move |result| {
        let message = result.err().map_or(wasm_bindgen::JsValue::NULL, |error| error.to_string().into());
        // Only a page that is gone fails to resolve.
        let _ = resolve.call1(&wasm_bindgen::JsValue::NULL, &message);
    });
    let message = wasm_bindgen_futures::JsFuture::from(promise).await.map_err(|error| format!("{error:?}"))?;
    message.as_string().map_or(Ok(()), |message| Err(message.into()))
}
