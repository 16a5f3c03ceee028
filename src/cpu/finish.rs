use super::partial::{EMPTY_PARTIAL, Partial, combine, power_of_two, reduce};
use crate::control::{BiasPowers, CLIP, ControlBlock, INFINITE, NONE, SKIP, STOP, SlotHead};
use crate::rule::Rule;

fn clip_coef(slot: &SlotHead, total: &Partial, root: f32, grad_norm: f32, inv_scale: f32) -> f32 {
    if total.max_bits > INFINITE {
        return f32::from_bits(total.max_bits);
    }
    if total.max_bits == INFINITE {
        return 0.0;
    }
    if total.exponent > 90 {
        return ((slot.max_norm / (root * inv_scale)) * power_of_two(-total.exponent)).min(1.0);
    }
    if grad_norm + 1e-6 <= slot.max_norm {
        return 1.0;
    }
    slot.max_norm / (grad_norm + 1e-6)
}

/// Adds the partials up, decides whether the step is applied, and advances the counters.
/// Twin of `shaders/finish.wgsl`.
pub(crate) fn finish(
    block: &mut ControlBlock,
    partials: &[Partial],
    slot: &SlotHead,
    powers: &BiasPowers,
    rule: &dyn Rule,
) {
    let mut lane_totals = [EMPTY_PARTIAL; 256];
    for (i, &partial) in partials.iter().enumerate() {
        lane_totals[i % 256] = combine(lane_totals[i % 256], partial);
    }
    let total = reduce(lane_totals);

    let inv_scale = slot.inv_scale;
    let root = total.sum.sqrt();
    let mut grad_norm = root * power_of_two(total.exponent) * inv_scale.abs();
    if total.max_bits >= INFINITE {
        grad_norm = f32::from_bits(total.max_bits);
    }
    block.lr = slot.lr;
    block.inv_scale = inv_scale;
    block.grad_norm = grad_norm;
    block.measured = 1;
    block.clip_coef = 1.0;
    if slot.flags & CLIP != 0 {
        block.clip_coef = clip_coef(slot, &total, root, grad_norm, inv_scale.abs());
    }

    let nonfinite = total.first_nonfinite != NONE;
    if nonfinite && slot.flags & STOP != 0 {
        block.stopped = 1;
    }
    let refused = (nonfinite && slot.flags & SKIP != 0) || block.stopped != 0;
    if refused {
        block.apply = 0;
        block.skipped += 1;
    } else {
        block.apply = 1;
        block.step += 1;
        block.bias_correction = powers.bias_correction(block.step);
        rule.advance(&mut block.scalars, slot.lr, block.bias_correction, block.step);
    }
    let step = block.step as usize;
    block.first_nonfinite[step & 1] = total.first_nonfinite;
    block.first_nonfinite[(step + 1) & 1] = NONE;
}
