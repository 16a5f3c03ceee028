//! The whole step in one dispatch: advances the step counter, then updates all elements.

use super::bias_correction::BiasPowers;
use super::control::{ControlBlock, NONE, StepHead};
use super::update_elements::StepContext;
use crate::transform::TransformedRule;

/// Counts the step. Returns the context for the update of its elements, which follows.
pub(crate) fn update_single_pass(
    block: &mut ControlBlock,
    head: &StepHead,
    powers: &BiasPowers,
    rule: &TransformedRule,
) -> StepContext {
    block.bias_correction = block.upcoming_bias_correction;
    block.upcoming_bias_correction = powers.bias_correction(block.step.wrapping_add(2));
    block.step = block.step.wrapping_add(1);
    block.lr = head.lr;
    block.findings = 0;
    // A loaded block may come from steps that clip and skip.
    block.clip_coef = 1.0;
    block.consecutive_skipped = 0;
    block.stopped = 0;
    block.first_nonfinite = [NONE; 2];
    rule.update_scalars(&mut block.scalar_state, head.lr, block.bias_correction, block.step);
    StepContext::new(block, head, [head.inv_scale, 1.0], 1)
}
