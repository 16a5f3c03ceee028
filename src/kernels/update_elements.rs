//! Unscales and clips gradients, applies the rule to each span, and checks for non-finite gradients.

use super::control::{ControlBlock, GIVEN_STATES, NONE, StepHead};
use super::row_steps::RowSteps;
use super::tensor_steps::TensorStep;
use crate::Error;
use crate::factors::{FactorValues, Factors};
use crate::groups::{GroupTable, OptionRun};
use crate::host::HostSlice;
use crate::params::{ParamFormat, ParamSliceMut, SeenParams, draw, round_stochastically};
use crate::rule::{Elements, Grads, Report, StepScalars};
use crate::states::{F32Parts, StateSliceMut};
use crate::storage::{ABSOLUTE, INFINITE};
use crate::tile::split_at_multiples;
use crate::transform::TransformedRule;

/// Elements per buffer of variances or of gradients that are converted to f32.
const BUFFERED_LEN: usize = 1024;

/// One thread's elements, from flat index `start` on.
pub(crate) struct Shard<'a> {
    pub(crate) start: usize,
    pub(crate) param: ParamSliceMut<'a>,
    /// The rule's states and those of its transforms.
    pub(crate) states: Vec<StateSliceMut<'a>>,
}

/// The streams that a kernel stores, and the rounding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stores {
    pub(crate) writes: SeenParams,
    /// Seed of stochastic rounding, for parameters and states.
    pub(crate) seed: Option<u32>,
}

/// Values shared by all elements of a step.
#[derive(Clone, Copy)]
pub(crate) struct StepContext {
    pub(crate) lr: f32,
    /// Unscale and clip: every gradient is multiplied by the first, then by the second.
    pub(crate) grad_factors: [f32; 2],
    /// The bound of clipping by value; infinite without it.
    pub(crate) clip_value: f32,
    pub(crate) bias_correction: [f32; 4],
    pub(crate) t: u32,
    pub(crate) is_first: bool,
    /// Number of the step if none was applied before; `None` if the program gave the states.
    pub(crate) first: Option<u32>,
    pub(crate) scalar_state: [f32; 4],
}

impl StepContext {
    /// The step that the control block counts. `first` is its number if no step was applied before.
    pub(crate) fn new(control: &ControlBlock, head: &StepHead, grad_factors: [f32; 2], first: u32) -> Self {
        let ControlBlock { clip_value, bias_correction, step, scalar_state, .. } = *control;
        let first = (head.flags & GIVEN_STATES == 0).then_some(first);
        let is_first = first == Some(step);
        Self { lr: head.lr, grad_factors, clip_value, bias_correction, t: step, is_first, first, scalar_state }
    }

    pub(crate) fn grads<'a>(&self, grad: &'a [f32]) -> Grads<'a> {
        Grads { grad, factors: self.grad_factors, clip_value: self.clip_value, clip_factors: [1.0; 2] }
    }

    /// The same step for a row with its own count.
    fn of_row(&self, row_steps: &RowSteps, row: usize) -> Self {
        let (t, bias_correction) = (row_steps.steps[row], row_steps.bias_corrections[row]);
        Self { bias_correction, t, is_first: self.first == Some(t), ..*self }
    }

    /// The step of a tensor in place of that of all.
    pub(crate) fn of_tensor(&self, step: &TensorStep) -> Self {
        let TensorStep { bias_correction, scalar_state, t, .. } = *step;
        Self { bias_correction, scalar_state, t, is_first: self.first == Some(t), ..*self }
    }

    /// The scalars for the elements of a run.
    pub(crate) fn scalars(&self, groups: &GroupTable, run: &OptionRun, segment: SegmentRow) -> StepScalars {
        StepScalars {
            lr: groups.lr(&run.span, self.lr) * run.lr_scale,
            weight_decay: run.span.weight_decay,
            bias_correction: self.bias_correction,
            t: self.t,
            is_first: self.is_first,
            scalar_state: self.scalar_state,
            sums: segment.sums,
            tensor_state: segment.state,
        }
    }
}

/// One segment: its sums, and the state that the rule keeps of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SegmentRow {
    pub(crate) sums: [f32; 4],
    pub(crate) state: [f32; 4],
}

/// The tables that the elements of a step read.
#[derive(Clone, Copy)]
pub(crate) struct ElementTables<'a> {
    pub(crate) groups: &'a GroupTable,
    /// Number of the rule's own states; those of its transforms follow.
    pub(crate) own_states: usize,
    /// Empty without a reduction.
    pub(crate) segments: &'a [SegmentRow],
    pub(crate) factors: Option<(&'a Factors, &'a FactorValues)>,
    pub(crate) row_steps: Option<&'a RowSteps>,
    /// The steps of each tensor; empty if all take part in every step.
    pub(crate) tensor_steps: &'a [TensorStep],
    /// The elements whose moments are f32 beside moments of 8 bits.
    pub(crate) f32_parts: &'a F32Parts,
    pub(crate) stores: Stores,
}

/// Calls `apply` for the elements of every active span in a shard. Returns the flat index of the first non-finite gradient,
/// or [`NONE`].
pub(crate) fn update_elements(
    tables: ElementTables<'_>,
    context: &StepContext,
    grad: HostSlice<'_>,
    shard: Shard<'_>,
    mut apply: impl FnMut(Elements<'_>, &StepScalars),
) -> u32 {
    let Shard { start, mut param, mut states } = shard;
    let Stores { writes, seed } = tables.stores;
    let mut variance = [0.0; BUFFERED_LEN];
    let (mut of_grad, mut of_param, mut of_states) = (Vec::new(), Vec::new(), vec![Vec::new(); states.len()]);
    let mut random = Vec::new();
    let is_f32 = grad.is_f32() && param.format == ParamFormat::F32 && states.iter().all(StateSliceMut::is_f32);
    let is_buffered = tables.factors.is_some() || !is_f32;
    let max_len = if is_buffered { BUFFERED_LEN } else { usize::MAX };
    let mut first_nonfinite = NONE;
    let steps = tables.row_steps.map(|counts| &counts.steps[..]);
    for run in tables.groups.option_runs(start as u32, (start + param.len()) as u32, steps) {
        let segment = run.span.segment.unwrap_or_default() as usize;
        let row = tables.segments.get(segment).copied().unwrap_or_default();
        let of_row = tables.row_steps.zip(run.row).map(|(counts, row)| context.of_row(counts, row));
        let of_tensor = tables.tensor_steps.get(segment).map(|step| context.of_tensor(step));
        let step = of_row.or(of_tensor).as_ref().unwrap_or(context).scalars(tables.groups, &run, row);
        let parts = tables.f32_parts.cut(run.start as usize..run.end as usize);
        for elements in parts.flat_map(|part| split_at_multiples(part.start, part.end, max_len)) {
            let range = elements.start - start..elements.end - start;
            let widened = states.iter_mut().zip(&mut of_states);
            let mut views: Vec<&mut [f32]> =
                widened.map(|(state, scratch)| state.load_mut(start, range.clone(), scratch)).collect();
            if let Some((factors, values)) = tables.factors {
                let variance = &mut variance[..range.len()];
                values.write_variance(factors.tensor_of(segment, run.start as usize), elements.start, variance);
                views.insert(tables.own_states, variance);
            }
            let grad = grad.load(elements.clone(), &mut of_grad);
            let mut report = Report::default();
            let values = param.load_mut(range.clone(), &mut of_param);
            apply(Elements::new(values, context.grads(grad), &mut views, &mut report), &step);
            if let Some(seed) = seed {
                draw(&mut random, (seed, context.t), elements.start, elements.len());
                if param.format == ParamFormat::Bf16 && writes == SeenParams::WithCompanion {
                    round_stochastically(&mut of_param, &random, 0);
                }
            }
            param.store_widened(range.clone(), &of_param, writes);
            // While others have the place of the parameters, states stay.
            if writes == SeenParams::WithCompanion {
                for ((state, values), number) in states.iter_mut().zip(&mut of_states).zip(1..) {
                    state.store(start, range.clone(), values, (seed.map(|_| &random[..]), number));
                }
            }
            if report.max_bits >= INFINITE && first_nonfinite == NONE {
                let bad = grad.iter().position(|grad| grad.to_bits() & ABSOLUTE >= INFINITE);
                first_nonfinite = bad.map_or(NONE, |element| (elements.start + element) as u32);
            }
        }
    }
    first_nonfinite
}

/// Refuses a rule whose closures take other numbers of states, or return other numbers of sums, than it declares. The CPU
/// engine would not call them.
pub(crate) fn check_arity(rule: &TransformedRule) -> Result<(), Error> {
    let spec = rule.spec();
    let states = rule.own_states() + usize::from(rule.factored().is_some());
    let all_states = states + rule.transform_states().len();
    let wrong = |function: &str, given: [usize; 2], allowed: [usize; 2]| Error::RuleInterface {
        rule: spec.name.to_string(),
        problem: format!(
            "the closure of `{function}` takes {} states and returns {} sums; the rule declares {} and {}",
            given[0], given[1], allowed[0], allowed[1]
        ),
    };
    let context = StepContext {
        lr: 0.0,
        grad_factors: [1.0; 2],
        clip_value: f32::INFINITY,
        bias_correction: [1.0; 4],
        t: 1,
        is_first: true,
        first: Some(1),
        scalar_state: [0.0; 4],
    };
    let step = StepScalars {
        lr: 0.0,
        weight_decay: 0.0,
        bias_correction: [1.0; 4],
        t: 1,
        is_first: true,
        scalar_state: [0.0; 4],
        sums: [0.0; 4],
        tensor_state: [0.0; 4],
    };
    let names = rule.auxiliary_names();
    for function in std::iter::once("update").chain(names.iter().copied()) {
        let mut report = Report::default();
        let mut empty: Vec<&mut [f32]> = (0..all_states).map(|_| &mut [][..]).collect();
        let elements = Elements::new(&mut [], context.grads(&[]), &mut empty, &mut report);
        if function == "update" {
            rule.update(elements, &step);
        } else {
            rule.update_auxiliary(function, elements, &step);
        }
        if let Some(given) = report.wrong_arity {
            return Err(wrong(function, given, [states, 0]));
        }
    }
    let empty: Vec<&[f32]> = (0..states).map(|_| &[][..]).collect();
    let sums = rule.reduction().map_or(0, |reduction| reduction.sums().len());
    for (function, sums) in [("terms", sums), ("metric", 1)] {
        let (mut report, mut columns) = (Report::default(), vec![crate::tile::NO_COLUMNS; sums]);
        let span = crate::rule::SpanView { start: 0, param: &[], grads: context.grads(&[]), states: &empty, step };
        let terms = crate::rule::Terms::new(span, &mut columns, &mut report);
        match (function, rule.reduction()) {
            ("terms", Some(reduction)) => reduction.terms(terms, &step),
            ("metric", _) => rule.metric_of(terms, &step),
            _ => {}
        }
        if let Some(given) = report.wrong_arity {
            return Err(wrong(function, given, [states, sums]));
        }
    }
    Ok(())
}
