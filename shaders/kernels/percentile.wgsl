// The percentile of the last gradient norms, as the maximum norm to clip at.

import package::kernels::control::{INFINITE};
import kernel::{LANES};
import step_uniforms::{uniforms};

// Word 0: count of all norms so far. Then a ring buffer with the bits of the last norms.
@group(0) @binding(4) var<storage, read_write> norms: array<u32>;

// The two norms to interpolate between.
var<workgroup> neighbors: array<f32, 2>;

const F32_MAX: f32 = 0x1.fffffep+127;

// Stores `grad_norm` of lane 0 if it `counts` and is finite. Returns the maximum norm. All lanes must call it.
fn max_norm_of(grad_norm: f32, counts: bool, lane: u32) -> f32 {
    let window = arrayLength(&norms) - 1u;
    if lane == 0u {
        neighbors[0] = F32_MAX;
        // equivalent: without a second norm, the interpolation multiplies it by 0
        neighbors[1] = F32_MAX;
        if counts && bitcast<u32>(grad_norm) < INFINITE {
            norms[1u + norms[0] % window] = bitcast<u32>(grad_norm);
            norms[0] += 1u;
        }
    }
    // undetected: lavapipe runs lane 0 first
    storageBarrier();
    // undetected: lavapipe runs lane 0 first
    workgroupBarrier();
    let count = min(norms[0], window);
    // Wraps around if there is no norm; the loop below is then empty.
    let position = uniforms.head.clip_limit * f32(count - 1u);
    let below = u32(position);
    for (var i = lane; i < count; i += LANES) {
        let norm = norms[1u + i];
        // The bits of non-negative numbers sort as the numbers do.
        var rank = 0u;
        for (var other = 0u; other < count; other++) {
            let comes_first = norms[1u + other] < norm || (norms[1u + other] == norm && other < i);
            rank += select(0u, 1u, comes_first);
        }
        if rank == below {
            neighbors[0] = bitcast<f32>(norm);
        }
        if rank == below + 1u {
            neighbors[1] = bitcast<f32>(norm);
        }
    }
    workgroupBarrier();
    return neighbors[0] + (position - f32(below)) * (neighbors[1] - neighbors[0]);
}
