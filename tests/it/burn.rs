//! Both engines against burn's optimizers (`golden/burn.json`).
//!
//! burn computed in f64 with betas and bias corrections in f32. There 1 - 0.999ᵗ is off by up to 3e-5 of itself, and the
//! root in Adam's denominator by half of that: 2e-5 of a step.

use std::fs;

use serde::Deserialize;
use wgpu_optim::{Layout, LayoutBuilder, RuleConfig};

use crate::common::{Trainer, device, repository};

/// Error of a parameter, as a share of the way that it went.
const STEP_ERROR: f64 = 2e-5;
/// Roundings of a parameter to f32 in each step.
const ROUNDING: f64 = 2.0 * f32::EPSILON as f64;

/// The values of each tensor.
type Tensors<T> = Vec<Vec<T>>;

#[derive(Deserialize)]
struct Golden {
    start: Tensors<f32>,
    /// Of each step.
    grads: Vec<Tensors<f32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    optimizer: RuleConfig,
    /// After each step.
    params: Vec<Tensors<f64>>,
}

#[test]
fn both_engines_follow_burn() {
    let path = repository().join("tests/golden/burn.json");
    let Golden { start, grads, cases } = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let tensor = |layout: LayoutBuilder, (i, values): (usize, &Vec<f32>)| layout.tensor(i.to_string(), &[values.len()]);
    let layout = start.iter().enumerate().fold(Layout::builder().packed(), tensor).build().unwrap();
    assert_eq!(cases.len(), 15);
    for Case { optimizer, params } in cases {
        let mut on_cpu = start.concat();
        let name = format!("{optimizer:?}");
        let builder = optimizer.builder();
        let mut reference = builder.clone().build_cpu(&layout).unwrap();
        let mut trainer = Trainer::new(device::gpu(), builder, &layout, &on_cpu);
        let mut before: Vec<f64> = on_cpu.iter().map(|&value| value.into()).collect();
        let mut allowed = vec![0.0; before.len()];
        for (step, (grads, params)) in grads.iter().zip(&params).enumerate() {
            let (grads, expected) = (grads.concat(), params.concat());
            trainer.step(&grads);
            reference.step(&mut on_cpu, &grads).unwrap();
            for ((allowed, before), expected) in allowed.iter_mut().zip(&before).zip(&expected) {
                *allowed += STEP_ERROR * (expected - before).abs() + ROUNDING * before.abs();
            }
            for (engine, found) in [("device", trainer.params()), ("CPU", on_cpu.clone())] {
                for (i, found) in found.iter().enumerate() {
                    let (off, allowed) = ((f64::from(*found) - expected[i]).abs(), allowed[i]);
                    let what = format!("{name}, {engine}, step {step}, element {i}");
                    assert!(off <= allowed, "{what}: {found} for {}, off by {off:e} of {allowed:e}", expected[i]);
                }
            }
            before = expected;
        }
        let moved = on_cpu.iter().zip(start.concat()).filter(|(now, before)| **now != *before).count();
        assert!(2 * moved > on_cpu.len(), "{name}: {moved} elements moved");
    }
}
