//! Moves large ranges of device memory to and from the host, in windows.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use wgpu::{Buffer, BufferUsages, Device, ErrorFilter, ErrorScopeGuard, PollType, Queue, SubmissionIndex};

use super::resources::write_words;
use crate::checkpoint::CheckpointError;

/// Bytes of a buffer, from a multiple of four on. If they end within a word, the buffer holds all of it.
#[derive(Debug, Clone)]
pub(crate) struct ByteRange {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

type Mapping = OneshotReceiver<Result<(), wgpu::BufferAsyncError>>;

/// A window on its way to the host.
struct Window {
    staging: Buffer,
    /// Bytes of each range in it. Each begins with a word.
    sizes: Vec<u64>,
    mapped: Mapping,
}

/// Moves windows between a device and the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer<'a> {
    pub(crate) device: &'a Device,
    pub(crate) queue: &'a Queue,
    /// Bytes of a window, a multiple of four. A read keeps two of them.
    pub(crate) window: u64,
}

impl Transfer<'_> {
    /// Reads ranges one after the other. `sink` takes their bytes, a window at a time, while the next one is on its way.
    ///
    /// # Errors
    /// [`CheckpointError::Device`], and those of `sink`.
    pub(crate) async fn read(
        &self,
        ranges: &[ByteRange],
        mut sink: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let (mut in_flight, mut free): (Option<Window>, _) = (None, Vec::new());
        for window in windows(ranges, self.window) {
            let next = self.submit(&window, free.pop()).await?;
            if let Some(previous) = in_flight.replace(next) {
                free.push(previous.take(&mut sink).await?);
            }
        }
        if let Some(last) = in_flight {
            last.take(&mut sink).await?;
        }
        Ok(())
    }

    /// Submits the copies of a window.
    async fn submit(&self, ranges: &[ByteRange], staging: Option<Buffer>) -> Result<Window, CheckpointError> {
        let scopes = ErrorScopes::push(self.device);
        let staging = staging.unwrap_or_else(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim checkpoint window"),
                size: self.window,
                usage: BufferUsages::COPY_DST | BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        });
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut size = 0;
        for range in ranges {
            let words = range.size.next_multiple_of(4);
            encoder.copy_buffer_to_buffer(&range.buffer, range.offset, &staging, size, words);
            size += words;
        }
        let (sender, mapped) = oneshot_channel();
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, ..size, move |result| {
            // The receiver is gone if the read was given up.
            let _ = sender.send(result);
        });
        self.queue.submit([encoder.finish()]);
        scopes.pop().await?;
        let sizes = ranges.iter().map(|range| range.size).collect();
        Ok(Window { staging, sizes, mapped })
    }

    /// Makes calls that allocate. Browsers report their errors later, to the device's handler.
    ///
    /// # Errors
    /// [`CheckpointError::Device`].
    pub(crate) fn allocate<T>(&self, calls: impl FnOnce() -> T) -> Result<T, CheckpointError> {
        let scopes = (!cfg!(target_arch = "wasm32")).then(|| ErrorScopes::push(self.device));
        let made = calls();
        let Some(scopes) = scopes else { return Ok(made) };
        // Ready at once, except in browsers.
        match pin!(scopes.pop()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(popped) => popped.map(|()| made),
            Poll::Pending => Ok(made),
        }
    }

    /// Writes the bytes of one range of a buffer. Waits for the window before the last, so that the host's copies stay few.
    ///
    /// # Errors
    /// [`CheckpointError::Device`].
    pub(crate) fn write(
        &self,
        buffer: &Buffer,
        offset: u64,
        bytes: &[u8],
        written: &mut Option<SubmissionIndex>,
    ) -> Result<(), CheckpointError> {
        let submission = self.allocate(|| {
            write_words(self.queue, buffer, offset, bytes);
            self.queue.submit([])
        })?;
        if let Some(before) = written.replace(submission) {
            // Browsers poll by themselves.
            let poll = PollType::Wait { submission_index: Some(before), timeout: None };
            self.device.poll(poll).map_err(|error| CheckpointError::Device(error.to_string()))?;
        }
        Ok(())
    }
}

/// Catches the errors of calls in between.
struct ErrorScopes {
    memory: ErrorScopeGuard,
    validation: ErrorScopeGuard,
}

impl ErrorScopes {
    fn push(device: &Device) -> Self {
        let memory = device.push_error_scope(ErrorFilter::OutOfMemory);
        Self { memory, validation: device.push_error_scope(ErrorFilter::Validation) }
    }

    async fn pop(self) -> Result<(), CheckpointError> {
        match (self.validation.pop().await, self.memory.pop().await) {
            (None, None) => Ok(()),
            (Some(error), _) | (None, Some(error)) => Err(CheckpointError::Device(error.to_string())),
        }
    }
}

impl Window {
    /// Waits for the window, and returns its staging buffer.
    async fn take(
        self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<Buffer, CheckpointError> {
        let failed = |error: String| CheckpointError::Device(error);
        match self.mapped.receive().await {
            None => return Err(failed("a copy to the host was dropped".to_owned())),
            Some(Err(error)) => return Err(failed(error.to_string())),
            Some(Ok(())) => {}
        }
        {
            let words: u64 = self.sizes.iter().map(|size| size.next_multiple_of(4)).sum();
            let view = self.staging.slice(..words).get_mapped_range();
            let view = view.map_err(|error| failed(error.to_string()))?;
            let mut rest = &view[..];
            for size in self.sizes {
                sink(&rest[..size as usize])?;
                rest = &rest[size.next_multiple_of(4) as usize..];
            }
        }
        self.staging.unmap();
        Ok(self.staging)
    }
}

/// Cuts ranges into windows of at most `len` bytes. Empty ranges are left out.
fn windows(ranges: &[ByteRange], len: u64) -> impl Iterator<Item = Vec<ByteRange>> {
    let mut ranges = ranges.iter().filter(|range| range.size > 0).cloned();
    let mut rest = ranges.next();
    std::iter::from_fn(move || {
        let (mut window, mut free) = (Vec::new(), len);
        while let Some(range) = rest.take_if(|_| free > 0) {
            let size = range.size.min(free);
            free -= size.next_multiple_of(4);
            let left = ByteRange { offset: range.offset + size, size: range.size - size, buffer: range.buffer.clone() };
            window.push(ByteRange { size, ..range });
            rest = if left.size > 0 { Some(left) } else { ranges.next() };
        }
        (!window.is_empty()).then_some(window)
    })
}

/// Runs a future that waits for the device.
///
/// # Errors
/// [`CheckpointError::Device`] if the device is lost, and those of the future.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn block_on<T>(
    device: &Device,
    future: impl Future<Output = Result<T, CheckpointError>>,
) -> Result<T, CheckpointError> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let mut polled = Ok(());
    loop {
        match (future.as_mut().poll(&mut context), polled) {
            (Poll::Ready(result), _) => return result,
            (Poll::Pending, Err(error)) => return Err(error),
            (Poll::Pending, Ok(())) => {}
        }
        let poll = device.poll(PollType::wait_indefinitely());
        polled = poll.map(drop).map_err(|error| CheckpointError::Device(error.to_string()));
    }
}
