//! Exchanges streams between ranks, piece by piece: memory stays bounded, and the next piece is on its way to the host
//! meanwhile.

use std::ops::Range;

use super::shares::Shares;
use super::{Communicator, DistributedError};
use crate::cpu::Numbers;
use crate::plan::{Pass, StepPlan};
use crate::storage::Dtype;
use crate::tile::TILE_LEN;
#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
use crate::tile::split_at_multiples;

/// Bytes of the pieces of all ranks together, at most, unless those of a tile take more.
const WINDOW: usize = 16 << 20;

/// Gradients or parameters of the flat space.
pub(super) trait Stream {
    fn dtype(&self) -> Dtype;

    /// Starts to read ranges.
    ///
    /// # Errors
    /// [`DistributedError`].
    fn begin_read(&mut self, ranges: &[Range<usize>]) -> Result<(), DistributedError>;

    /// Replaces `bytes` by those of the ranges whose reading began first, one after the other.
    ///
    /// # Errors
    /// [`DistributedError`].
    fn end_read(&mut self, bytes: &mut Vec<u8>) -> Result<(), DistributedError>;

    /// Writes the numbers of a range.
    ///
    /// # Errors
    /// [`DistributedError`].
    fn write(&mut self, range: Range<usize>, bytes: &[u8]) -> Result<(), DistributedError>;
}

/// Calls `f` with each item and the bytes of its ranges, while those of the next item are on their way.
///
/// # Errors
/// [`DistributedError`], and those of `f`.
fn read_ahead<S: Stream, I>(
    stream: &mut S,
    items: impl IntoIterator<Item = I>,
    ranges: impl Fn(&I) -> &[Range<usize>],
    mut f: impl FnMut(&mut S, I, &[u8]) -> Result<(), DistributedError>,
) -> Result<(), DistributedError> {
    let (mut items, mut bytes) = (items.into_iter().peekable(), Vec::new());
    if let Some(first) = items.peek() {
        stream.begin_read(ranges(first))?;
    }
    while let Some(item) = items.next() {
        if let Some(next) = items.peek() {
            stream.begin_read(ranges(next))?;
        }
        stream.end_read(&mut bytes)?;
        f(stream, item, &bytes)?;
    }
    Ok(())
}

/// The bytes of the first `len` numbers.
///
/// # Errors
/// [`DistributedError`].
#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
pub(super) fn read_all(stream: &mut impl Stream, len: usize) -> Result<Vec<u8>, DistributedError> {
    let (windows, mut all) = (split_at_multiples(0, len, WINDOW / size_of::<f32>()), Vec::new());
    read_ahead(stream, windows, std::slice::from_ref, |_, _, bytes| {
        all.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(all)
}

/// Writes the bytes of the first numbers.
///
/// # Errors
/// [`DistributedError`].
#[cfg(all(feature = "safetensors", not(target_arch = "wasm32")))]
pub(super) fn write_all(stream: &mut impl Stream, bytes: &[u8]) -> Result<(), DistributedError> {
    let unit = stream.dtype().bytes(1) as usize;
    for window in split_at_multiples(0, bytes.len() / unit, WINDOW / size_of::<f32>()) {
        stream.write(window.clone(), &bytes[window.start * unit..window.end * unit])?;
    }
    Ok(())
}

/// The order in which gradients are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SumOrder {
    /// The communicator's.
    Any,
    /// That of the ranks, as one machine adds the gradients of micro-batches.
    Ranks,
}

/// The ranks, and what each of them has.
pub(super) struct Group<'a, C> {
    pub(super) communicator: &'a mut C,
    pub(super) shares: &'a Shares,
}

impl<C: Communicator> Group<'_, C> {
    /// The pieces of each round.
    fn rounds(&self) -> Vec<Vec<Range<usize>>> {
        let len = (WINDOW / size_of::<f32>() / self.communicator.size() / TILE_LEN).max(1) * TILE_LEN;
        self.shares.pieces(len).collect()
    }

    /// Replaces the gradients of this rank's share by their means over all ranks.
    ///
    /// # Errors
    /// [`DistributedError`].
    pub(super) fn average_grads(&mut self, grads: &mut impl Stream, order: SumOrder) -> Result<(), DistributedError> {
        let (rank, size) = (self.communicator.rank(), self.communicator.size());
        if size == 1 && order == SumOrder::Any {
            return Ok(());
        }
        let (dtype, weight) = (grads.dtype(), (size as f32).recip());
        let (mut received, mut sums) = (Vec::new(), Vec::new());
        read_ahead(
            grads,
            self.rounds(),
            |pieces| pieces,
            |grads, pieces, sent| {
                let own = &pieces[rank];
                sums.clear();
                sums.resize(own.len(), 0.0);
                match order {
                    SumOrder::Any => {
                        let counts: Vec<usize> = pieces.iter().map(Range::len).collect();
                        self.communicator.reduce_scatter(&widened(dtype, sent), &counts, &mut sums)?;
                        for sum in &mut sums {
                            *sum *= weight;
                        }
                    }
                    SumOrder::Ranks => {
                        let counts = bytes_of(dtype, &pieces);
                        received.resize(counts[rank] * size, 0);
                        let own_counts = vec![counts[rank]; size];
                        self.communicator.all_to_all(sent, &counts, &mut received, &own_counts)?;
                        for block in received.chunks_exact(counts[rank].max(1)) {
                            // As `kernels/accumulate.rs`.
                            sums.iter_mut().zip(widened(dtype, block)).for_each(|(sum, value)| *sum += weight * value);
                        }
                    }
                }
                if own.is_empty() { Ok(()) } else { grads.write(own.clone(), &narrowed(dtype, &sums)) }
            },
        )
    }

    /// Replaces the parameters of all other shares by those of their ranks.
    ///
    /// # Errors
    /// [`DistributedError`].
    pub(super) fn gather_params(&mut self, params: &mut impl Stream) -> Result<(), DistributedError> {
        let (rank, dtype) = (self.communicator.rank(), params.dtype());
        if self.communicator.size() == 1 {
            return Ok(());
        }
        let mut all = Vec::new();
        read_ahead(
            params,
            self.rounds(),
            |pieces| std::slice::from_ref(&pieces[rank]),
            |params, pieces, own| {
                let counts = bytes_of(dtype, &pieces);
                all.resize(counts.iter().sum(), 0);
                self.communicator.all_gather(own, &counts, &mut all)?;
                let mut rest = &all[..];
                for (number, (piece, count)) in pieces.into_iter().zip(counts).enumerate() {
                    let bytes;
                    (bytes, rest) = rest.split_at(count);
                    if number != rank && count > 0 {
                        params.write(piece, bytes)?;
                    }
                }
                Ok(())
            },
        )
    }

    /// Completes the sums of a pass by those of all other ranks.
    ///
    /// # Errors
    /// [`DistributedError`].
    pub(super) fn gather_sums(&mut self, plan: &StepPlan, pass: Pass, sums: &mut [u8]) -> Result<(), DistributedError> {
        let all = plan.parts_before(pass, plan.layout.len());
        if all == 0 || self.communicator.size() == 1 {
            return Ok(());
        }
        let bytes = sums.len() / all;
        let range_of = |share: &Range<usize>| {
            plan.parts_before(pass, share.start) * bytes..plan.parts_before(pass, share.end) * bytes
        };
        let counts: Vec<usize> = self.shares.iter().map(|share| range_of(share).len()).collect();
        let own = sums[range_of(&self.shares.of(self.communicator.rank()))].to_vec();
        Ok(self.communicator.all_gather(&own, &counts, sums)?)
    }
}

/// Bytes of each range.
fn bytes_of(dtype: Dtype, ranges: &[Range<usize>]) -> Vec<usize> {
    ranges.iter().map(|range| dtype.bytes(range.len() as u64) as usize).collect()
}

/// The values of numbers in a storage format.
pub(super) fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    if dtype == Dtype::F32 {
        return bytemuck::pod_collect_to_vec(bytes);
    }
    let mut numbers = Numbers::new(0, dtype, 0.0, dtype.numbers_in(bytes.len() as u64) as usize);
    numbers.as_mut().bytes_mut().copy_from_slice(bytes);
    numbers.as_slice().to_f32()
}

/// The bytes of the nearest numbers in a storage format.
pub(super) fn narrowed(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let mut numbers = Numbers::new(0, dtype, 0.0, values.len());
    numbers.as_mut().store(0..values.len(), values);
    numbers.as_slice().bytes().to_vec()
}
