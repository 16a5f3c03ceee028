use super::partial::{EMPTY_PARTIAL, Partial, power_of_two, reduce};
use crate::control::{ABSOLUTE, INFINITE};
use crate::groups::GroupTable;

/// Elements of one partial, in units of the flat space.
pub(crate) const NORM_BLOCK: usize = 8192;
/// Elements that the 256 lanes load at a time.
pub(crate) const ROW: usize = 1024;

/// Sum of squares and finite check of one block of gradients; `start` is the flat index of its first element.
/// Twin of `shaders/norm.wgsl`: lane l adds up elements 4l to 4l + 3 of each of the block's eight rows.
pub(crate) fn norm(grad: &[f32], start: usize, groups: &GroupTable) -> Partial {
    let mut spans = groups.covering(start as u32, (start + grad.len()) as u32);
    let first = spans.next();
    if grad.len() == NORM_BLOCK && first.is_some_and(|(_, _, span)| span.live()) && spans.next().is_none() {
        return partial(grad, start);
    }
    let mut block = vec![0.0; NORM_BLOCK];
    for (from, to, span) in groups.covering(start as u32, (start + grad.len()) as u32) {
        if span.live() {
            let range = from as usize - start..to as usize - start;
            block[range.clone()].copy_from_slice(&grad[range]);
        }
    }
    partial(&block, start)
}

fn partial(block: &[f32], start: usize) -> Partial {
    let mut largest = [0u32; ROW];
    for row in block.chunks_exact(ROW) {
        for (largest, grad) in largest.iter_mut().zip(row) {
            *largest = (*largest).max(grad.to_bits() & ABSOLUTE);
        }
    }
    let mut lanes = [EMPTY_PARTIAL; 256];
    let mut scales = [0.0; ROW];
    for (lane, partial) in lanes.iter_mut().enumerate() {
        let quad = 4 * lane..4 * lane + 4;
        partial.max_bits = largest[quad.clone()].iter().copied().fold(0, u32::max);
        if partial.max_bits < INFINITE {
            partial.exponent = ((partial.max_bits >> 23) as i32 - 127).clamp(-126, 126);
            scales[quad].fill(power_of_two(-partial.exponent));
        }
    }
    let mut sums = [0.0; ROW];
    for row in block.chunks_exact(ROW) {
        for ((sum, grad), scale) in sums.iter_mut().zip(row).zip(&scales) {
            let scaled = grad.abs() * scale;
            *sum += scaled * scaled;
        }
    }
    for (lane, partial) in lanes.iter_mut().enumerate() {
        if partial.max_bits < INFINITE {
            let sum = &sums[4 * lane..4 * lane + 4];
            partial.sum = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        } else {
            let elements = (0..NORM_BLOCK).filter(|element| element % ROW / 4 == lane);
            let bad = elements.filter(|&element| block[element].to_bits() & ABSOLUTE >= INFINITE);
            partial.first_nonfinite = bad.min().map_or(partial.first_nonfinite, |element| (start + element) as u32);
        }
    }
    reduce(lanes)
}
