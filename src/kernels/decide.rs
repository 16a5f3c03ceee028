use super::control::{BiasPowers, CLIP, ControlBlock, EXACT, INFINITE, MEASURED, NONE, SKIP, STOP, SlotHead};
use super::percentile::Norms;
use super::scaled_sum::{EMPTY_PARTIAL, Partial, combine, power_of_two};
use crate::clip::Norm;
use crate::rule::Rule;
use crate::tile::reduce;

/// Beyond this the exponents decide about clipping, not the numbers.
const HUGE: i32 = 90;

/// Clip coefficient, and the two factors that unscale and clip.
fn clip(flags: u32, total: &Partial, root: f32, grad_norm: f32, inv_scale: f32, max_norm: f32) -> (f32, [f32; 2]) {
    if total.max_bits > INFINITE {
        let nan = f32::from_bits(total.max_bits);
        return (nan, [inv_scale, nan]);
    }
    if total.max_bits == INFINITE {
        return (0.0, [inv_scale, 0.0]);
    }
    let scale_exponent = ((inv_scale.to_bits() >> 23) & 0xff) as i32 - 127;
    let exponent = total.exponent + scale_exponent;
    if exponent > HUGE {
        let mantissa = inv_scale * power_of_two(-scale_exponent);
        let coef = (max_norm / (root * mantissa.abs())) * power_of_two(-exponent);
        if coef < 1.0 {
            return (coef, [power_of_two(-total.exponent), inv_scale.signum() * (max_norm / root)]);
        }
        return (1.0, [inv_scale, 1.0]);
    }
    let divisor = grad_norm + if flags & EXACT == 0 { 1e-6 } else { 0.0 };
    if divisor <= max_norm {
        return (1.0, [inv_scale, 1.0]);
    }
    let coef = max_norm / divisor;
    (coef, [inv_scale, coef])
}

/// Adds the partials up, decides whether the step is applied, and advances the counters.
/// Twin of `shaders/finish.wgsl`, but for the gradient scale kept on a device.
pub(crate) fn finish(
    block: &mut ControlBlock,
    norm: Norm,
    partials: &[Partial],
    norms: Option<&mut Norms>,
    slot: &SlotHead,
    powers: &BiasPowers,
    rule: &dyn Rule,
) {
    let mut lane_totals = [EMPTY_PARTIAL; 256];
    for (i, &partial) in partials.iter().enumerate() {
        lane_totals[i % 256] = combine(norm, lane_totals[i % 256], partial);
    }
    let total = reduce(&mut lane_totals, |a, b| combine(norm, a, b));

    let refuses = slot.flags & SKIP != 0;
    let inv_scale = slot.inv_scale;
    let root = norm.root_of(&total);
    let first_half = total.exponent / 2;
    let mut grad_norm = root * power_of_two(first_half) * inv_scale.abs() * power_of_two(total.exponent - first_half);
    if total.max_bits >= INFINITE {
        grad_norm = f32::from_bits(total.max_bits);
    }
    let counts = block.stopped == 0;
    let max_norm = norms.map_or(slot.max_norm, |norms| norms.max_norm(slot.max_norm, grad_norm, counts));
    block.lr = slot.lr;
    block.grad_norm = grad_norm;
    block.findings = MEASURED;
    let mut clipped = (1.0, [inv_scale, 1.0]);
    if slot.flags & CLIP != 0 {
        clipped = clip(slot.flags, &total, root, grad_norm, inv_scale, max_norm);
    }
    block.clip_coef = clipped.0;
    block.grad_factors = clipped.1;

    let nonfinite = total.first_nonfinite != NONE;
    if nonfinite && slot.flags & STOP != 0 {
        block.stopped = 1;
    }
    let mut step = block.step;
    if (nonfinite && refuses) || block.stopped != 0 {
        block.apply = 0;
        block.skipped += 1;
        block.consecutive_skipped += 1;
    } else {
        step += 1;
        let correction = powers.bias_correction(step);
        rule.advance(&mut block.scalars, slot.lr, correction, step);
        block.apply = 1;
        block.consecutive_skipped = 0;
        block.step = step;
        block.bias_correction = correction;
        block.upcoming_bias_correction = powers.bias_correction(step + 1);
    }
    block.first_nonfinite[step as usize & 1] = total.first_nonfinite;
    block.first_nonfinite[(step as usize + 1) & 1] = NONE;
}
