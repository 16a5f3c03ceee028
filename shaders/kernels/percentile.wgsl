// The percentile of the last gradient norms, for clipping at it.

import package::kernels::control::{INFINITE};
import kernel::{LANES};
import step_uniforms::{uniforms};

// How many norms there were in all, then a ring of the last ones.
@group(0) @binding(4) var<storage, read_write> norms: array<u32>;

// The two norms that the percentile lies between.
var<workgroup> neighbors: array<f32, 2>;

const F32_MAX: f32 = 3.40282347e+38;

// Stores `grad_norm` of lane 0 if it `counts`; returns the norm to clip at. All lanes call it.
fn max_norm_of(grad_norm: f32, counts: bool, lane: u32) -> f32 {
    let window = arrayLength(&norms) - 1u;
    if lane == 0u {
        neighbors[0] = F32_MAX;
        // equivalent: without a norm, this adds 0 times a finite number
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
    // Wraps around before the first norm; no norm has that rank then.
    let position = uniforms.head.max_norm * f32(count - 1u);
    let below = u32(position);
    for (var i = lane; i < count; i += LANES) {
        let norm = norms[1u + i];
        // Bits of non-negative numbers are ordered as the numbers are.
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
