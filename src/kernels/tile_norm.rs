//! The sum of powers over one tile, for norms of all elements, and the finite check.

use super::control::NONE;
use super::norm_order::NormOrder;
use super::scaled_sum::ScaledSum;
use crate::groups::GroupTable;
use crate::power_of_two::{power_of_two, scale_element};
use crate::simd::vectorized;
use crate::storage::{ABSOLUTE, INFINITE};
use crate::tile::{ROW_LEN, SUBTILE_LEN, TILE_LEN, workgroup_sum};

/// Lanes of a workgroup.
const LANES: usize = 64;
/// Lanes that share contiguous elements.
const NEIGHBORS: usize = 8;
/// Elements of these lanes.
const SHARE_LEN: usize = TILE_LEN / LANES * NEIGHBORS;
/// Columns with a maximum and a minimum of their own: a row needs no maximum across a vector, and all fits into sixteen
/// vectors of eight.
const VECTOR: usize = 16;
/// The square of a scaled element from here on is a normal number.
const MIN_SCALED: f32 = 1.0 / (1u64 << 60) as f32;
/// Squares of scaled elements up to here have a finite sum over a tile.
const MAX_SCALED: f32 = (1u64 << 50) as f32;

/// The sum over one tile; `start` is the flat index of its first element. Of eight lanes that share 1,024 elements, lane l
/// adds elements 4l to 4l + 3 of each row, subtile by subtile.
pub(crate) fn tile_norm(order: NormOrder, grad: &[f32], start: usize, groups: &GroupTable) -> ScaledSum {
    let spans = || groups.active_runs(start as u32, (start + grad.len()) as u32);
    let inactive = || {
        spans().filter(|(_, _, span)| !span.is_active()).map(|(from, to, _)| from as usize - start..to as usize - start)
    };
    if spans().all(|(_, _, span)| !span.is_active()) {
        return ScaledSum::EMPTY;
    }
    if grad.len() == TILE_LEN {
        let sum = sum_tile(order, grad, start);
        // Padding is 0 almost always. Checks it last, from the cache.
        if inactive().all(|elements| grad[elements].iter().all(|&grad| grad == 0.0)) {
            return sum;
        }
    }
    let mut tile = grad.to_vec();
    tile.resize(TILE_LEN, 0.0);
    inactive().for_each(|elements| tile[elements].fill(0.0));
    sum_tile(order, &tile, start)
}

fn sum_tile(order: NormOrder, tile: &[f32], start: usize) -> ScaledSum {
    let sums = match order {
        NormOrder::One => Some(vectorized(
            #[inline(always)]
            || tile_sums(NormOrder::One, tile),
        )),
        NormOrder::Two => Some(vectorized(
            #[inline(always)]
            || tile_sums(NormOrder::Two, tile),
        )),
        NormOrder::Infinity => Some(vectorized(
            #[inline(always)]
            || tile_sums(NormOrder::Infinity, tile),
        )),
        NormOrder::P(_) => None,
    };
    sums.and_then(|sums| sums.scaled_sum(order)).unwrap_or_else(|| sum_by_lanes(order, tile, start))
}

/// The findings of one pass over a tile.
struct TileSums {
    /// Bits of the largest absolute value.
    largest: u32,
    /// Bits of the smallest absolute value but 0; of infinity without one.
    smallest: u32,
    /// The sum of the elements scaled by 2^-`exponent`.
    sum: f32,
    exponent: i32,
}

impl TileSums {
    /// The result of [`sum_by_lanes`] if one scale for all lanes gives the same bits: a power of two changes none while every
    /// summand is normal and every sum finite.
    fn scaled_sum(&self, order: NormOrder) -> Option<ScaledSum> {
        let scale = power_of_two(-self.exponent);
        let scaled = |bits| f32::from_bits(bits) * scale;
        if self.largest >= INFINITE || scaled(self.largest) > MAX_SCALED || scaled(self.smallest) < MIN_SCALED {
            return None;
        }
        let exponent = exponent_of(self.largest);
        let sum = self.sum * order.rescale(self.exponent - exponent);
        Some(ScaledSum { exponent, sum, max_bits: self.largest, ..ScaledSum::EMPTY })
    }
}

/// The exponent that scales the largest element to 1..4 (2^-127 is not a normal f32).
fn exponent_of(max_bits: u32) -> i32 {
    ((max_bits >> 23) as i32 - 127).clamp(-126, 126)
}

/// The sum of [`sum_by_lanes`] with one scale for all lanes, guessed from the first elements.
#[inline(always)]
fn tile_sums(order: NormOrder, tile: &[f32]) -> TileSums {
    let exponent = exponent_of(tile[..LANES].iter().fold(0, |largest, grad| (grad.to_bits() & ABSOLUTE).max(largest)));
    let scale = power_of_two(-exponent);
    let (mut largest, mut smallest) = ([0; VECTOR], [u32::MAX; VECTOR]);
    let mut lanes = [0.0; LANES];
    for (lanes, share) in lanes.chunks_exact_mut(NEIGHBORS).zip(tile.chunks_exact(SHARE_LEN)) {
        for subtile in share.chunks_exact(SUBTILE_LEN) {
            let mut sums = [0.0; ROW_LEN];
            for row in subtile.chunks_exact(ROW_LEN) {
                for (sums, grads) in sums.chunks_exact_mut(VECTOR).zip(row.chunks_exact(VECTOR)) {
                    for i in 0..VECTOR {
                        let bits = grads[i].to_bits() & ABSOLUTE;
                        largest[i] = bits.max(largest[i]);
                        // Wraps around for 0.
                        smallest[i] = bits.wrapping_sub(1).min(smallest[i]);
                        sums[i] += order.summand(grads[i].abs() * scale);
                    }
                }
            }
            for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
                *lane += (sum[0] + sum[1]) + (sum[2] + sum[3]);
            }
        }
    }
    let sum = workgroup_sum(
        &mut lanes,
        #[inline(always)]
        |a, b| a + b,
    );
    let largest = largest.into_iter().fold(0, u32::max);
    let smallest = smallest.into_iter().fold(u32::MAX, u32::min).saturating_add(1).min(INFINITE);
    TileSums { largest, smallest, sum, exponent }
}

/// The statements of the device, one lane after the other.
fn sum_by_lanes(order: NormOrder, tile: &[f32], start: usize) -> ScaledSum {
    let mut lanes = [ScaledSum::EMPTY; LANES];
    for (lane, sum) in lanes.iter_mut().enumerate() {
        let (first, place) = (lane / NEIGHBORS * SHARE_LEN, lane % NEIGHBORS * 4);
        let quads = || tile[first..first + SHARE_LEN].chunks_exact(ROW_LEN).map(|row| &row[place..place + 4]);
        for subtile in 0..SHARE_LEN / SUBTILE_LEN {
            let subtile = quads().skip(subtile * SUBTILE_LEN / ROW_LEN).take(SUBTILE_LEN / ROW_LEN);
            *sum = sum.combine(sum_of_subtile(order, subtile), order);
        }
        if sum.max_bits >= INFINITE {
            let elements = quads()
                .zip((start + first + place..).step_by(ROW_LEN))
                .flat_map(|(quad, index)| quad.iter().zip(index..));
            let mut bad = elements.filter(|(grad, _)| grad.to_bits() & ABSOLUTE >= INFINITE);
            sum.first_nonfinite = bad.next().map_or(NONE, |(_, element)| element as u32);
        }
    }
    workgroup_sum(&mut lanes, |a, b| a.combine(b, order))
}

/// One lane's share of a subtile.
fn sum_of_subtile<'a>(order: NormOrder, quads: impl Iterator<Item = &'a [f32]> + Clone) -> ScaledSum {
    let bits = quads.clone().flatten().map(|grad| grad.to_bits() & ABSOLUTE);
    let mut total = ScaledSum { max_bits: bits.fold(0, u32::max), ..ScaledSum::EMPTY };
    if total.max_bits >= INFINITE {
        return total;
    }
    total.exponent = exponent_of(total.max_bits);
    let mut sum = [0.0; 4];
    for quad in quads {
        for (sum, grad) in sum.iter_mut().zip(quad) {
            *sum += order.summand(scale_element(grad.to_bits() & ABSOLUTE, -total.exponent));
        }
    }
    total.sum = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tile whose elements span `spread` powers of two below 2^`exponent`, with a zero here and there.
    fn tile(exponent: i32, spread: u32, seed: u32) -> Vec<f32> {
        let element = |i: u32| {
            let random = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503)) >> 4;
            let mantissa = 1.0 + (random % 8192) as f32 / 8192.0;
            let power = exponent - ((random >> 13) % (spread + 1)) as i32;
            let value = f64::from(mantissa) * 2f64.powi(power);
            if random.is_multiple_of(97) { 0.0 } else { value as f32 * if random & 1 == 0 { 1.0 } else { -1.0 } }
        };
        (0..TILE_LEN as u32).map(element).collect()
    }

    /// One scale for all lanes, where allowed, gives the bits of one per lane.
    #[test]
    fn one_scale_for_all_lanes_changes_no_bit() {
        for (seed, order) in
            (0..20).flat_map(|seed| [NormOrder::One, NormOrder::Two, NormOrder::Infinity].map(|order| (seed, order)))
        {
            for (exponent, spread) in
                [(0, 0), (0, 30), (127, 60), (-60, 60), (-66, 60), (-126, 0), (90, 59), (5, 61), (-80, 60), (-80, 69)]
            {
                let tile = tile(exponent, spread, seed);
                assert_eq!(
                    sum_tile(order, &tile, 0),
                    sum_by_lanes(order, &tile, 0),
                    "{order:?} 2^{exponent}, {spread} powers below it"
                );
            }
        }
        for value in [0.0, 1e-45, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN] {
            let mut tile = vec![0.0; TILE_LEN];
            tile[4_099] = value;
            let start = 3 * TILE_LEN;
            assert_eq!(sum_tile(NormOrder::Two, &tile, start), sum_by_lanes(NormOrder::Two, &tile, start), "{value}");
        }
    }

    /// The first elements determine the scale, whatever follows.
    #[test]
    fn a_wrong_guess_changes_no_bit() {
        let guesses = [(0.0, 0), (1.0, 49), (1.0, 52), (1.0, 90), (1.0, -59), (1.0, -63), (2f32.powi(-100), 20)];
        for (order, (first, exponent)) in [NormOrder::One, NormOrder::Two, NormOrder::Infinity]
            .into_iter()
            .flat_map(|order| guesses.map(|guess| (order, guess)))
        {
            let mut tile = tile(exponent, 3, 1);
            tile[..2 * LANES].fill(first);
            let expected = sum_by_lanes(order, &tile, 0);
            assert_eq!(sum_tile(order, &tile, 0), expected, "{order:?}, {first} before 2^{exponent}");
        }
    }

    #[test]
    fn the_smallest_that_counts_is_found() {
        for column in 0..ROW_LEN {
            let mut tile = vec![0.0; TILE_LEN];
            tile[column] = -2f32.powi(-40);
            tile[8191 - column] = 8.0;
            let sums = tile_sums(NormOrder::Two, &tile);
            assert_eq!((sums.largest, sums.smallest), (8f32.to_bits(), 2f32.powi(-40).to_bits()), "{column}");
        }
        let sums = tile_sums(NormOrder::Two, &vec![-0.0; TILE_LEN]);
        assert_eq!((sums.largest, sums.smallest), (0, INFINITE));
    }
}
