//! The control block: the step counters, decisions and statistics of the last step.

use bytemuck::{Pod, Zeroable};

use super::bias_correction::BiasPowers;

/// No element.
pub(crate) const NONE: u32 = u32::MAX;

pub(crate) const NORM_MEASURED: u32 = 1;
pub(crate) const INVALID_SCALE: u32 = 2;

pub(crate) const CLIP: u32 = 1;
pub(crate) const SKIP: u32 = 2;
pub(crate) const STOP: u32 = 4;
pub(crate) const EXACT: u32 = 8;
/// The program gave the states: no step is the first.
pub(crate) const GIVEN_STATES: u32 = 16;

/// `ControlBlock` of the WGSL, field by field.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct ControlBlock {
    pub(crate) bias_correction: [f32; 4],
    pub(crate) upcoming_bias_correction: [f32; 4],
    pub(crate) scalar_state: [f32; 4],
    pub(crate) step: u32,
    pub(crate) skipped: u32,
    pub(crate) apply: u32,
    pub(crate) stopped: u32,
    pub(crate) lr: f32,
    pub(crate) clip_coef: f32,
    pub(crate) grad_norm: f32,
    pub(crate) findings: u32,
    pub(crate) grad_factors: [f32; 2],
    /// Infinite without clipping by value.
    pub(crate) clip_value: f32,
    pub(crate) consecutive_skipped: u32,
    pub(crate) first_nonfinite: [u32; 2],
    /// Tensors without a gradient in the last step.
    pub(crate) missing_gradients: u32,
    /// After the step; 0 without a gradient scaler.
    pub(crate) loss_scale: f32,
    /// 1 if the last remap found an invalid index. Steps leave it.
    pub(crate) invalid_rows: u32,
    padding_of_block: [u32; 3],
}

impl ControlBlock {
    /// Bytes of `Control`, the part that kernels after `decide` bind.
    pub(crate) const CONTROL_BYTES: u64 = std::mem::offset_of!(Self, first_nonfinite) as u64;

    /// Before the first step.
    pub(crate) fn new(powers: &BiasPowers, scalar_state: [f32; 4], clip_value: Option<f32>, loss_scale: f32) -> Self {
        Self {
            scalar_state,
            clip_value: clip_value.unwrap_or(f32::INFINITY),
            upcoming_bias_correction: powers.bias_correction(1),
            clip_coef: 1.0,
            loss_scale,
            first_nonfinite: [NONE; 2],
            ..Self::zeroed()
        }
    }
}

/// `StepHead` of the WGSL: the scalars that the host writes per recorded step.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub(crate) struct StepHead {
    /// The learning rate; for accumulation, the weight.
    pub(crate) lr: f32,
    pub(crate) inv_scale: f32,
    /// Maximum norm; for clipping at a percentile, the fraction.
    pub(crate) clip_limit: f32,
    pub(crate) flags: u32,
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// `update_single_pass` writes words of the block by their places.
    #[test]
    fn the_words_that_a_single_pass_step_writes_have_their_places() {
        let wgsl = include_str!("../../shaders/kernels/update_single_pass.wgsl");
        for (name, offset) in [
            ("STEP_WORD", offset_of!(ControlBlock, step)),
            ("SKIPPED_WORD", offset_of!(ControlBlock, skipped)),
            ("LR_WORD", offset_of!(ControlBlock, lr)),
            ("FIRST_NONFINITE_WORD", offset_of!(ControlBlock, first_nonfinite)),
        ] {
            assert!(wgsl.contains(&format!("const {name}: u32 = {}u;", offset / 4)), "{name}");
        }
        let fours = [offset_of!(ControlBlock, upcoming_bias_correction), offset_of!(ControlBlock, scalar_state)];
        assert_eq!(fours, [16, 32]);
    }
}
