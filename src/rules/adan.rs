use std::borrow::Cow;

use crate::Error;
use crate::rule::{Elements, Rule, Step, agree, average, check_beta, check_rate, common_options, setters};

/// Adan (Xie et al. 2022, arXiv 2208.06677), as its authors' `sail-sg/Adan` and `timm.optim.Adan`: Nesterov momentum
/// from the differences of successive gradients.
///
/// With `diff = grad - previous grad` (0 at the first step) and `w = β₂`:
/// `exp_avg_sq = β₃·exp_avg_sq + (1 - β₃)(grad + w·diff)²`; the update is
/// `(exp_avg/(1 - β₁ᵗ) + w·exp_avg_diff/(1 - β₂ᵗ)) / (√(exp_avg_sq/(1 - β₃ᵗ) + eps_root) + eps)`;
/// `param = (param - lr·update)/(1 + lr·weight_decay)`, or with `no_prox` `param·(1 - lr·weight_decay) - lr·update`.
///
/// Betas are decay rates, as in both packages; the paper's are 1 minus them. [`Adan::optax`] has optax's `w = 1 - β₂`.
///
/// State: 16 bytes per parameter (`exp_avg`, `exp_avg_diff`, `exp_avg_sq`, `neg_pre_grad`).
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework or a paper")]
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Adan {
    /// Learning rate; default 1e-3.
    pub lr: f64,
    /// β of the running averages of gradient, difference and square; default (0.98, 0.92, 0.99).
    pub betas: (f64, f64, f64),
    /// Added to the denominator; default 1e-8.
    pub eps: f64,
    /// Added inside the root; default 0.
    pub eps_root: f64,
    /// Weight decay, proximal or, with `no_prox`, as `AdamW`'s; default 0.
    pub weight_decay: f64,
    /// Decay the parameter before the update instead of dividing it after; default false.
    pub no_prox: bool,
    /// Weigh differences by 1 - β₂ as optax does, not by β₂; default false.
    pub complement_weight: bool,
    /// Leave `exp_avg` out of the update where it has not the gradient's sign, as timm does: see
    /// [`AdamW::cautious`](crate::AdamW). Default false.
    pub cautious: bool,
    /// Decay no parameter that the update, before any mask, moves away from 0: see
    /// [`AdamW::cautious_weight_decay`](crate::AdamW). Default false.
    pub cautious_weight_decay: bool,
    /// Follow the gradient upwards; default false.
    pub maximize: bool,
}

impl Default for Adan {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            betas: (0.98, 0.92, 0.99),
            eps: 1e-8,
            eps_root: 0.0,
            weight_decay: 0.0,
            no_prox: false,
            complement_weight: false,
            cautious: false,
            cautious_weight_decay: false,
            maximize: false,
        }
    }
}

impl Adan {
    /// The defaults and conventions of `optax.adan`: `eps_root` 1e-8, `no_prox`, and differences weighed by 1 - β₂,
    /// which with the same betas is another rule than the authors'.
    pub fn optax() -> Self {
        Self { eps_root: 1e-8, no_prox: true, complement_weight: true, ..Self::default() }
    }

    setters! {
        /// Sets [`Adan::lr`].
        with_lr(lr: f64),
        /// Sets [`Adan::betas`].
        with_betas(betas: (f64, f64, f64)),
        /// Sets [`Adan::eps`].
        with_eps(eps: f64),
        /// Sets [`Adan::eps_root`].
        with_eps_root(eps_root: f64),
        /// Sets [`Adan::weight_decay`].
        with_weight_decay(weight_decay: f64),
        /// Sets [`Adan::no_prox`].
        with_no_prox(no_prox: bool),
        /// Sets [`Adan::complement_weight`].
        with_complement_weight(complement_weight: bool),
        /// Sets [`Adan::cautious`].
        with_cautious(cautious: bool),
        /// Sets [`Adan::cautious_weight_decay`].
        with_cautious_weight_decay(cautious_weight_decay: bool),
        /// Sets [`Adan::maximize`].
        with_maximize(maximize: bool),
    }

    /// The betas and their complements, eps, `eps_root`, and the weight of differences.
    fn rounded(&self) -> [f32; 9] {
        let (beta1, beta2, beta3) = self.betas;
        let diff_weight = if self.complement_weight { 1.0 - beta2 } else { beta2 };
        [beta1, 1.0 - beta1, beta2, 1.0 - beta2, beta3, 1.0 - beta3, self.eps, self.eps_root, diff_weight]
            .map(|value| value as f32)
    }
}

impl Rule for Adan {
    common_options!("adan");

    fn states(&self) -> Vec<&str> {
        vec!["exp_avg", "exp_avg_diff", "exp_avg_sq", "neg_pre_grad"]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        let betas = ["beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "beta3", "one_minus_beta3"];
        betas.into_iter().chain(["eps", "eps_root", "diff_weight"]).zip(self.rounded()).collect()
    }
    fn constants(&self) -> Vec<(&str, f64)> {
        let flag = |name, flag| (name, f64::from(u8::from(flag)));
        vec![
            flag("no_prox", self.no_prox),
            flag("cautious", self.cautious),
            flag("cautious_weight_decay", self.cautious_weight_decay),
        ]
    }
    fn bias_corrected(&self) -> Vec<f64> {
        vec![self.betas.0, self.betas.1, self.betas.2]
    }
    fn validate(&self) -> Result<(), Error> {
        check_beta(self.name(), "betas.0", self.betas.0)?;
        check_beta(self.name(), "betas.1", self.betas.1)?;
        check_beta(self.name(), "betas.2", self.betas.2)?;
        check_rate(self.name(), "eps", self.eps)?;
        check_rate(self.name(), "eps_root", self.eps_root)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        concat!(
            include_str!("../../shaders/rules/adan.wgsl"),
            include_str!("../../shaders/rule/average.wgsl"),
            include_str!("../../shaders/rule/agree.wgsl")
        )
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &Step) {
        let (rule, step) = (self.clone(), *step);
        let [beta1, one_minus_beta1, beta2, one_minus_beta2, beta3, one_minus_beta3, eps, eps_root, diff_weight] =
            rule.rounded();
        elements.each(
            #[inline(always)]
            move |param, grad, [exp_avg, exp_avg_diff, exp_avg_sq, neg_pre_grad]| {
                let mut diff = grad + neg_pre_grad;
                if step.t == 1 {
                    diff = 0.0;
                }
                let new_exp_avg = average(exp_avg, grad, beta1, one_minus_beta1);
                let new_exp_avg_diff = average(exp_avg_diff, diff, beta2, one_minus_beta2);
                let lookahead = grad + diff_weight * diff;
                let new_exp_avg_sq = average(exp_avg_sq, lookahead * lookahead, beta3, one_minus_beta3);
                let new_neg_pre_grad = -grad;
                let mut momentum = new_exp_avg / step.bias_correction[0];
                let change = diff_weight * (new_exp_avg_diff / step.bias_correction[1]);
                let denom = (new_exp_avg_sq / step.bias_correction[2] + eps_root).sqrt() + eps;
                let mut decay = step.lr * step.weight_decay;
                if rule.cautious_weight_decay && agree(-(momentum + change), param) {
                    decay = 0.0;
                }
                if rule.cautious {
                    momentum *= f32::from(u8::from(agree(new_exp_avg, grad)));
                }
                let mut change_of_param = decay * param + step.lr * ((momentum + change) / denom);
                if !rule.no_prox {
                    change_of_param /= 1.0 + decay;
                }
                let new_param = param - change_of_param;
                (new_param, [new_exp_avg, new_exp_avg_diff, new_exp_avg_sq, new_neg_pre_grad])
            },
        );
    }
}
