// Computes the global norm and the clip coefficient, applies or skips the step, and updates the control block.
//
// In: `tile_sums`, the gradient scale, the step's uniforms. Out: the control block. Grid: one workgroup of 256.

import package::device::tile_total::{tile_total};
import package::kernels::bias_correction::{bias_correction};
import package::kernels::control::{CLIP, ControlBlock, EXACT, INFINITE, INVALID_SCALE, NONE, NORM_MEASURED, SKIP, STOP};
import package::kernels::norm_order::{root_of};
import package::kernels::scaled_sum::{ScaledSum};
import package::power_of_two::{LEAST_NORMAL, power_of_two, scale_by_power_of_two};
import interface::{pack_scalar_state, unpack_scalar_state};
import loss_scale::{grad_scale_bits, update_loss_scale};
import percentile::{max_norm_of};
import scalar_state::{update_scalars};
import step_uniforms::{uniforms};

@group(0) @binding(0) var<storage, read_write> block: ControlBlock;
// The block that the next single-pass step writes.
@group(0) @binding(3) var<storage, read_write> next: ControlBlock;

const LANES: u32 = 256u;
// Above this exponent, norm and scale may leave the range of f32: `clip` handles mantissa and exponent separately.
const HUGE: i32 = 90;

// The exponent of a normal number; 0 for other numbers.
fn exponent_of(value: f32) -> i32 {
    let biased = i32((bitcast<u32>(value) >> 23u) & 0xffu);
    return select(0, biased - 127, biased != 0 && biased != 255);
}

// The absolute value of the number times 2^-exponent_of(value).
fn mantissa_of(value: f32) -> f32 {
    let exponent_bits = bitcast<u32>(exponent_of(value)) << 23u;
    return bitcast<f32>((bitcast<u32>(value) & 0x7fffffffu) - exponent_bits);
}

// Returns the clip coefficient (x) and the two factors that unscale and clip (y, z). The norm is
// root * |inv_scale| * 2^total.exponent.
fn clip(total: ScaledSum, root: f32, grad_norm: f32, inv_scale: f32, max_norm: f32) -> vec3<f32> {
    if total.max_bits > INFINITE {
        // NaN from the gradient's own bits: a compiler may assume that no expression is NaN.
        let nan = bitcast<f32>(total.max_bits);
        return vec3<f32>(nan, inv_scale, nan);
    }
    if total.max_bits == INFINITE {
        return vec3<f32>(0.0, inv_scale, 0.0);
    }
    let exponent = total.exponent + exponent_of(inv_scale);
    // equivalent(>=): both branches are exact far on either side
    let is_huge = exponent > HUGE;
    let divisor = grad_norm + select(1e-6, 0.0, (uniforms.head.flags & EXACT) != 0u);
    // equivalent(<): the quotient of equal numbers is 1
    if !is_huge && divisor <= max_norm {
        return vec3<f32>(1.0, inv_scale, 1.0);
    }
    let quotient = max_norm / divisor;
    // equivalent(boundary): both branches represent the least normal number
    if !is_huge && bitcast<u32>(quotient) >= LEAST_NORMAL {
        return vec3<f32>(quotient, inv_scale, quotient);
    }
    // The norm exceeds 1 here: 1e-6 adds at most a millionth. The gradient scale cancels out of the gradients' factors.
    let coef = scale_by_power_of_two(max_norm / (root * mantissa_of(inv_scale)), -exponent);
    // equivalent(<=): at 1 both return the same product
    if coef < 1.0 {
        return vec3<f32>(coef, power_of_two(-total.exponent), sign(inv_scale) * (max_norm / root));
    }
    return vec3<f32>(1.0, inv_scale, 1.0);
}

@compute @workgroup_size(LANES)
fn decide(@builtin(local_invocation_index) lane: u32) {
    let total = tile_total(lane);
    let grad_scale = grad_scale_bits();
    // Valid scales are positive and normal, and so are their inverses.
    let invalid_scale = grad_scale < 0x00800000u || grad_scale > 0x7e800000u;
    let refuses = (uniforms.head.flags & SKIP) != 0u;
    var inv_scale = uniforms.head.inv_scale;
    if !(invalid_scale && refuses) {
        inv_scale = uniforms.head.inv_scale / bitcast<f32>(grad_scale);
    }
    let root = root_of(total.sum, total.max_bits, total.exponent);
    // Adds the exponents: no product leaves the range of f32.
    var grad_norm = scale_by_power_of_two(root * mantissa_of(inv_scale), total.exponent + exponent_of(inv_scale));
    if total.max_bits >= INFINITE {
        grad_norm = bitcast<f32>(total.max_bits);
    }
    let max_norm = max_norm_of(grad_norm, !invalid_scale && block.control.stopped == 0u, lane);
    if lane != 0u {
        return;
    }
    block.control.lr = uniforms.head.lr;
    block.control.grad_norm = grad_norm;
    block.control.findings = NORM_MEASURED | select(0u, INVALID_SCALE, invalid_scale);
    var clipped = vec3<f32>(1.0, inv_scale, 1.0);
    if (uniforms.head.flags & CLIP) != 0u {
        clipped = clip(total, root, grad_norm, inv_scale, max_norm);
    }
    block.control.clip_coef = clipped.x;
    block.control.grad_factors = clipped.yz;

    let nonfinite = total.first_nonfinite != NONE || invalid_scale;
    if block.control.stopped == 0u {
        block.loss_scale = update_loss_scale(!nonfinite);
    }
    if nonfinite && (uniforms.head.flags & STOP) != 0u {
        block.control.stopped = 1u;
    }
    var step = block.control.step;
    if (nonfinite && refuses) || block.control.stopped != 0u {
        block.control.apply = 0u;
        block.control.skipped += 1u;
        block.control.consecutive_skipped += 1u;
    } else {
        step += 1u;
        let correction = bias_correction(step);
        let old = unpack_scalar_state(block.control.scalar_state);
        let scalar_state = update_scalars(old, uniforms.head.lr, uniforms.hyper, correction, step);
        block.control.apply = 1u;
        block.control.consecutive_skipped = 0u;
        block.control.step = step;
        block.control.bias_correction = correction;
        block.control.upcoming_bias_correction = bias_correction(step + 1u);
        block.control.scalar_state = pack_scalar_state(scalar_state);
    }
    atomicStore(&block.first_nonfinite[step & 1u], total.first_nonfinite);
    atomicStore(&block.first_nonfinite[(step + 1u) & 1u], NONE);
    atomicStore(&next.first_nonfinite[0], NONE);
    atomicStore(&next.first_nonfinite[1], NONE);
}
