//! The learning rate range test: its sweep, its suggestions (`golden/lr_finder.json`, made by fastai), and that it leaves no
//! trace.

use crate::common::{Trainer, cpu_bits, device, encoder, finish};
use serde::Deserialize;
use wgpu_optim::schedule::{Exponential, LrCurve, LrSuggestions, RangeTest, StepMode};
use wgpu_optim::{AdamW, Clip, Error, Layout, Optimizer, OptimizerBuilder};

#[derive(Deserialize)]
struct Case {
    num_iter: u64,
    losses: Vec<f64>,
    /// Up to where fastai stops.
    smooth_losses: Vec<f64>,
    suggestions: LrSuggestions,
}

fn sweep(test: &RangeTest, losses: &[f64]) -> LrCurve {
    let mut losses = losses.iter();
    let mut awaited = losses.clone();
    let awaited = test.sweep_async(async |_| Ok::<_, Error>(*awaited.next().unwrap()));
    let curve = test.sweep(|_| Ok::<_, Error>(*losses.next().unwrap())).unwrap();
    assert_eq!(pollster::block_on(awaited).unwrap(), curve);
    curve
}

fn assert_near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-12 * expected.abs(), "{got} for {expected}");
}

#[test]
fn averages_divergence_and_suggestions_are_fastai_s() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../golden/lr_finder.json")).unwrap();
    assert!(cases.iter().any(|case| case.smooth_losses.len() < case.losses.len()));
    for Case { num_iter, losses, smooth_losses, suggestions } in cases {
        let curve = sweep(&RangeTest::default().with_num_iter(num_iter), &losses);
        assert_eq!(curve.points.len(), smooth_losses.len());
        for (point, (loss, smooth_loss)) in curve.points.iter().zip(losses.iter().zip(smooth_losses)) {
            assert_eq!(point.loss, *loss);
            assert_near(point.smooth_loss, smooth_loss);
        }
        let got = curve.suggestions().unwrap();
        assert_near(got.steepest, suggestions.steepest);
        assert_near(got.valley, suggestions.valley);
        assert_near(got.minimum, suggestions.minimum);
        let text = serde_json::to_string(&curve).unwrap();
        let read: LrCurve = serde_json::from_str(&text).unwrap();
        assert_eq!((read.num_iter, read.points.len()), (curve.num_iter, curve.points.len()));
    }
}

#[test]
fn learning_rates_rise_from_start_to_end() {
    let test = RangeTest::default().with_start_lr(0.5).with_end_lr(8.0).with_num_iter(5);
    let lrs = |test: RangeTest| sweep(&test, &[1.0; 5]).points.iter().map(|point| point.lr).collect::<Vec<_>>();
    assert_eq!(lrs(test.clone()), [0.5, 1.0, 2.0, 4.0, 8.0]);
    assert_eq!(lrs(test.with_step_mode(StepMode::Linear)), [0.5, 2.375, 4.25, 6.125, 8.0]);
}

#[test]
fn a_test_ends_where_the_loss_diverges() {
    let test = RangeTest::default().with_num_iter(6).with_beta(0.0);
    let steps = |test: &RangeTest, losses: [f64; 6]| sweep(test, &losses).points.len();
    assert_eq!(steps(&test, [1.0, 0.5, 2.0, 2.5, 1.0, 1.0]), 4);
    assert_eq!(steps(&test.clone().with_diverge_th(2.0), [1.0, 0.5, 0.75, 2.5, 1.0, 1.0]), 4);
    assert_eq!(steps(&test, [-1.0, -2.0, -1.0, 0.0, 4.5, 1.0]), 5, "as far above a loss below 0");
    let on = test.with_stop_div(false);
    assert_eq!(steps(&on, [1.0, 0.5, 2.0, 2.5, 1.0, 1.0]), 6);
    for bad in [f64::NAN, f64::INFINITY] {
        assert_eq!(steps(&on, [1.0, 0.5, 0.25, bad, 1.0, 1.0]), 3);
        assert_eq!(steps(&on, [bad; 6]), 0);
    }
}

/// fastai's numbers for losses of `2 - 0.01·i`, then NaN: minimum 5.857e-4, valley 4.642e-5, steepest 4.863e-3.
#[test]
fn a_nonfinite_loss_costs_no_finite_point() {
    let finite: Vec<f64> = (0..60).map(|i| 2.0 - 0.01 * f64::from(i)).collect();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let curve = sweep(&RangeTest::default(), &[&finite[..], &[bad]].concat());
        assert!(curve.ended_nonfinite);
        let LrSuggestions { steepest, valley, minimum } = curve.suggestions().unwrap();
        let lr = |step: usize| curve.points[step].lr;
        assert_eq!((steepest, valley, minimum), (lr(58), lr(33), lr(59) / 10.0));
        assert_eq!([steepest, valley, minimum].map(|lr| format!("{lr:.3e}")), ["4.863e-3", "4.642e-5", "5.857e-4"]);
    }
}

/// Steps 95 to 99 are the last five, whether finite or not.
#[test]
fn the_last_five_steps_are_left_out_before_a_nonfinite_loss_too() {
    let minimum = |losses: &[f64]| {
        let curve = sweep(&RangeTest::default(), losses);
        (curve.suggestions().unwrap().minimum, curve.points[94].lr / 10.0)
    };
    let mut losses: Vec<f64> = (0..100).map(|i| 2.0 - 0.01 * f64::from(i)).collect();
    for at in [99, 97, 95] {
        losses[at] = f64::NAN;
        let (minimum, lr) = minimum(&losses);
        assert_eq!(minimum, lr, "NaN at {at}");
    }
}

/// Finite losses can overflow the average.
#[test]
fn an_average_that_is_not_finite_ends_the_test() {
    let test = RangeTest::default().with_beta(0.5);
    let curve = sweep(&test, &[1.7e308, -1.7e308]);
    assert_eq!((curve.points.len(), curve.ended_nonfinite), (1, true));
}

#[test]
fn short_curves_suggest_nothing() {
    let points = |count: usize, ended_nonfinite: bool| {
        let test = RangeTest::default().with_num_iter(9);
        let curve = sweep(&test, &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
        LrCurve { points: curve.points[..count].to_vec(), ended_nonfinite, ..curve }
    };
    for (shortest, ended_nonfinite) in [(7, false), (2, true)] {
        let curve = points(shortest, ended_nonfinite);
        assert_eq!(curve.suggestions().unwrap().minimum, curve.points[1].lr / 10.0);
        for count in 0..shortest {
            assert_eq!(points(count, ended_nonfinite).suggestions(), None, "{count} points");
        }
        assert_eq!(LrCurve { num_iter: 1_000, ..curve }.suggestions(), None);
    }
}

#[test]
fn bad_fields_are_refused_before_the_first_step() {
    let test = RangeTest::default;
    for (test, name) in [
        (test().with_start_lr(0.0), "start_lr"),
        (test().with_start_lr(f64::NAN), "start_lr"),
        (test().with_end_lr(1e-7), "end_lr"),
        (test().with_end_lr(1e39), "end_lr"),
        (test().with_num_iter(1), "num_iter"),
        (test().with_beta(1.0), "beta"),
        (test().with_beta(-0.5), "beta"),
        (test().with_diverge_th(1.0), "diverge_th"),
        (test().with_diverge_th(f64::NAN), "diverge_th"),
    ] {
        let refused = test.sweep(|_| -> Result<f64, Error> { panic!("a step") }).unwrap_err();
        assert!(matches!(refused, Error::Hyperparameter { name: found, .. } if found == name), "{refused}");
    }
}

#[test]
fn a_test_is_written_and_read() {
    let test: RangeTest = serde_json::from_str(r#"{"end_lr": 1, "step_mode": "linear"}"#).unwrap();
    assert_eq!(test, RangeTest::default().with_end_lr(1.0).with_step_mode(StepMode::Linear));
    assert_eq!(serde_json::from_str::<RangeTest>(&serde_json::to_string(&test).unwrap()).unwrap(), test);
    assert!(serde_json::from_str::<RangeTest>(r#"{"max_lr": 1}"#).is_err());
    let printed =
        "range_test(start_lr=1e-7, end_lr=10.0, num_iter=100, step_mode=Exp, beta=0.98, stop_div=true, diverge_th=4.0)";
    assert_eq!(RangeTest::default().to_string(), printed);
}

const START: [f32; 5] = [3.0, -2.0, 1.0, 0.5, -4.0];

fn builder() -> OptimizerBuilder {
    Optimizer::builder(AdamW::default()).schedule(Exponential::new(0.125, 0.5)).clip(Clip::global_norm(10.0))
}

/// Half the sum of squares, whose gradient is the parameters themselves.
fn loss(params: &[f32]) -> f64 {
    params.iter().map(|&param| f64::from(param).powi(2) / 2.0).sum()
}

/// An error of the training program's own.
#[derive(Debug)]
enum Failure {
    Batch,
    Optimizer(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Optimizer(error)
    }
}

/// The test itself, and one whose step number `fails_at` fails; both leave parameters, states, counters and schedule as they
/// were, and the next step is that of an optimizer that was never tested.
#[test]
fn a_test_leaves_no_trace_on_the_cpu() {
    for fails_at in [None, Some(0), Some(7)] {
        let mut tested = builder().build_cpu(&Layout::flat(5).unwrap()).unwrap();
        let mut untested = builder().build_cpu(&Layout::flat(5).unwrap()).unwrap();
        let (mut params, mut untouched) = (START, START);
        for _ in 0..3 {
            let grads = params;
            tested.step(&mut params, &grads).unwrap();
            untested.step(&mut untouched, &grads).unwrap();
        }
        let mut lrs = Vec::new();
        let curve = tested.range_test(&mut params, &RangeTest::default(), |optimizer, params| {
            if fails_at == Some(lrs.len()) {
                return Err(Failure::Batch);
            }
            let (loss, grads) = (loss(params), params.to_vec());
            lrs.push(f64::from(optimizer.step(params, &grads)?.lr));
            Ok(loss)
        });
        match fails_at {
            Some(_) => assert!(matches!(curve, Err(Failure::Batch))),
            None => assert_falls(&curve.unwrap(), &lrs),
        }
        assert_eq!(cpu_bits(&tested, &params), cpu_bits(&untested, &untouched));
        assert_eq!((tested.stats(), tested.lr().unwrap()), (untested.stats(), 0.125 * 0.125));
        let grads = params;
        assert_eq!(tested.step(&mut params, &grads).unwrap(), untested.step(&mut untouched, &grads).unwrap());
        assert_eq!(cpu_bits(&tested, &params), cpu_bits(&untested, &untouched));
    }
}

fn assert_falls(curve: &LrCurve, lrs: &[f64]) {
    assert!(curve.points.len() > 60 && curve.points.len() == lrs.len());
    assert!(curve.points.iter().zip(lrs).all(|(point, lr)| f64::from(point.lr as f32) == *lr));
    let least = curve.points.iter().map(|point| point.loss).fold(f64::INFINITY, f64::min);
    assert!(least < 0.5 * curve.points[0].loss, "it trained");
}

#[test]
fn a_test_leaves_no_trace_on_the_device() {
    let gpu = device::gpu();
    for fails_at in [None, Some(0), Some(7)] {
        let layout = Layout::flat(5).unwrap();
        let mut tested = Trainer::new(gpu, builder(), &layout, &START);
        let mut untested = Trainer::new(gpu, builder(), &layout, &START);
        for _ in 0..3 {
            let grads = tested.params();
            tested.step(&grads);
            untested.step(&grads);
        }
        let mut lrs = Vec::new();
        let Trainer { optimizer, params, grads, .. } = &mut tested;
        let curve = optimizer.range_test(&*params, &RangeTest::default(), |optimizer| {
            if fails_at == Some(lrs.len()) {
                return Err(Failure::Batch);
            }
            let values = device::download(gpu, params);
            gpu.queue.write_buffer(grads, 0, bytemuck::cast_slice(&values));
            let mut encoder = encoder(gpu);
            optimizer.step(&mut encoder, &*params, &*grads)?;
            lrs.push(f64::from(finish(gpu, optimizer, encoder).lr));
            Ok(loss(&values))
        });
        match fails_at {
            Some(_) => assert!(matches!(curve, Err(Failure::Batch))),
            None => assert_falls(&curve.unwrap(), &lrs),
        }
        assert_eq!(tested.bits(), untested.bits());
        assert_eq!(tested.optimizer.lr().unwrap(), 0.125 * 0.125);
        let grads = tested.params();
        assert_eq!(tested.step(&grads), untested.step(&grads));
        assert_eq!(tested.bits(), untested.bits());
    }
}

#[test]
fn a_test_that_is_refused_changes_nothing() {
    let mut optimizer = builder().build_cpu(&Layout::flat(5).unwrap()).unwrap();
    let mut params = START;
    let refused =
        optimizer.range_test(&mut params, &RangeTest::default().with_num_iter(0), |_, _| -> Result<f64, Failure> {
            panic!("a step")
        });
    assert!(matches!(refused, Err(Failure::Optimizer(Error::Hyperparameter { name: "num_iter", .. }))));
    assert_eq!((params, optimizer.lr().unwrap()), (START, 0.125));
}
