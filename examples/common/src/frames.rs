//! Frames of a film.

/// At most `count` steps of `steps`, from 0 to the last. The greater `power`, the more of them lie at the beginning.
pub fn spread(steps: u32, count: u32, power: i32) -> Vec<u32> {
    let at = |i: u32| f64::from(i) / f64::from(count - 1);
    let mut frames: Vec<_> = (0..count).map(|i| (f64::from(steps) * at(i).powi(power)).round() as u32).collect();
    frames.dedup();
    frames
}
