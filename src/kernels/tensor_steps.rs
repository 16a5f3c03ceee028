//! Counts the applied steps of each tensor that has a gradient, and updates its bias corrections and scalar state.

use bytemuck::{Pod, Zeroable};

use super::bias_correction::BiasPowers;
use super::control::{ControlBlock, StepHead};
use crate::transform::TransformedRule;

/// `TensorStep` of the WGSL: the applied steps of one tensor, and what follows from them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct TensorStep {
    pub(crate) bias_correction: [f32; 4],
    pub(crate) scalar_state: [f32; 4],
    pub(crate) t: u32,
    padding: [u32; 3],
}

impl TensorStep {
    /// Words of the struct.
    #[cfg(feature = "safetensors")]
    pub(crate) const WORDS: usize = size_of::<Self>() / 4;

    /// After so many applied steps.
    pub(crate) fn new(powers: &BiasPowers, scalar_state: [f32; 4], t: u32) -> Self {
        Self { bias_correction: powers.bias_correction(t), scalar_state, t, padding: [0; 3] }
    }
}

/// Counts a step of the tensors that are not missing.
pub(crate) fn tensor_steps(
    block: &mut ControlBlock,
    head: &StepHead,
    powers: &BiasPowers,
    rule: &TransformedRule,
    is_missing: &[bool],
    table: &mut [TensorStep],
) {
    block.missing_gradients = is_missing.iter().filter(|&&is_missing| is_missing).count() as u32;
    if block.apply == 0 {
        return;
    }
    let is_missing = is_missing.iter().copied().chain(std::iter::repeat(false));
    for (tensor, _) in table.iter_mut().zip(is_missing).filter(|(_, is_missing)| !is_missing) {
        // Wraps around, as on the device.
        tensor.t = tensor.t.wrapping_add(1);
        tensor.bias_correction = powers.bias_correction(tensor.t);
        rule.update_scalars(&mut tensor.scalar_state, head.lr, tensor.bias_correction, tensor.t);
    }
}
