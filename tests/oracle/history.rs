//! Values of whole steps that an oracle needs beside those of elements.

use std::cell::RefCell;

/// Scalars of every step so far, computed when the step's first element asks for them.
pub struct History<S>(RefCell<Vec<S>>);

impl<S: Copy> History<S> {
    pub fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The scalars of step `t`, counted from 1; steps are taken in order. `next` makes them from the previous ones,
    /// `None` before the first.
    pub fn at(&self, t: u64, next: impl FnOnce(Option<S>) -> S) -> S {
        let mut steps = self.0.borrow_mut();
        let t = t as usize;
        assert!(t <= steps.len() + 1, "step {t} was asked for before step {}", t - 1);
        if t == steps.len() + 1 {
            let made = next(steps.last().copied());
            steps.push(made);
        }
        steps[t - 1]
    }
}
