// Adds the partials up, decides whether the step is applied, and advances the counters. One workgroup.
// Twin: src/cpu/finish.rs.

@group(0) @binding(0) var<storage, read_write> block: ControlBlock;
@group(0) @binding(1) var<storage, read> partials: array<Partial>;
// A gradient scale kept on the device; 1 where there is none.
@group(0) @binding(2) var<storage, read> grad_scale: f32;

fn clip_coef(total: Partial, root: f32, grad_norm: f32, inv_scale: f32) -> f32 {
    if total.max_bits > INFINITE {
        // NaN, made from the gradient's own bits: an expression might be assumed never to be one.
        return bitcast<f32>(total.max_bits);
    }
    if total.max_bits == INFINITE {
        return 0.0;
    }
    // The norm of huge gradients may itself exceed f32: divide before scaling.
    if total.exponent > 90 {
        return min(1.0, (slot.head.max_norm / (root * inv_scale)) * power_of_two(-total.exponent));
    }
    if grad_norm + 1e-6 <= slot.head.max_norm {
        return 1.0;
    }
    return slot.head.max_norm / (grad_norm + 1e-6);
}

@compute @workgroup_size(256)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var total = empty_partial();
    for (var i = lane; i < arrayLength(&partials); i += 256u) {
        total = combine(total, partials[i]);
    }
    total = reduce(total, lane);
    if lane != 0u {
        return;
    }
    let inv_scale = slot.head.inv_scale / grad_scale;
    let root = sqrt(total.sum);
    var grad_norm = root * power_of_two(total.exponent) * abs(inv_scale);
    if total.max_bits >= INFINITE {
        grad_norm = bitcast<f32>(total.max_bits);
    }
    block.control.lr = slot.head.lr;
    block.control.inv_scale = inv_scale;
    block.control.grad_norm = grad_norm;
    block.control.measured = 1u;
    block.control.clip_coef = 1.0;
    if (slot.head.flags & CLIP) != 0u {
        block.control.clip_coef = clip_coef(total, root, grad_norm, abs(inv_scale));
    }

    let nonfinite = total.first_nonfinite != NONE;
    if nonfinite && (slot.head.flags & STOP) != 0u {
        block.control.stopped = 1u;
    }
    let refused = (nonfinite && (slot.head.flags & SKIP) != 0u) || block.control.stopped != 0u;
    var step = block.control.step;
    if refused {
        block.control.apply = 0u;
        block.control.skipped += 1u;
    } else {
        step += 1u;
        block.control.apply = 1u;
        block.control.step = step;
        let correction = bias_correction(step);
        block.control.bias_correction = correction;
        let scalars = advance(unpack(block.control.scalars), slot.head.lr, slot.hyper, correction, step);
        block.control.scalars = pack(scalars);
    }
    atomicStore(&block.first_nonfinite[step & 1u], total.first_nonfinite);
    atomicStore(&block.first_nonfinite[(step + 1u) & 1u], NONE);
}
