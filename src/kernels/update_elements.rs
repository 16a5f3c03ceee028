use std::ops::Range;

use super::control::{ABSOLUTE, ControlBlock, INFINITE, NONE};
use super::factor_partials::FactorValues;
use super::segment_reduce::TensorRow;
use crate::factors::Factors;
use crate::groups::{GroupSpan, GroupTable};
use crate::rule::{Elements, Grads, Rule, Step};

/// Elements for which what a rule needs is made and held on the stack at a time: those of a workgroup.
const RUN: usize = 1024;

/// One thread's part of a step: elements of the flat space from `start` on.
pub(crate) struct Part<'a> {
    pub(crate) start: usize,
    pub(crate) param: &'a mut [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) states: Vec<&'a mut [f32]>,
}

/// The scalars that all parts of a step share.
#[derive(Clone, Copy)]
pub(crate) struct WholeStep {
    pub(crate) lr: f32,
    /// What gradients are multiplied by, one factor after the other.
    pub(crate) grad_factors: [f32; 2],
    /// Their largest absolute value then, infinite where they are not clipped by value.
    pub(crate) clip_value: f32,
    pub(crate) bias_correction: [f32; 4],
    pub(crate) t: u32,
    pub(crate) scalars: [f32; 4],
}

impl WholeStep {
    /// The step that the control block counts.
    pub(crate) fn new(control: &ControlBlock, lr: f32, grad_factors: [f32; 2]) -> Self {
        let ControlBlock { clip_value, bias_correction, step, scalars, .. } = *control;
        Self { lr, grad_factors, clip_value, bias_correction, t: step, scalars }
    }

    /// Gradients with what makes them what the rule sees.
    pub(crate) fn grads<'a>(&self, grad: &'a [f32]) -> Grads<'a> {
        Grads { grad, factors: self.grad_factors, clip_value: self.clip_value, clip_factors: [1.0; 2] }
    }

    /// The step of the elements of a span, which lies in one tensor.
    pub(crate) fn of(&self, groups: &GroupTable, span: &GroupSpan, tensor: TensorRow) -> Step {
        Step {
            lr: groups.lr(span, self.lr),
            weight_decay: span.weight_decay,
            bias_correction: self.bias_correction,
            t: self.t,
            scalars: self.scalars,
            measured: tensor.measured,
            tensor: tensor.state,
        }
    }
}

/// Cuts `from..to` wherever a multiple of `len` elements of the flat space lies.
pub(crate) fn runs(from: usize, to: usize, len: usize) -> impl Iterator<Item = Range<usize>> {
    let next = move |from: usize| to.min((from / len + 1) * len);
    std::iter::successors((from < to).then(|| from..next(from)), move |run| {
        (run.end < to).then(|| run.end..next(run.end))
    })
}

/// One optimizer step over a part of the flat space: the harness around a rule, or around a further `pass` of it.
/// Twin of `shaders/update.wgsl`. `tensors` is empty unless the rule measures. Gives the flat index of the first gradient
/// of a live element that is NaN or infinite, and [`NONE`] where all are finite.
pub(crate) fn update(
    rule: &dyn Rule,
    pass: Option<&str>,
    groups: &GroupTable,
    tensors: &[TensorRow],
    factors: Option<(&Factors, &FactorValues)>,
    whole: &WholeStep,
    part: Part<'_>,
) -> u32 {
    let Part { start, param, grad, mut states } = part;
    let mut variance = [0.0; RUN];
    let run_len = if factors.is_some() { RUN } else { usize::MAX };
    let mut first_nonfinite = NONE;
    for (from, to, span) in groups.covering(start as u32, (start + param.len()) as u32) {
        let Some(tensor) = span.tensor else { continue };
        let step = whole.of(groups, span, tensors.get(tensor as usize).copied().unwrap_or_default());
        for run in runs(from as usize, to as usize, run_len) {
            let run = run.start - start..run.end - start;
            let mut run_states: Vec<&mut [f32]> = states.iter_mut().map(|state| &mut state[run.clone()]).collect();
            if let Some((factors, values)) = factors {
                let variance = &mut variance[..run.len()];
                values.write_variance(factors.tensor(tensor as usize), start + run.start, variance);
                run_states.push(variance);
            }
            let grad = &grad[run.clone()];
            let grads = whole.grads(grad);
            // A rule that looks at no gradient says nothing about them.
            let mut max_bits = INFINITE;
            let elements = Elements::new(&mut param[run.clone()], grads, &mut run_states, &mut max_bits);
            match pass {
                Some(pass) => rule.update_pass(pass, elements, &step),
                None => rule.update(elements, &step),
            }
            if max_bits >= INFINITE && first_nonfinite == NONE {
                let bad = grad.iter().position(|grad| grad.to_bits() & ABSOLUTE >= INFINITE);
                first_nonfinite = bad.map_or(NONE, |element| (start + run.start + element) as u32);
            }
        }
    }
    first_nonfinite
}

/// Counts a bare step, which applies every gradient as it is. Twin of the counting in `update_bare`.
pub(crate) fn count_bare(block: &mut ControlBlock, lr: f32, upcoming: [f32; 4]) {
    block.step += 1;
    block.bias_correction = block.upcoming_bias_correction;
    block.upcoming_bias_correction = upcoming;
    block.lr = lr;
    block.findings = 0;
    block.first_nonfinite = [NONE; 2];
}
