use super::control::{ABSOLUTE, INFINITE, NONE};
use super::scaled_sum::{EMPTY_PARTIAL, Partial, combine, power_of_two};
use crate::clip::Norm;
use crate::groups::GroupTable;
use crate::simd::vectorized;
use crate::tile::reduce;
use crate::tile::{NORM_BLOCK, ROW, TILE};

/// Lanes of a workgroup.
const LANES: usize = 64;
/// Lanes whose elements lie side by side.
const NEIGHBOURS: usize = 8;
/// Elements of these lanes.
const PIECE: usize = NORM_BLOCK / LANES * NEIGHBOURS;
/// Elements of which each has a largest and a smallest of its own, so that a row needs no sum or maximum across a vector: with
/// this many all fits into sixteen vectors of eight.
const VECTOR: usize = 16;
/// Where no scaled element but 0 is below this, every square is a normal number.
const LEAST: f32 = 1.0 / (1u64 << 60) as f32;
/// Where none is above this, no sum of squares over a block is infinite.
const MOST: f32 = (1u64 << 50) as f32;

/// What a block of gradients adds to the norm, and their finite check; `start` is the flat index of its first element.
/// Twin of `shaders/norm.wgsl`: of eight lanes that share a piece, lane l adds up elements 4l to 4l + 3 of each row, tile by
/// tile.
pub(crate) fn norm(order: Norm, grad: &[f32], start: usize, groups: &GroupTable) -> Partial {
    let spans = || groups.covering(start as u32, (start + grad.len()) as u32);
    let dead =
        || spans().filter(|(_, _, span)| !span.live()).map(|(from, to, _)| from as usize - start..to as usize - start);
    if spans().all(|(_, _, span)| !span.live()) {
        return EMPTY_PARTIAL;
    }
    if grad.len() == NORM_BLOCK {
        let partial = partial(order, grad, start);
        // Few have written anything into padding. It is looked at last, when caches have it.
        if dead().all(|elements| grad[elements].iter().all(|&grad| grad == 0.0)) {
            return partial;
        }
    }
    let mut block = grad.to_vec();
    block.resize(NORM_BLOCK, 0.0);
    dead().for_each(|elements| block[elements].fill(0.0));
    partial(order, &block, start)
}

fn partial(order: Norm, block: &[f32], start: usize) -> Partial {
    let sums = match order {
        Norm::One => Some(vectorized(
            #[inline(always)]
            || block_sums(Norm::One, block),
        )),
        Norm::Two => Some(vectorized(
            #[inline(always)]
            || block_sums(Norm::Two, block),
        )),
        Norm::Infinity => Some(vectorized(
            #[inline(always)]
            || block_sums(Norm::Infinity, block),
        )),
        Norm::P(_) => None,
    };
    sums.and_then(|sums| sums.partial(order)).unwrap_or_else(|| partial_by_lanes(order, block, start))
}

/// What one pass over a block finds.
struct BlockSums {
    /// Bits of the largest absolute value.
    largest: u32,
    /// Those of the smallest that is not 0, or of infinity where there is none.
    smallest: u32,
    /// Of the elements scaled by 2^-`exponent`.
    sum: f32,
    exponent: i32,
}

impl BlockSums {
    /// What [`partial_by_lanes`] makes, where one scale for all lanes gives the same bits: powers of two change none as long
    /// as every term is a normal number and every sum finite.
    fn partial(&self, order: Norm) -> Option<Partial> {
        let scale = power_of_two(-self.exponent);
        let scaled = |bits| f32::from_bits(bits) * scale;
        if self.largest >= INFINITE || scaled(self.largest) > MOST || scaled(self.smallest) < LEAST {
            return None;
        }
        let exponent = exponent_of(self.largest);
        let sum = self.sum * order.rescale(self.exponent - exponent);
        Some(Partial { exponent, sum, max_bits: self.largest, ..EMPTY_PARTIAL })
    }
}

/// The exponent that makes the largest element 1 to 4 (2^-127 is not a normal f32).
fn exponent_of(max_bits: u32) -> i32 {
    ((max_bits >> 23) as i32 - 127).clamp(-126, 126)
}

/// The sum that [`partial_by_lanes`] makes, with one scale for all lanes, guessed by the first of them.
#[inline(always)]
fn block_sums(order: Norm, block: &[f32]) -> BlockSums {
    let exponent = exponent_of(block[..LANES].iter().fold(0, |largest, grad| (grad.to_bits() & ABSOLUTE).max(largest)));
    let scale = power_of_two(-exponent);
    let (mut largest, mut smallest) = ([0; VECTOR], [u32::MAX; VECTOR]);
    let mut lanes = [0.0; LANES];
    for (lanes, piece) in lanes.chunks_exact_mut(NEIGHBOURS).zip(block.chunks_exact(PIECE)) {
        for tile in piece.chunks_exact(TILE) {
            let mut sums = [0.0; ROW];
            for row in tile.chunks_exact(ROW) {
                for (sums, grads) in sums.chunks_exact_mut(VECTOR).zip(row.chunks_exact(VECTOR)) {
                    for i in 0..VECTOR {
                        let bits = grads[i].to_bits() & ABSOLUTE;
                        largest[i] = bits.max(largest[i]);
                        // 0 becomes the largest number of all.
                        smallest[i] = bits.wrapping_sub(1).min(smallest[i]);
                        sums[i] += order.term_of(grads[i].abs() * scale);
                    }
                }
            }
            for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
                *lane += (sum[0] + sum[1]) + (sum[2] + sum[3]);
            }
        }
    }
    let sum = reduce(
        &mut lanes,
        #[inline(always)]
        |a, b| a + b,
    );
    let largest = largest.into_iter().fold(0, u32::max);
    let smallest = smallest.into_iter().fold(u32::MAX, u32::min).saturating_add(1).min(INFINITE);
    BlockSums { largest, smallest, sum, exponent }
}

/// Statement by statement what the device computes.
fn partial_by_lanes(order: Norm, block: &[f32], start: usize) -> Partial {
    let mut lanes = [EMPTY_PARTIAL; LANES];
    for (lane, partial) in lanes.iter_mut().enumerate() {
        let (first, place) = (lane / NEIGHBOURS * PIECE, lane % NEIGHBOURS * 4);
        let quads = || block[first..first + PIECE].chunks_exact(ROW).map(|row| &row[place..place + 4]);
        for tile in 0..PIECE / TILE {
            let tile = quads().skip(tile * TILE / ROW).take(TILE / ROW);
            *partial = combine(order, *partial, partial_of_tile(order, tile));
        }
        if partial.max_bits >= INFINITE {
            let elements =
                quads().zip((start + first + place..).step_by(ROW)).flat_map(|(quad, index)| quad.iter().zip(index..));
            let mut bad = elements.filter(|(grad, _)| grad.to_bits() & ABSOLUTE >= INFINITE);
            partial.first_nonfinite = bad.next().map_or(NONE, |(_, element)| element as u32);
        }
    }
    reduce(&mut lanes, |a, b| combine(order, a, b))
}

/// One lane's part of a tile.
fn partial_of_tile<'a>(order: Norm, quads: impl Iterator<Item = &'a [f32]> + Clone) -> Partial {
    let bits = quads.clone().flatten().map(|grad| grad.to_bits() & ABSOLUTE);
    let mut partial = Partial { max_bits: bits.fold(0, u32::max), ..EMPTY_PARTIAL };
    if partial.max_bits >= INFINITE {
        return partial;
    }
    partial.exponent = exponent_of(partial.max_bits);
    let scale = power_of_two(-partial.exponent);
    let mut sum = [0.0; 4];
    for quad in quads {
        for (sum, grad) in sum.iter_mut().zip(quad) {
            *sum += order.term_of(grad.abs() * scale);
        }
    }
    partial.sum = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    partial
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks whose elements span `spread` powers of two below 2^`exponent`, with a zero here and there.
    fn block(exponent: i32, spread: u32, seed: u32) -> Vec<f32> {
        let element = |i: u32| {
            let random = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 4;
            let mantissa = 1.0 + (random % 8192) as f32 / 8192.0;
            let power = exponent - ((random >> 13) % (spread + 1)) as i32;
            let value = f64::from(mantissa) * 2f64.powi(power);
            if random.is_multiple_of(97) { 0.0 } else { value as f32 * if random & 1 == 0 { 1.0 } else { -1.0 } }
        };
        (0..NORM_BLOCK as u32).map(element).collect()
    }

    /// The short way is taken where it may be, and gives the bits of the long one.
    #[test]
    fn one_scale_for_all_lanes_changes_no_bit() {
        for (seed, order) in (0..20).flat_map(|seed| [Norm::One, Norm::Two, Norm::Infinity].map(|order| (seed, order)))
        {
            for (exponent, spread) in
                [(0, 0), (0, 30), (127, 60), (-60, 60), (-66, 60), (-126, 0), (90, 59), (5, 61), (-80, 60), (-80, 69)]
            {
                let block = block(exponent, spread, seed);
                assert_eq!(
                    partial(order, &block, 0),
                    partial_by_lanes(order, &block, 0),
                    "{order:?} 2^{exponent}, {spread} powers below it"
                );
            }
        }
        for value in [0.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN] {
            let mut block = vec![0.0; NORM_BLOCK];
            block[4_099] = value;
            let start = 3 * NORM_BLOCK;
            assert_eq!(partial(Norm::Two, &block, start), partial_by_lanes(Norm::Two, &block, start), "{value}");
        }
    }

    /// The scale is that of the first elements, whatever follows.
    #[test]
    fn a_wrong_guess_changes_no_bit() {
        let guesses = [(0.0, 0), (1.0, 49), (1.0, 52), (1.0, 90), (1.0, -59), (1.0, -63), (2f32.powi(-100), 20)];
        for (order, (first, exponent)) in
            [Norm::One, Norm::Two, Norm::Infinity].into_iter().flat_map(|order| guesses.map(|guess| (order, guess)))
        {
            let mut block = block(exponent, 3, 1);
            block[..2 * LANES].fill(first);
            let expected = partial_by_lanes(order, &block, 0);
            assert_eq!(partial(order, &block, 0), expected, "{order:?}, {first} before 2^{exponent}");
        }
    }

    /// Within the spread nothing is lost of the smallest, beyond it the lanes have to have scales of their own.
    #[test]
    fn the_smallest_that_counts_is_found() {
        for column in 0..ROW {
            let mut block = vec![0.0; NORM_BLOCK];
            block[column] = -2f32.powi(-40);
            block[8191 - column] = 8.0;
            let sums = block_sums(Norm::Two, &block);
            assert_eq!((sums.largest, sums.smallest), (8f32.to_bits(), 2f32.powi(-40).to_bits()), "{column}");
        }
        let sums = block_sums(Norm::Two, &vec![-0.0; NORM_BLOCK]);
        assert_eq!((sums.largest, sums.smallest), (0, INFINITE));
    }
}
