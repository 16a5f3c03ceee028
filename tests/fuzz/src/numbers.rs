//! Random parameters and gradients, and their comparison.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::Layout;

use crate::case::{Case, Gradients};

/// Numbers of both signs over four decades, some of them 0. Their squares are normal numbers.
fn random(seed: u64, len: usize, magnitude: f32) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut next = || {
        let value = magnitude * 10f32.powf(rng.random_range(-2.0..2.0));
        match rng.random_range(0..20) {
            0 => 0.0,
            1 => -0.0,
            2..11 => value,
            _ => -value,
        }
    };
    (0..len).map(|_| next()).collect()
}

pub fn params(layout: &Layout) -> Vec<f32> {
    random(0, layout.len(), 1.0)
}

/// The gradients of a call; NaN in the padding.
pub fn gradients(layout: &Layout, of: &Gradients) -> Vec<f32> {
    let values = random(of.seed, layout.len(), of.magnitude);
    let mut grads = vec![f32::NAN; layout.len()];
    for tensor in layout.tensors() {
        grads[tensor.range()].copy_from_slice(&values[tensor.range()]);
    }
    for (element, bad) in &of.bad {
        let element = element % grads.len().max(1);
        grads.iter_mut().skip(element).take(1).for_each(|grad| *grad = bad.value());
    }
    grads
}

/// Whether each element is padding.
fn padding(layout: &Layout) -> Vec<bool> {
    let mut padding = vec![true; layout.len()];
    layout.tensors().iter().for_each(|tensor| padding[tensor.range()].fill(false));
    padding
}

/// Whether each element counts for the norm: neither padding nor frozen.
pub fn active(case: &Case, layout: &Layout) -> Vec<bool> {
    let is_frozen = |group: Option<&str>| group.is_some_and(|group| case.is_frozen(group));
    let mut active = vec![false; layout.len()];
    for tensor in layout.tensors() {
        active[tensor.range()].fill(!is_frozen(tensor.group()));
    }
    for (start, end, group) in &case.ranges {
        active[*start..*end].fill(!is_frozen(Some(group)));
    }
    active.iter().zip(padding(layout)).map(|(active, is_padding)| *active && !is_padding).collect()
}

/// Whether two numbers have the same bits. NaN equals NaN. WGSL lets a device ignore the sign of zero, and flush
/// subnormal numbers.
pub fn same(device: f32, reference: f32) -> bool {
    let is_tiny = |value: f32| value.abs() < f32::MIN_POSITIVE;
    device == reference || (device.is_nan() && reference.is_nan()) || (is_tiny(device) && is_tiny(reference))
}

/// The first difference, in words.
pub fn compare(what: &str, device: &[f32], reference: &[f32]) -> Result<(), String> {
    if device.len() != reference.len() {
        return Err(format!("{what}: {} numbers on the device, {} in the reference", device.len(), reference.len()));
    }
    let differs = |i: &usize| !same(device[*i], reference[*i]);
    let Some(first) = (0..device.len()).find(differs) else { return Ok(()) };
    let count = (0..device.len()).filter(differs).count();
    let (got, expected) = (device[first], reference[first]);
    Err(format!(
        "{what}, element {first}: {got:e} on the device, {expected:e} in the reference; {count} of {} elements differ",
        device.len()
    ))
}
