//! Lookahead: slow weights that follow the parameters every few steps.

use crate::Error;
use crate::error::check;
use crate::rule::{StateSpec, lerp};

/// Lookahead ([arXiv 1907.08610](https://arxiv.org/abs/1907.08610)) around any rule: after every `k` applied steps,
/// `slow += alpha * (param - slow)`, then `param = slow`. The state `slow` takes 4 bytes per parameter.
///
/// ```
/// use wgpu_optim::{Layout, Lookahead, Optimizer, Sgd};
/// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).lookahead(Lookahead::new(2, 0.5));
/// let mut optimizer = builder.build_cpu(&Layout::flat(1)?)?;
/// let mut params = [0.0];
/// optimizer.step(&mut params, &[-1.0])?;
/// assert_eq!(params, [1.0]);
/// optimizer.step(&mut params, &[-1.0])?;
/// assert_eq!(params, [1.0]); // half of the way from 0 to 2
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Lookahead {
    /// Steps from one synchronization to the next, 1 or more; 5 or 6 in the paper.
    pub k: u32,
    /// Share of the way that the slow weights go, 0 to 1; 0.5 or 0.8 in the paper.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub alpha: f64,
}

impl Lookahead {
    /// Synchronizes every `k` steps.
    pub fn new(k: u32, alpha: f64) -> Self {
        Self { k, alpha }
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        check(self.k > 0, "lookahead", "k", self.k.into(), "1 or more")?;
        check((0.0..=1.0).contains(&self.alpha), "lookahead", "alpha", self.alpha, "0 to 1")
    }

    pub(crate) fn state() -> StateSpec {
        StateSpec::new("slow").as_param()
    }

    /// Further fields of `Hyper`.
    pub(crate) fn hyperparameters(&self) -> [(&'static str, f32); 2] {
        [("lookahead_alpha", self.alpha as f32), ("lookahead_rest", (1.0 - self.alpha) as f32)]
    }

    /// Values of override constants.
    pub(crate) fn constants(&self) -> [(&'static str, f64); 1] {
        [("lookahead_k", self.k.into())]
    }

    pub(crate) fn begin_lookahead(slow: &mut [f32], param: &[f32], is_first: bool) {
        if is_first {
            slow.copy_from_slice(param);
        }
    }

    fn synchronizes(&self, t: u32) -> bool {
        t.is_multiple_of(self.k)
    }

    /// Updates the slow weights, and sets the parameters to them, every `k` steps.
    pub(crate) fn synchronize(&self, slow: &mut [f32], param: &mut [f32], t: u32) {
        if !self.synchronizes(t) {
            return;
        }
        let [(_, alpha), (_, rest)] = self.hyperparameters();
        for (slow, param) in slow.iter_mut().zip(param) {
            *slow = lerp(*slow, *param, rest, alpha);
            *param = *slow;
        }
    }
}
