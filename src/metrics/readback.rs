use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::oneshot_channel;

use super::{History, Stats};
use crate::Error;

/// Mappable buffers of one size that earlier requests have returned.
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

/// The statistics of one step, on their way from the device.
pub type ReadbackStats = Readback<Stats>;
/// The statistics of several steps, on their way from the device.
pub type ReadbackHistory = Readback<History>;

/// A value on its way from the device: a future, or asked for through [`Readback::try_take`].
///
/// It arrives after its encoder was submitted and the device was polled: natively by `device.poll` (or a later
/// `queue.submit`), in browsers by the event loop. Nothing waits for it; dropping it costs nothing.
pub struct Readback<T> {
    /// Gone after the value was taken.
    mapped: Option<Mapped>,
    buffer: wgpu::Buffer,
    pool: StagingPool,
    decode: Arc<dyn Fn(&[u8]) -> T + Send + Sync>,
}

impl<T> fmt::Debug for Readback<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readback").finish_non_exhaustive()
    }
}

impl<T> Readback<T> {
    /// Records copies of parts of buffers, one behind the other. All requests of one `pool` have the same size.
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

    /// The value, once, if it has arrived; never blocks. `None` before it arrives and after it was taken.
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

    /// [`Error::AlreadyTaken`] after the value was taken.
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
