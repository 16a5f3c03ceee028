use std::borrow::Cow;

use super::{Elements, Rule, Step, check_beta, setters};
use crate::Error;
use crate::error::check;

/// Adam (Kingma & Ba 2015, arXiv 1412.6980), as `torch.optim.Adam`: weight decay is added to the gradient (L2).
///
/// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√exp_avg_sq/√(1 - β₂ᵗ) + eps)`.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adam {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the largest `exp_avg_sq` so far; default false.
    pub amsgrad: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as `torch.optim.AdamW`: `param *= 1 - lr·weight_decay`
/// before the update, and the gradient is left alone.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct AdamW {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay; default 1e-2.
    pub weight_decay: f64,
    /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the largest `exp_avg_sq` so far; default false.
    pub amsgrad: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

/// Both rules, told apart by where the weight decay goes.
macro_rules! adam {
    ($Rule:ident, $name:literal, $weight_decay:literal, $decoupled:literal) => {
        impl Default for $Rule {
            fn default() -> Self {
                Self {
                    lr: 1e-3,
                    betas: (0.9, 0.999),
                    eps: 1e-8,
                    weight_decay: $weight_decay,
                    amsgrad: false,
                    maximize: false,
                }
            }
        }

        impl $Rule {
            setters! {
                /// Sets the learning rate.
                with_lr(lr: f64),
                /// Sets both betas.
                with_betas(betas: (f64, f64)),
                /// Sets eps.
                with_eps(eps: f64),
                /// Sets the weight decay.
                with_weight_decay(weight_decay: f64),
                /// Switches AMSGrad.
                with_amsgrad(amsgrad: bool),
                /// Switches the direction.
                with_maximize(maximize: bool),
            }

            fn hyper(&self) -> Hyper {
                Hyper::new(self.betas, self.eps)
            }
        }

        impl Rule for $Rule {
            fn name(&self) -> &'static str {
                $name
            }
            fn lr(&self) -> f64 {
                self.lr
            }
            fn weight_decay(&self) -> f64 {
                self.weight_decay
            }
            fn maximize(&self) -> bool {
                self.maximize
            }
            fn states(&self) -> Vec<&str> {
                let states = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
                states[..if self.amsgrad { 3 } else { 2 }].to_vec()
            }
            fn hyperparameters(&self) -> Vec<(&str, f32)> {
                let Hyper { beta1, one_minus_beta1, beta2, one_minus_beta2, eps } = self.hyper();
                vec![
                    ("beta1", beta1),
                    ("one_minus_beta1", one_minus_beta1),
                    ("beta2", beta2),
                    ("one_minus_beta2", one_minus_beta2),
                    ("eps", eps),
                ]
            }
            fn constants(&self) -> Vec<(&str, f64)> {
                vec![("decoupled_weight_decay", f64::from(u8::from($decoupled)))]
            }
            fn bias_corrected(&self) -> Vec<f64> {
                vec![self.betas.0, self.betas.1]
            }
            fn validate(&self) -> Result<(), Error> {
                check_beta($name, "betas.0", self.betas.0)?;
                check_beta($name, "betas.1", self.betas.1)?;
                check(self.eps >= 0.0 && (self.eps as f32).is_finite(), $name, "eps", self.eps, "0 or greater, finite")
            }
            fn wgsl(&self) -> Cow<'_, str> {
                let second_moment = if self.amsgrad {
                    include_str!("../../shaders/rule/adam/amsgrad.wgsl")
                } else {
                    include_str!("../../shaders/rule/adam/plain.wgsl")
                };
                format!("{}\n{second_moment}", include_str!("../../shaders/rule/adam.wgsl")).into()
            }
            fn update(&self, elements: Elements<'_>, step: &Step) {
                let hyper = self.hyper();
                if self.amsgrad {
                    elements.each(|param, grad, [exp_avg, exp_avg_sq, max_exp_avg_sq]| {
                        let mut new_max_exp_avg_sq = max_exp_avg_sq;
                        let (new_param, new_exp_avg, new_exp_avg_sq) =
                            adam::<$decoupled>(param, grad, exp_avg, exp_avg_sq, &hyper, step, |exp_avg_sq| {
                                new_max_exp_avg_sq = max_exp_avg_sq.max(exp_avg_sq);
                                new_max_exp_avg_sq
                            });
                        (new_param, [new_exp_avg, new_exp_avg_sq, new_max_exp_avg_sq])
                    });
                } else {
                    elements.each(|param, grad, [exp_avg, exp_avg_sq]| {
                        let (new_param, new_exp_avg, new_exp_avg_sq) =
                            adam::<$decoupled>(param, grad, exp_avg, exp_avg_sq, &hyper, step, |exp_avg_sq| exp_avg_sq);
                        (new_param, [new_exp_avg, new_exp_avg_sq])
                    });
                }
            }
        }
    };
}

adam!(Adam, "adam", 0.0, false);
adam!(AdamW, "adamw", 1e-2, true);

struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
}

impl Hyper {
    fn new(betas: (f64, f64), eps: f64) -> Self {
        Self {
            beta1: betas.0 as f32,
            one_minus_beta1: (1.0 - betas.0) as f32,
            beta2: betas.1 as f32,
            one_minus_beta2: (1.0 - betas.1) as f32,
            eps: eps as f32,
        }
    }
}

/// Twin of `rule` in `shaders/rule/adam.wgsl`.
#[inline]
fn adam<const DECOUPLED_WEIGHT_DECAY: bool>(
    param: f32,
    grad: f32,
    exp_avg: f32,
    exp_avg_sq: f32,
    hyper: &Hyper,
    step: &Step,
    second_moment: impl FnOnce(f32) -> f32,
) -> (f32, f32, f32) {
    let mut new_param = param;
    let mut decayed = grad;
    if DECOUPLED_WEIGHT_DECAY {
        new_param = param - (step.lr * step.weight_decay) * param;
    } else {
        decayed = grad + step.weight_decay * param;
    }
    let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * decayed;
    let new_exp_avg_sq = hyper.beta2 * exp_avg_sq + hyper.one_minus_beta2 * (decayed * decayed);
    let step_size = step.lr / step.bias_correction[0];
    let denom = second_moment(new_exp_avg_sq).sqrt() / step.bias_correction[1].sqrt() + hyper.eps;
    new_param -= step_size * (new_exp_avg / denom);
    (new_param, new_exp_avg, new_exp_avg_sq)
}
