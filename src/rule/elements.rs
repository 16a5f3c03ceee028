#[cfg(doc)]
use super::Rule;
use crate::kernels::control::ABSOLUTE;
use crate::kernels::part_sums::{Columns, Run, rows};
use crate::simd::{LINE, vectorized};
use crate::tile::ROW;

/// Elements from which on a loop takes those before the first whole cache line by themselves, so that no vector of the others
/// lies in two lines.
const MANY: usize = 4096;

/// Gradients as they came, and what makes them what a rule sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grads<'a> {
    pub(crate) grad: &'a [f32],
    /// What they are multiplied by, one factor after the other.
    pub(crate) factors: [f32; 2],
    /// Their largest absolute value then.
    pub(crate) clip_value: f32,
    /// What they are multiplied by at last, one after the other, to clip them by the norm of their segment.
    pub(crate) clip_factors: [f32; 2],
}

impl Grads<'_> {
    /// Whether all that makes a gradient what a rule sees is [`Grads::factors`].
    #[inline(always)]
    fn scaled_only(self) -> bool {
        self.clip_value == f32::INFINITY && self.clip_factors == [1.0; 2]
    }

    #[inline(always)]
    fn scaled(self, grad: f32) -> f32 {
        grad * self.factors[0] * self.factors[1]
    }

    /// A gradient as the rule sees it.
    #[inline(always)]
    pub(crate) fn seen(self, grad: f32) -> f32 {
        let (scaled, most) = (self.scaled(grad), self.clip_value);
        // Like this, and not by `clamp`, the loops around it are vectorized.
        let clamped = if scaled > most {
            most
        } else if scaled < -most {
            -most
        } else {
            scaled
        };
        clamped * self.clip_factors[0] * self.clip_factors[1]
    }
}

/// A run of elements for a rule's CPU twin: parameters, gradients and states of the same length.
#[derive(Debug)]
pub struct Elements<'a> {
    param: &'a mut [f32],
    grads: Grads<'a>,
    states: &'a mut [&'a mut [f32]],
    /// Becomes the largest bits of the gradients' absolute values, as they came.
    max_bits: &'a mut u32,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(
        param: &'a mut [f32],
        grads: Grads<'a>,
        states: &'a mut [&'a mut [f32]],
        max_bits: &'a mut u32,
    ) -> Self {
        Self { param, grads, states, max_bits }
    }

    /// The same with gradients multiplied by two factors.
    pub(crate) fn clipped(mut self, factors: [f32; 2]) -> Self {
        self.grads.clip_factors = factors;
        self
    }

    /// Calls `f(param, grad, states)` for each element and stores what it gives back, states in the order of
    /// [`Rule::states`].
    ///
    /// Loops over long closures are vectorized only where these are `#[inline(always)]` and hold what they need of the step
    /// by value (`move`, and a copy of the step).
    ///
    /// # Panics
    /// If `N` is not the number of the rule's states.
    pub fn each<const N: usize>(self, f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N])) {
        let Ok(states) = <&mut [&mut [f32]; N]>::try_from(self.states) else {
            panic!("a rule's CPU twin takes exactly the states that the rule declares");
        };
        let (param, grads) = (self.param, self.grads);
        // Loops that do less have more elements on their way at a time.
        *self.max_bits = if grads.scaled_only() {
            update_each(param, grads, states, Grads::scaled, f)
        } else {
            update_each(param, grads, states, Grads::seen, f)
        };
    }
}

/// Calls `f` for each element with the gradient that `seen` makes; gives the largest bits of the gradients' absolute values.
#[inline(always)]
fn update_each<'a, const N: usize>(
    param: &mut [f32],
    grads: Grads<'a>,
    states: &mut [&mut [f32]; N],
    seen: impl Fn(Grads<'a>, f32) -> f32,
    mut f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N]),
) -> u32 {
    let len = param.len();
    vectorized(
        #[inline(always)]
        move || {
            // One length that the compiler can see in here lets it drop the bounds checks and vectorize to the end.
            let (param, grad) = (&mut param[..len], &grads.grad[..len]);
            let states = states.each_mut().map(|state| &mut state[..len]);
            let mut max_bits = 0;
            let head = if len < MANY { 0 } else { before_a_line(param) };
            for part in [0..head, head..len] {
                for i in part {
                    max_bits = (grad[i].to_bits() & ABSOLUTE).max(max_bits);
                    let grad = seen(grads, grad[i]);
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

/// How many elements lie before the first whole cache line.
fn before_a_line(elements: &[f32]) -> usize {
    elements.as_ptr().align_offset(LINE).min(elements.len())
}

/// A run of elements for the CPU twin of a rule's `measure` or `count`.
#[derive(Debug)]
pub struct MeasuredElements<'a> {
    run: Run<'a>,
    sums: &'a mut [Columns],
}

impl<'a> MeasuredElements<'a> {
    pub(crate) fn new(run: Run<'a>, sums: &'a mut [Columns]) -> Self {
        Self { run, sums }
    }

    /// The same with gradients multiplied by two factors.
    pub(crate) fn clipped(mut self, factors: [f32; 2]) -> Self {
        self.run.grads.clip_factors = factors;
        self
    }

    /// The same for a rule whose sums need no state.
    pub(crate) fn without_states(self) -> Self {
        Self { run: Run { states: &[], ..self.run }, ..self }
    }

    /// Calls `f(param, grad, states)` for each element and adds what it gives back to the sums, states in the order of
    /// [`Rule::states`], sums in that of [`Rule::measures`]. What [`Elements::each`] says of closures holds here too.
    ///
    /// # Panics
    /// If `N` is not the number of the rule's states, or `M` not that of its sums.
    pub fn each<const N: usize, const M: usize>(self, f: impl FnMut(f32, f32, [f32; N]) -> [f32; M]) {
        let Self { run, sums } = self;
        let (Ok(states), Ok(sums)) = (<&[&[f32]; N]>::try_from(run.states), <&mut [Columns; M]>::try_from(sums)) else {
            panic!("a rule's CPU twin takes exactly the states and gives exactly the sums that the rule declares");
        };
        if run.grads.scaled_only() {
            measure_each(run, states, sums, Grads::scaled, f);
        } else {
            measure_each(run, states, sums, Grads::seen, f);
        }
    }
}

/// Calls `f` for each element with the gradient that `seen` makes, and adds what it gives to the columns.
#[inline(always)]
fn measure_each<'a, const N: usize, const M: usize>(
    run: Run<'a>,
    states: &[&[f32]; N],
    sums: &mut [Columns; M],
    seen: impl Fn(Grads<'a>, f32) -> f32,
    mut f: impl FnMut(f32, f32, [f32; N]) -> [f32; M],
) {
    let (grads, len) = (run.grads, run.param.len());
    vectorized(
        #[inline(always)]
        move || {
            let (param, grad) = (&run.param[..len], &grads.grad[..len]);
            let states = states.map(|state| &state[..len]);
            for row in rows(run.start, len) {
                // Copies, which the compiler knows to overlap with nothing.
                let mut own = [[0.0; ROW]; M];
                for m in 0..M {
                    own[m].copy_from_slice(&sums[m][row.columns..row.columns + ROW]);
                }
                let (param, grad) = (&param[row.elements.clone()], &grad[row.elements.clone()]);
                let states = states.map(|state| &state[row.elements.clone()]);
                add_row(
                    &mut own,
                    row.before,
                    param.len(),
                    #[inline(always)]
                    |i| f(param[i], seen(grads, grad[i]), std::array::from_fn(|s| states[s][i])),
                );
                for m in 0..M {
                    sums[m][row.columns..row.columns + ROW].copy_from_slice(&own[m]);
                }
            }
        },
    );
}

/// Adds the terms of `len` elements to the columns of their row, from `before` on.
#[inline(always)]
fn add_row<const M: usize>(
    columns: &mut [[f32; ROW]; M],
    before: usize,
    len: usize,
    mut terms_of: impl FnMut(usize) -> [f32; M],
) {
    // The same with a length that the compiler knows; `before` is 0 then.
    if len == ROW {
        for i in 0..ROW {
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
        for start in 0..=LINE / 4 {
            let head = before_a_line(&memory[start..]);
            assert!(head < LINE / 4);
            assert_eq!(memory[start + head..].as_ptr().addr() % LINE, 0);
        }
        assert_eq!(before_a_line(&memory[99..99]), 0);
    }

    #[test]
    fn each_element_is_updated_once_wherever_the_parameters_begin() {
        for len in [0, 1, 100, MANY - 1, MANY, MANY + 5] {
            for start in 0..LINE / 4 {
                let mut memory = vec![1.0; start + len];
                let grad: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let mut updates = vec![0.0; len];
                let mut max_bits = 0;
                let grads = Grads { grad: &grad, factors: [1.0; 2], clip_value: f32::INFINITY, clip_factors: [1.0; 2] };
                let mut states = [&mut updates[..]];
                let elements = Elements::new(&mut memory[start..], grads, &mut states, &mut max_bits);
                elements.each(|param, grad, [updates]| (param - grad, [updates + 1.0]));
                assert_eq!(memory[..start], vec![1.0; start], "{len} from {start}");
                assert_eq!(memory[start..], (0..len).map(|i| 1.0 - i as f32).collect::<Vec<_>>(), "{len} from {start}");
                assert_eq!(updates, vec![1.0; len], "{len} from {start}");
                assert_eq!(f32::from_bits(max_bits), grad.last().copied().unwrap_or(0.0), "{len} from {start}");
            }
        }
    }
}
