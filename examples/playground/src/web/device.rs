//! The browser's device, or none.

use futures_intrusive::channel::shared::oneshot_channel;
use wasm_bindgen::prelude::*;
use wgpu_optim::wgpu::util::DownloadBuffer;
use wgpu_optim::wgpu::{self, Buffer};
use wgpu_optim::{Gpu, SharedPipelines};

use crate::Result;

/// A WebGPU device with the pipelines that all optimizers share, or the CPU engine.
#[wasm_bindgen]
pub struct Device {
    gpu: Option<(Gpu, SharedPipelines)>,
    reason: String,
}

#[wasm_bindgen]
impl Device {
    /// The browser's device if there is one and it is wanted.
    pub async fn open(wanted: bool) -> Device {
        if !wanted {
            return Self { gpu: None, reason: "the CPU engine, as the page was asked to".to_owned() };
        }
        match Gpu::new().await {
            Ok(gpu) => {
                let info = gpu.adapter.get_info();
                let name = if info.name.is_empty() { "the browser's GPU" } else { &info.name };
                let reason = format!("WebGPU on {name}");
                let shared = SharedPipelines::new(&gpu.device);
                Self { gpu: Some((gpu, shared)), reason }
            }
            Err(_) => Self { gpu: None, reason: "the CPU engine, as this browser offers no WebGPU".to_owned() },
        }
    }

    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Which device, and why.
    pub fn reason(&self) -> String {
        self.reason.clone()
    }
}

impl Device {
    pub(super) fn gpu(&self) -> Option<&Gpu> {
        self.gpu.as_ref().map(|(gpu, _)| gpu)
    }

    pub(super) fn parts(&self) -> Result<(&Gpu, &SharedPipelines)> {
        let (gpu, shared) = self.gpu.as_ref().ok_or("there is no WebGPU device here; use the CPU engine's class")?;
        Ok((gpu, shared))
    }
}

/// The bytes of a buffer after all submissions so far.
pub(super) async fn read(gpu: Gpu, buffer: Buffer) -> Result<Vec<u8>> {
    let (sender, receiver) = oneshot_channel();
    DownloadBuffer::read_buffer(&gpu.device, &gpu.queue, &buffer.slice(..), move |read| {
        // Nobody waits any more where the channel is closed.
        let _ = sender.send(read.map(|bytes| bytes.to_vec()));
    });
    let read: Option<std::result::Result<Vec<u8>, wgpu::BufferAsyncError>> = receiver.receive().await;
    Ok(read.ok_or("the device dropped a copy of the parameters; it may be lost")??)
}
