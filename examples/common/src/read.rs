//! From the device to the host.

use std::error::Error;
use std::sync::mpsc;

use wgpu_optim::Gpu;
use wgpu_optim::wgpu::util::DownloadBuffer;
use wgpu_optim::wgpu::{Buffer, PollType};

/// The whole of a buffer, after all that was submitted before.
pub fn read<T: bytemuck::Pod + Send>(gpu: &Gpu, buffer: &Buffer) -> Result<Vec<T>, Box<dyn Error>> {
    let (sender, receiver) = mpsc::channel();
    DownloadBuffer::read_buffer(&gpu.device, &gpu.queue, &buffer.slice(..), move |read| {
        // Nobody waits any more where the channel is closed.
        let _ = sender.send(read.map(|bytes| bytemuck::pod_collect_to_vec(&bytes)));
    });
    gpu.device.poll(PollType::wait_indefinitely())?;
    Ok(receiver.recv()??)
}
