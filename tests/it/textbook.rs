//! Facts that textbooks and tutorials tell of optimizers, on both engines. Those of functions of two variables are in
//! `examples/landscape`.

use crate::common::{Trainer, device};
use approx::assert_relative_eq;
use wgpu_optim::{Adagrad, Adam, AdamW, Layout, Optimizer, OptimizerBuilder, Sgd};

/// The parameters after every step, the start among them, with the gradients that `grad` gives at each; of both engines,
/// which must agree.
fn train(
    builder: &OptimizerBuilder,
    start: &[f32],
    steps: u32,
    grad: impl Fn(u32, &[f32]) -> Vec<f32>,
) -> Vec<Vec<f32>> {
    let layout = Layout::flat(start.len()).unwrap();
    let mut cpu = builder.clone().build_cpu(&layout).unwrap();
    let mut gpu = Trainer::new(device::gpu(), builder.clone(), &layout, start);
    let mut path = vec![start.to_vec()];
    for step in 0..steps {
        let mut params = path[step as usize].clone();
        let grads = grad(step, &params);
        cpu.step(&mut params, &grads).unwrap();
        gpu.step(&grads);
        path.push(params);
    }
    for (on_gpu, on_cpu) in gpu.params().iter().zip(&path[steps as usize]) {
        assert_relative_eq!(on_gpu, on_cpu, max_relative = 1e-4, epsilon = 1e-6);
    }
    path
}

/// ŷ = w·x + b on (1, 2), (2, 4), (3, 6): the gradient of the mean squared error.
fn line(_: u32, params: &[f32]) -> Vec<f32> {
    let (mut dw, mut db) = (0.0, 0.0);
    for (x, y) in [(1.0, 2.0), (2.0, 4.0), (3.0, 6.0)] {
        let error = params[0] * x + params[1] - y;
        dw += 2.0 / 3.0 * error * x;
        db += 2.0 / 3.0 * error;
    }
    vec![dw, db]
}

/// By hand: errors -1.4, -2.9, -4.4, so that the gradients are -13.6 and -5.8.
#[test]
fn gradient_descent_fits_a_line_in_the_known_steps() {
    let path = train(&Optimizer::builder(Sgd::default().with_lr(0.01)), &[0.5, 0.1], 2_000, line);
    assert_relative_eq!(path[1][..], [0.636, 0.158], max_relative = 1e-6);
    // By hand again: errors -1.206, -2.57, -3.934, gradients -12.098666… and -5.14.
    assert_relative_eq!(path[2][..], [0.756_986_7, 0.2094], max_relative = 1e-6);
    // The error in (w, b) shrinks by the same matrix every step, along its two eigenvectors.
    let (mut w, mut b) = (0.5 - 2.0, 0.1_f64);
    for expected in &path[1..=100] {
        (w, b) = (w - 0.01 * (28.0 / 3.0 * w + 4.0 * b), b - 0.01 * (4.0 * w + 2.0 * b));
        assert_relative_eq!(f64::from(expected[0]), 2.0 + w, max_relative = 1e-5);
        assert_relative_eq!(f64::from(expected[1]), b, max_relative = 1e-5);
    }
    assert_relative_eq!(path[2_000][..], [2.0, 0.0], epsilon = 1e-2);
}

/// Decoupled decay alone is exponential: `(1 - lr·weight_decay)ᵗ`.
#[test]
fn a_thousandth_less_each_step_is_a_third_after_a_thousand() {
    let rule = AdamW::default().with_lr(0.01).with_weight_decay(0.1);
    let path = train(&Optimizer::builder(rule), &[1.0, -20.0], 1_000, |_, params| vec![0.0; params.len()]);
    for (t, params) in path.iter().enumerate() {
        let share = 0.999_f64.powi(t as i32);
        assert_relative_eq!(f64::from(params[0]), share, max_relative = 1e-4);
        assert_relative_eq!(f64::from(params[1]), -20.0 * share, max_relative = 1e-4);
    }
    assert_relative_eq!(path[1_000][0], 0.3677, epsilon = 1e-4);
}

/// The error of the weights of two features after 1,000 steps: the first is 10 in every sample, the second 1 in one of 50.
/// Both weights should be 1.
fn sparse_errors(builder: &OptimizerBuilder) -> [f32; 2] {
    let grad = |step: u32, params: &[f32]| {
        let sample = [10.0, if step % 50 == 49 { 1.0 } else { 0.0 }];
        let error = params[0] * sample[0] + params[1] * sample[1] - (sample[0] + sample[1]);
        sample.map(|x| error * x).to_vec()
    };
    let path = train(builder, &[0.0, 0.0], 1_000, grad);
    [0, 1].map(|weight| (path[1_000][weight] - 1.0).abs())
}

/// With one learning rate for all, what the common feature bears is too little for the rare one.
#[test]
fn adagrad_learns_rare_features_that_gradient_descent_does_not() {
    // Above 2/10² gradient descent diverges.
    for lr in [0.003, 0.01, 0.019] {
        let [common, rare] = sparse_errors(&Optimizer::builder(Sgd::default().with_lr(lr)));
        assert!(common < 0.2 && rare > 0.6, "lr {lr}: {common}, {rare}");
    }
    let [common, rare] = sparse_errors(&Optimizer::builder(Adagrad::default().with_lr(0.5)));
    assert!(common < 0.1 && rare < 0.2, "{common}, {rare}");
}

/// Two decayed weights that began at 1. Their gradients have mean 0 and sizes 100 and 0.1.
fn decayed(builder: &OptimizerBuilder) -> [f32; 2] {
    let grad = |step: u32, _: &[f32]| {
        let sign = [1.0, -1.0][step as usize % 2];
        vec![100.0 * sign, 0.1 * sign]
    };
    let path = train(builder, &[1.0, 1.0], 1_000, grad);
    [path[1_000][0], path[1_000][1]]
}

/// Loshchilov and Hutter (2017): Adam divides an L2 penalty by the gradient's size, AdamW decays all weights alike.
#[test]
fn adamw_decays_alike_what_adam_decays_by_the_size_of_gradients() {
    let (lr, weight_decay) = (1e-3, 0.5);
    let l2 = Adam::default().with_lr(lr).with_weight_decay(weight_decay);
    let [large, small] = decayed(&Optimizer::builder(l2));
    assert!(large > 0.95 && small < 0.4, "{large}, {small}");
    let decoupled = AdamW::default().with_lr(lr).with_weight_decay(weight_decay);
    let [large, small] = decayed(&Optimizer::builder(decoupled));
    let expected = (1.0 - lr * weight_decay).powi(1_000) as f32;
    assert_relative_eq!(large, expected, max_relative = 0.02);
    assert_relative_eq!(large, small, max_relative = 1e-3);
}
