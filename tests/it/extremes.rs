//! Gradients at the limits of f32: norms of every kind, sums of rules and metrics, on both engines.

use crate::common::{Trainer, device};
use approx::assert_relative_eq;
use wgpu_optim::clip::{Adaptive, GlobalNorm, GroupNorm, Percentile};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::{
    Adafactor, AdamW, Clip, Lamb, Lars, Layout, NovoGrad, Optimizer, OptimizerBuilder, Sgd, StableAdamW, Stats,
    TensorInfo,
};

/// Tensors that end within rows, quads and tiles.
fn layout(packed: bool) -> Layout {
    let layout = Layout::builder().tensor("a", &[3, 67]).tensor("b", &[5]).group("b").tensor("c", &[2, 4099]);
    if packed { layout.packed().build().unwrap() } else { layout.build().unwrap() }
}

/// Statistics and parameters of each engine after each of these steps.
fn both(builder: &OptimizerBuilder, layout: &Layout, scale: f32, param: f32, steps: &[Vec<f32>]) -> [Vec<Outcome>; 2] {
    let mut params = vec![param; layout.len()];
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), layout, &params);
    trainer.optimizer.set_grad_scale(scale).unwrap();
    let on_device =
        steps.iter().map(|grads| (trainer.step(grads), trainer.params()[..params.len()].to_vec())).collect();
    let mut cpu = builder.clone().build_cpu(layout).unwrap();
    cpu.set_grad_scale(scale).unwrap();
    let on_cpu = steps.iter().map(|grads| (cpu.step(&mut params, grads).unwrap(), params.clone())).collect();
    [on_device, on_cpu]
}

type Outcome = (Stats, Vec<f32>);

/// Parameters, norms and coefficient have the same bits; NaN is NaN. The norm of updates is not compared: a compiler may
/// leave out that updated parameters are rounded. A device may flush subnormal numbers: parameters, gradients, the norm that
/// a coefficient comes from, and the second factor of coefficients below 2^-206.
fn assert_same(on_device: &Outcome, on_cpu: &Outcome, grads: &[f32], what: &str) {
    let all = |(stats, params): &Outcome| {
        let norms = [stats.grad_norm, stats.param_norm].into_iter().flatten();
        params.iter().copied().chain(norms).chain([stats.clip_coef]).collect::<Vec<_>>()
    };
    assert_eq!(all(on_device).len(), all(on_cpu).len(), "{what}: a norm is missing");
    let norm_is_subnormal = on_cpu.0.grad_norm.is_some_and(f32::is_subnormal);
    for (i, (on_device, on_cpu)) in all(on_device).into_iter().zip(all(on_cpu)).enumerate() {
        let may_flush = on_cpu.is_subnormal()
            || grads.get(i).map_or(norm_is_subnormal, |grad| {
                grad.is_subnormal() || f64::from(on_cpu).abs() < 2f64.powi(-206) * f64::from(*grad).abs()
            });
        let is_flushed = may_flush && on_device == 0.0 && device::flushes_subnormals();
        let is_same = on_device.to_bits() == on_cpu.to_bits() || (on_device.is_nan() && on_cpu.is_nan()) || is_flushed;
        assert!(is_same, "{what}, number {i}: {on_device:e} on the device, {on_cpu:e} on the CPU");
    }
}

/// Gradients of one magnitude and both signs, 0 in the padding.
fn uniform(layout: &Layout, magnitude: f32) -> Vec<f32> {
    let mut grads = vec![0.0; layout.len()];
    for i in layout.tensors().iter().flat_map(TensorInfo::range) {
        grads[i] = if i % 3 == 0 { -magnitude } else { magnitude };
    }
    grads
}

/// Steps by `grads` from 0, at a learning rate of 1, are clipped gradients.
fn clipped(clip: impl Into<Clip>) -> OptimizerBuilder {
    Optimizer::builder(Sgd::default().with_lr(1.0)).clip(clip)
}

#[test]
fn two_gradients_whose_sum_exceeds_f32_are_clipped_by_their_norm_of_order_one() {
    let builder = clipped(GlobalNorm::new(1.0).with_norm_type(1.0));
    let [on_device, on_cpu] = both(&builder, &Layout::flat(2).unwrap(), 1.0, 0.0, &[vec![1.71e38; 2]]);
    assert_eq!(on_device[0].1, [-0.5; 2]);
    assert_eq!(on_cpu[0].1, [-0.5; 2]);
    let [on_device, on_cpu] = both(&builder, &Layout::flat(2).unwrap(), 1e37, 0.0, &[vec![2e38; 2]]);
    for (stats, _) in on_device.into_iter().chain(on_cpu) {
        assert_relative_eq!(stats.grad_norm.unwrap(), 40.0, max_relative = 1e-6);
    }
}

/// Excuses for flushed numbers are for drivers that flush.
#[test]
fn lavapipe_keeps_subnormal_numbers() {
    let is_lavapipe = device::gpu().adapter.get_info().name.contains("llvmpipe");
    assert!(!is_lavapipe || !device::flushes_subnormals());
}

/// Magnitudes, gradient scales and limits from end to end of f32.
const CASES: [(f32, f32, f64); 15] = [
    (3.4e38, 1.0, 1.0),
    (3e38, 1e37, 1.0),
    (3e38, 1e-37, 1.0),
    (3e38, 1e-37, 3e38),
    (1e30, 1e-30, 1e30),
    (1e30, 1e-3, 1e-30),
    (1e20, 1.0, 1e-20),
    (1e20, 1e30, 1e-11),
    (1.0, 1e-30, 1e-30),
    (1e-20, 1e-30, 1.0),
    (1e-38, 1e-37, 1e-3),
    (1e-40, 1e-9, 1.2e-31),
    (1e-45, 1.0, 1.2e-38),
    (1e-45, 1e-30, 1e-20),
    (1e-45, 1e-37, 1e-20),
];

#[test]
fn global_norms_of_every_order_span_f32() {
    for (packed, (magnitude, scale, max_norm)) in
        [false, true].into_iter().flat_map(|packed| CASES.map(|case| (packed, case)))
    {
        let layout = layout(packed);
        let grads = uniform(&layout, magnitude);
        let count: usize = layout.tensors().iter().map(|tensor| tensor.range().len()).sum();
        let unscaled = f64::from(magnitude) / f64::from(scale);
        for p in [1.0, 2.0, 2.5, f64::INFINITY] {
            let what = format!("order {p}, {magnitude:e} / {scale:e}, at most {max_norm:e}");
            let norm = unscaled * (count as f64).powf(1.0 / p);
            let coef = (f64::from(max_norm as f32) / norm).min(1.0);
            let builder = clipped(GlobalNorm::new(max_norm).with_norm_type(p).exact());
            let [on_device, on_cpu] = both(&builder, &layout, scale, 0.0, std::slice::from_ref(&grads));
            for (stats, params) in [&on_device[0], &on_cpu[0]] {
                let close = |got: f32, expected: f64, relative: f64| {
                    let is_subnormal = expected.abs() < f64::from(f32::MIN_POSITIVE);
                    let subnormal = if is_subnormal { 2f64.powi(-149) } else { 0.0 };
                    (f64::from(got) - expected).abs() <= relative * expected.abs() + subnormal
                        || (is_subnormal && got == 0.0 && device::flushes_subnormals())
                };
                let measured = stats.grad_norm.unwrap();
                let exceeds = norm > f64::from(f32::MAX) && measured == f32::INFINITY;
                assert!(exceeds || close(measured, norm, 1.5e-6), "{what}: norm {measured:e} for {norm:e}");
                assert!(close(stats.clip_coef, coef, 2e-6), "{what}: {:e} for {coef:e}", stats.clip_coef);
                for (&param, &grad) in params.iter().zip(&grads) {
                    let expected = -f64::from(grad.signum() * grad.abs().min(1.0).ceil()) * unscaled * coef;
                    let is_flushed = grad.is_subnormal() && param == 0.0 && device::flushes_subnormals();
                    assert!(close(param, expected, 2e-6) || is_flushed, "{what}: {param:e} for {expected:e}");
                }
            }
            // Powers other than squares differ among devices.
            if p != 2.5 {
                assert_same(&on_device[0], &on_cpu[0], &grads, &what);
            }
        }
    }
}

/// Gradients that span f32, each kind of clip of global norm and segments, and what the metrics say.
#[test]
fn engines_agree_on_clips_at_the_limits_of_f32() {
    let clips: [Clip; 6] = [
        GroupNorm::new(1.0).into(),
        GroupNorm::new(1e-30).exact().into(),
        GroupNorm::new(1e30).into(),
        Adaptive::new(0.01).into(),
        Adaptive::new(1e-20).per_tensor().into(),
        Percentile::new(50.0).into(),
    ];
    let cases = [(false, 1.0, 0.0), (true, 1e30, 1.0), (true, 1e-30, 0.0)];
    for (clip, (packed, scale, param)) in clips.into_iter().flat_map(|clip| cases.map(|case| (clip, case))) {
        let layout = layout(packed);
        let builder = clipped(clip).history(HistoryOptions::steps(8).with_norms_every(1));
        let mut mixed = uniform(&layout, 1.0);
        let magnitudes = [1e-45, 3e38, 1e-20, 1e20, 1.0, 1e-38];
        mixed.iter_mut().enumerate().for_each(|(i, grad)| *grad *= magnitudes[i % magnitudes.len()]);
        let uniform = [3.4e38, 1e20, 1e-20, 1e-38, 1e-45].map(|magnitude| uniform(&layout, magnitude));
        for grads in uniform.iter().chain([&mixed]) {
            let [on_device, on_cpu] = both(&builder, &layout, scale, param, std::slice::from_ref(grads));
            let what = format!("{clip:?}, {:e} / {scale:e}", grads[0]);
            assert_same(&on_device[0], &on_cpu[0], grads, &what);
        }
    }
}

/// Sums over tensors and factors of gradients that the clip brings back from the limits of f32.
#[test]
fn engines_agree_on_sums_of_rules_at_the_limits_of_f32() {
    let builders = [
        Optimizer::builder(Lamb::default().with_weight_decay(0.1)),
        Optimizer::builder(Lars::default().with_weight_decay(0.1)),
        Optimizer::builder(NovoGrad::default()),
        Optimizer::builder(StableAdamW::default()),
        Optimizer::builder(Adafactor::default()),
        Optimizer::builder(AdamW::default()),
    ];
    let builders = builders.map(|builder| builder.history(HistoryOptions::steps(8).with_norms_every(1)));
    let cases = [(false, None), (true, Some(Clip::global_norm(1.0)))];
    for (builder, (packed, clip)) in builders.into_iter().flat_map(|builder| cases.map(|case| (builder.clone(), case)))
    {
        let layout = layout(packed);
        let builder = clip.map_or(builder.clone(), |clip| builder.clone().clip(clip));
        for magnitude in [3.4e38, 1e18, 1e-18, 1e-45] {
            let steps = [uniform(&layout, magnitude), uniform(&layout, magnitude)];
            let [on_device, on_cpu] = both(&builder, &layout, 1.0, 1.0, &steps);
            for ((on_device, on_cpu), grads) in on_device.iter().zip(&on_cpu).zip(&steps) {
                let what = format!("{builder:?}, {magnitude:e}");
                assert_same(on_device, on_cpu, grads, &what);
                let is_moved = on_device.1.iter().all(|param| param.is_finite()) && on_device.1[0] != 1.0;
                assert!(clip.is_none() || magnitude < 1.0 || is_moved, "{what}");
            }
        }
    }
}
