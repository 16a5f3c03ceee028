//! Every rule on the device against its CPU reference and its f64 oracle.

use crate::common::numbers::{random, ulps};
use crate::common::{Trainer, assert_same_decision, cpu_bits, device, set_state};
use crate::oracle::{
    self, AdEMAMixOracle, AdaBeliefOracle, AdadeltaOracle, AdagradOracle, AdamOracle, AdamaxOracle, AdanOracle,
    Averaging, Convention, LionOracle, NAdamOptions, NAdamOracle, Oracle, RAdamOracle, RmsPropOracle, Rounded,
    RpropOracle, ScheduleFreeOracle, SgdOracle, SignSgdOracle, SophiaOracle, StepScalars, YogiOracle,
};
use wgpu_optim::{
    AdEMAMix, AdaBelief, Adadelta, Adagrad, Adam, AdamW, Adamax, Adan, CpuOptimizer, Curvature, Layout, Lion, NAdam,
    Optimizer, OptimizerBuilder, RAdam, RmsProp, Rprop, Schedule, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd, SignSgd,
    Sophia, Yogi,
};

/// Tails, workgroups, norm blocks; 0 has nothing to compare but the counter.
const LENGTHS: [usize; 15] = [0, 1, 3, 4, 5, 63, 64, 65, 255, 256, 257, 1023, 1025, 8191, 8193];

/// ULP of a running average of squared steps: a step is held to 4 ULP, which are up to 8√2 of its square, and the
/// average adds 1.5.
const SQUARED_STEP: f64 = 12.8;

struct Case {
    name: &'static str,
    builder: OptimizerBuilder,
    oracle: Box<dyn Oracle>,
    lr: f64,
    weight_decay: f64,
    sign: f64,
    /// Steps of the test that looks at each step.
    steps: u64,
}

fn case(name: &'static str, rule: impl wgpu_optim::Rule + 'static, oracle: impl Oracle + 'static) -> Case {
    let spec = rule.spec();
    let (lr, weight_decay) = (f64::from(spec.lr as f32), f64::from(spec.weight_decay as f32));
    let sign = if spec.maximize { -1.0 } else { 1.0 };
    Case { name, builder: Optimizer::builder(rule), oracle: Box::new(oracle), lr, weight_decay, sign, steps: 4 }
}

fn adam_oracle(decoupled: bool, amsgrad: bool, convention: Convention) -> AdamOracle {
    AdamOracle { betas: (0.875, 0.9375), eps: 1.0 / 1024.0, decoupled, amsgrad, convention }
}

fn sgd_oracle(momentum: f64, dampening: f64, nesterov: bool) -> SgdOracle {
    SgdOracle { momentum, dampening, nesterov, dampen_first_step: false, lr_in_buffer: false, cautious: false }
}

fn lion_oracle(cautious: bool, cautious_weight_decay: bool) -> LionOracle {
    LionOracle { betas: (0.875, 0.9375), cautious, cautious_weight_decay }
}

/// Hyperparameters are exact in f32, so that the oracle need not guess how they were rounded; 1 - beta is too.
fn cases() -> Vec<Case> {
    let betas = (0.875, 0.9375);
    let adam = |decoupled, amsgrad| adam_oracle(decoupled, amsgrad, Convention::default());
    let sgd = sgd_oracle;
    let adam_rule = Adam::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0);
    let adamw_rule = AdamW::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let sgd_rule = Sgd::default().with_lr(0.125).with_weight_decay(0.25);
    let momentum_rule = sgd_rule.clone().with_momentum(0.75);
    let adagrad = |lr_decay, initial_accumulator_value, eps_in_root| AdagradOracle {
        lr_decay,
        initial_accumulator_value,
        eps: 1.0 / 1024.0,
        eps_in_root,
    };
    let rmsprop = |momentum, centered, optax| RmsPropOracle {
        alpha: 0.9375,
        eps: 1.0 / 1024.0,
        momentum,
        centered,
        eps_in_root: optax,
        lr_in_buffer: optax,
    };
    let rmsprop_rule = RmsProp::default().with_lr(0.125).with_alpha(0.9375).with_eps(1.0 / 1024.0);
    let rmsprop_optax = rmsprop_rule.clone().with_eps_in_root(true).with_lr_in_buffer(true);
    let adadelta = || AdadeltaOracle { rho: 0.9375, eps: 1.0 / 1024.0 };
    let adadelta_rule = Adadelta::default().with_lr(0.5).with_rho(0.9375).with_eps(1.0 / 1024.0);
    let adamax = |decoupled| AdamaxOracle { betas, eps: 1.0 / 1024.0, decoupled };
    let adamax_rule = Adamax::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0);
    let rprop = || RpropOracle { etas: (0.5, 1.25), step_sizes: (1.0 / 64.0, 0.25) };
    let rprop_rule = Rprop::default().with_lr(0.125).with_etas((0.5, 1.25)).with_step_sizes((1.0 / 64.0, 0.25));
    let adagrad_rule = Adagrad::default().with_lr(0.125).with_eps(1.0 / 1024.0);
    vec![
        case("sgd", sgd_rule.clone(), sgd(0.0, 0.0, false)),
        case("sgd maximize", sgd_rule.with_maximize(true), sgd(0.0, 0.0, false)),
        case("momentum", momentum_rule.clone(), sgd(0.75, 0.0, false)),
        case("momentum dampening", momentum_rule.clone().with_dampening(0.5), sgd(0.75, 0.5, false)),
        case("nesterov", momentum_rule.clone().with_nesterov(true), sgd(0.75, 0.0, true)),
        case("nesterov dampening", momentum_rule.with_nesterov(true).with_dampening(0.5), sgd(0.75, 0.5, true)),
        case("adam", adam_rule.clone().with_weight_decay(0.25), adam(false, false)),
        case("adam amsgrad", adam_rule.clone().with_amsgrad(true), adam(false, true)),
        case("adam maximize", adam_rule.with_maximize(true), adam(false, false)),
        case("adamw", adamw_rule.clone(), adam(true, false)),
        case("adamw amsgrad", adamw_rule.with_amsgrad(true), adam(true, true)),
        case("adagrad", adagrad_rule.clone().with_weight_decay(0.25), adagrad(0.0, 0.0, false)),
        case(
            "adagrad lr_decay, eps in the root, maximize",
            adagrad_rule
                .with_lr_decay(0.125)
                .with_initial_accumulator_value(0.5)
                .with_eps_in_root(true)
                .with_maximize(true),
            adagrad(0.125, 0.5, true),
        ),
        case("rmsprop", rmsprop_rule.clone().with_weight_decay(0.25), rmsprop(0.0, false, false)),
        case("rmsprop momentum", rmsprop_rule.clone().with_momentum(0.75), rmsprop(0.75, false, false)),
        case("rmsprop centered", rmsprop_rule.clone().with_centered(true), rmsprop(0.0, true, false)),
        case(
            "rmsprop centered momentum maximize",
            rmsprop_rule.with_centered(true).with_momentum(0.75).with_weight_decay(0.25).with_maximize(true),
            rmsprop(0.75, true, false),
        ),
        case("rmsprop optax momentum", rmsprop_optax.clone().with_momentum(0.75), rmsprop(0.75, false, true)),
        case("rmsprop optax centered", rmsprop_optax.with_centered(true), rmsprop(0.0, true, true)),
        case("adadelta", adadelta_rule.clone().with_weight_decay(0.25), adadelta()),
        case("adadelta maximize", adadelta_rule.with_maximize(true), adadelta()),
        case("adamax", adamax_rule.clone().with_weight_decay(0.25), adamax(false)),
        case("adamax maximize", adamax_rule.clone().with_maximize(true), adamax(false)),
        case("adamax decoupled", adamax_rule.with_weight_decay(0.25).with_decoupled_weight_decay(true), adamax(true)),
        case("rprop", rprop_rule.clone(), rprop()),
        case("rprop maximize", rprop_rule.with_maximize(true), rprop()),
        case(
            "lion",
            Lion::default().with_lr(0.125).with_betas(betas).with_weight_decay(0.25),
            lion_oracle(false, false),
        ),
    ]
    .into_iter()
    .chain(convention_cases())
    .chain(cautious_cases())
    .chain(momentum_cases())
    .chain(radam_cases())
    .chain(belief_cases())
    .chain(adan_cases())
    .chain(sign_cases())
    .chain(ademamix_cases())
    .chain(carrying_cases())
    .collect()
}

/// Adam and AdamW as other frameworks compute them.
fn convention_cases() -> Vec<Case> {
    let (betas, eps, eps_root) = ((0.875, 0.9375), 1.0 / 1024.0, 1.0 / 4096.0);
    let adam = |rule: Adam| rule.with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let adamw = |rule: AdamW| rule.with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let optax = Convention { corrected_max: true, ..Convention::default() };
    let keras = Convention { eps_hat: true, ..Convention::default() };
    let after = Convention { decay_after: true, ..Convention::default() };
    let decoupled = Convention { max_lr: Some(0.75), ..Convention::default() };
    vec![
        case("adam optax", adam(Adam::optax()), adam_oracle(false, false, optax)),
        case("adam optax amsgrad", adam(Adam::optax().with_amsgrad(true)), adam_oracle(false, true, optax)),
        case("adam keras", adam(Adam::keras()), adam_oracle(false, false, keras)),
        case("adam keras amsgrad", adam(Adam::keras().with_amsgrad(true)), adam_oracle(false, true, keras)),
        case(
            "adamw optax eps_root",
            adamw(AdamW::optax().with_eps_root(eps_root)),
            adam_oracle(true, false, Convention { eps_root, ..optax }),
        ),
        case(
            "adamw optax amsgrad eps_root",
            adamw(AdamW::optax().with_eps_root(eps_root).with_amsgrad(true)),
            adam_oracle(true, true, Convention { eps_root, ..optax }),
        ),
        case(
            "adamw amsgrad eps_root",
            adamw(AdamW::torch().with_eps_root(eps_root).with_amsgrad(true)),
            adam_oracle(true, true, Convention { eps_root, ..Convention::default() }),
        ),
        case("adamw keras", adamw(AdamW::keras()), adam_oracle(true, false, keras)),
        case("adamw bitsandbytes", adamw(AdamW::bitsandbytes()), adam_oracle(true, false, after)),
        case("adamw max_lr", adamw(AdamW::torch()).with_max_lr(Some(0.75)), adam_oracle(true, false, decoupled)),
        case(
            "adamw max_lr, decay after",
            adamw(AdamW::bitsandbytes()).with_max_lr(Some(0.75)),
            adam_oracle(true, false, Convention { decay_after: true, ..decoupled }),
        ),
    ]
}

/// SGD's momentum as other frameworks compute it.
fn momentum_cases() -> Vec<Case> {
    let rule = Sgd::default().with_lr(0.125).with_weight_decay(0.25).with_momentum(0.75);
    let keras = Sgd::keras().with_lr(0.125).with_weight_decay(0.25).with_momentum(0.75);
    let average = rule.with_dampening(0.75).with_dampen_first_step(true);
    let in_buffer = |nesterov| SgdOracle { lr_in_buffer: true, ..sgd_oracle(0.75, 0.0, nesterov) };
    let averaging = |lr_in_buffer| SgdOracle { dampen_first_step: true, lr_in_buffer, ..sgd_oracle(0.75, 0.75, false) };
    vec![
        case("momentum keras", keras.clone(), in_buffer(false)),
        case("nesterov keras", keras.with_nesterov(true), in_buffer(true)),
        case("momentum average", average.clone(), averaging(false)),
        case("momentum average, lr in the buffer", average.with_lr_in_buffer(true), averaging(true)),
    ]
}

/// Updates and decay masked by signs.
fn cautious_cases() -> Vec<Case> {
    let betas = (0.875, 0.9375);
    let adamw = AdamW::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let lion = Lion::default().with_lr(0.125).with_betas(betas).with_weight_decay(0.25);
    let cautious = Convention { cautious: true, ..Convention::default() };
    let decay = Convention { cautious_weight_decay: true, ..Convention::default() };
    let adam = Adam::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let momentum = Sgd::default().with_lr(0.125).with_weight_decay(0.25).with_momentum(0.75).with_cautious(true);
    let sgd = |nesterov, lr_in_buffer| SgdOracle { cautious: true, lr_in_buffer, ..sgd_oracle(0.75, 0.0, nesterov) };
    vec![
        case("adam cautious", adam.clone().with_cautious(true), adam_oracle(false, false, cautious)),
        case("adam cautious amsgrad", adam.with_cautious(true).with_amsgrad(true), adam_oracle(false, true, cautious)),
        case("momentum cautious", momentum.clone(), sgd(false, false)),
        case("momentum cautious, maximize", momentum.clone().with_maximize(true), sgd(false, false)),
        case("nesterov cautious", momentum.clone().with_nesterov(true), sgd(true, false)),
        case(
            "nesterov cautious, lr in the buffer",
            momentum.with_nesterov(true).with_lr_in_buffer(true),
            sgd(true, true),
        ),
        case("adamw cautious", adamw.clone().with_cautious(true), adam_oracle(true, false, cautious)),
        case("adamw cautious decay", adamw.clone().with_cautious_weight_decay(true), adam_oracle(true, false, decay)),
        case(
            "adamw all cautious, maximize",
            adamw.with_cautious(true).with_cautious_weight_decay(true).with_maximize(true),
            adam_oracle(true, false, Convention { cautious: true, ..decay }),
        ),
        case("lion cautious", lion.clone().with_cautious(true), lion_oracle(true, false)),
        case("lion cautious decay", lion.clone().with_cautious_weight_decay(true), lion_oracle(false, true)),
        case(
            "lion all cautious, maximize",
            lion.with_cautious(true).with_cautious_weight_decay(true).with_maximize(true),
            lion_oracle(true, true),
        ),
    ]
}

/// The first word of a case's name, as a module's name.
fn rule_of(case: &Case) -> String {
    case.name.split(' ').next().unwrap_or_default().replace('-', "_")
}

fn cases_of(rule: &str) -> Vec<Case> {
    cases().into_iter().filter(|case| rule_of(case) == rule).collect()
}

tests_of! {
    [each_step_agrees_with_reference_and_oracle a_thousand_steps_stay_with_the_oracle special_values_take_the_same_way_on_both_engines]
    adabelief adadelta adagrad adam adamax adamw adan ademamix lion momentum nadam nesterov radam rmsprop rprop
    schedule_free sgd signsgd signum sophia_g sophia_h yogi
}

#[test]
fn every_case_is_tested_and_every_rule_has_cases() {
    let tested: Vec<String> = cases().iter().map(rule_of).collect();
    assert!(tested.iter().all(|rule| RULES.contains(&&**rule)), "{tested:?}");
    assert!(RULES.iter().all(|rule| tested.iter().any(|tested| tested == rule)), "{tested:?}");
}

/// The first rectified step is the sixth with a β₂ of 0.9375, and the 32nd leaves the series behind.
fn radam_cases() -> Vec<Case> {
    let betas = (0.875, 0.9375);
    let oracle = |decoupled| RAdamOracle { betas, eps: 1.0 / 1024.0, decoupled, corrected_eps_root: None };
    let optax = RAdam::optax().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0);
    let (eps_root, of_optax) =
        (1.0 / 4096.0, |eps_root| RAdamOracle { corrected_eps_root: Some(eps_root), ..oracle(false) });
    // The eighth step lies at the end of the series (x is 1.995) and has a ρ of 5.5: its last term counts for most.
    let early = (0.875, 798.0 / 1024.0);
    // ρ∞ is 2047, of which the first steps leave but a few.
    let slow = (0.875, 1023.0 / 1024.0);
    let rule = RAdam::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let cases = [
        case("radam", rule.clone(), oracle(false)),
        case("radam decoupled", rule.clone().with_decoupled_weight_decay(true), oracle(true)),
        case("radam early", rule.clone().with_betas(early), RAdamOracle { betas: early, ..oracle(false) }),
        case("radam slow", rule.clone().with_betas(slow), RAdamOracle { betas: slow, ..oracle(false) }),
        case("radam maximize", rule.with_maximize(true), oracle(false)),
        case("radam optax", optax.clone(), of_optax(0.0)),
        case("radam optax eps_root", optax.with_eps_root(eps_root).with_weight_decay(0.25), of_optax(eps_root)),
    ];
    cases.map(|case| Case { steps: 34, ..case }).into()
}

fn belief_cases() -> Vec<Case> {
    let (betas, eps) = ((0.875, 0.9375), 1.0 / 1024.0);
    let (eps_root, initial_accumulator_value) = (1.0 / 65536.0, 1.0 / 4096.0);
    let belief = AdaBelief { lr: 0.125, betas, eps, eps_root, weight_decay: 0.25, maximize: false };
    let yogi = Yogi { lr: 0.125, betas, eps, initial_accumulator_value, weight_decay: 0.25, maximize: false };
    vec![
        case("adabelief", belief.clone(), AdaBeliefOracle { betas, eps, eps_root }),
        case("adabelief maximize", belief.with_maximize(true), AdaBeliefOracle { betas, eps, eps_root }),
        case("yogi", yogi.clone(), YogiOracle { betas, eps, initial_accumulator_value }),
        case("yogi maximize", yogi.with_maximize(true), YogiOracle { betas, eps, initial_accumulator_value }),
    ]
}

/// A beta below 0.5 takes the other form of the average.
fn adan_cases() -> Vec<Case> {
    let (betas, eps, eps_root) = ((0.25, 0.75, 0.9375), 1.0 / 1024.0, 1.0 / 65536.0);
    let rule = Adan::default().with_lr(0.125).with_betas(betas).with_eps(eps).with_weight_decay(0.25);
    let optax = Adan::optax().with_lr(0.125).with_betas(betas).with_eps(eps).with_eps_root(eps_root);
    let oracle = |eps_root, no_prox, optax| {
        let (cautious, cautious_weight_decay) = (false, false);
        AdanOracle { betas, eps, eps_root, no_prox, optax, cautious, cautious_weight_decay }
    };
    let cautious = AdanOracle { cautious: true, ..oracle(0.0, false, false) };
    let cautious_decay = AdanOracle { cautious_weight_decay: true, ..oracle(0.0, true, false) };
    let both = AdanOracle { cautious: true, cautious_weight_decay: true, ..oracle(0.0, false, false) };
    vec![
        case("adan", rule.clone(), oracle(0.0, false, false)),
        case("adan no_prox", rule.clone().with_no_prox(true), oracle(0.0, true, false)),
        case("adan maximize", rule.clone().with_maximize(true), oracle(0.0, false, false)),
        case("adan cautious", rule.clone().with_cautious(true), cautious),
        case("adan cautious decay", rule.clone().with_no_prox(true).with_cautious_weight_decay(true), cautious_decay),
        case(
            "adan all cautious, maximize",
            rule.with_cautious(true).with_cautious_weight_decay(true).with_maximize(true),
            both,
        ),
        case("adan optax", optax.with_weight_decay(0.25), oracle(eps_root, true, true)),
    ]
}

fn sign_cases() -> Vec<Case> {
    let rule = SignSgd::default().with_lr(0.125).with_weight_decay(0.25);
    let signum = rule.clone().with_momentum(0.875);
    vec![
        case("signsgd", rule.clone(), SignSgdOracle { momentum: 0.0 }),
        case("signsgd maximize", rule.with_maximize(true), SignSgdOracle { momentum: 0.0 }),
        case("signum", signum.clone(), SignSgdOracle { momentum: 0.875 }),
        case("signum maximize", signum.with_maximize(true), SignSgdOracle { momentum: 0.875 }),
    ]
}

/// The warm-ups end within the steps that are looked at.
fn ademamix_cases() -> Vec<Case> {
    let (betas, eps, alpha) = ((0.875, 0.9375, 0.984_375), 1.0 / 1024.0, 3.0);
    let rule = AdEMAMix::default().with_lr(0.125).with_betas(betas).with_eps(eps).with_alpha(alpha);
    let rule = rule.with_weight_decay(0.25);
    let warm = rule.clone().with_t_alpha(Some(6)).with_t_beta3(Some(5));
    let oracle = |t_alpha, t_beta3| AdEMAMixOracle { betas, alpha, t_alpha, t_beta3, eps };
    // Averages whose betas are below 0.5 are formed otherwise.
    let quick = AdEMAMixOracle { betas: (0.25, 0.9375, 0.375), alpha, t_alpha: None, t_beta3: None, eps };
    let cases = [
        case("ademamix quick", rule.clone().with_betas(quick.betas), quick),
        case("ademamix", rule.clone(), oracle(None, None)),
        case("ademamix maximize", rule.with_maximize(true), oracle(None, None)),
        case("ademamix warm-up", warm, oracle(Some(6), Some(5))),
    ];
    cases.map(|case| Case { steps: 7, ..case }).into()
}

/// Rules that carry scalars from step to step, or have passes.
fn carrying_cases() -> Vec<Case> {
    let betas = (0.875, 0.9375);
    let sophia_rule = Sophia::default().with_lr(0.125).with_betas(betas).with_weight_decay(0.25);
    let sophia_g = sophia_rule.clone().with_curvature(Curvature::SampledLabels { rho: 0.125, bs: 6.0 });
    let sophia_h = sophia_rule.with_curvature(Curvature::Hutchinson { gamma: 0.75, eps: 1.0 / 1024.0 });
    let free_sgd = ScheduleFreeSgd::default().with_lr(0.125).with_momentum(0.875).with_weight_decay(0.25);
    let free_adamw = ScheduleFreeAdamW::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0);
    let free_adamw = free_adamw.with_weight_decay(0.25);
    let free = |adam, warmup_steps, r, weight_lr_power| {
        let averaging = Averaging { warmup_steps, r, weight_lr_power };
        ScheduleFreeOracle::new(0.875, if adam { Some((betas.1, 1.0 / 1024.0)) } else { None }, averaging)
    };
    let sophia = |curvature| SophiaOracle { betas, curvature };
    let nadam_with = |momentum_decay, options| NAdamOracle::new(betas, 1.0 / 1024.0, momentum_decay, options);
    let nadam =
        |momentum_decay, decoupled| nadam_with(momentum_decay, NAdamOptions { decoupled, ..NAdamOptions::default() });
    let of_optax =
        NAdamOptions { decoupled: true, constant_momentum: true, eps_root: 1.0 / 4096.0, ..Default::default() };
    let cautious = NAdamOptions { cautious: true, ..Default::default() };
    let cautious_decay = NAdamOptions { decoupled: true, cautious_weight_decay: true, ..Default::default() };
    let nadam_rule = NAdam::default().with_lr(0.125).with_betas(betas).with_eps(1.0 / 1024.0).with_weight_decay(0.25);
    let nadamw_rule = nadam_rule.clone().with_decoupled_weight_decay(true);
    vec![
        case("nadam", nadam_rule.clone(), nadam(0.004, false)),
        case("nadam maximize", nadam_rule.clone().with_momentum_decay(0.5).with_maximize(true), nadam(0.5, false)),
        case("nadam decoupled", nadamw_rule.clone(), nadam(0.004, true)),
        case(
            "nadam optax",
            nadamw_rule.clone().with_constant_momentum(true).with_eps_root(1.0 / 4096.0),
            nadam_with(0.004, of_optax),
        ),
        case("nadam cautious", nadam_rule.clone().with_cautious(true), nadam_with(0.004, cautious)),
        case(
            "nadam cautious decay",
            nadamw_rule.clone().with_cautious_weight_decay(true),
            nadam_with(0.004, cautious_decay),
        ),
        case(
            "nadam all cautious, maximize",
            nadamw_rule.clone().with_cautious(true).with_cautious_weight_decay(true).with_maximize(true),
            nadam_with(0.004, NAdamOptions { cautious: true, ..cautious_decay }),
        ),
        case("sophia-g", sophia_g.clone(), sophia(oracle::Curvature::G { rho: 0.125, bs: 6.0 })),
        case("sophia-g maximize", sophia_g.with_maximize(true), sophia(oracle::Curvature::G { rho: 0.125, bs: 6.0 })),
        case("sophia-h", sophia_h, sophia(oracle::Curvature::H { gamma: 0.75, eps: 1.0 / 1024.0 })),
        case("schedule-free sgd", free_sgd.clone(), free(false, 0, 0, 2)),
        case("schedule-free sgd unweighted", free_sgd.clone().with_weight_lr_power(0.0), free(false, 0, 0, 0)),
        case("schedule-free sgd warmup", free_sgd.with_warmup_steps(3).with_r(1.0), free(false, 3, 1, 2)),
        case("schedule-free adamw", free_adamw.clone(), free(true, 0, 0, 2)),
        case("schedule-free adamw maximize", free_adamw.clone().with_maximize(true), free(true, 0, 0, 2)),
        case("schedule-free adamw warmup", free_adamw.with_warmup_steps(8).with_r(2.0), free(true, 8, 2, 2)),
        case("nadam without momentum decay", nadamw_rule.with_momentum_decay(0.0), nadam(0.0, true)),
    ]
}

/// States that a step does not make from nothing: z starts as the parameters, by which its rounding is measured, and
/// the Hessian with something to divide by, for 0 would clip every element.
fn start(names: &[&str], trainer: &Trainer, reference: &mut CpuOptimizer, len: usize) {
    if names.contains(&"z") {
        set_state(trainer.gpu, &trainer.optimizer, "z", &trainer.params()[..len]);
        reference.state_mut("z").unwrap().into_f32().unwrap().copy_from_slice(&trainer.params()[..len]);
    }
    if names.contains(&"hessian") {
        let hessian: Vec<f32> = random(7, len).into_iter().map(f32::abs).collect();
        set_state(trainer.gpu, &trainer.optimizer, "hessian", &hessian);
        reference.state_mut("hessian").unwrap().into_f32().unwrap().copy_from_slice(&hessian);
    }
}

/// NUMERICS: parameters within 4 ULP of max(|p|, |Δp|) or of what WGSL allows, states within 4 ULP of their largest
/// term. What a rule carries as scalars from step to step is rounded once for all elements, and its bound comes on
/// top. Inputs of each step are what the device held before it, so that errors do not add up.
fn each_step_agrees_with_reference_and_oracle(rule: &str) {
    let gpu = device::gpu();
    for case in cases_of(rule) {
        for len in LENGTHS {
            let layout = Layout::flat(len).unwrap();
            let mut params = random(1, len);
            let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &params);
            let mut reference = case.builder.clone().build_cpu(&layout).unwrap();
            let names = case.oracle.state_names();
            assert_eq!(trainer.optimizer.state_names(), names, "{}", case.name);
            start(&names, &trainer, &mut reference, len);
            for t in 1..=case.steps {
                let mut grads = random(100 + t, len);
                // A zero gradient must leave Lion where it is on fresh states, and is of no average's sign later.
                grads.iter_mut().skip(t as usize - 1).step_by(7).for_each(|grad| *grad = 0.0);
                let old_states: Vec<Vec<f32>> = names.iter().map(|name| trainer.state(name)).collect();
                let mut reference_params = params.clone();
                let stats = trainer.step(&grads);
                assert_same_decision(&stats, &reference.step(&mut reference_params, &grads).unwrap());
                assert_eq!(stats.step, t);

                let new_params = trainer.params();
                let new_states: Vec<Vec<f32>> = names.iter().map(|name| trainer.state(name)).collect();
                let step = StepScalars { t, lr: case.lr, weight_decay: case.weight_decay, ..StepScalars::default() };
                for i in 0..len {
                    let mut exact_state: Vec<f64> = old_states.iter().map(|state| state[i].into()).collect();
                    let old = f64::from(params[i]);
                    let grad = case.sign * f64::from(grads[i]);
                    let exact = case.oracle.update(&step, old, grad, &mut exact_state);
                    let at = format!("{}, {len} elements, step {t}, element {i}", case.name);
                    // If the terms of a running average cancel, its 4 ULP of the largest term are a larger share of
                    // the rest, and so is the error of Δp.
                    let cancelled = |s: usize| (f64::from(old_states[s][i]) / exact_state[s]).abs();
                    let amplified = (0..names.len()).map(cancelled).filter(|x| x.is_finite()).fold(1.0, f64::max);
                    let largest_term = case.oracle.largest_term(&step, old, grad, &exact_state);
                    let scale = old.abs().max((exact - old).abs() * amplified).max(largest_term);
                    // If terms of the update cancel, or a rule has more roundings than 4 ULP hold, the bound comes
                    // from the same equation with the errors of WGSL's operations.
                    let bound = || {
                        let exact = |value: f32| Rounded::exact(value.into());
                        let mut states: Vec<Rounded> = old_states.iter().map(|state| exact(state[i])).collect();
                        let (param, grad) = (Rounded::exact(old), Rounded::exact(grad));
                        case.oracle.update_rounded(&step, param, grad, &mut states).error
                    };
                    let off = |from: f64| (f64::from(new_params[i]) - from).abs();
                    let of_scalars = case.oracle.scalar_error(&step, old, grad, &exact_state);
                    let error = ulps(new_params[i], exact, scale) - ulps(0.0, of_scalars, scale);
                    let allowed = error <= 4.0 || off(exact) <= bound();
                    assert!(allowed, "{at}: {} for {exact}, {error:.1} ULP", new_params[i]);
                    let from_reference = ulps(new_params[i], reference_params[i].into(), scale);
                    let allowed = from_reference <= 4.0 || off(reference_params[i].into()) <= 2.0 * bound();
                    assert!(allowed, "{at}: {} and its reference {}", new_params[i], reference_params[i]);
                    for (s, name) in names.iter().enumerate() {
                        let scale = exact_state[s].abs().max(old_states[s][i].abs().into());
                        let got = new_states[s][i];
                        let error = ulps(got, exact_state[s], scale);
                        let allowed = if *name == "acc_delta" { SQUARED_STEP } else { 4.0 };
                        assert!(error <= allowed, "{at}, {name}: {got} for {}, {error:.1} ULP", exact_state[s]);
                        let from_reference =
                            ulps(got, reference.state(name).unwrap().as_f32().unwrap()[i].into(), scale);
                        assert!(from_reference <= allowed, "{at}, {name}: {got} and its reference");
                    }
                    let hardly = ulps(params[i], exact, old) <= 1.0;
                    assert!(grads[i] == 0.0 || hardly || new_params[i] != params[i], "{at} did not move");
                }
                params = new_params[..len].to_vec();
                for (name, state) in names.iter().zip(&new_states) {
                    reference.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(state);
                }
            }
        }
    }
}

/// NUMERICS: relative error of the parameter vector at most 1e-5 after 1,000 steps without re-synchronising.
fn a_thousand_steps_stay_with_the_oracle(rule: &str) {
    const LEN: usize = 67;
    let gpu = device::gpu();
    for case in cases_of(rule) {
        let layout = Layout::flat(LEN).unwrap();
        let params = random(1, LEN);
        let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &params);
        let mut reference = case.builder.clone().build_cpu(&layout).unwrap();
        let mut reference_params = params.clone();
        let mut exact: Vec<f64> = params.iter().map(|&param| param.into()).collect();
        let names = case.oracle.state_names();
        start(&names, &trainer, &mut reference, LEN);
        let initial = |name: &str, i: usize| match name {
            "z" | "hessian" => reference.state(name).unwrap().as_f32().unwrap()[i].into(),
            _ => case.oracle.initial_state(),
        };
        let initials = |i| names.iter().map(|name| initial(name, i)).collect();
        let mut states: Vec<Vec<f64>> = (0..LEN).map(initials).collect();
        for t in 1..=1000 {
            let grads = random(t, LEN);
            trainer.step(&grads);
            reference.step(&mut reference_params, &grads).unwrap();
            let step = StepScalars { t, lr: case.lr, weight_decay: case.weight_decay, ..StepScalars::default() };
            for i in 0..LEN {
                exact[i] = case.oracle.update(&step, exact[i], case.sign * f64::from(grads[i]), &mut states[i]);
            }
        }
        for (engine, got) in [("device", trainer.params()), ("CPU", reference_params)] {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
            let difference = norm(&mut got.iter().zip(&exact).map(|(&got, exact)| f64::from(got) - exact));
            let error = difference / norm(&mut exact.iter().copied());
            assert!(error <= 1e-5, "{} on the {engine}: relative error {error:e}", case.name);
        }
    }
}

/// NaN, infinities, subnormals and both zeros in each of parameter, gradient and states: the device and its reference
/// agree on what they become, up to the payload of NaN, and to a device that takes subnormals for 0, or some of them.
fn special_values_take_the_same_way_on_both_engines(rule: &str) {
    let gpu = device::gpu();
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 0.0, -0.0, 1.5, f32::MAX, f32::MIN_POSITIVE];
    for case in cases_of(rule) {
        let names = case.oracle.state_names();
        let streams = 2 + names.len();
        let len = special.len() * streams;
        let stream = |at: usize| -> Vec<f32> {
            (0..len).map(|i| if i / special.len() == at { special[i % special.len()] } else { 0.25 }).collect()
        };
        let layout = Layout::flat(len).unwrap();
        let state = |s: usize| -> Vec<f32> {
            // Squared gradients are not negative.
            let name = names[s];
            let squared =
                name.ends_with("_sq") || name.ends_with("_var") || ["sum", "square_avg", "acc_delta"].contains(&name);
            stream(2 + s).iter().map(|x| if squared { x.abs() } else { *x }).collect()
        };
        let mut trainer = Trainer::new(gpu, case.builder.clone(), &layout, &stream(0));
        for (s, name) in names.iter().enumerate() {
            set_state(gpu, &trainer.optimizer, name, &state(s));
        }
        trainer.step(&stream(1));
        let reference = |seen: fn(f32) -> f32| {
            let seen = |values: Vec<f32>| -> Vec<f32> { values.into_iter().map(seen).collect() };
            let mut reference = case.builder.clone().build_cpu(&layout).unwrap();
            for (s, name) in names.iter().enumerate() {
                reference.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(&seen(state(s)));
            }
            let mut params = seen(stream(0));
            reference.step(&mut params, &seen(stream(1))).unwrap();
            cpu_bits(&reference, &params).into_iter().map(f32::from_bits).collect::<Vec<_>>()
        };
        let agree = |got: f32, expected: f32| {
            if expected.is_nan() || expected.is_infinite() {
                return got.is_nan() == expected.is_nan() && got.is_infinite() == expected.is_infinite();
            }
            // Intermediate values of a rule may be subnormal, and a device may flush them.
            (got - expected).abs() <= 4.0 * f32::EPSILON * expected.abs() + f32::MIN_POSITIVE * 1024.0
        };
        let (kept, flushed) = (reference(|x| x), reference(|x| if x.is_subnormal() { 0.0 } else { x }));
        for (i, got) in trainer.bits().into_iter().map(f32::from_bits).enumerate() {
            let at = format!("{}, stream {}, element {}", case.name, i / len, i % len);
            let expected = [kept[i], flushed[i]];
            assert!(expected.iter().any(|&expected| agree(got, expected)), "{at}: {got} for {expected:?}");
        }
    }
}

/// The largest learning rate so far weighs a step, also one whose own rate is less or 0; with a power of 0 all weigh the
/// same. With rates of 1, 1/2 and 0 the average takes in all, 1/2 and 1/3 of z, and y becomes 1, (1 + 1)/2 + 3/4 · 1/2 and
/// 2/3 · 11/8 + 1/3 · 3/2; with rates of 0 and 1, y becomes 0 and 3/4.
#[test]
fn schedule_free_weights_go_by_the_largest_learning_rate_so_far() {
    let layout = Layout::flat(1).unwrap();
    let falling = (2.0, Schedule::warmup_cosine(1.0, 0, 2), vec![1.0, 11.0 / 8.0, 17.0 / 12.0]);
    let rising = (0.0, Schedule::warmup_cosine(1.0, 1, 9), vec![0.0, 0.75]);
    for (power, schedule, expected) in [falling, rising] {
        let rule = ScheduleFreeSgd::default().with_momentum(0.5).with_weight_lr_power(power);
        let builder = Optimizer::builder(rule).schedule(schedule);
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
        let (mut reference, mut reference_params) = (builder.build_cpu(&layout).unwrap(), [0.0]);
        for expected in expected {
            trainer.step(&[-1.0]);
            reference.step(&mut reference_params, &[-1.0]).unwrap();
            for param in [trainer.params()[0], reference_params[0]] {
                assert!(ulps(param, expected, expected) <= 4.0, "{param} for {expected}");
            }
        }
    }
}

/// Without a Hessian the denominator is 1e-15, and an average of half of that is a step of half the learning rate.
#[test]
fn sophia_g_does_not_clip_what_is_below_its_eps() {
    let layout = Layout::flat(1).unwrap();
    let rule = Sophia::default().with_lr(1.0).with_betas((0.875, 0.9375)).with_weight_decay(0.0);
    let builder = Optimizer::builder(rule.with_curvature(Curvature::SampledLabels { rho: 0.125, bs: 6.0 }));
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[0.0]);
    let mut reference_params = [0.0];
    trainer.step(&[4e-15]);
    builder.build_cpu(&layout).unwrap().step(&mut reference_params, &[4e-15]).unwrap();
    for param in [trainer.params()[0], reference_params[0]] {
        assert!(ulps(param, -0.5, 0.5) <= 4.0, "{param}");
    }
}

/// A constant gradient has no variance; what rounding leaves of it is below 0 as often as above.
#[test]
fn a_centered_rmsprop_takes_no_root_of_a_rounding_error() {
    const LEN: usize = 64;
    let gpu = device::gpu();
    let builder = Optimizer::builder(RmsProp::default().with_alpha(0.9).with_eps(0.125).with_centered(true));
    let layout = Layout::flat(LEN).unwrap();
    let (mut params, grads) = (vec![1.0; LEN], random(1, LEN));
    let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
    let mut reference = builder.build_cpu(&layout).unwrap();
    for _ in 0..200 {
        trainer.step(&grads);
        reference.step(&mut params, &grads).unwrap();
    }
    assert!(params.iter().chain(&trainer.params()).all(|param| param.is_finite() && *param != 1.0));
}
