// One ScaledSum per tile of 8,192 elements, for norms of all elements, and the finite check. Shared by global_norm and
// sam_norm.
//
// Out: `tile_sums`. Grid: one workgroup of 64 per tile of the chunk. The kernel provides `load_quad`.
// The order of additions depends on flat indices alone: chunking changes no bit. Eight lanes read 1,024 contiguous
// elements, 32 at a time: 128 bytes, one or two cache lines. CPU drivers run these lanes to the barrier before the
// next eight, so they read memory in order.

import package::device::chunk::{chunk};
import package::device::chunk_options::{chunk_block_options};
import package::device::workgroup_scaled_sum::{workgroup_sum};
import package::kernels::control::{INFINITE, NONE, first_nonfinite};
import package::kernels::norm_order::{summands};
import package::kernels::scaled_sum::{ScaledSum, combine};
import package::power_of_two::{scale_quad};
import package::tile::{TILE_LEN};
import kernel::{load_quad};

@group(0) @binding(3) var<storage, read_write> tile_sums: array<ScaledSum>;

fn summands_of(bits: vec4<u32>, scale: vec4<i32>) -> vec4<f32> {
    return summands(scale_quad(bits, scale));
}

// One lane's share of 256 elements: four in each row of 32.
fn sum_rows(element: u32) -> ScaledSum {
    let block_options = chunk_block_options(element);
    let bits0 = load_quad(block_options, element);
    let bits1 = load_quad(block_options, element + 32u);
    let bits2 = load_quad(block_options, element + 64u);
    let bits3 = load_quad(block_options, element + 96u);
    let next = chunk_block_options(element + 128u);
    let bits4 = load_quad(next, element + 128u);
    let bits5 = load_quad(next, element + 160u);
    let bits6 = load_quad(next, element + 192u);
    let bits7 = load_quad(next, element + 224u);

    let largest = max(max(max(bits0, bits1), max(bits2, bits3)), max(max(bits4, bits5), max(bits6, bits7)));
    let max_bits = max(max(largest.x, largest.y), max(largest.z, largest.w));
    let finite = max_bits < INFINITE;
    // Scales the largest element to 1..4 (2^-127 is not a normal f32).
    // equivalent(126, -125): half the scale gives the same sum with an exponent greater by one
    let exponent = select(-126, clamp(i32(max_bits >> 23u) - 127, -126, 126), finite);
    let scale = vec4<i32>(-exponent);
    var sum = summands_of(bits0, scale);
    sum = sum + summands_of(bits1, scale);
    sum = sum + summands_of(bits2, scale);
    sum = sum + summands_of(bits3, scale);
    sum = sum + summands_of(bits4, scale);
    sum = sum + summands_of(bits5, scale);
    sum = sum + summands_of(bits6, scale);
    sum = sum + summands_of(bits7, scale);
    return ScaledSum(exponent, select(0.0, (sum.x + sum.y) + (sum.z + sum.w), finite), max_bits, NONE);
}

fn tile_norm(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) {
    let tile = workgroup.y * grid.x + workgroup.x;
    let element = tile * TILE_LEN + lane / 8u * 1024u + lane % 8u * 4u;
    var sum = sum_rows(element);
    sum = combine(sum, sum_rows(element + 256u));
    sum = combine(sum, sum_rows(element + 512u));
    sum = combine(sum, sum_rows(element + 768u));
    // Searches for the first non-finite element only if there is one.
    var row = select(32u, 0u, sum.max_bits >= INFINITE);
    // equivalent(<=): a lane that searches finds one within its 32 rows
    while row < 32u && sum.first_nonfinite == NONE {
        let at = element + row * 32u;
        sum.first_nonfinite = first_nonfinite(load_quad(chunk_block_options(at), at), chunk.start + at);
        row += 1u;
    }
    sum = workgroup_sum(sum, lane);
    // The grid may have more workgroups than the chunk has tiles.
    // undetected(<=, && tile * TILE_LEN < chunk.length): the next chunk overwrites it; lavapipe discards the rest
    if lane == 0u && tile * TILE_LEN < chunk.length {
        tile_sums[chunk.start / TILE_LEN + tile] = sum;
    }
}
