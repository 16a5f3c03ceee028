// Adds the partials up, decides whether the step is applied, and advances the counters. One workgroup.
// Twin: src/cpu/finish.rs.

@group(0) @binding(0) var<storage, read_write> block: ControlBlock;
@group(0) @binding(1) var<storage, read> partials: array<Partial>;
// Bits of a gradient scale kept on the device; those of 1 where there is none.
@group(0) @binding(2) var<storage, read> grad_scale: u32;
// Where a later bare step will look for non-finite gradients.
@group(0) @binding(3) var<storage, read_write> next: ControlBlock;

// Gradients and norms times this are out of the middle of f32's range: clip by exponents, not by numbers.
const HUGE: i32 = 90;

// Clip coefficient, and the two factors that unscale and clip.
fn clip(total: Partial, root: f32, grad_norm: f32, inv_scale: f32, max_norm: f32) -> vec3<f32> {
    if total.max_bits > INFINITE {
        // NaN, made from the gradient's own bits: an expression might be assumed never to be one.
        let nan = bitcast<f32>(total.max_bits);
        return vec3<f32>(nan, inv_scale, nan);
    }
    if total.max_bits == INFINITE {
        return vec3<f32>(0.0, inv_scale, 0.0);
    }
    // equivalent(126): half the mantissa with one more exponent is the same number
    let scale_exponent = i32((bitcast<u32>(inv_scale) >> 23u) & 0xffu) - 127;
    let exponent = total.exponent + scale_exponent;
    // equivalent(>=): both ways of computing hold far on either side
    if exponent > HUGE {
        // norm = root * |mantissa| * 2^exponent. The gradient scale cancels out of what gradients are multiplied by.
        let mantissa = inv_scale * power_of_two(-scale_exponent);
        let coef = (max_norm / (root * abs(mantissa))) * power_of_two(-exponent);
        // equivalent(<=): at 1 both return the same product
        if coef < 1.0 {
            return vec3<f32>(coef, power_of_two(-total.exponent), sign(inv_scale) * (max_norm / root));
        }
        return vec3<f32>(1.0, inv_scale, 1.0);
    }
    let divisor = grad_norm + select(1e-6, 0.0, (slot.head.flags & EXACT) != 0u);
    // equivalent(<): where both are the same the quotient is 1
    if divisor <= max_norm {
        return vec3<f32>(1.0, inv_scale, 1.0);
    }
    let coef = max_norm / divisor;
    return vec3<f32>(coef, inv_scale, coef);
}

@compute @workgroup_size(LANES)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total = empty_partial();
    for (var i = lane; i < arrayLength(&partials); i += LANES) {
        total = combine(total, partials[i]);
    }
    total = reduce(total, lane);
    // Positive and normal, and so is its inverse.
    let invalid_scale = grad_scale < 0x00800000u || grad_scale > 0x7e800000u;
    let refuses = (slot.head.flags & SKIP) != 0u;
    var inv_scale = slot.head.inv_scale;
    if !(invalid_scale && refuses) {
        inv_scale = slot.head.inv_scale / bitcast<f32>(grad_scale);
    }
    let root = root_of(total);
    // Half of the exponent before the scale and half after it: neither product leaves the range alone.
    let first_half = total.exponent / 2;
    var grad_norm = root * power_of_two(first_half) * abs(inv_scale) * power_of_two(total.exponent - first_half);
    if total.max_bits >= INFINITE {
        grad_norm = bitcast<f32>(total.max_bits);
    }
    let max_norm = max_norm_of(grad_norm, !invalid_scale && block.control.stopped == 0u, lane);
    if lane != 0u {
        return;
    }
    block.control.lr = slot.head.lr;
    block.control.grad_norm = grad_norm;
    block.control.findings = MEASURED | select(0u, INVALID_SCALE, invalid_scale);
    var clipped = vec3<f32>(1.0, inv_scale, 1.0);
    if (slot.head.flags & CLIP) != 0u {
        clipped = clip(total, root, grad_norm, inv_scale, max_norm);
    }
    block.control.clip_coef = clipped.x;
    block.control.grad_factors = clipped.yz;

    let nonfinite = total.first_nonfinite != NONE || invalid_scale;
    if nonfinite && (slot.head.flags & STOP) != 0u {
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
        let scalars = advance(unpack(block.control.scalars), slot.head.lr, slot.hyper, correction, step);
        block.control.apply = 1u;
        block.control.consecutive_skipped = 0u;
        block.control.step = step;
        block.control.bias_correction = correction;
        block.control.upcoming_bias_correction = bias_correction(step + 1u);
        block.control.scalars = pack(scalars);
    }
    atomicStore(&block.first_nonfinite[step & 1u], total.first_nonfinite);
    atomicStore(&block.first_nonfinite[(step + 1u) & 1u], NONE);
    atomicStore(&next.first_nonfinite[0], NONE);
    atomicStore(&next.first_nonfinite[1], NONE);
}
