use std::borrow::Cow;

mod equations;

use equations::{Decay, Equations};

use crate::Error;
use crate::rule::{Elements, Rule, Step, common_options, cycles, setters};

/// Adam (Kingma & Ba 2015, arXiv 1412.6980), as `torch.optim.Adam`: weight decay is added to the gradient (L2).
///
/// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√exp_avg_sq/√(1 - β₂ᵗ) + eps)`. Other frameworks' forms of the denominator are
/// options, and [`Adam::optax`] and [`Adam::keras`] choose theirs.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
pub struct Adam {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Added inside the root, as optax does: `√(exp_avg_sq/(1 - β₂ᵗ) + eps_root) + eps`; default 0.
    pub eps_root: f64,
    /// The paper's "epsilon hat" (end of its section 2), as Keras and TensorFlow:
    /// `lr·√(1 - β₂ᵗ)/(1 - β₁ᵗ) · exp_avg / (√exp_avg_sq + eps)`, an eps that counts less in the first steps. Not with
    /// `eps_root` or `corrected_max`. Default false.
    pub eps_hat: bool,
    /// L2 weight decay, added to the gradient; default 0.
    pub weight_decay: f64,
    /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the largest `exp_avg_sq` so far; default false.
    pub amsgrad: bool,
    /// With AMSGrad, the largest `exp_avg_sq/(1 - β₂ᵗ)` so far, as optax does; default false: that of `exp_avg_sq`
    /// itself, divided afterwards.
    pub corrected_max: bool,
    /// As [`AdamW::cautious`], by the gradient that the weight decay was added to; default false.
    pub cautious: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            eps_root: 0.0,
            eps_hat: false,
            weight_decay: 0.0,
            amsgrad: false,
            corrected_max: false,
            cautious: false,
            maximize: false,
        }
    }
}

impl Adam {
    /// `torch.optim.Adam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adam` and, with AMSGrad, `optax.amsgrad`: the maximum is that of corrected averages. optax has no default
    /// learning rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { corrected_max: true, ..Self::default() }
    }

    /// `keras.optimizers.Adam`: epsilon hat, 1e-7. What Keras calls its weight decay is decoupled:
    /// [`AdamW::keras`].
    pub fn keras() -> Self {
        Self { eps: 1e-7, eps_hat: true, ..Self::default() }
    }

    setters! {
        /// Sets [`Adam::lr`].
        with_lr(lr: f64),
        /// Sets [`Adam::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`Adam::eps`].
        with_eps(eps: f64),
        /// Sets [`Adam::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`Adam::eps_hat`].
        with_eps_hat(eps_hat: bool),
        /// Sets [`Adam::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adam::amsgrad`].
        with_amsgrad(amsgrad: bool),
        /// Sets [`Adam::corrected_max`].
        with_corrected_max(corrected_max: bool),
        /// Sets [`Adam::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`Adam::maximize`].
        with_maximize(maximize: bool),
    }

    fn equations(&self) -> Equations {
        Equations {
            betas: self.betas,
            eps: self.eps,
            eps_root: self.eps_root,
            eps_hat: self.eps_hat,
            amsgrad: self.amsgrad,
            corrected_max: self.corrected_max,
            cautious: self.cautious,
            decay: None,
        }
    }
}

/// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as `torch.optim.AdamW`: `param *= 1 - lr·weight_decay`
/// before the update, and the gradient is left alone.
///
/// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
pub struct AdamW {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the gradient's and of the squared gradient's running average; default (0.9, 0.999).
    pub betas: (f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// As [`Adam::eps_root`]; default 0.
    pub eps_root: f64,
    /// As [`Adam::eps_hat`]; default false.
    pub eps_hat: bool,
    /// Decoupled weight decay; default 1e-2.
    pub weight_decay: f64,
    /// Decay the parameter that the update made, as bitsandbytes' CUDA kernels do:
    /// `param = (param - update)·(1 - lr·weight_decay)`; default false.
    pub decay_after: bool,
    /// The largest learning rate of the schedule: decay by `lr/max_lr·weight_decay` instead of `lr·weight_decay`, so
    /// that the weight decay means the same whatever the learning rate (optimi's `decouple_lr`). Default none.
    pub max_lr: Option<f64>,
    /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the largest `exp_avg_sq` so far; default false.
    pub amsgrad: bool,
    /// As [`Adam::corrected_max`]; default false.
    pub corrected_max: bool,
    /// Leave parameters whose `exp_avg` and gradient have not the same sign where they are (Liang et al. 2024,
    /// arXiv 2411.16085). Element by element, without the paper's rescaling of the others by the share of them in their
    /// tensor: with that their steps would be larger. Default false.
    pub cautious: bool,
    /// Decay no parameter that the update, before any mask, moves away from 0 (Chen et al. 2025, arXiv 2510.12402):
    /// `param *= 1 - lr·weight_decay` where `exp_avg·param ≥ 0`. Default false.
    pub cautious_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            eps_root: 0.0,
            eps_hat: false,
            weight_decay: 1e-2,
            decay_after: false,
            max_lr: None,
            amsgrad: false,
            corrected_max: false,
            cautious: false,
            cautious_weight_decay: false,
            maximize: false,
        }
    }
}

impl AdamW {
    /// `torch.optim.AdamW`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamw`: weight decay 1e-4, and with AMSGrad (`optax.scale_by_amsgrad`) the maximum of corrected averages.
    /// optax has no default learning rate; this keeps PyTorch's.
    pub fn optax() -> Self {
        Self { weight_decay: 1e-4, corrected_max: true, ..Self::default() }
    }

    /// `keras.optimizers.AdamW`: epsilon hat, 1e-7, weight decay 4e-3.
    pub fn keras() -> Self {
        Self { eps: 1e-7, eps_hat: true, weight_decay: 4e-3, ..Self::default() }
    }

    /// `bitsandbytes.optim.AdamW` with 32 bits on CUDA, which decays after the update. Its CPU and Triton backends
    /// decay before it, as [`AdamW::torch`].
    pub fn bitsandbytes() -> Self {
        Self { decay_after: true, ..Self::default() }
    }

    setters! {
        /// Sets [`AdamW::lr`].
        with_lr(lr: f64),
        /// Sets [`AdamW::betas`].
        with_betas(betas: (f64, f64)),
        /// Sets [`AdamW::eps`].
        with_eps(eps: f64),
        /// Sets [`AdamW::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`AdamW::eps_hat`].
        with_eps_hat(eps_hat: bool),
        /// Sets [`AdamW::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`AdamW::decay_after`].
        with_decay_after(decay_after: bool),
        /// Sets [`AdamW::max_lr`].
        with_max_lr(max_lr: Option<f64>),
        /// Sets [`AdamW::amsgrad`].
        with_amsgrad(amsgrad: bool),
        /// Sets [`AdamW::corrected_max`].
        with_corrected_max(corrected_max: bool),
        /// Sets [`AdamW::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`AdamW::cautious_weight_decay`].
        with_cautious_weight_decay(cautious_weight_decay: bool),
        /// Sets [`AdamW::maximize`].
        with_maximize(maximize: bool),
    }

    fn equations(&self) -> Equations {
        Equations {
            betas: self.betas,
            eps: self.eps,
            eps_root: self.eps_root,
            eps_hat: self.eps_hat,
            amsgrad: self.amsgrad,
            corrected_max: self.corrected_max,
            cautious: self.cautious,
            decay: Some(Decay { after: self.decay_after, max_lr: self.max_lr, cautious: self.cautious_weight_decay }),
        }
    }
}

/// Both rules, told apart by where the weight decay goes.
macro_rules! adam {
    ($Rule:ident, $name:literal) => {
        impl Rule for $Rule {
            common_options!($name);
            cycles!(betas.0);

            fn states(&self) -> Vec<&str> {
                let states = ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];
                states[..if self.amsgrad { 3 } else { 2 }].to_vec()
            }
            fn hyperparameters(&self) -> Vec<(&str, f32)> {
                self.equations().hyperparameters()
            }
            fn constants(&self) -> Vec<(&str, f64)> {
                self.equations().constants()
            }
            fn bias_corrected(&self) -> Vec<f64> {
                vec![self.betas.0, self.betas.1]
            }
            fn validate(&self) -> Result<(), Error> {
                self.equations().validate($name)
            }
            fn wgsl(&self) -> Cow<'_, str> {
                self.equations().wgsl()
            }
            fn update(&self, elements: Elements<'_>, step: &Step) {
                self.equations().update(elements, step);
            }
        }
    };
}

adam!(Adam, "adam");
adam!(AdamW, "adamw");
