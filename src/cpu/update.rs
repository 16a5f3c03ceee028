use crate::control::{ABSOLUTE, ControlBlock, INFINITE, NONE};
use crate::groups::GroupTable;
use crate::rule::{Elements, Rule, Step};

/// Elements whose scaled gradients are held on the stack at a time.
const RUN: usize = 1024;

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

/// One optimizer step over a part of the flat space: the harness around a rule, or around a further `pass` of it.
/// Twin of `shaders/update.wgsl`.
pub(crate) fn update(rule: &dyn Rule, pass: Option<&str>, groups: &GroupTable, whole: &WholeStep, part: Part<'_>) {
    let Part { start, param, grad, mut states } = part;
    let mut scaled = [0.0; RUN];
    for (from, to, span) in groups.covering(start as u32, (start + param.len()) as u32) {
        if !span.live {
            continue;
        }
        let step = Step {
            lr: whole.lr * span.lr_scale,
            weight_decay: span.weight_decay,
            bias_correction: whole.bias_correction,
            t: whole.t,
            scalars: whole.scalars,
        };
        let (mut from, to) = (from as usize - start, to as usize - start);
        while from < to {
            let run = from..to.min(from + RUN);
            from = run.end;
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
        if span.live && run.iter().fold(0, |largest, grad| (grad.to_bits() & ABSOLUTE).max(largest)) >= INFINITE {
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
    block.clip_coef = 1.0;
    block.findings = 0;
    let step = block.step as usize;
    block.first_nonfinite[step & 1] = first_nonfinite;
    block.first_nonfinite[(step + 1) & 1] = NONE;
}
