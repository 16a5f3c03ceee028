//! Plays a case through the oracle: exact values, and bounds on the error of f32 arithmetic.

use super::cases::{Case, Group};
use crate::oracle::{
    AdEMAMixOracle, AdaBeliefOracle, AdadeltaOracle, AdafactorOracle, AdagradOracle, AdamOracle, AdamaxOracle,
    AdanOracle, Averaging, Convention, Curvature, FACTORS, Factors, HALF_ULP, LambOracle, LarsOracle, LionOracle,
    NAdamOptions, NAdamOracle, NovoGradOracle, Oracle, ProdigyOracle, RAdamOracle, Real, RmsPropOracle, Rounded,
    RpropOracle, ScheduleFreeOracle, SgdOracle, SignSgdOracle, SophiaOracle, StableAdamWOracle, StepScalars,
    YogiOracle, clip_coefficient, global_norm, measured,
};

/// Relative bound on a gradient norm in f32 (NUMERICS: 1e-6 at any length).
pub const NORM_ERROR: f64 = 1e-6;
/// The coefficient adds a sum, a division (2.5 ULP) and the rounding of `max_norm` to the norm's error.
pub const CLIP_ERROR: f64 = NORM_ERROR + 7.0 * HALF_ULP;

pub struct Replay {
    /// A row per checkpoint.
    pub params: Vec<Vec<Rounded>>,
    /// At the end, by name.
    pub states: Vec<(&'static str, Vec<Rounded>)>,
    /// Per checkpoint and element: |first value| + Σ|change|, the scale of a parameter's rounding errors.
    pub paths: Vec<Vec<f64>>,
    /// Per state and element: the largest absolute value on the way.
    pub largest_states: Vec<Vec<f64>>,
    pub grad_norm: Vec<f64>,
    pub clip_coef: Vec<f64>,
    /// At the end, switched to evaluation.
    pub eval_params: Vec<Rounded>,
}

pub fn oracle(case: &Case) -> Box<dyn Oracle> {
    match case.rule.as_str() {
        "sgd" | "sgd_conventions" | "sgd_cautious" => Box::new(SgdOracle {
            momentum: case.option("momentum", 0.0),
            dampening: case.option("dampening", 0.0),
            nesterov: case.flag("nesterov"),
            dampen_first_step: case.flag("dampen_first_step"),
            lr_in_buffer: case.convention() == Some("keras"),
            cautious: case.flag("caution"),
        }),
        "adam" | "adam_conventions" | "adam_cautious" => Box::new(adam(case, false)),
        "adamw" | "adamw_conventions" | "adamw_cautious" => Box::new(adam(case, true)),
        "adagrad" | "adagrad_conventions" => Box::new(adagrad(case)),
        "rmsprop" | "rmsprop_conventions" => Box::new(rmsprop(case)),
        "adadelta" => Box::new(AdadeltaOracle { rho: case.option("rho", 0.9), eps: case.option("eps", 1e-6) }),
        "adamax" | "adamax_conventions" => {
            let (betas, eps) = (case.betas((0.9, 0.999)), case.option("eps", 1e-8));
            Box::new(AdamaxOracle { betas, eps, decoupled: case.convention() == Some("optax") })
        }
        "rprop" => {
            let (etas, step_sizes) = (case.pair("etas", (0.5, 1.2)), case.pair("step_sizes", (1e-6, 50.0)));
            Box::new(RpropOracle { etas, step_sizes })
        }
        "nadam" | "nadam_conventions" => {
            let (betas, eps) = (case.betas((0.9, 0.999)), case.option("eps", 1e-8));
            let momentum_decay = case.option("momentum_decay", 4e-3);
            let optax = case.convention() == Some("optax");
            let options = NAdamOptions {
                decoupled: optax || case.flag("decoupled_weight_decay"),
                constant_momentum: optax,
                eps_root: case.option("eps_root", 0.0),
                ..NAdamOptions::default()
            };
            Box::new(NAdamOracle::new(betas, eps, momentum_decay, options))
        }
        "sophia" | "sophia_h" => {
            let curvature = if case.rule == "sophia" {
                Curvature::G { rho: case.option("rho", 0.04), bs: case.option("bs", 5_120.0) }
            } else {
                Curvature::H { gamma: case.option("gamma", 0.01), eps: case.option("eps", 1e-8) }
            };
            Box::new(SophiaOracle { betas: case.betas((0.965, 0.99)), curvature })
        }
        "schedule_free_sgd" | "schedule_free_adamw" => {
            let averaging = Averaging {
                warmup_steps: case.option("warmup_steps", 0.0) as u64,
                r: case.option("r", 0.0) as i32,
                weight_lr_power: case.option("weight_lr_power", 2.0) as i32,
            };
            let betas = case.betas((0.9, 0.999));
            let (momentum, adam) = match case.rule.as_str() {
                "schedule_free_sgd" => (case.option("momentum", 0.9), None),
                _ => (betas.0, Some((betas.1, case.option("eps", 1e-8)))),
            };
            Box::new(ScheduleFreeOracle::new(momentum, adam, averaging))
        }
        "lion" | "lion_cautious" | "lion_conventions" => {
            let (betas, cautious) = (case.betas((0.9, 0.99)), case.flag("caution"));
            Box::new(LionOracle { betas, cautious, cautious_weight_decay: false })
        }
        "prodigy" => Box::new(ProdigyOracle {
            betas: case.betas((0.9, 0.999)),
            beta3: case.optional("beta3"),
            eps: case.option("eps", 1e-8),
            decouple: case.flag_or("decouple", true),
            use_bias_correction: case.flag("use_bias_correction"),
            safeguard_warmup: case.flag("safeguard_warmup"),
            d0: case.option("d0", 1e-6),
            d_coef: case.option("d_coef", 1.0),
            growth_rate: case.optional("growth_rate"),
        }),
        "lars" | "lars_optax" | "lamb" | "lamb_optax" | "novograd" | "novograd_optax" | "stable_adamw" => {
            tensor_norms(case)
        }
        "adafactor" | "adafactor_optax" => Box::new(AdafactorOracle {
            beta2_decay: case.option("beta2_decay", -0.8),
            eps: case.pair("eps", (1e-30, 1e-3)),
            d: case.option("d", 1.0),
            optax: case.convention().map(|_| case.steps_option("min_dim_size_to_factor").unwrap_or(128) as usize),
        }),
        _ => adaptive(case),
    }
}

/// The rules of `cases_tensor_norms.py`.
fn tensor_norms(case: &Case) -> Box<dyn Oracle> {
    let optax = case.convention() == Some("optax");
    let by_convention = |name, torch, of_optax| case.option(name, if optax { of_optax } else { torch });
    match case.rule.as_str() {
        "lars" | "lars_optax" => Box::new(LarsOracle {
            momentum: by_convention("momentum", 0.0, 0.9),
            dampening: case.option("dampening", 0.0),
            nesterov: case.flag("nesterov"),
            trust_coefficient: by_convention("trust_coefficient", 0.01, 0.001),
            eps: by_convention("eps", 1e-8, 0.0),
            optax,
        }),
        "lamb" | "lamb_optax" => Box::new(LambOracle {
            betas: case.betas((0.9, 0.999)),
            eps: case.option("eps", 1e-6),
            always: optax || case.flag("nvlamb"),
            ratio_range: case.optional_pair("ratio_range"),
        }),
        "stable_adamw" => Box::new(StableAdamWOracle { betas: case.betas((0.9, 0.99)), eps: case.option("eps", 1e-6) }),
        _ => Box::new(NovoGradOracle {
            betas: case.betas(if optax { (0.9, 0.25) } else { (0.95, 0.0) }),
            eps: by_convention("eps", 1e-8, 1e-6),
            grad_averaging: case.flag("grad_averaging"),
        }),
    }
}

/// The rules of `cases_adaptive.py`.
fn adaptive(case: &Case) -> Box<dyn Oracle> {
    let (betas, eps) = (case.betas((0.9, 0.999)), |default| case.option("eps", default));
    match case.rule.as_str() {
        "radam" | "radam_conventions" => {
            let corrected_eps_root = case.convention().map(|_| case.option("eps_root", 0.0));
            let decoupled = case.flag("decoupled_weight_decay");
            Box::new(RAdamOracle { betas, eps: eps(1e-8), decoupled, corrected_eps_root })
        }
        "adabelief" => Box::new(AdaBeliefOracle { betas, eps: eps(1e-16), eps_root: case.option("eps_root", 1e-16) }),
        "yogi" => {
            let initial_accumulator_value = case.option("initial_accumulator_value", 1e-6);
            Box::new(YogiOracle { betas, eps: eps(1e-3), initial_accumulator_value })
        }
        "adan" | "adan_cautious" => {
            let optax = case.convention() == Some("optax");
            let (betas, eps_root) = (case.three_betas((0.98, 0.92, 0.99)), case.option("eps_root", 0.0));
            let no_prox = optax || case.flag("no_prox");
            let (cautious, cautious_weight_decay) = (case.flag("caution"), false);
            Box::new(AdanOracle { betas, eps: eps(1e-8), eps_root, no_prox, optax, cautious, cautious_weight_decay })
        }
        "signsgd" => Box::new(SignSgdOracle { momentum: case.option("momentum", 0.0) }),
        "ademamix" => Box::new(AdEMAMixOracle {
            betas: case.three_betas((0.9, 0.999, 0.9999)),
            alpha: case.option("alpha", 5.0),
            t_alpha: case.steps_option("t_alpha"),
            t_beta3: case.steps_option("t_beta3"),
            eps: eps(1e-8),
        }),
        other => panic!("no oracle for {other}"),
    }
}

fn adam(case: &Case, decoupled: bool) -> AdamOracle {
    let keras = case.convention() == Some("keras");
    AdamOracle {
        betas: case.betas((0.9, 0.999)),
        eps: case.option("eps", if keras { 1e-7 } else { 1e-8 }),
        decoupled,
        amsgrad: case.flag("amsgrad"),
        convention: Convention {
            eps_root: case.option("eps_root", 0.0),
            corrected_max: case.convention() == Some("optax"),
            eps_hat: keras,
            decay_after: case.convention() == Some("bitsandbytes"),
            max_lr: case.optional("max_lr"),
            cautious: case.flag("caution"),
            cautious_weight_decay: false,
        },
    }
}

fn adagrad(case: &Case) -> AdagradOracle {
    let eps_in_root = case.convention().is_some();
    let (initial_accumulator_value, eps) = if eps_in_root { (0.1, 1e-7) } else { (0.0, 1e-10) };
    AdagradOracle {
        lr_decay: case.option("lr_decay", 0.0),
        initial_accumulator_value: case.option("initial_accumulator_value", initial_accumulator_value),
        eps: case.option("eps", eps),
        eps_in_root,
    }
}

fn rmsprop(case: &Case) -> RmsPropOracle {
    let optax = case.convention().is_some();
    RmsPropOracle {
        alpha: case.option("alpha", if optax { 0.9 } else { 0.99 }),
        eps: case.option("eps", if case.convention() == Some("keras") { 1e-7 } else { 1e-8 }),
        momentum: case.option("momentum", 0.0),
        centered: case.flag("centered"),
        eps_in_root: optax,
        lr_in_buffer: optax,
    }
}

pub fn replay(case: &Case) -> Replay {
    let oracle = oracle(case);
    let names = oracle.state_names();
    let elements = case.param0.len();
    let groups = case.group_of();
    let mut params: Vec<Rounded> = case.param0.iter().map(|&param| Rounded::exact(param.into())).collect();
    let mut paths: Vec<f64> = params.iter().map(|param| param.value.abs()).collect();
    let initial_state = Rounded::constant(oracle.initial_state());
    let mut states = vec![vec![initial_state; oracle.state_count()]; elements];
    let mut largest = vec![vec![initial_state.value; elements]; names.len()];
    let mut factors = vec![Factors::default(); case.groups.len()];
    let mut largest_factors: Vec<Vec<f64>> = vec![vec![]; FACTORS.len()];
    let mut t = 0;
    let mut out = Replay {
        params: vec![],
        states: vec![],
        paths: vec![],
        largest_states: vec![],
        grad_norm: vec![],
        clip_coef: vec![],
        eval_params: vec![],
    };
    for step in 0..case.steps {
        if let Some(estimate) = case.hessian(step) {
            let active = states.iter_mut().zip(estimate).zip(&groups).filter(|(_, group)| !group.frozen);
            for ((state, &estimate), _) in active {
                oracle.update_hessian_rounded(Rounded::exact(estimate.into()), state);
            }
        }
        let norm = norm(case, step);
        let clip_coef = clip(case, norm);
        let factor = case.grad_scale.map_or(clip_coef, |scale| clip_coef / Rounded::exact(scale));
        out.grad_norm.push(norm);
        out.clip_coef.push(clip_coef.value);
        if case.first_nonfinite(step).is_none() {
            t += 1;
            let scalars = |group: &Group, measured| StepScalars {
                t,
                lr: case.lr(step) * group.lr_scale,
                weight_decay: group.weight_decay.unwrap_or(case.weight_decay()),
                measured,
            };
            let grad = |element: usize| {
                let grad = Rounded::exact(case.grads(step)[element].into()) * factor;
                if case.flag("maximize") { -grad } else { grad }
            };
            settle_factors(case, &*oracle, t, &grad, &mut factors, &mut states);
            for (name, largest) in largest_factors.iter_mut().enumerate() {
                let values: Vec<f64> = factors.iter().flat_map(|of| &of.0[name]).map(|factor| factor.value).collect();
                largest.resize(values.len(), 0.0);
                largest.iter_mut().zip(values).for_each(|(largest, value)| *largest = largest.max(value));
            }
            let term = |i: usize| oracle.measure(&scalars(groups[i], Vec::new()), params[i], grad(i), &states[i]);
            // Each group is a tensor of its own.
            let mut sums: Vec<Vec<Rounded>> = Vec::with_capacity(elements);
            if oracle.whole() {
                let active = (0..elements).filter(|&i| !groups[i].frozen);
                sums = vec![measured(active.map(term)); elements];
            }
            for group in case.groups.iter().filter(|_| !oracle.whole()) {
                let (start, end) = (sums.len(), sums.len() + group.elements);
                sums.resize(end, measured((start..end).map(term)));
            }
            for (element, group) in groups.iter().enumerate().filter(|(_, group)| !group.frozen) {
                let (scalars, grad) = (scalars(group, sums[element].clone()), grad(element));
                let (state, param) = (&mut states[element], &mut params[element]);
                let mut plain: Vec<f64> = state.iter().map(|state| state.value).collect();
                let expected = oracle.update(&scalars, param.value, grad.value, &mut plain);
                let next = oracle.update_rounded(&scalars, *param, grad, state);
                assert_eq!(next.value, expected, "{}: both evaluations follow the same equation", case.name);
                paths[element] += (next.value - param.value).abs();
                *param = next;
                for (largest, state) in largest.iter_mut().zip(state.iter()) {
                    largest[element] = largest[element].max(state.value.abs());
                }
            }
        }
        if case.checkpoints.contains(&(step + 1)) {
            out.params.push(params.clone());
            out.paths.push(paths.clone());
        }
    }
    assert_eq!(t, case.applied, "{}", case.name);
    let elements = params.iter().zip(&states).zip(&groups);
    let eval = elements.map(|((&param, state), group)| if group.frozen { param } else { oracle.eval(param, state) });
    out.eval_params = eval.collect();
    let state = |index: usize| states.iter().map(|state| state[index]).collect();
    out.states = names.iter().enumerate().map(|(index, &name)| (name, state(index))).collect();
    out.largest_states = largest;
    for (name, largest) in largest_factors.into_iter().enumerate().filter(|(_, largest)| !largest.is_empty()) {
        let of_all = factors.iter().flat_map(|of| &of.0[name]).copied();
        out.states.push((FACTORS[name], of_all.collect()));
        out.largest_states.push(largest);
    }
    out
}

/// Brings what the rule keeps of each group's rows and columns forward, and puts what that says of an element in its state.
fn settle_factors(
    case: &Case,
    oracle: &dyn Oracle,
    t: u64,
    grad: &dyn Fn(usize) -> Rounded,
    factors: &mut [Factors],
    states: &mut [Vec<Rounded>],
) {
    let mut start = 0;
    for (group, factors) in case.groups.iter().zip(factors) {
        let zero = Rounded::exact(0.0);
        let counted = |i| if group.frozen { zero } else { grad(i) };
        let grads: Vec<Rounded> = (start..start + group.elements).map(counted).collect();
        let variances = oracle.settle_factors(t, &group.shape, &grads, factors);
        if group.frozen {
            factors.0.iter_mut().flatten().for_each(|factor| *factor = zero);
        }
        states[start..].iter_mut().zip(variances).for_each(|(state, variance)| state[0] = variance);
        start += group.elements;
    }
}

/// Of the unscaled gradient, without what is frozen.
fn norm(case: &Case, step: usize) -> f64 {
    let active = case.grads(step).iter().zip(case.group_of()).filter(|(_, group)| !group.frozen);
    let active: Vec<f32> = active.map(|(&grad, _)| grad).collect();
    global_norm(&active) / case.grad_scale.unwrap_or(1.0)
}

fn clip(case: &Case, norm: f64) -> Rounded {
    let Some(max_norm) = case.max_norm else { return Rounded::exact(1.0) };
    let value = clip_coefficient(norm, max_norm);
    let surely_one = max_norm > (norm + 1e-6) * (1.0 + CLIP_ERROR);
    Rounded { value, error: if surely_one { 0.0 } else { value * CLIP_ERROR } }
}
