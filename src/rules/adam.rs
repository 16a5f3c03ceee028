use std::borrow::Cow;

mod equations;
mod row_second_moment;
mod second_moment;

use equations::{Decay, Equations};

use super::declare::{Declared, common_spec, cycles_momentum, rule};
use crate::Error;
use crate::rule::{Elements, Factored, Rule, RuleSpec, StateSpec, StepScalars};

rule! {
    /// Adam (Kingma & Ba 2015, arXiv 1412.6980), as `torch.optim.Adam`: weight decay is added to the gradient (L2)
    /// unless decoupled.
    ///
    /// `param -= lr/(1 - β₁ᵗ) · exp_avg / (√exp_avg_sq/√(1 - β₂ᵗ) + eps)`. Other frameworks' denominators are options;
    /// [`Adam::optax`] and [`Adam::keras`] set them.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
    Adam = "adam" from "torch.optim" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// Added inside the root, as optax does: `√(exp_avg_sq/(1 - β₂ᵗ) + eps_root) + eps`; default 0.
        eps_root: f64 = 0.0, with_eps_root;
        /// The paper's "epsilon hat" (end of its section 2), as Keras and TensorFlow:
        /// `lr·√(1 - β₂ᵗ)/(1 - β₁ᵗ) · exp_avg / (√exp_avg_sq + eps)`. Excludes `eps_root` and `corrected_max`;
        /// default false.
        eps_hat: bool = false, with_eps_hat;
        /// Weight decay, added to the gradient (L2) unless decoupled; default 0.
        weight_decay: f64 = 0.0, with_weight_decay;
        /// Decoupled weight decay: the numbers of [`AdamW`]; default false.
        decoupled_weight_decay: bool = false, with_decoupled_weight_decay;
        /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the maximum of `exp_avg_sq` over all steps; default
        /// false.
        amsgrad: bool = false, with_amsgrad;
        /// AMSGrad's maximum is that of `exp_avg_sq/(1 - β₂ᵗ)`, as in optax. Otherwise it is that of `exp_avg_sq`, and
        /// corrected afterwards; default false.
        corrected_max: bool = false, with_corrected_max;
        /// As [`AdamW::cautious`], by the gradient with weight decay; default false.
        cautious: bool = false, with_cautious;
        /// One second moment per row in place of `exp_avg_sq`, the state `row_var`, 4 bytes per row:
        /// `row_var = β₂·row_var + (1 - β₂)·mean(grad²)`, of gradients without weight decay. Requires
        /// [`Rows`](crate::Rows); default false.
        row_second_moment: bool = false, with_row_second_moment;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {
        optax: "AMSGrad's maximum is that of `exp_avg_sq/(1 - β₂ᵗ)`; `eps_root`, default 0, is added inside the root",
        keras: "epsilon hat, 1e-7: `lr·√(1 - β₂ᵗ)/(1 - β₁ᵗ)·exp_avg/(√exp_avg_sq + eps)`",
        burn: "eps 1e-5",
    }
    variants {
        Self::default().with_amsgrad(true),
        Self::optax().with_amsgrad(true),
        Self::keras(),
        Self::default().with_cautious(true),
        Self::default().with_decoupled_weight_decay(true),
    }
}

impl Adam {
    /// `torch.optim.Adam`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adam` and, with AMSGrad, `optax.amsgrad`: the maximum is that of corrected averages. optax has no default
    /// learning rate; this keeps the default.
    pub fn optax() -> Self {
        Self { corrected_max: true, ..Self::default() }
    }

    /// `keras.optimizers.Adam`: epsilon hat, 1e-7. Weight decay is decoupled in Keras: [`AdamW::keras`].
    pub fn keras() -> Self {
        Self { eps: 1e-7, eps_hat: true, ..Self::default() }
    }

    /// `burn::optim::AdamConfig`: eps 1e-5. burn has no default learning rate; this keeps the default.
    pub fn burn() -> Self {
        Self { eps: 1e-5, ..Self::default() }
    }

    fn equations(&self) -> Equations {
        Equations {
            betas: self.betas,
            eps: self.eps,
            eps_root: self.eps_root,
            eps_hat: self.eps_hat,
            amsgrad: self.amsgrad,
            corrected_max: self.corrected_max,
            row_second_moment: self.row_second_moment,
            cautious: self.cautious,
            decay: self.decoupled_weight_decay.then_some(Decay { after: false, max_lr: None, cautious: false }),
        }
    }
}

rule! {
    /// AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as `torch.optim.AdamW`: `param *= 1 - lr·weight_decay`
    /// before the update, the gradient without weight decay.
    ///
    /// State: 8 bytes per parameter (`exp_avg`, `exp_avg_sq`), 12 with AMSGrad (`max_exp_avg_sq`).
    AdamW = "adamw" from "torch.optim" {
        /// Learning rate; default 1e-3.
        lr: f64 = 1e-3, with_lr;
        /// β of the running averages of the gradient and of its square; default (0.9, 0.999).
        betas: (f64, f64) = (0.9, 0.999), with_betas;
        /// Added to the denominator; default 1e-8.
        eps: f64 = 1e-8, with_eps;
        /// As [`Adam::eps_root`]; default 0.
        eps_root: f64 = 0.0, with_eps_root;
        /// As [`Adam::eps_hat`]; default false.
        eps_hat: bool = false, with_eps_hat;
        /// Decoupled weight decay; default 1e-2.
        weight_decay: f64 = 1e-2, with_weight_decay;
        /// Decay after the update, as bitsandbytes' CUDA kernels do: `param = (param - update)·(1 - lr·weight_decay)`;
        /// default false.
        decay_after: bool = false, with_decay_after;
        /// Maximum learning rate of the schedule: decays by `lr/max_lr·weight_decay` instead of `lr·weight_decay`
        /// (optimi's `decouple_lr`). The learning rate then does not scale the decay; default none.
        max_lr: Option<f64> = None, with_max_lr;
        /// AMSGrad (Reddi et al. 2018, arXiv 1904.09237): divide by the maximum of `exp_avg_sq` over all steps; default
        /// false.
        amsgrad: bool = false, with_amsgrad;
        /// As [`Adam::corrected_max`]; default false.
        corrected_max: bool = false, with_corrected_max;
        /// Skip the update of elements where `exp_avg` and gradient differ in sign (Liang et al. 2024,
        /// arXiv 2411.16085). Omits the paper's rescaling of the other elements by their share in the tensor, which
        /// enlarges their steps; default false.
        cautious: bool = false, with_cautious;
        /// Skip the decay of elements that the update, before any mask, moves away from 0 (Chen et al. 2025,
        /// arXiv 2510.12402): `param *= 1 - lr·weight_decay` only where `exp_avg·param ≥ 0`; default false.
        cautious_weight_decay: bool = false, with_cautious_weight_decay;
        /// As [`Adam::row_second_moment`]; default false.
        row_second_moment: bool = false, with_row_second_moment;
        /// Ascend; default false.
        maximize: bool = false, with_maximize;
    }
    presets {
        optax: "as `Adam::optax()`; weight decay 1e-4",
        keras: "as `Adam::keras()`; weight decay 4e-3",
        bitsandbytes: "weight decay after the update, as on CUDA; on the CPU bitsandbytes decays before it, as PyTorch",
        burn: "eps 1e-5; weight decay 1e-4",
    }
    variants {
        Self::default().with_amsgrad(true),
        Self::bitsandbytes().with_eps_root(1e-8).with_max_lr(Some(0.1)),
        Self::default().with_cautious(true).with_cautious_weight_decay(true),
    }
}

impl AdamW {
    /// `torch.optim.AdamW`: the default.
    pub fn torch() -> Self {
        Self::default()
    }

    /// `optax.adamw`: weight decay 1e-4. With AMSGrad (`optax.scale_by_amsgrad`), the maximum is that of corrected
    /// averages. optax has no default learning rate; this keeps the default.
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

    /// `burn::optim::AdamWConfig`: eps 1e-5, weight decay 1e-4. burn has no default learning rate; this keeps the default.
    /// burn's cautious weight decay takes 0 for positive: it leaves negative parameters whose `exp_avg` is 0 as they are.
    pub fn burn() -> Self {
        Self { eps: 1e-5, weight_decay: 1e-4, ..Self::default() }
    }

    fn equations(&self) -> Equations {
        Equations {
            betas: self.betas,
            eps: self.eps,
            eps_root: self.eps_root,
            eps_hat: self.eps_hat,
            amsgrad: self.amsgrad,
            corrected_max: self.corrected_max,
            row_second_moment: self.row_second_moment,
            cautious: self.cautious,
            decay: Some(Decay { after: self.decay_after, max_lr: self.max_lr, cautious: self.cautious_weight_decay }),
        }
    }
}

/// The rule's WGSL with a second moment.
macro_rules! wgsl {
    ($second_moment:literal) => {
        concat!(
            include_str!("../../shaders/rules/adam.wgsl"),
            include_str!(concat!("../../shaders/rules/adam/", $second_moment, ".wgsl"))
        )
    };
}

/// Both rules: they differ in their equations' weight decay.
macro_rules! adam {
    ($Rule:ident) => {
        impl Rule for $Rule {
            cycles_momentum!(betas.0);

            fn spec(&self) -> RuleSpec {
                let equations = self.equations();
                common_spec!(self)
                    .with_states([
                        StateSpec::first_moment("exp_avg"),
                        StateSpec::second_moment("exp_avg_sq").only_if(!self.row_second_moment),
                        StateSpec::second_moment("max_exp_avg_sq").only_if(self.amsgrad),
                    ])
                    .with_hyperparameters(equations.hyperparameters())
                    .with_flags(equations.flags())
                    .with_bias_corrected([self.betas.0, self.betas.1])
            }
            fn validate(&self) -> Result<(), Error> {
                self.equations().validate(Self::NAME)
            }
            fn wgsl(&self) -> Cow<'_, str> {
                if self.row_second_moment {
                    wgsl!("row_second_moment").into()
                } else {
                    wgsl!("second_moment").into()
                }
            }
            fn factored(&self) -> Option<&dyn Factored> {
                self.row_second_moment.then_some(self)
            }
            fn update(&self, elements: Elements<'_>, step: &StepScalars) {
                self.equations().update(elements, step);
            }
        }
    };
}

/// Factors of rows, for both rules.
macro_rules! factored {
    ($Rule:ident) => {
        impl Factored for $Rule {
            fn factors_rows(&self) -> bool {
                true
            }
            fn update_factor(&self, old: f32, mean_sq: f32, _: [f32; 4], _: u32) -> f32 {
                row_second_moment::update_factor(self.betas, old, mean_sq)
            }
            fn floor_mean(&self, mean: f32) -> f32 {
                row_second_moment::floor_mean(mean)
            }
        }
    };
}

factored!(Adam);
factored!(AdamW);
adam!(Adam);
adam!(AdamW);
