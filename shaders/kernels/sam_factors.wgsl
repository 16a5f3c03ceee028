// Norm of the gradients that SAM perturbs along, second half: the factors that scale gradients to the length rho.
//
// In: `tile_sums`. Out: `perturbation`. Grid: one workgroup of 256.

import package::device::tile_total::{tile_total};
import package::kernels::control::{INFINITE};
import package::kernels::norm_order::{root_of};
import package::power_of_two::{power_of_two};
import step_uniforms::{uniforms};

// x, y: the two factors. z, w: 0.
@group(0) @binding(0) var<storage, read_write> perturbation: vec4<f32>;

const LANES: u32 = 256u;

@compute @workgroup_size(LANES)
fn sam_factors(@builtin(local_invocation_index) lane: u32) {
    let total = tile_total(lane);
    if lane != 0u {
        return;
    }
    // The norm is root * 2^exponent.
    let root = root_of(total.sum, total.max_bits, total.exponent);
    // Gradients of 0 have no direction.
    var length = select(0.0, uniforms.hyper.sam_rho / root, total.max_bits != 0u);
    if total.max_bits >= INFINITE {
        // As rho / infinity; NaN from the gradient's own bits, because a compiler may assume that no expression is NaN.
        length = select(0.0, bitcast<f32>(total.max_bits), total.max_bits > INFINITE);
    }
    perturbation = vec4<f32>(power_of_two(-total.exponent), length, 0.0, 0.0);
}
