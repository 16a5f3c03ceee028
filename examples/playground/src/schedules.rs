//! Every kind of schedule with parameters to start from, and its curve.

use wgpu_optim::Schedule;
use wgpu_optim::schedule::{
    Chained, Constant, Cosine, CosineWarmRestarts, Cyclic, Exponential, InterpolateType, InverseSqrt, Linear,
    MultiStep, Noam, OneCycle, PiecewiseConstant, PiecewiseInterpolate, Polynomial, Sequential, Step, Warmup,
    WarmupStableDecay,
};

use crate::Result;
use crate::registry::{Form, form};

const LR: f64 = 0.1;
/// Steps that the examples are made for.
pub const STEPS: u64 = 100;

/// One of every kind that can be written down.
pub fn examples() -> Vec<Schedule> {
    let decay = || Schedule::from(Exponential::new(LR, 0.97));
    let rise = Linear::new(LR).with_start_factor(0.1).with_total_iters(30);
    let waves = CosineWarmRestarts::new(1.0, 20).with_eta_min(0.4);
    let scales = || vec![(30, 0.4), (60, 2.0), (85, 0.25)];
    vec![
        Constant::new(LR).with_factor(0.5).with_total_iters(30).into(),
        Step::new(LR, 25).with_gamma(0.5).into(),
        MultiStep::new(LR, vec![20, 70, 85]).with_gamma(0.4).into(),
        Exponential::new(LR, 0.96).into(),
        Linear::new(LR).with_start_factor(0.1).with_total_iters(60).into(),
        Polynomial::new(LR).with_total_iters(STEPS).with_power(2.0).into(),
        InverseSqrt::new(LR, 15).into(),
        Noam::new(512, 30).with_factor(LR * (512.0f64 * 30.0).sqrt()).into(),
        Cosine::new(LR, STEPS).into(),
        CosineWarmRestarts::new(LR, 15).with_t_mult(2).into(),
        Schedule::warmup_cosine(LR, 10, 90).with_min_lr(0.01),
        OneCycle::new(LR, STEPS).with_div_factor(10.0).into(),
        Cyclic::new(0.02, LR).with_step_size_up(12).with_step_size_down(Some(8)).into(),
        Warmup::new(Box::new(decay()), 25).into(),
        WarmupStableDecay::new(LR, 10, 50, 40).into(),
        PiecewiseConstant::new(LR, scales()).into(),
        PiecewiseInterpolate::new(InterpolateType::Cosine, LR, scales()).into(),
        Sequential::new(vec![rise.into(), decay(), decay()], vec![30, 65]).into(),
        Chained::new(vec![decay(), waves.into()]).into(),
    ]
}

/// A form for every kind that can be written down.
///
/// # Errors
/// Schedules that cannot be written.
pub fn forms() -> Result<Vec<Form>> {
    let form =
        |schedule| form(&serde_json::to_value(schedule)?, |fields| serde_json::from_value::<Schedule>(fields).err());
    examples().into_iter().map(form).collect()
}

/// Learning rates of the first steps, up to the schedule's end.
///
/// # Errors
/// Parameters that the schedule refuses: those of a first step.
pub fn curve(json: &str, steps: u64) -> Result<Vec<f64>> {
    let schedule: Schedule = serde_json::from_str(json)?;
    let mut rates = vec![schedule.lr(0)?];
    rates.extend((1..steps).map_while(|step| schedule.lr(step).ok()));
    Ok(rates)
}
