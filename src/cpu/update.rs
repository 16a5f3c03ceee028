use std::ops::Range;

use super::measure::TensorRow;
use crate::control::{ABSOLUTE, ControlBlock, INFINITE, NONE};
use crate::groups::{GroupSpan, GroupTable};
use crate::rule::{Elements, Rule, Step};

/// Elements whose scaled gradients are held on the stack at a time.
pub(crate) const RUN: usize = super::norm::ROW;

/// One thread's part of a step: elements of the flat space from `start` on.
pub(crate) struct Part<'a> {
    pub(crate) start: usize,
    pub(crate) param: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) states: Vec<&'a mut [f32]>,
}

/// The scalars that all parts of a step share.
pub(crate) struct WholeStep {
    pub(crate) lr: f32,
    /// What gradients are multiplied by, one factor after the other.
    pub(crate) grad_factors: [f32; 2],
    pub(crate) bias_correction: [f32; 4],
    pub(crate) t: u32,
    pub(crate) scalars: [f32; 4],
}

impl WholeStep {
    /// The step of the elements of a span, which lies in one tensor.
    pub(crate) fn of(&self, span: &GroupSpan, tensor: TensorRow) -> Step {
        Step {
            lr: self.lr * span.lr_scale,
            weight_decay: span.weight_decay,
            bias_correction: self.bias_correction,
            t: self.t,
            scalars: self.scalars,
            measured: tensor.measured,
            tensor: tensor.state,
        }
    }
}

/// Cuts `from..to` wherever a multiple of [`RUN`] elements of the flat space lies.
pub(crate) fn runs(from: usize, to: usize) -> impl Iterator<Item = Range<usize>> {
    let next = move |from: usize| to.min((from / RUN + 1) * RUN);
    std::iter::successors((from < to).then(|| from..next(from)), move |run| {
        (run.end < to).then(|| run.end..next(run.end))
    })
}

/// One optimizer step over a part of the flat space: the harness around a rule, or around a further `pass` of it.
/// Twin of `shaders/update.wgsl`. `tensors` is empty unless the rule measures.
pub(crate) fn update(
    rule: &dyn Rule,
    pass: Option<&str>,
    groups: &GroupTable,
    tensors: &[TensorRow],
    whole: &WholeStep,
    part: Part<'_>,
) {
    let Part { start, param, grad, mut states } = part;
    let mut scaled = [0.0; RUN];
    for (from, to, span) in groups.covering(start as u32, (start + param.len()) as u32) {
        let Some(tensor) = span.tensor else { continue };
        let step = whole.of(span, tensors.get(tensor as usize).copied().unwrap_or_default());
        for run in runs(from as usize, to as usize) {
            let run = run.start - start..run.end - start;
            for (scaled, grad) in scaled.iter_mut().zip(&grad[run.clone()]) {
                *scaled = grad * whole.grad_factors[0] * whole.grad_factors[1];
            }
            let mut run_states: Vec<&mut [f32]> = states.iter_mut().map(|state| &mut state[run.clone()]).collect();
            let elements = Elements::new(&mut param[run.clone()], &scaled[..run.len()], &mut run_states);
            match pass {
                Some(pass) => rule.update_pass(pass, elements, &step),
                None => rule.update(elements, &step),
            }
        }
    }
}

/// Flat index of the first gradient of a live element that is NaN or infinite.
pub(crate) fn first_nonfinite(grad: &[f32], start: usize, groups: &GroupTable) -> u32 {
    for (from, to, span) in groups.covering(start as u32, (start + grad.len()) as u32) {
        let run = &grad[from as usize - start..to as usize - start];
        // A pass without branches first: bad values are rare.
        if span.live() && run.iter().fold(0, |largest, grad| (grad.to_bits() & ABSOLUTE).max(largest)) >= INFINITE {
            let bad = run.iter().position(|grad| grad.to_bits() & ABSOLUTE >= INFINITE);
            return bad.map_or(NONE, |element| from + element as u32);
        }
    }
    NONE
}

/// Counts a bare step, which applies every gradient as it is. Twin of the counting in `update_bare`.
pub(crate) fn count_bare(block: &mut ControlBlock, lr: f32, upcoming: [f32; 4], first_nonfinite: u32) {
    block.step += 1;
    block.bias_correction = block.upcoming_bias_correction;
    block.upcoming_bias_correction = upcoming;
    block.lr = lr;
    block.findings = 0;
    let step = block.step as usize;
    block.first_nonfinite[step & 1] = first_nonfinite;
    block.first_nonfinite[(step + 1) & 1] = NONE;
}
