//! The CPU references against an oracle in f64, and whole fits on both engines.

use wgpu_optim::Gpu;

use crate::fit::{Fit, Plan};
use crate::garden;
use crate::picture::Picture;
use crate::reference::{backward, forward, loss, project};
use crate::splats::{ANGLE, BLUR, COLOUR, COLUMNS, EDGE, LOG_LENGTH, LOG_WIDTH, OPACITY, Splat, X, Y};
use crate::{cpu, gpu};

/// A size that tiles do not divide.
pub(crate) const SIZE: [u32; 2] = [29, 18];

/// Numbers from 0 to 1, the same in every run.
pub(crate) fn random(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    }
}

/// Splats of all kinds: axes in a ratio of at most 3, some across the picture's edge.
pub(crate) fn splats(count: usize) -> Vec<Splat> {
    let mut next = random(7);
    let mut splat = || {
        let length = 1.5 * next();
        let [x, y] = SIZE.map(|side| side as f32 * (1.1 * next() - 0.05));
        let width = length + next() - 0.5;
        [x, y, length, width, 6.0 * next() - 3.0, next(), next(), next() - 0.5, 0.3 + next()]
    };
    (0..count).map(|_| splat()).collect()
}

pub(crate) fn target() -> Picture {
    let mut next = random(11);
    let [width, height] = SIZE.map(|side| side as usize);
    let pixels = (0..width * height).map(|_| [0; 3].map(|_: u8| (255.0 * next()) as u8)).collect();
    Picture { width, height, pixels }
}

/// The sum of splats by their definition.
fn oracle(splats: &[[f64; COLUMNS]]) -> Vec<[f64; 3]> {
    let pixel = |i: u32| {
        let mut sum = [0.0; 3];
        for splat in splats {
            let dx = f64::from(i % SIZE[0]) + 0.5 - splat[X];
            let dy = f64::from(i / SIZE[0]) + 0.5 - splat[Y];
            let (sine, cosine) = splat[ANGLE].sin_cos();
            let variance = |column: usize| (2.0 * splat[column]).exp() + f64::from(BLUR);
            let u = (cosine * dx + sine * dy).powi(2) / variance(LOG_LENGTH);
            let v = (cosine * dy - sine * dx).powi(2) / variance(LOG_WIDTH);
            let weight = ((-0.5 * (u + v)).exp() - f64::from(EDGE)).max(0.0);
            for (channel, sum) in sum.iter_mut().enumerate() {
                *sum += splat[OPACITY] * splat[COLOUR + channel] * weight;
            }
        }
        sum
    };
    (0..SIZE[0] * SIZE[1]).map(pixel).collect()
}

#[test]
fn gradients_are_the_differences_of_an_oracle() {
    // Errors of f32 in the exponent, at most 5.6, and in its exponential; of 7 splats in a pixel and 522 pixels in a sum.
    const RELATIVE: f64 = 2e-5;
    const STEP: f64 = 1e-5;
    let splats = splats(7);
    let target = target().colours();
    let shapes = project(&splats, SIZE);
    let mut errors = vec![[0.0; 3]; target.len()];
    forward(&shapes, &target, SIZE[0] as usize, &mut errors);

    let exact: Vec<[f64; COLUMNS]> = splats.iter().map(|splat| splat.map(f64::from)).collect();
    let picture = oracle(&exact);
    for ((error, target), sum) in errors.iter().zip(&target).zip(&picture) {
        for channel in 0..3 {
            let expected = sum[channel] - f64::from(target[channel]);
            assert!((f64::from(error[channel]) - expected).abs() < RELATIVE, "{error:?} for {sum:?}");
        }
    }
    for (row, (splat, shape)) in splats.iter().zip(&shapes).enumerate() {
        let (grads, score) = backward(splat, shape, &errors, SIZE[0] as usize);
        let mut lengths = 0.0;
        for column in 0..COLUMNS {
            let moved = |by: f64| {
                let mut moved = exact.clone();
                moved[row][column] += by;
                oracle(&moved)
            };
            let (mut expected, mut magnitude) = (0.0, 0.0);
            for (((high, low), sum), target) in moved(STEP).iter().zip(&moved(-STEP)).zip(&picture).zip(&target) {
                let slopes = [0, 1, 2].map(|c| (high[c] - low[c]) / (2.0 * STEP));
                let target = target.map(f64::from);
                let of_pixel: f64 = (0..3).map(|c| (sum[c] - target[c]) * slopes[c]).sum();
                expected += of_pixel;
                magnitude += (0..3).map(|c| (sum[c].abs() + target[c]) * slopes[c].abs()).sum::<f64>();
                lengths += if column <= Y { of_pixel.abs() } else { 0.0 };
            }
            let near = (f64::from(grads[column]) - expected).abs() <= RELATIVE * magnitude + 1e-7;
            assert!(near, "row {row}, column {column}: {} for {expected}, magnitude {magnitude}", grads[column]);
        }
        // The Euclidean length lies between the sum of both axes over the root of 2, and the sum.
        let score = f64::from(score);
        assert!(score <= 1.001 * lengths && score >= 0.7 * lengths, "row {row}: {score} for {lengths}");
    }
}

fn plan<'a>(target: &'a Picture, frames: &'a [u32]) -> Plan<'a> {
    Plan { target, capacity: 160, steps: frames[frames.len() - 1], frames, forgets_states: false }
}

fn assert_fits(fit: &Fit, plan: &Plan) {
    assert_eq!(fit.points.len(), plan.steps as usize + 1);
    assert_eq!(fit.frames.len(), plan.frames.len());
    let (first, last) = (fit.points[0], fit.points[plan.steps as usize]);
    assert_eq!(first.splats, 40);
    assert_eq!(last.splats, 40 + 10 + 12, "two growths by a quarter");
    assert!(last.psnr(plan.target) > first.psnr(plan.target) + 3.0, "{first:?} to {last:?}");
    // Clamping and rounding to 8 bits change little.
    let ratio = fit.frames.last().expect("a frame").psnr(plan.target);
    assert!((ratio - last.psnr(plan.target)).abs() < 0.5, "{ratio} for {last:?}");
}

#[test]
fn a_fit_on_the_cpu_engine_grows_and_comes_nearer() {
    let target = garden::picture(32);
    let plan = plan(&target, &[0, 150]);
    assert_fits(&cpu::fit(&plan, |_, _| ()).expect("a fit"), &plan);
}

#[test]
fn fits_on_a_device_grow_come_nearer_and_have_the_same_bits() {
    let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
    let target = garden::picture(32);
    let plan = plan(&target, &[0, 150]);
    let [fit, again] = [(); 2].map(|()| gpu::fit(&gpu, &plan, |_, _| ()).expect("a fit"));
    assert_fits(&fit, &plan);
    assert_eq!(fit.points, again.points);
    assert_eq!(fit.frames, again.frames);
    let begin = cpu::fit(&self::plan(&target, &[0, 1]), |_, _| ()).expect("a fit");
    for (on_device, on_cpu) in fit.points.iter().zip(&begin.points) {
        let near = (on_device.squares - on_cpu.squares).abs() < 1e-3 * on_cpu.squares;
        assert!(near, "{on_device:?} for {on_cpu:?}");
    }
    assert_eq!(loss(&[[1.0, 2.0, 0.0]]), 5.0);
}

#[test]
fn states_carried_through_a_growth_make_the_next_steps_smooth() {
    let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
    let target = garden::picture(32);
    let keeps = Plan { steps: 90, ..plan(&target, &[0, 90]) };
    let forgets = Plan { forgets_states: true, ..plan(&target, &[0, 90]) };
    let points = [&keeps, &forgets].map(|plan| {
        let fits = [cpu::fit(plan, |_, _| ()), gpu::fit(&gpu, plan, |_, _| ())];
        fits.map(|fit| fit.expect("a fit").points.iter().map(|point| point.squares).collect::<Vec<_>>())
    });
    let [kept, forgotten] = &points;
    for (kept, forgotten) in kept.iter().zip(forgotten) {
        assert_eq!(kept[..=50], forgotten[..=50], "the first growth follows the fiftieth step");
        // The first step of a fresh Adam has the full rate in every column.
        assert!(forgotten[51] > 1.2 * kept[51], "{} for {}", forgotten[51], kept[51]);
    }
    let [on_cpu, on_device] = kept;
    for step in 0..=55 {
        let near = (on_cpu[step] - on_device[step]).abs() < 0.01 * on_cpu[step];
        assert!(near, "step {step}: {} for {}", on_device[step], on_cpu[step]);
    }
}
