//! Numbers to feed, and how far apart they are.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// `len` numbers of both signs whose magnitudes spread over six decades.
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut next = || {
        let magnitude: f32 = 10f32.powf(rng.random_range(-4.0..2.0));
        if rng.random() { magnitude } else { -magnitude }
    };
    (0..len).map(|_| next()).collect()
}

/// Cheap numbers between -1 and 1 for buffers of many millions.
pub fn cheap(index: usize) -> f32 {
    let hash = (index as u32).wrapping_mul(0x9e37_79b9) ^ (index as u32 >> 7);
    (hash >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Distance of `got` from `exact` in ULP of f32 at the magnitude `scale`.
pub fn ulps(got: f32, exact: f64, scale: f64) -> f64 {
    let scale = (scale.abs() as f32).max(f32::MIN_POSITIVE);
    (f64::from(got) - exact).abs() / (f64::from(scale.next_up()) - f64::from(scale))
}

/// Panics where two vectors differ in a bit.
pub fn assert_same_bits(left: &[f32], right: &[f32], what: &str) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (i, (left, right)) in left.iter().zip(right).enumerate() {
        assert_eq!(left.to_bits(), right.to_bits(), "{what}, element {i}: {left} and {right}");
    }
}

/// Each number within a share of the expected one, or of 0.1 where that is larger.
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let apart = (f64::from(*found) - expected).abs();
        assert!(apart <= tolerance * expected.abs().max(0.1), "{what}: {found} for {expected}");
    }
}
