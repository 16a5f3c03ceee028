use super::{row_second_moment, second_moment};
use crate::Error;
use crate::error::check;
use crate::rule::{Elements, StepScalars, check_beta, check_rate, maximum, same_sign};

/// The options of `Adam` and `AdamW`.
#[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
pub(super) struct Equations {
    pub(super) betas: (f64, f64),
    pub(super) eps: f64,
    pub(super) eps_root: f64,
    pub(super) eps_hat: bool,
    pub(super) amsgrad: bool,
    pub(super) corrected_max: bool,
    pub(super) row_second_moment: bool,
    pub(super) cautious: bool,
    /// `None`: L2.
    pub(super) decay: Option<Decay>,
}

/// Decoupled weight decay.
pub(super) struct Decay {
    pub(super) after: bool,
    pub(super) max_lr: Option<f64>,
    pub(super) cautious: bool,
}

#[derive(Clone, Copy)]
struct Hyper {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    eps: f32,
    eps_root: f32,
    max_lr: f32,
}

/// The override constants of the WGSL.
#[derive(Clone, Copy, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "each is an override constant, under its name")]
struct Constants {
    decoupled_weight_decay: bool,
    decay_after: bool,
    decouple_lr: bool,
    eps_hat: bool,
    amsgrad: bool,
    corrected_max: bool,
    corrected_root: bool,
    cautious: bool,
    cautious_weight_decay: bool,
}

impl Constants {
    /// The constants of PyTorch's rules.
    const fn torch(decoupled_weight_decay: bool, amsgrad: bool) -> Self {
        Self {
            decoupled_weight_decay,
            decay_after: false,
            decouple_lr: false,
            eps_hat: false,
            amsgrad,
            corrected_max: false,
            corrected_root: false,
            cautious: false,
            cautious_weight_decay: false,
        }
    }
}

impl Equations {
    pub(super) fn hyperparameters(&self) -> [(&'static str, f32); 7] {
        let Hyper { beta1, one_minus_beta1, beta2, one_minus_beta2, eps, eps_root, max_lr } = self.hyper();
        [
            ("beta1", beta1),
            ("one_minus_beta1", one_minus_beta1),
            ("beta2", beta2),
            ("one_minus_beta2", one_minus_beta2),
            ("eps", eps),
            ("eps_root", eps_root),
            ("max_lr", max_lr),
        ]
    }

    pub(super) fn flags(&self) -> [(&'static str, bool); 9] {
        let constants = self.constants();
        [
            ("decoupled_weight_decay", constants.decoupled_weight_decay),
            ("decay_after", constants.decay_after),
            ("decouple_lr", constants.decouple_lr),
            ("eps_hat", constants.eps_hat),
            ("amsgrad", constants.amsgrad),
            ("corrected_max", constants.corrected_max),
            ("corrected_root", constants.corrected_root),
            ("cautious", constants.cautious),
            ("cautious_weight_decay", constants.cautious_weight_decay),
        ]
    }

    pub(super) fn validate(&self, owner: &str) -> Result<(), Error> {
        check_beta(owner, "betas.0", self.betas.0)?;
        check_beta(owner, "betas.1", self.betas.1)?;
        check_rate(owner, "eps", self.eps)?;
        check_rate(owner, "eps_root", self.eps_root)?;
        if self.eps_hat {
            check(self.eps_root == 0.0, owner, "eps_root", self.eps_root, "0 with eps_hat")?;
            let corrected = u8::from(self.amsgrad && self.corrected_max).into();
            check(corrected == 0.0, owner, "corrected_max", corrected, "false with eps_hat and amsgrad")?;
        }
        if let Some(max_lr) = self.decay.as_ref().and_then(|decay| decay.max_lr) {
            let ok = max_lr as f32 > 0.0 && (max_lr as f32).is_finite();
            check(ok, owner, "max_lr", max_lr, "greater than 0, finite in f32")?;
        }
        Ok(())
    }

    pub(super) fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let (hyper, constants) = (self.hyper(), self.constants());
        // PyTorch's rules run faster with compile-time constants.
        if constants == Constants::torch(true, self.amsgrad) {
            self.each(elements, step, hyper, || const { Constants::torch(true, false) });
        } else if constants == Constants::torch(false, self.amsgrad) {
            self.each(elements, step, hyper, || const { Constants::torch(false, false) });
        } else {
            self.each(elements, step, hyper, move || constants);
        }
    }

    /// `constants` returns the constants. Its `amsgrad` is ignored.
    fn each(&self, elements: Elements<'_>, step: &StepScalars, hyper: Hyper, constants: impl Fn() -> Constants + Copy) {
        // A copy cannot alias the stores of the loop.
        let step = *step;
        match (self.amsgrad, self.row_second_moment) {
            (false, false) => elements.each(
                #[inline(always)]
                move |param, grad, [exp_avg, exp_avg_sq]| {
                    let constants = Constants { amsgrad: false, ..constants() };
                    let states = [exp_avg, exp_avg_sq, 0.0];
                    let (param, [exp_avg, exp_avg_sq, _]) = adam::<false>(param, grad, states, hyper, constants, &step);
                    (param, [exp_avg, exp_avg_sq])
                },
            ),
            (true, false) => elements.each(
                #[inline(always)]
                move |param, grad, states| {
                    let constants = Constants { amsgrad: true, ..constants() };
                    adam::<false>(param, grad, states, hyper, constants, &step)
                },
            ),
            (false, true) => elements.each(
                #[inline(always)]
                move |param, grad, [exp_avg, variance]| {
                    let constants = Constants { amsgrad: false, ..constants() };
                    let states = [exp_avg, variance, 0.0];
                    let (param, [exp_avg, ..]) = adam::<true>(param, grad, states, hyper, constants, &step);
                    (param, [exp_avg, variance])
                },
            ),
            (true, true) => elements.each(
                #[inline(always)]
                move |param, grad, [exp_avg, max_exp_avg_sq, variance]| {
                    let constants = Constants { amsgrad: true, ..constants() };
                    let states = [exp_avg, variance, max_exp_avg_sq];
                    let (param, [exp_avg, _, max_exp_avg_sq]) =
                        adam::<true>(param, grad, states, hyper, constants, &step);
                    (param, [exp_avg, max_exp_avg_sq, variance])
                },
            ),
        }
    }

    fn hyper(&self) -> Hyper {
        Hyper {
            beta1: self.betas.0 as f32,
            one_minus_beta1: (1.0 - self.betas.0) as f32,
            beta2: self.betas.1 as f32,
            one_minus_beta2: (1.0 - self.betas.1) as f32,
            eps: self.eps as f32,
            eps_root: self.eps_root as f32,
            max_lr: self.decay.as_ref().and_then(|decay| decay.max_lr).unwrap_or(1.0) as f32,
        }
    }

    fn constants(&self) -> Constants {
        let corrected_max = self.amsgrad && self.corrected_max;
        Constants {
            decoupled_weight_decay: self.decay.is_some(),
            decay_after: self.decay.as_ref().is_some_and(|decay| decay.after),
            decouple_lr: self.decay.as_ref().is_some_and(|decay| decay.max_lr.is_some()),
            eps_hat: self.eps_hat,
            amsgrad: self.amsgrad,
            corrected_max,
            corrected_root: corrected_max || self.eps_root > 0.0,
            cautious: self.cautious,
            cautious_weight_decay: self.decay.as_ref().is_some_and(|decay| decay.cautious),
        }
    }
}

/// `rule` of the WGSL. `BY_ROW`: the second state is the row's updated second moment. Reads and writes the last state only
/// with `amsgrad`.
#[inline(always)]
fn adam<const BY_ROW: bool>(
    param: f32,
    grad: f32,
    [exp_avg, exp_avg_sq, max_exp_avg_sq]: [f32; 3],
    hyper: Hyper,
    constants: Constants,
    step: &StepScalars,
) -> (f32, [f32; 3]) {
    let mut new_max_exp_avg_sq = max_exp_avg_sq;
    let mut decayed = grad;
    if !constants.decoupled_weight_decay {
        decayed = grad + step.weight_decay * param;
    }
    let new_exp_avg = hyper.beta1 * exp_avg + hyper.one_minus_beta1 * decayed;
    let new_exp_avg_sq = if BY_ROW {
        row_second_moment::second_moment(exp_avg_sq)
    } else {
        second_moment::second_moment(exp_avg_sq, decayed, hyper.beta2, hyper.one_minus_beta2)
    };
    let mut moment = new_exp_avg_sq;
    if constants.amsgrad {
        if constants.corrected_max {
            moment /= step.bias_correction[1];
        }
        new_max_exp_avg_sq = maximum(max_exp_avg_sq, moment);
        moment = new_max_exp_avg_sq;
    }
    let mut step_size = step.lr / step.bias_correction[0];
    let denom;
    if constants.eps_hat {
        step_size = (step.lr * step.bias_correction[1].sqrt()) / step.bias_correction[0];
        denom = moment.sqrt() + hyper.eps;
    } else if constants.corrected_root {
        if !constants.corrected_max {
            moment /= step.bias_correction[1];
        }
        denom = (moment + hyper.eps_root).sqrt() + hyper.eps;
    } else {
        // One scalar division instead of one per element.
        denom = moment.sqrt() * (1.0 / step.bias_correction[1].sqrt()) + hyper.eps;
    }
    let mut change = step_size * (new_exp_avg / denom);
    if constants.cautious {
        change *= f32::from(u8::from(same_sign(new_exp_avg, decayed)));
    }
    if !constants.decoupled_weight_decay {
        let new_param = param - change;
        return (new_param, [new_exp_avg, new_exp_avg_sq, new_max_exp_avg_sq]);
    }
    let mut rate = step.lr;
    if constants.decouple_lr {
        rate = step.lr / hyper.max_lr;
    }
    let mut decay = rate * step.weight_decay;
    if constants.cautious_weight_decay && same_sign(-new_exp_avg, param) {
        decay = 0.0;
    }
    let mut new_param;
    if constants.decay_after {
        new_param = param - change;
        new_param -= decay * new_param;
    } else {
        new_param = (param - decay * param) - change;
    }
    (new_param, [new_exp_avg, new_exp_avg_sq, new_max_exp_avg_sq])
}
