//! Every kind of schedule, over 100 steps and with learning rates up to 0.1.

use wgpu_optim::Schedule;
use wgpu_optim::schedule::{
    AnnealStrategy, Chained, Constant, Cosine, CosineWarmRestarts, Cyclic, CyclicMode, DecayType, Exponential,
    InterpolateType, InverseSqrt, Linear, MultiStep, Noam, OneCycle, PiecewiseConstant, PiecewiseInterpolate,
    Polynomial, Sequential, Step, Warmup, WarmupStableDecay, WarmupType,
};

use crate::Result;
use crate::grid::{Grid, Panel};

pub(crate) const STEPS: u64 = 100;
const LR: f64 = 0.1;

/// One panel per kind; variants of a kind share one.
pub(crate) fn all() -> Result<Grid> {
    let panels = [simple(), periodic(), warmups(), composed()].into_iter().flatten();
    let panels = panels.map(|(title, curves)| Panel::new(title, &curves, STEPS)).collect::<Result<_>>()?;
    Ok(Grid { panels, columns: 4, panel_size: (400, 270) })
}

/// A panel's title, and its curves with their labels.
type Curves = (&'static str, Vec<(&'static str, Schedule)>);

fn simple() -> Vec<Curves> {
    let linear = Linear::new(LR).with_total_iters(60);
    let polynomial = Polynomial::new(LR).with_total_iters(STEPS);
    vec![
        (
            "constant",
            vec![
                ("factor 1", Schedule::constant(LR)),
                ("factor 0.5", Constant::new(LR).with_factor(0.5).with_total_iters(30).into()),
            ],
        ),
        (
            "linear",
            vec![
                ("up", linear.clone().with_start_factor(0.1).into()),
                ("down", linear.with_start_factor(1.0).with_end_factor(0.1).into()),
            ],
        ),
        ("step", vec![("", Step::new(LR, 25).with_gamma(0.5).into())]),
        ("multi_step", vec![("", MultiStep::new(LR, vec![20, 70, 85]).with_gamma(0.4).into())]),
        ("exponential", vec![("", Exponential::new(LR, 0.96).into())]),
        (
            "polynomial",
            vec![
                ("power 1", polynomial.clone().into()),
                ("power 2", polynomial.clone().with_power(2.0).into()),
                ("power 0.5", polynomial.with_power(0.5).into()),
            ],
        ),
        ("inverse_sqrt", vec![("", InverseSqrt::new(LR, 15).into())]),
        ("noam", vec![("", Noam::new(512, 30).with_factor(LR * (512.0f64 * 30.0).sqrt()).into())]),
    ]
}

fn periodic() -> Vec<Curves> {
    let one_cycle = OneCycle::new(LR, STEPS).with_div_factor(10.0);
    let cyclic = Cyclic::new(0.02, LR).with_step_size_up(12).with_step_size_down(Some(8));
    vec![
        (
            "cosine",
            vec![
                ("T_max 100", Cosine::new(LR, STEPS).into()),
                ("T_max 40", Cosine::new(LR, 40).with_eta_min(0.02).into()),
            ],
        ),
        (
            "cosine_warm_restarts",
            vec![
                ("T_mult 1", CosineWarmRestarts::new(LR, 33).into()),
                ("T_mult 2", CosineWarmRestarts::new(LR, 15).with_t_mult(2).into()),
            ],
        ),
        (
            "one_cycle",
            vec![
                ("cos", one_cycle.clone().into()),
                ("linear", one_cycle.clone().with_anneal_strategy(AnnealStrategy::Linear).into()),
                ("three phases", one_cycle.with_three_phase(true).into()),
            ],
        ),
        (
            "cyclic",
            vec![
                ("triangular", cyclic.clone().into()),
                ("triangular2", cyclic.clone().with_mode(CyclicMode::Triangular2).into()),
                ("exp_range", cyclic.with_mode(CyclicMode::ExpRange).with_gamma(0.99).into()),
            ],
        ),
    ]
}

fn warmups() -> Vec<Curves> {
    let warmup = Warmup::new(Box::new(Exponential::new(LR, 0.98).into()), 25);
    let stable = WarmupStableDecay::new(LR, 10, 50, 40);
    vec![
        ("warmup_cosine", vec![("", Schedule::warmup_cosine(LR, 10, 90).with_min_lr(0.01))]),
        (
            "warmup",
            vec![
                ("linear", warmup.clone().into()),
                ("cosine", warmup.clone().with_warmup_type(WarmupType::Cosine).into()),
                ("constant", warmup.with_warmup_type(WarmupType::Constant).with_start_factor(0.3).into()),
            ],
        ),
        (
            "warmup_stable_decay",
            vec![
                ("cosine", stable.clone().into()),
                ("linear", stable.clone().with_decay_type(DecayType::Linear).into()),
                ("1-sqrt", stable.with_decay_type(DecayType::OneMinusSqrt).into()),
            ],
        ),
    ]
}

fn composed() -> Vec<Curves> {
    let scales = || vec![(30, 0.4), (60, 2.0), (85, 0.25)];
    let interpolate = |way| PiecewiseInterpolate::new(way, LR, scales()).into();
    let decay = || Schedule::from(Exponential::new(LR, 0.97));
    let waves = CosineWarmRestarts::new(1.0, 20).with_eta_min(0.4).into();
    let rise = Linear::new(LR).with_start_factor(0.1).with_total_iters(30).into();
    vec![
        ("piecewise_constant", vec![("", PiecewiseConstant::new(LR, scales()).into())]),
        (
            "piecewise_interpolate",
            vec![("linear", interpolate(InterpolateType::Linear)), ("cosine", interpolate(InterpolateType::Cosine))],
        ),
        ("sequential", vec![("", Sequential::new(vec![rise, decay(), decay()], vec![30, 65]).into())]),
        ("chained", vec![("", Chained::new(vec![decay(), waves]).into())]),
        ("lambda", vec![("", Schedule::lambda(LR, |step| (step as f64 / 12.0).sin().powi(2)))]),
    ]
}
