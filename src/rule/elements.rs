#[cfg(doc)]
use super::Rule;
use crate::control::ABSOLUTE;
use crate::cpu::simd::vectorized;

/// Gradients as they came, and what they are multiplied by before a rule sees them, one factor after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grads<'a> {
    pub(crate) grad: &'a [f32],
    pub(crate) factors: [f32; 2],
}

/// A gradient as the rule sees it.
#[inline(always)]
pub(crate) fn scale_grad(grad: f32, factors: [f32; 2]) -> f32 {
    grad * factors[0] * factors[1]
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

    /// Calls `f(param, grad, states)` for each element and stores what it gives back, states in the order of
    /// [`Rule::states`].
    ///
    /// Loops over long closures are vectorized only where these are `#[inline(always)]` and hold what they need of the step
    /// by value (`move`, and a copy of the step).
    ///
    /// # Panics
    /// If `N` is not the number of the rule's states.
    pub fn each<const N: usize>(self, mut f: impl FnMut(f32, f32, [f32; N]) -> (f32, [f32; N])) {
        let len = self.param.len();
        let Grads { grad, factors } = self.grads;
        let param = self.param;
        let Ok(states) = <&mut [&mut [f32]; N]>::try_from(self.states) else {
            panic!("a rule's CPU twin takes exactly the states that the rule declares");
        };
        *self.max_bits = vectorized(
            #[inline(always)]
            move || {
                // One length that the compiler can see in here lets it drop the bounds checks and vectorize to the end.
                let (param, grad) = (&mut param[..len], &grad[..len]);
                let states = states.each_mut().map(|state| &mut state[..len]);
                let mut max_bits = 0;
                for i in 0..len {
                    max_bits = (grad[i].to_bits() & ABSOLUTE).max(max_bits);
                    let grad = scale_grad(grad[i], factors);
                    let (new_param, new_states) = f(param[i], grad, std::array::from_fn(|s| states[s][i]));
                    param[i] = new_param;
                    for s in 0..N {
                        states[s][i] = new_states[s];
                    }
                }
                max_bits
            },
        );
    }
}

/// A run of elements for the CPU twin of a rule's `measure`.
#[derive(Debug)]
pub struct MeasuredElements<'a> {
    param: &'a [f32],
    grads: Grads<'a>,
    states: &'a [&'a [f32]],
    sums: &'a mut [&'a mut [f32]],
}

impl<'a> MeasuredElements<'a> {
    pub(crate) fn new(
        param: &'a [f32],
        grads: Grads<'a>,
        states: &'a [&'a [f32]],
        sums: &'a mut [&'a mut [f32]],
    ) -> Self {
        Self { param, grads, states, sums }
    }

    /// Calls `f(param, grad, states)` for each element and adds what it gives back to the sums, states in the order of
    /// [`Rule::states`], sums in that of [`Rule::measures`].
    ///
    /// # Panics
    /// If `N` is not the number of the rule's states, or `M` not that of its sums.
    pub fn each<const N: usize, const M: usize>(self, mut f: impl FnMut(f32, f32, [f32; N]) -> [f32; M]) {
        let len = self.param.len();
        let (Ok(states), Ok(sums)) =
            (<&[&[f32]; N]>::try_from(self.states), <&mut [&mut [f32]; M]>::try_from(self.sums))
        else {
            panic!("a rule's CPU twin takes exactly the states and gives exactly the sums that the rule declares");
        };
        let (param, Grads { grad, factors }) = (self.param, self.grads);
        vectorized(
            #[inline(always)]
            move || {
                let (param, grad, states) = (&param[..len], &grad[..len], states.map(|state| &state[..len]));
                let sums = sums.each_mut().map(|sum| &mut sum[..len]);
                for i in 0..len {
                    let grad = scale_grad(grad[i], factors);
                    let terms = f(param[i], grad, std::array::from_fn(|s| states[s][i]));
                    for m in 0..M {
                        sums[m][i] += terms[m];
                    }
                }
            },
        );
    }
}
