//! Steps over a share of the elements, whose sums others complete.

use std::collections::VecDeque;
use std::ops::Range;

use wgpu::{Buffer, BufferUsages, CommandEncoder, CommandEncoderDescriptor, Device, PollType, Queue};

use super::Optimizer;
#[cfg(feature = "safetensors")]
use crate::checkpoint::{CheckpointError, Entry, SmallState};
#[cfg(feature = "safetensors")]
use crate::gpu::block_on;
use crate::gpu::{BufferRange, check_usage, check_word_starts, write_words};
use crate::metrics::{Readback, StagingPool};
use crate::plan::{Exchange, Pass, StepKind};
#[cfg(feature = "safetensors")]
use crate::plan::{PlanState, StepPlan};
use crate::storage::Dtype;
use crate::{BufferSlices, Error};

const EXCHANGED: &str = ", because the ranks exchange them";

impl Optimizer {
    /// The parameters, for exchanges.
    ///
    /// # Errors
    /// Those of [`Optimizer::step`] about buffers; [`Error::MissingUsage`] without `COPY_SRC` and `COPY_DST`.
    pub(crate) fn param_stream(&self, params: BufferSlices<'_>) -> Result<DeviceStream, Error> {
        self.stream("params", self.plan.settings.precision.params.dtype(), params)
    }

    /// The gradients of a step or of a perturbation, for exchanges.
    ///
    /// # Errors
    /// Those of [`Optimizer::param_stream`].
    pub(crate) fn grad_stream(&self, grads: BufferSlices<'_>) -> Result<DeviceStream, Error> {
        self.stream("grads", self.plan.input_dtype(StepKind::Decided), grads)
    }

    fn stream(&self, what: &'static str, dtype: Dtype, slices: BufferSlices<'_>) -> Result<DeviceStream, Error> {
        let ranges = slices.ranges(what, dtype, &self.space)?;
        check_word_starts(&ranges, what)?;
        for range in &ranges {
            check_usage(what, &range.buffer, BufferUsages::COPY_SRC | BufferUsages::COPY_DST, EXCHANGED)?;
        }
        Ok(self.stream_of(dtype, ranges))
    }

    /// The accumulated gradients.
    pub(crate) fn accumulated(&self) -> Result<DeviceStream, Error> {
        self.plan.check_accumulates()?;
        Ok(self.stream_of(Dtype::F32, self.accumulated.clone()))
    }

    fn stream_of(&self, dtype: Dtype, ranges: Vec<BufferRange>) -> DeviceStream {
        let (device, queue) = (self.device.clone(), self.queue.clone());
        DeviceStream { device, queue, dtype, ranges, reads: VecDeque::new() }
    }

    /// An encoder for a call that [`Optimizer::run_shared`] completes.
    pub(crate) fn shared_encoder(&self) -> CommandEncoder {
        self.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("wgpu-optim sharded step") })
    }

    /// Records one step with the accumulated gradients as they are.
    pub(crate) fn record_accumulated(
        &mut self,
        encoder: &mut CommandEncoder,
        params: BufferSlices<'_>,
    ) -> Result<(), Error> {
        self.on_accumulated(|optimizer, grads| optimizer.record_step(encoder, params, grads, false))
    }

    /// Submits a recorded call, and what follows each of its exchanges, then `last`. Waits for the sums.
    ///
    /// # Errors
    /// [`Error::Unreadable`], and those of `exchange`.
    pub(crate) fn run_shared<E: From<Error>>(
        &mut self,
        mut encoder: CommandEncoder,
        exchange: &mut Exchange<'_, E>,
        last: impl FnOnce(&Self, &mut CommandEncoder),
    ) -> Result<(), E> {
        while let Some((pass, step)) = self.waiting.take() {
            let mut sums = self.own_sums(pass, encoder)?;
            exchange(&self.plan, pass, &mut sums)?;
            if let Some((buffer, first, _)) = self.resources.sum_rows(pass, &self.plan).filter(|_| !sums.is_empty()) {
                self.queue.write_buffer(buffer, first, &sums);
            }
            encoder = self.shared_encoder();
            self.encode_passes(&mut encoder, step);
        }
        last(self, &mut encoder);
        self.queue.submit([encoder.finish()]);
        Ok(())
    }

    /// Submits an encoder and reads the sums of the share's parts: the rows of all parts, 0 for those of others.
    fn own_sums(&self, pass: Pass, mut encoder: CommandEncoder) -> Result<Vec<u8>, Error> {
        let Some((buffer, first, bytes)) = self.resources.sum_rows(pass, &self.plan) else {
            self.queue.submit([encoder.finish()]);
            return Ok(Vec::new());
        };
        let ends = [self.plan.share.start, self.plan.share.end, self.plan.layout.len()];
        let [start, end, all] = ends.map(|element| self.plan.parts_before(pass, element) as u64 * bytes);
        let mut sums = vec![0; all as usize];
        let mut own = Vec::new();
        let read = (start < end).then(|| read(&self.device, &mut encoder, &[(buffer, first + start..first + end)]));
        self.queue.submit([encoder.finish()]);
        if let Some(read) = read {
            own = wait(&self.device, read)?;
        }
        sums[start as usize..end as usize].copy_from_slice(&own);
        Ok(sums)
    }

    /// The statistics of the last step. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub(crate) fn wait_for_stats(&self) -> Result<crate::Stats, Error> {
        let mut encoder = self.shared_encoder();
        let stats = self.stats(&mut encoder);
        self.queue.submit([encoder.finish()]);
        wait(&self.device, stats)
    }
}

fn read(device: &Device, encoder: &mut CommandEncoder, parts: &[(&Buffer, Range<u64>)]) -> Readback<Vec<u8>> {
    Readback::record(device, encoder, parts, &StagingPool::default(), <[u8]>::to_vec)
}

/// Waits for a readback whose encoder was submitted.
fn wait<T>(device: &Device, mut readback: Readback<T>) -> Result<T, Error> {
    loop {
        device.poll(PollType::wait_indefinitely()).map_err(|error| Error::Unreadable(error.to_string()))?;
        if let Some(value) = readback.try_take() {
            return value;
        }
        // Another thread's poll is about to deliver it.
        std::thread::yield_now();
    }
}

/// The parts of a checkpoint.
#[cfg(feature = "safetensors")]
impl Optimizer {
    /// The parameters that a checkpoint holds.
    ///
    /// # Errors
    /// Those of [`Optimizer::save`] about buffers.
    pub(crate) fn saved_params(&self, params: Option<BufferSlices<'_>>) -> Result<Option<Vec<BufferRange>>, Error> {
        self.loadable(params, BufferUsages::COPY_SRC, super::checkpoint::SAVED)
    }

    pub(crate) fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// The host's state of all submitted calls.
    pub(crate) fn saved_state(&self) -> PlanState {
        self.host_state().plan
    }

    /// The parts that are read whole. Waits for the device.
    ///
    /// # Errors
    /// [`CheckpointError::Device`].
    pub(crate) fn small_state(&self) -> Result<SmallState, CheckpointError> {
        block_on(&self.device, self.source(None).small(self.transfer(), &self.plan))
    }

    /// The bytes of a tensor of a checkpoint that is not small. Waits for the device.
    ///
    /// # Errors
    /// [`CheckpointError::Device`].
    pub(crate) fn entry_bytes(
        &self,
        entry: &Entry,
        params: Option<&[BufferRange]>,
    ) -> Result<Vec<u8>, CheckpointError> {
        let (ranges, transfer) = (self.source(params).bytes_of(&self.plan, entry), self.transfer());
        let mut bytes = Vec::new();
        let read = transfer.read(&ranges, |window| {
            bytes.extend_from_slice(window);
            Ok(())
        });
        block_on(&self.device, read)?;
        Ok(bytes)
    }
}

/// A piece of a stream on its way to the host.
#[derive(Debug)]
struct Read {
    /// `None` for a piece without elements in buffers.
    bytes: Option<Readback<Vec<u8>>>,
    /// The bytes of each copy: its place in the piece, and its size in the readback.
    copies: Vec<(Range<usize>, usize)>,
    size: usize,
}

/// Parameters or gradients on the device, which move to the host and back in pieces.
#[derive(Debug)]
pub(crate) struct DeviceStream {
    device: Device,
    queue: Queue,
    dtype: Dtype,
    ranges: Vec<BufferRange>,
    reads: VecDeque<Read>,
}

impl DeviceStream {
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn bytes(&self, len: usize) -> usize {
        self.dtype.bytes(len as u64) as usize
    }

    /// The parts of the buffers that hold elements of a range, and the places of their bytes in the range's.
    fn parts(&self, elements: &Range<usize>) -> Vec<(BufferRange, Range<usize>)> {
        let bounds = elements.start as u64..elements.end as u64;
        let first = self.ranges.partition_point(|range| range.end() <= bounds.start);
        let ranges = self.ranges[first..].iter().take_while(|range| range.start < bounds.end);
        let part = |range: &BufferRange| {
            let part = range.within(&bounds)?;
            let start = self.bytes((part.start - bounds.start) as usize);
            let end = start + part.bytes() as usize;
            Some((part, start..end))
        };
        ranges.filter_map(part).collect()
    }

    /// Starts to read ranges: submits their copies.
    pub(crate) fn begin_read(&mut self, elements: &[Range<usize>]) {
        let (mut parts, mut copies, mut size) = (Vec::new(), Vec::new(), 0);
        for range in elements {
            for (part, bytes) in self.parts(range) {
                // Copies move whole words.
                let words = part.bytes().next_multiple_of(4);
                copies.push((size + bytes.start..size + bytes.end, words as usize));
                parts.push((part.buffer, part.offset..part.offset + words));
            }
            size += self.bytes(range.len());
        }
        let parts: Vec<_> = parts.iter().map(|(buffer, bytes)| (buffer, bytes.clone())).collect();
        let bytes = (!parts.is_empty()).then(|| {
            let mut encoder = self.device.create_command_encoder(&CommandEncoderDescriptor::default());
            let bytes = read(&self.device, &mut encoder, &parts);
            self.queue.submit([encoder.finish()]);
            bytes
        });
        self.reads.push_back(Read { bytes, copies, size });
    }

    /// Waits for the ranges whose reading began first. Padding that no buffer holds is 0.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub(crate) fn end_read(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.clear();
        let Some(read) = self.reads.pop_front() else { return Ok(()) };
        bytes.resize(read.size, 0);
        let Some(readback) = read.bytes else { return Ok(()) };
        let copied = wait(&self.device, readback)?;
        let mut rest = &copied[..];
        for (place, words) in read.copies {
            let copy;
            (copy, rest) = rest.split_at(words);
            bytes[place.clone()].copy_from_slice(&copy[..place.len()]);
        }
        Ok(())
    }

    /// Writes the numbers of a range.
    pub(crate) fn write(&mut self, elements: &Range<usize>, bytes: &[u8]) {
        for (part, place) in self.parts(elements) {
            write_words(&self.queue, &part.buffer, part.offset, &bytes[place]);
        }
        // Frees the staging memory of earlier writes.
        self.queue.submit([]);
    }
}
