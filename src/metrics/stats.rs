use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::oneshot_channel;

use super::sampler::Reader;
use crate::Error;
use crate::kernels::control::{ControlBlock, INVALID_SCALE, MEASURED, NONE};

/// What an executed step did.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stats {
    /// Steps applied so far.
    pub step: u64,
    /// Steps refused so far for a non-finite gradient, or because the optimizer is stopped.
    pub skipped: u64,
    /// Steps refused in a row, up to this one.
    pub consecutive_skipped: u64,
    /// Whether `consecutive_skipped` has reached the limit of
    /// [`OptimizerBuilder::max_consecutive_skips`](crate::OptimizerBuilder::max_consecutive_skips).
    pub too_many_skips: bool,
    /// Learning rate of the step.
    pub lr: f32,
    /// Norm of the gradients, Euclidean unless [`Clip::with_norm_type`](crate::Clip::with_norm_type) says otherwise, after
    /// the gradient scale and before clipping; `None` in a bare step, which does not measure it. NaN or infinite where a
    /// gradient is, and infinite beyond f32.
    pub grad_norm: Option<f32>,
    /// What all gradients were multiplied by to clip them; 1 where they were not, or each by a coefficient of its own (by
    /// value, by norms of groups or units).
    pub clip_coef: f32,
    /// Whether the gradient scale in a device buffer was not positive, or had no normal inverse; such a step counts as
    /// one with a non-finite gradient.
    pub invalid_grad_scale: bool,
    /// Flat index of the first gradient that was NaN or infinite.
    pub first_nonfinite: Option<u64>,
    /// Whether [`NonFinite::Stop`](crate::NonFinite::Stop) has stopped the optimizer.
    pub stopped: bool,
    /// Euclidean norm of the live parameters before the step. This and all below are there for applied steps that
    /// [`HistoryOptions::with_norms_every`](crate::history::HistoryOptions::with_norms_every) asks for, and come from plain
    /// f32 sums of squares: numbers from about 1e19 on make it infinite, those below 1e-19 add nothing.
    pub param_norm: Option<f32>,
    /// Euclidean norm of what the step has added to the parameters, weight decay included, before or after their rounding to
    /// f32: compilers of shaders choose.
    pub update_norm: Option<f32>,
    /// `update_norm` over `param_norm`; infinite where all parameters were 0 and no longer are.
    pub update_ratio: Option<f32>,
    /// Share of the live elements, from 0 to 1, whose gradient was clipped: by a global norm all or none.
    pub clipped_fraction: Option<f32>,
    /// Share of the live elements that the rule counts ([`Rule::counts`](crate::Rule::counts)): of
    /// [`Sophia`](crate::Sophia) the win rate, of [`Lion`](crate::Lion) the sign agreement.
    pub rule_fraction: Option<f32>,
}

impl Stats {
    /// Steps that ran so far, applied or refused.
    pub(crate) fn executed(&self) -> u64 {
        self.step + self.skipped
    }

    /// Without what only observed steps have.
    pub(crate) fn new(block: &ControlBlock, max_consecutive_skips: u32) -> Self {
        let first = block.first_nonfinite[block.step as usize & 1];
        Self {
            step: block.step.into(),
            skipped: block.skipped.into(),
            consecutive_skipped: block.consecutive_skipped.into(),
            too_many_skips: block.consecutive_skipped >= max_consecutive_skips,
            lr: block.lr,
            grad_norm: (block.findings & MEASURED != 0).then_some(block.grad_norm),
            clip_coef: block.clip_coef,
            invalid_grad_scale: block.findings & INVALID_SCALE != 0,
            first_nonfinite: (first != NONE).then_some(first.into()),
            stopped: block.stopped != 0,
            param_norm: None,
            update_norm: None,
            update_ratio: None,
            clipped_fraction: None,
            rule_fraction: None,
        }
    }
}

/// Mappable buffers of one size that earlier requests have done with.
#[derive(Debug, Clone, Default)]
pub(crate) struct StagingPool(Arc<Mutex<Vec<wgpu::Buffer>>>);

impl StagingPool {
    fn take(&self) -> Option<wgpu::Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
    fn give_back(&self, buffer: wgpu::Buffer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// Resolves to `None` if the request was dropped before it could be answered.
type Mapped = Pin<Box<dyn Future<Output = Option<Result<(), wgpu::BufferAsyncError>>> + Send>>;

/// The statistics of one step, on their way from the device.
pub type PendingStats = Pending<Stats>;

/// What was asked of the device and is on its way: a future, or asked now and then through [`Pending::try_take`].
///
/// It arrives once the encoder it was recorded into was submitted and the device was polled after that
/// (`device.poll`, any later `queue.submit`, or the browser's event loop). Nothing waits for it; dropping the
/// request is free.
pub struct Pending<T> {
    /// Gone once it was given out.
    mapped: Option<Mapped>,
    buffer: wgpu::Buffer,
    pool: StagingPool,
    /// What to make of the bytes.
    read: fn(&[u8], &Reader) -> T,
    reader: Reader,
}

impl<T> std::fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    /// Records copies of parts of buffers, one behind the other; those of a `pool` have one size together.
    pub(crate) fn record(
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        parts: &[(&wgpu::Buffer, Range<u64>)],
        pool: &StagingPool,
        read: fn(&[u8], &Reader) -> T,
        reader: Reader,
    ) -> Self {
        let buffer = pool.take().unwrap_or_else(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("wgpu-optim statistics"),
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
            // The receiver may be gone: nobody has to take the statistics they asked for.
            let _ = sender.send(result);
        });
        let mapped = Some(Box::pin(async move { receiver.receive().await }) as Mapped);
        Self { mapped, buffer, pool: pool.clone(), read, reader }
    }

    /// What was asked for if it has arrived, once; never blocks. `None` before that and after it.
    pub fn try_take(&mut self) -> Option<Result<T, Error>> {
        match Pin::new(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(stats) => Some(stats),
            Poll::Pending => None,
        }
    }

    fn read(&self) -> Result<T, Error> {
        let read = {
            let view = self.buffer.slice(..).get_mapped_range();
            let view = view.map_err(|error| Error::Unreadable(error.to_string()))?;
            (self.read)(&view, &self.reader)
        };
        self.buffer.unmap();
        self.pool.give_back(self.buffer.clone());
        Ok(read)
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mapped) = &mut self.mapped else { return Poll::Pending };
        let Poll::Ready(mapped) = mapped.as_mut().poll(context) else { return Poll::Pending };
        self.mapped = None;
        Poll::Ready(match mapped {
            None => Err(Error::StatsDropped),
            Some(Err(error)) => Err(Error::Unreadable(error.to_string())),
            Some(Ok(())) => self.read(),
        })
    }
}
