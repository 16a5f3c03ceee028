//! Sharpness-aware minimization: steps with the gradient at a perturbed point.

use crate::Error;
use crate::error::check;

/// Sharpness-aware minimization around any rule: SAM ([arXiv 2010.01412](https://arxiv.org/abs/2010.01412)), and adaptive
/// SAM ([arXiv 2102.11600](https://arxiv.org/abs/2102.11600)). It takes two gradients per step.
///
/// `perturb` stores the parameters and moves them by `rho` along the first gradient; `step` takes the second gradient, and
/// starts from the stored parameters.
/// - SAM: `param += rho * grad / ‖grad‖`.
/// - Adaptive, with `s = |param| + eta` for each element: `param += rho * s * (s * grad) / ‖s * grad‖`.
///
/// The norm is the 2-norm over all gradients but those of frozen elements, computed on the device. Gradients of 0 move
/// nothing, and no eps is added to the norm. A non-finite gradient perturbs to non-finite parameters. The second gradient
/// then is non-finite too, and the step follows [`NonFinite`](crate::NonFinite), from the stored parameters.
///
/// ```
/// use wgpu_optim::{Layout, Optimizer, Sam, Sgd};
/// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).sam(Sam::new(0.5));
/// let mut optimizer = builder.build_cpu(&Layout::flat(2)?)?;
/// let mut params = [1.0, 2.0];
/// optimizer.perturb(&mut params, &[3.0, 4.0])?;
/// assert_eq!(params, [1.3, 2.4]); // 0.5 * [3, 4] / 5 from there
/// optimizer.step(&mut params, &[1.0, -1.0])?;
/// assert_eq!(params, [0.0, 3.0]);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[non_exhaustive]
pub struct Sam {
    /// Length of the perturbation, 0 or greater; 0.05 in the paper of SAM, 0.5 or 1 in that of adaptive SAM.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub rho: f64,
    /// Adaptive SAM: added to `|param|`, 0 or greater; 0.01 in the paper. `None` for SAM.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::number"))]
    pub eta: Option<f64>,
}

impl Sam {
    /// SAM.
    pub fn new(rho: f64) -> Self {
        Self { rho, eta: None }
    }

    /// Adaptive SAM.
    pub fn adaptive(rho: f64, eta: f64) -> Self {
        Self { rho, eta: Some(eta) }
    }

    pub(crate) fn is_adaptive(&self) -> bool {
        self.eta.is_some()
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let is_length = |value: f64| value >= 0.0 && (value as f32).is_finite();
        let allowed = "0 or greater, finite in f32";
        check(is_length(self.rho), "sam", "rho", self.rho, allowed)?;
        self.eta.map_or(Ok(()), |eta| check(is_length(eta), "sam", "eta", eta, allowed))
    }

    /// Further fields of `Hyper`. Ascends where the rule descends.
    pub(crate) fn hyperparameters(&self, maximize: bool) -> [(&'static str, f32); 2] {
        let rho = if maximize { -self.rho } else { self.rho };
        [("sam_rho", rho as f32), ("sam_eta", self.eta.unwrap_or_default() as f32)]
    }

    /// The factor of a gradient in the norm, and twice in the perturbation.
    #[inline(always)]
    pub(crate) fn param_scale(&self, param: f32) -> f32 {
        self.eta.map_or(1.0, |eta| param.abs() + eta as f32)
    }
}
