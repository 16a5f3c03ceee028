//! Computes the global norm and the clip coefficient, applies or skips the step, and updates the control block.

use super::bias_correction::BiasPowers;
use super::control::{CLIP, ControlBlock, EXACT, NONE, NORM_MEASURED, SKIP, STOP, StepHead};
use super::loss_scale::{LossScale, update_loss_scale};
use super::norm_order::NormOrder;
use super::percentile::Norms;
use super::scaled_sum::{ScaledSum, tile_total};
use crate::power_of_two::{power_of_two, scale_by_power_of_two};
use crate::storage::{ABSOLUTE, INFINITE};
use crate::transform::TransformedRule;

/// Above this exponent, norm and scale may leave the range of f32: `clip` handles mantissa and exponent separately.
const HUGE: i32 = 90;

/// The exponent of a normal number; 0 for other numbers.
fn exponent_of(value: f32) -> i32 {
    if value.is_normal() { ((value.to_bits() >> 23) & 0xff) as i32 - 127 } else { 0 }
}

/// The absolute value of the number times `2^-exponent_of(value)`.
fn mantissa_of(value: f32) -> f32 {
    let exponent_bits = (exponent_of(value) as u32) << 23;
    f32::from_bits((value.to_bits() & ABSOLUTE).wrapping_sub(exponent_bits))
}

/// The clip coefficient, and the two factors that unscale and clip. The norm is
/// `root * |inv_scale| * 2^total.exponent`.
fn clip(flags: u32, total: &ScaledSum, root: f32, grad_norm: f32, inv_scale: f32, max_norm: f32) -> (f32, [f32; 2]) {
    if total.max_bits > INFINITE {
        let nan = f32::from_bits(total.max_bits);
        return (nan, [inv_scale, nan]);
    }
    if total.max_bits == INFINITE {
        return (0.0, [inv_scale, 0.0]);
    }
    let exponent = total.exponent + exponent_of(inv_scale);
    let is_huge = exponent > HUGE;
    let divisor = grad_norm + if flags & EXACT == 0 { 1e-6 } else { 0.0 };
    if !is_huge && divisor <= max_norm {
        return (1.0, [inv_scale, 1.0]);
    }
    let quotient = max_norm / divisor;
    if !is_huge && quotient.to_bits() >= f32::MIN_POSITIVE.to_bits() {
        return (quotient, [inv_scale, quotient]);
    }
    // The norm exceeds 1 here: 1e-6 adds at most a millionth. The gradient scale cancels out of the gradients' factors.
    let coef = scale_by_power_of_two(max_norm / (root * mantissa_of(inv_scale)), -exponent);
    if coef < 1.0 {
        return (coef, [power_of_two(-total.exponent), inv_scale.signum() * (max_norm / root)]);
    }
    (1.0, [inv_scale, 1.0])
}

/// The WGSL's `decide`, without a gradient scale in a buffer of the program.
#[allow(clippy::too_many_arguments, reason = "one per binding of the kernel")]
pub(crate) fn decide(
    block: &mut ControlBlock,
    order: NormOrder,
    tile_sums: &[ScaledSum],
    norms: Option<&mut Norms>,
    loss_scale: Option<&mut LossScale>,
    head: &StepHead,
    powers: &BiasPowers,
    rule: &TransformedRule,
) {
    let total = tile_total(tile_sums, order);
    let refuses = head.flags & SKIP != 0;
    let inv_scale = loss_scale.as_ref().map_or(head.inv_scale, |loss_scale| head.inv_scale / loss_scale.scale);
    let root = order.root_of(total.sum, total.max_bits, total.exponent);
    let mut grad_norm = scale_by_power_of_two(root * mantissa_of(inv_scale), total.exponent + exponent_of(inv_scale));
    if total.max_bits >= INFINITE {
        grad_norm = f32::from_bits(total.max_bits);
    }
    let counts = block.stopped == 0;
    let max_norm = norms.map_or(head.clip_limit, |norms| norms.max_norm_of(head.clip_limit, grad_norm, counts));
    block.lr = head.lr;
    block.grad_norm = grad_norm;
    block.findings = NORM_MEASURED;
    let mut clipped = (1.0, [inv_scale, 1.0]);
    if head.flags & CLIP != 0 {
        clipped = clip(head.flags, &total, root, grad_norm, inv_scale, max_norm);
    }
    block.clip_coef = clipped.0;
    block.grad_factors = clipped.1;

    let nonfinite = total.first_nonfinite != NONE;
    if let Some(loss_scale) = loss_scale.filter(|_| block.stopped == 0) {
        update_loss_scale(loss_scale, !nonfinite);
        block.loss_scale = loss_scale.scale;
    }
    if nonfinite && head.flags & STOP != 0 {
        block.stopped = 1;
    }
    let mut step = block.step;
    if (nonfinite && refuses) || block.stopped != 0 {
        block.apply = 0;
        // Both wrap around, as on the device.
        block.skipped = block.skipped.wrapping_add(1);
        block.consecutive_skipped = block.consecutive_skipped.wrapping_add(1);
    } else {
        // Wraps around, as on the device.
        step = step.wrapping_add(1);
        let correction = powers.bias_correction(step);
        rule.update_scalars(&mut block.scalar_state, head.lr, correction, step);
        block.apply = 1;
        block.consecutive_skipped = 0;
        block.step = step;
        block.bias_correction = correction;
        block.upcoming_bias_correction = powers.bias_correction(step.wrapping_add(1));
    }
    block.first_nonfinite[step as usize & 1] = total.first_nonfinite;
    block.first_nonfinite[(step as usize + 1) & 1] = NONE;
}
