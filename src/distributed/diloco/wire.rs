//! Differences on the wire, and their mean over the ranks.

use crate::distributed::exchange::{narrowed, widened};
use crate::distributed::shares::Shares;
use crate::distributed::{CommunicationError, Communicator};
use crate::storage::{CodeMap, Dtype, Moment, load_codes, store_codes};

/// The mean over the ranks that take part.
#[derive(Debug)]
pub(super) struct Mean {
    pub(super) values: Vec<f32>,
    /// This rank adds it to its next difference, so that no rounding is lost; empty for f32.
    pub(super) residual: Vec<f32>,
}

/// Whether differences travel in that format.
pub(super) fn is_supported(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::Bf16) || CodeMap::new(dtype, Moment::First).is_some()
}

/// Bytes of `len` numbers, with the scales of codes.
fn bytes(dtype: Dtype, len: usize) -> usize {
    let scales = dtype.scale_dtype().map_or(0, |scales| scales.bytes(len as u64));
    (dtype.bytes(len as u64) + scales) as usize
}

/// The nearest numbers in a format. The scales of codes come first.
fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let Some(map) = CodeMap::new(dtype, Moment::First) else { return narrowed(dtype, values) };
    let mut scales = vec![0.0; values.len().div_ceil(map.block_len())];
    let mut codes = vec![0; values.len()];
    store_codes(map, values, None, &mut codes, &mut scales);
    [bytemuck::cast_slice(&scales), &codes[..]].concat()
}

/// The values of [`encode`]'s bytes.
fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let Some(map) = CodeMap::new(dtype, Moment::First) else { return widened(dtype, bytes) };
    let mut values = Vec::new();
    // A block of n codes takes n + 4 bytes.
    let blocks = bytes.len().div_ceil(map.block_len() + size_of::<f32>());
    let (scales, codes) = bytes.split_at(blocks * size_of::<f32>());
    let scales: Vec<f32> = bytemuck::pod_collect_to_vec(scales);
    load_codes(map, codes, &scales, 0, &mut values);
    values
}

/// Averages `values` over the ranks that take part; the others pass `None` and their length. The mean has the same bits on
/// all ranks: each rank adds the values of its share in the order of the ranks, and sends the encoded mean.
///
/// A rank sends as many numbers as [`Communicator::all_reduce`], in the format's bytes.
///
/// # Errors
/// [`CommunicationError`].
pub(super) fn mean(
    communicator: &mut (impl Communicator + ?Sized),
    dtype: Dtype,
    (values, len): (Option<Vec<f32>>, usize),
    takes_part: &[bool],
) -> Result<Mean, CommunicationError> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let count = takes_part.iter().filter(|&&takes_part| takes_part).count() as f32;
    let shares = Shares::with_unit(len, size, dtype.block_len() as usize);
    let share_bytes: Vec<usize> = shares.iter().map(|share| bytes(dtype, share.len())).collect();

    let encoded: Vec<Vec<u8>> =
        values.iter().flat_map(|values| shares.iter().map(|share| encode(dtype, &values[share.clone()]))).collect();
    let send_counts: Vec<usize> = (0..size).map(|to| encoded.get(to).map_or(0, Vec::len)).collect();
    let receive_counts: Vec<usize> =
        takes_part.iter().map(|&takes_part| if takes_part { share_bytes[rank] } else { 0 }).collect();
    let mut received = vec![0; receive_counts.iter().sum()];
    communicator.all_to_all(&encoded.concat(), &send_counts, &mut received, &receive_counts)?;

    let own = shares.of(rank);
    let mut own_mean = vec![0.0; own.len()];
    for block in received.chunks_exact(share_bytes[rank].max(1)) {
        own_mean.iter_mut().zip(decode(dtype, block)).for_each(|(sum, value)| *sum += value);
    }
    for sum in &mut own_mean {
        *sum /= count;
    }

    let mut all = vec![0; share_bytes.iter().sum()];
    communicator.all_gather(&encode(dtype, &own_mean), &share_bytes, &mut all)?;
    let mut mean = Vec::with_capacity(len);
    let mut rest = &all[..];
    for &count in &share_bytes {
        let block;
        (block, rest) = rest.split_at(count);
        mean.extend(decode(dtype, block));
    }
    if dtype == Dtype::F32 {
        return Ok(Mean { values: mean, residual: Vec::new() });
    }
    let mut residual = vec![0.0; len];
    if let Some(values) = values {
        let sent = encoded.iter().flat_map(|block| decode(dtype, block));
        residual.iter_mut().zip(values.iter().zip(sent)).for_each(|(residual, (value, sent))| *residual = value - sent);
    }
    // The rounding of the mean counts once per rank that took part.
    for ((residual, exact), sent) in residual[own.clone()].iter_mut().zip(own_mean).zip(&mean[own]) {
        *residual += (exact - sent) * count;
    }
    // Numbers that are not finite would stay forever.
    residual.iter_mut().filter(|residual| !residual.is_finite()).for_each(|residual| *residual = 0.0);
    Ok(Mean { values: mean, residual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_hold_the_values() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Dynamic8, Dtype::Companded8] {
            for len in [0, 1, 31, 32, 33, 255, 256, 257, 1_000] {
                let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
                let encoded = encode(dtype, &values);
                assert_eq!(encoded.len(), bytes(dtype, len), "{dtype:?} {len}");
                let decoded = decode(dtype, &encoded);
                assert_eq!(decoded.len(), len, "{dtype:?} {len}");
                let error = values.iter().zip(decoded).map(|(value, decoded)| (value - decoded).abs());
                let allowed = match dtype {
                    Dtype::F32 => 0.0,
                    Dtype::Bf16 => 1.0 / 256.0,
                    _ => 0.02,
                };
                assert!(error.fold(0.0, f32::max) <= allowed, "{dtype:?} {len}");
            }
        }
    }
}
