use super::StepScalars;
#[cfg(doc)]
use super::{Metric, Reduction, RuleSpec};
#[cfg(doc)]
use crate::Error;
use crate::simd::{CACHE_LINE_BYTES, vectorized};
use crate::storage::{ABSOLUTE, INFINITE};
use crate::tile::{Columns, ROW_LEN, rows};

/// Loops over at least this many elements treat those before the first whole cache line separately, so that no vector of
/// the others lies in two lines.
const MIN_ALIGNED_LEN: usize = 4096;

/// Raw gradients, and the factors that unscale and clip them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grads<'a> {
    pub(crate) grad: &'a [f32],
    /// Every gradient is multiplied by the first, then by the second.
    pub(crate) factors: [f32; 2],
    /// The bound of clipping by value; infinite without it.
    pub(crate) clip_value: f32,
    /// Factors of clipping by the norm of a segment, applied last.
    pub(crate) clip_factors: [f32; 2],
}

/// Elements of one span: equal options, one segment. `start` is the flat index of the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanView<'a> {
    pub(crate) start: usize,
    pub(crate) param: &'a [f32],
    pub(crate) grads: Grads<'a>,
    pub(crate) states: &'a [&'a [f32]],
    pub(crate) step: StepScalars,
}

impl Grads<'_> {
    /// Whether only [`Grads::factors`] applies: no clipping by value or segment norm.
    #[inline(always)]
    fn scaled_only(self) -> bool {
        self.clip_value == f32::INFINITY && self.clip_factors == [1.0; 2]
    }

    #[inline(always)]
    fn scaled(self, grad: f32) -> f32 {
        grad * self.factors[0] * self.factors[1]
    }

    /// A gradient as the rule reads it.
    #[inline(always)]
    pub(crate) fn clipped(self, grad: f32) -> f32 {
        let (scaled, bound) = (self.scaled(grad), self.clip_value);
        // With `clamp`, the loops around it are not vectorized.
        let clamped = if scaled > bound {
            bound
        } else if scaled < -bound {
            -bound
        } else {
            scaled
        };
        clamped * self.clip_factors[0] * self.clip_factors[1]
    }
}

/// Elements for the CPU reference of a rule: parameters, gradients and states of equal length.
#[derive(Debug)]
pub struct Elements<'a> {
    param: &'a mut [f32],
    grads: Grads<'a>,
    states: &'a mut [&'a mut [f32]],
    report: &'a mut Report,
}

/// The findings of one call of a rule's CPU reference.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Bits of the largest raw |grad|; those of infinity where the rule read no gradient.
    pub(crate) max_bits: u32,
    /// A closure of the wrong arity: its numbers of states and sums. It was not called.
    pub(crate) wrong_arity: Option<[usize; 2]>,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(
        param: &'a mut [f32],
        grads: Grads<'a>,
        states: &'a mut [&'a mut [f32]],
        report: &'a mut Report,
    ) -> Self {
        report.max_bits = INFINITE;
        Self { param, grads, states, report }
    }

    /// Multiplies the gradients by two more factors.
    pub(crate) fn with_clip_factors(mut self, factors: [f32; 2]) -> Self {
        self.grads.clip_factors = factors;
        self
    }

    /// Calls `update` with all states but the last `transforms`; before it `begin`, and after it `end`, with the parameters and
    /// those states.
    pub(crate) fn with_transforms(
        self,
        transforms: usize,
        begin: impl FnOnce(&[f32], &mut [&mut [f32]]),
        update: impl FnOnce(Elements<'_>),
        end: impl FnOnce(&mut [f32], &mut [&mut [f32]]),
    ) {
        let Self { param, grads, states, report } = self;
        let (own, of_transforms) = states.split_at_mut(states.len() - transforms);
        begin(param, of_transforms);
        // Reborrows, so that `end` can have the parameters.
        let mut own: Vec<&mut [f32]> = own.iter_mut().map(|state| &mut **state).collect();
        update(Elements { param: &mut *param, grads, states: &mut own, report });
        end(param, of_transforms);
    }

    /// Calls `f(param, grad, states)` for each element and stores what it returns. States come in the order of
    /// [`RuleSpec::states`], absent ones left out.
    ///
    /// # Performance considerations
    /// Loops over long closures are vectorized only if these are `#[inline(always)]` and capture by value: `move`, and a
    /// copy of the step.
    ///
    /// `N` is the number of the rule's present states; another number is [`Error::RuleInterface`] when the optimizer is
    /// built.
    pub fn each<const N: usize>(self, f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N])) {
        let Ok(states) = <&mut [&mut [f32]; N]>::try_from(self.states) else {
            self.report.wrong_arity = Some([N, 0]);
            return;
        };
        let (param, grads) = (self.param, self.grads);
        // Loops that do less keep more elements in flight.
        self.report.max_bits = if grads.scaled_only() {
            update_each(param, grads, states, Grads::scaled, f)
        } else {
            update_each(param, grads, states, Grads::clipped, f)
        };
    }
}

/// Calls `f` for each element with the gradient that `prepare` returns. Returns the bits of the largest raw |grad|.
#[inline(always)]
fn update_each<'a, const N: usize>(
    param: &mut [f32],
    grads: Grads<'a>,
    states: &mut [&mut [f32]; N],
    prepare: impl Fn(Grads<'a>, f32) -> f32,
    mut f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N]),
) -> u32 {
    let len = param.len();
    vectorized(
        #[inline(always)]
        move || {
            // One length for all slices lets the compiler drop the bounds checks.
            let (param, grad) = (&mut param[..len], &grads.grad[..len]);
            let states = states.each_mut().map(|state| &mut state[..len]);
            let mut max_bits = 0;
            let head = if len < MIN_ALIGNED_LEN { 0 } else { before_a_line(param) };
            for part in [0..head, head..len] {
                for i in part {
                    max_bits = (grad[i].to_bits() & ABSOLUTE).max(max_bits);
                    let grad = prepare(grads, grad[i]);
                    let (new_param, new_states) = f(param[i], grad, std::array::from_fn(|s| states[s][i]));
                    param[i] = new_param;
                    for s in 0..N {
                        states[s][i] = new_states[s];
                    }
                }
            }
            max_bits
        },
    )
}

/// Elements before the first whole cache line.
fn before_a_line(elements: &[f32]) -> usize {
    elements.as_ptr().align_offset(CACHE_LINE_BYTES).min(elements.len())
}

/// Elements for the CPU reference of [`Reduction::terms`] or [`Metric::metric`].
#[derive(Debug)]
pub struct Terms<'a> {
    span: SpanView<'a>,
    sums: &'a mut [Columns],
    report: &'a mut Report,
}

impl<'a> Terms<'a> {
    pub(crate) fn new(span: SpanView<'a>, sums: &'a mut [Columns], report: &'a mut Report) -> Self {
        Self { span, sums, report }
    }

    /// Multiplies the gradients by two more factors.
    pub(crate) fn with_clip_factors(mut self, factors: [f32; 2]) -> Self {
        self.span.grads.clip_factors = factors;
        self
    }

    /// For sums that read no state.
    pub(crate) fn without_states(self) -> Self {
        Self { span: SpanView { states: &[], ..self.span }, ..self }
    }

    /// Calls `f(param, grad, states)` for each element and adds what it returns to the sums. States come in the order of
    /// [`RuleSpec::states`], sums in that of [`Reduction::sums`]. Closures as for [`Elements::each`].
    ///
    /// `N` is the number of the rule's present states, `M` that of its sums; other numbers are [`Error::RuleInterface`]
    /// when the optimizer is built.
    pub fn each<const N: usize, const M: usize>(self, f: impl FnMut(f32, f32, [f32; N]) -> [f32; M]) {
        let Self { span, sums, report } = self;
        let (Ok(states), Ok(sums)) = (<&[&[f32]; N]>::try_from(span.states), <&mut [Columns; M]>::try_from(sums))
        else {
            report.wrong_arity = Some([N, M]);
            return;
        };
        if span.grads.scaled_only() {
            add_each(span, states, sums, Grads::scaled, f);
        } else {
            add_each(span, states, sums, Grads::clipped, f);
        }
    }
}

/// Calls `f` for each element with the gradient that `prepare` returns, and adds its terms to the columns.
#[inline(always)]
fn add_each<'a, const N: usize, const M: usize>(
    span: SpanView<'a>,
    states: &[&[f32]; N],
    sums: &mut [Columns; M],
    prepare: impl Fn(Grads<'a>, f32) -> f32,
    mut f: impl FnMut(f32, f32, [f32; N]) -> [f32; M],
) {
    let (grads, len) = (span.grads, span.param.len());
    vectorized(
        #[inline(always)]
        move || {
            let (param, grad) = (&span.param[..len], &grads.grad[..len]);
            let states = states.map(|state| &state[..len]);
            for row in rows(span.start, len) {
                // Copies: the compiler knows that nothing else aliases them.
                let mut own = [[0.0; ROW_LEN]; M];
                for m in 0..M {
                    own[m].copy_from_slice(&sums[m][row.columns..row.columns + ROW_LEN]);
                }
                let (param, grad) = (&param[row.elements.clone()], &grad[row.elements.clone()]);
                let states = states.map(|state| &state[row.elements.clone()]);
                add_row(
                    &mut own,
                    row.before,
                    param.len(),
                    #[inline(always)]
                    |i| f(param[i], prepare(grads, grad[i]), std::array::from_fn(|s| states[s][i])),
                );
                for m in 0..M {
                    sums[m][row.columns..row.columns + ROW_LEN].copy_from_slice(&own[m]);
                }
            }
        },
    );
}

/// Adds the terms of `len` elements to the columns of their row, from column `before` on.
#[inline(always)]
fn add_row<const M: usize>(
    columns: &mut [[f32; ROW_LEN]; M],
    before: usize,
    len: usize,
    mut terms_of: impl FnMut(usize) -> [f32; M],
) {
    // A constant length compiles to better code; `before` is 0 then.
    if len == ROW_LEN {
        for i in 0..ROW_LEN {
            for (columns, term) in columns.iter_mut().zip(terms_of(i)) {
                columns[i] += term;
            }
        }
    } else {
        for i in 0..len {
            for (columns, term) in columns.iter_mut().zip(terms_of(i)) {
                columns[before + i] += term;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_begin_with_a_line() {
        let memory = vec![0.0; 100];
        for start in 0..=CACHE_LINE_BYTES / 4 {
            let head = before_a_line(&memory[start..]);
            assert!(head < CACHE_LINE_BYTES / 4);
            assert_eq!(memory[start + head..].as_ptr().addr() % CACHE_LINE_BYTES, 0);
        }
        assert_eq!(before_a_line(&memory[99..99]), 0);
    }

    #[test]
    fn each_element_is_updated_once_wherever_the_parameters_begin() {
        for len in [0, 1, 100, MIN_ALIGNED_LEN - 1, MIN_ALIGNED_LEN, MIN_ALIGNED_LEN + 5] {
            for start in 0..CACHE_LINE_BYTES / 4 {
                let mut memory = vec![1.0; start + len];
                let grad: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let mut updates = vec![0.0; len];
                let mut report = Report::default();
                let grads = Grads { grad: &grad, factors: [1.0; 2], clip_value: f32::INFINITY, clip_factors: [1.0; 2] };
                let mut states = [&mut updates[..]];
                let elements = Elements::new(&mut memory[start..], grads, &mut states, &mut report);
                elements.each(|param, grad, [updates]| (param - grad, [updates + 1.0]));
                assert_eq!(memory[..start], vec![1.0; start], "{len} from {start}");
                assert_eq!(memory[start..], (0..len).map(|i| 1.0 - i as f32).collect::<Vec<_>>(), "{len} from {start}");
                assert_eq!(updates, vec![1.0; len], "{len} from {start}");
                assert_eq!(f32::from_bits(report.max_bits), grad.last().copied().unwrap_or(0.0), "{len} from {start}");
            }
        }
    }
}
