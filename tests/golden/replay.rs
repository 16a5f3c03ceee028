//! Plays a case through the oracle: exact values, and bounds on the error of f32 arithmetic.

use wgpu_optim::{Lars, NovoGrad};

use super::cases::{Case, Group};
use super::common::oracle::lamb::LambOracle;
use super::common::oracle::lars::LarsOracle;
use super::common::oracle::novograd::NovoGradOracle;
use super::common::oracle::{AdamOracle, HALF_ULP, LionOracle, Oracle, Rounded, SgdOracle, StepScalars};
use super::common::oracle::{clip_coefficient, global_norm, measured};

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
}

pub fn oracle(case: &Case) -> Box<dyn Oracle> {
    let adam = |decoupled| AdamOracle {
        betas: case.betas((0.9, 0.999)),
        eps: case.option("eps", 1e-8),
        decoupled,
        amsgrad: case.flag("amsgrad"),
    };
    match case.rule.as_str() {
        "sgd" => Box::new(SgdOracle {
            momentum: case.option("momentum", 0.0),
            dampening: case.option("dampening", 0.0),
            nesterov: case.flag("nesterov"),
        }),
        "adam" => Box::new(adam(false)),
        "adamw" => Box::new(adam(true)),
        "lion" => Box::new(LionOracle { betas: case.betas((0.9, 0.99)) }),
        "lars" | "lars_optax" => {
            let optax = case.is_convention("optax");
            let default = if optax { Lars::optax() } else { Lars::torch() };
            Box::new(LarsOracle {
                momentum: case.option("momentum", default.momentum),
                dampening: case.option("dampening", 0.0),
                nesterov: case.flag("nesterov"),
                trust_coefficient: case.option("trust_coefficient", default.trust_coefficient),
                eps: case.option("eps", default.eps),
                optax,
            })
        }
        "lamb" | "lamb_optax" => Box::new(LambOracle {
            betas: case.betas((0.9, 0.999)),
            eps: case.option("eps", 1e-6),
            always: case.is_convention("optax") || case.flag("nvlamb"),
            ratio_range: case.pair("ratio_range"),
        }),
        "novograd" | "novograd_optax" => {
            let default = if case.is_convention("optax") { NovoGrad::optax() } else { NovoGrad::torch() };
            Box::new(NovoGradOracle {
                betas: case.betas(default.betas),
                eps: case.option("eps", default.eps),
                grad_averaging: case.flag("grad_averaging"),
            })
        }
        other => panic!("no oracle for {other}"),
    }
}

pub fn replay(case: &Case) -> Replay {
    let oracle = oracle(case);
    let names = oracle.state_names();
    let elements = case.param0.len();
    let groups = case.group_of();
    let mut params: Vec<Rounded> = case.param0.iter().map(|&param| Rounded::exact(param.into())).collect();
    let mut paths: Vec<f64> = params.iter().map(|param| param.value.abs()).collect();
    let mut states = vec![vec![Rounded::exact(0.0); oracle.state_count()]; elements];
    let mut largest = vec![vec![0.0f64; elements]; names.len()];
    let mut t = 0;
    let mut out = Replay {
        params: vec![],
        states: vec![],
        paths: vec![],
        largest_states: vec![],
        grad_norm: vec![],
        clip_coef: vec![],
    };
    for step in 0..case.steps {
        let norm = norm(case, step);
        let clip_coef = clip(case, norm);
        let factor = case.grad_scale.map_or(clip_coef, |scale| clip_coef / Rounded::exact(scale));
        out.grad_norm.push(norm);
        out.clip_coef.push(clip_coef.value);
        if case.first_nonfinite(step).is_none() {
            t += 1;
            let scalars = |group: &Group| StepScalars {
                t,
                lr: case.lr(step) * group.lr_scale,
                weight_decay: group.weight_decay.unwrap_or(case.weight_decay()),
                measured: Vec::new(),
            };
            let grad = |element: usize| {
                let grad = Rounded::exact(case.grads(step)[element].into()) * factor;
                if case.flag("maximize") { -grad } else { grad }
            };
            // Each group is a tensor of its own.
            let sums = case.groups.iter().scan(0, |end, group| {
                let start = std::mem::replace(end, *end + group.elements);
                let scalars = scalars(group);
                Some(measured((start..*end).map(|i| oracle.measure(&scalars, params[i], grad(i), &states[i]))))
            });
            let sums: Vec<_> = sums.collect();
            let live = groups.iter().enumerate().filter(|(_, group)| !group.frozen);
            for (element, group) in live {
                let tensor = case.groups.iter().position(|tensor| std::ptr::eq(tensor, *group)).expect("one of them");
                let scalars = StepScalars { measured: sums[tensor].clone(), ..scalars(group) };
                let grad = grad(element);
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
    let state = |index: usize| states.iter().map(|state| state[index]).collect();
    out.states = names.iter().enumerate().map(|(index, &name)| (name, state(index))).collect();
    out.largest_states = largest;
    out
}

/// Of the unscaled gradient, without what is frozen.
fn norm(case: &Case, step: usize) -> f64 {
    let live = case.grads(step).iter().zip(case.group_of()).filter(|(_, group)| !group.frozen);
    let live: Vec<f32> = live.map(|(&grad, _)| grad).collect();
    global_norm(&live) / case.grad_scale.unwrap_or(1.0)
}

fn clip(case: &Case, norm: f64) -> Rounded {
    let Some(max_norm) = case.max_norm else { return Rounded::exact(1.0) };
    let value = clip_coefficient(norm, max_norm);
    let surely_one = max_norm > (norm + 1e-6) * (1.0 + CLIP_ERROR);
    Rounded { value, error: if surely_one { 0.0 } else { value * CLIP_ERROR } }
}
