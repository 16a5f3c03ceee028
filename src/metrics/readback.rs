use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::oneshot_channel;

use crate::Error;

/// Free staging buffers of one size, for reuse.
#[derive(Debug, Clone, Default)]
pub(crate) struct StagingPool(Arc<Mutex<Vec<wgpu::Buffer>>>);

impl StagingPool {
    fn take(&self) -> Option<wgpu::Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
    fn put_back(&self, buffer: wgpu::Buffer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Resolves to `None` if the encoder was dropped.
type Mapped = Pin<Box<dyn Future<Output = Option<Result<(), wgpu::BufferAsyncError>>> + Send>>;

/// Turns the bytes of a readback into its value.
type Decode<T> = Arc<dyn Fn(&[u8]) -> T + Send + Sync>;

/// A pending readback of a value from the device: await it as a future, or poll it with [`Readback::try_take`].
///
/// The value arrives after the encoder is submitted and the device is polled: natively by `device.poll` or a later
/// `queue.submit`, in browsers by the event loop. No step waits for a readback. It may be dropped at any time.
pub struct Readback<T> {
    /// `None` after the value was taken.
    mapped: Option<Mapped>,
    buffer: wgpu::Buffer,
    pool: StagingPool,
    decode: Decode<T>,
}

impl<T> fmt::Debug for Readback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readback").finish_non_exhaustive()
    }
}

impl<T> Readback<T> {
    /// Encodes copies of buffer ranges, concatenated. All requests of one `pool` must have the same size.
    pub(crate) fn record(
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        parts: &[(&wgpu::Buffer, Range<u64>)],
        pool: &StagingPool,
        decode: impl Fn(&[u8]) -> T + Send + Sync + 'static,
    ) -> Self {
        let buffer = pool.take().unwrap_or_else(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim readback"),
                size: parts.iter().map(|(_, bytes)| bytes.end - bytes.start).sum(),
                usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
                mapped_at_creation: false,
            })
        });
        let mut at = 0;
        for (part, bytes) in parts {
            encoder.copy_buffer_to_buffer(part, bytes.start, &buffer, at, bytes.end - bytes.start);
            at += bytes.end - bytes.start;
        }
        let (sender, receiver) = oneshot_channel();
        encoder.map_buffer_on_submit(&buffer, wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone if the readback was dropped.
            let _ = sender.send(result);
        });
        let mapped = Some(Box::pin(async move { receiver.receive().await }) as Mapped);
        Self { mapped, buffer, pool: pool.clone(), decode: Arc::new(decode) }
    }

    /// Returns the value once, after it has arrived. `None` before it arrives and after it was taken. Never blocks.
    ///
    /// # Errors
    /// [`Error::StatsDropped`] if the encoder was dropped, [`Error::Unreadable`] if the buffer cannot be mapped.
    pub fn try_take(&mut self) -> Option<Result<T, Error>> {
        self.mapped.as_ref()?;
        match Pin::new(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn decode(&self) -> Result<T, Error> {
        let value = {
            let view = self.buffer.slice(..).get_mapped_range();
            let view = view.map_err(|error| Error::Unreadable(error.to_string()))?;
            (self.decode)(&view)
        };
        self.buffer.unmap();
        self.pool.put_back(self.buffer.clone());
        Ok(value)
    }
}

impl<T> Future for Readback<T> {
    type Output = Result<T, Error>;

    /// Errors: those of [`Readback::try_take`]; [`Error::AlreadyTaken`] after the value was taken.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mapped) = &mut self.mapped else { return Poll::Ready(Err(Error::AlreadyTaken)) };
        let Poll::Ready(mapped) = mapped.as_mut().poll(context) else { return Poll::Pending };
        self.mapped = None;
        Poll::Ready(match mapped {
            None => Err(Error::StatsDropped),
            Some(Err(error)) => Err(Error::Unreadable(error.to_string())),
            Some(Ok(())) => self.decode(),
        })
    }
}
