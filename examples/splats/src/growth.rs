//! Which splats stay and which become two; CPU reference of `shaders/growth.wgsl` and `shaders/divide.wgsl`.

use crate::splats::{ANGLE, COLOUR, LOG_LENGTH, LOG_WIDTH, OPACITY, Splat, X, Y};

/// Share of the splats that become two in a growth.
const SHARE: f32 = 0.25;
/// Opacity times the brightest channel of a splat that nobody sees.
const MIN_LIGHT: f32 = 1.0 / 512.0;
/// Length in pixels from which a splat is split along its first axis; shorter ones are cloned.
const MIN_SPLIT: f32 = 1.5;

/// The rows after a growth.
#[derive(Debug, PartialEq)]
pub(crate) struct Growth {
    /// Rows with a splat.
    pub(crate) live: u32,
    /// Old row of each row of the capacity; -1 for those without a splat.
    pub(crate) sources: Vec<i32>,
    /// The same for states; -1 for children too.
    pub(crate) state_sources: Vec<i32>,
    /// New row of the parent of each child; -1 for all other rows.
    pub(crate) parents: Vec<i32>,
}

impl Growth {
    /// Rows that stay, in their order, then the children in the order of their parents.
    pub(crate) fn new(splats: &[Splat], scores: &[f32], capacity: usize) -> Self {
        let stays = |row: &usize| is_visible(&splats[*row]) && scores[*row] > 0.0;
        let kept: Vec<_> = (0..splats.len()).filter(stays).collect();
        let children = ((kept.len() as f32 * SHARE) as usize).min(capacity - kept.len());
        let mut descending: Vec<_> = kept.iter().map(|&row| scores[row]).collect();
        descending.sort_by(|a, b| b.total_cmp(a));
        let threshold = descending.get(children).copied().unwrap_or(0.0);

        let none = vec![-1; capacity];
        let mut growth = Self { live: 0, sources: none.clone(), state_sources: none.clone(), parents: none };
        let mut child = kept.len();
        for (row, &source) in kept.iter().enumerate() {
            growth.sources[row] = source as i32;
            growth.state_sources[row] = source as i32;
            if scores[source] > threshold {
                growth.sources[child] = source as i32;
                growth.parents[child] = row as i32;
                child += 1;
            }
        }
        growth.live = child as u32;
        growth
    }

    /// Makes two of each parent. Children are copies of their parents before.
    pub(crate) fn divide(&self, splats: &mut [Splat]) {
        for (child, &parent) in self.parents.iter().enumerate() {
            if let Ok(parent) = usize::try_from(parent) {
                splats[child] = divide(&mut splats[parent]);
            }
        }
    }
}

fn is_visible(splat: &Splat) -> bool {
    let brightest = splat[COLOUR].abs().max(splat[COLOUR + 1].abs()).max(splat[COLOUR + 2].abs());
    splat[OPACITY].abs() * brightest >= MIN_LIGHT
}

/// Splits a long splat, clones a short one.
fn divide(parent: &mut Splat) -> Splat {
    let longest = if parent[LOG_LENGTH] < parent[LOG_WIDTH] { LOG_WIDTH } else { LOG_LENGTH };
    let length = parent[longest].exp();
    let (sine, cosine) = parent[ANGLE].sin_cos();
    let axis = if longest == LOG_LENGTH { [cosine, sine] } else { [-sine, cosine] };
    let distance;
    if length < MIN_SPLIT {
        // Clones stand a fifth of a pixel apart, or their gradients would be the same for ever.
        distance = 0.1;
        parent[OPACITY] *= 0.5;
    } else {
        // Mass and variance stay: 0.6^2 + 0.8^2 = 1, and 2 * 0.8 * 0.625 = 1.
        distance = 0.6 * length;
        parent[longest] += 0.8_f32.ln();
        parent[OPACITY] *= 0.625;
    }
    let mut child = *parent;
    parent[X] += distance * axis[0];
    parent[Y] += distance * axis[1];
    child[X] -= distance * axis[0];
    child[Y] -= distance * axis[1];
    child
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{random, splats};

    #[test]
    fn rows_stay_in_order_and_the_highest_scores_have_children() {
        let mut next = random(3);
        let mut splats = splats(100);
        let mut scores: Vec<_> = (0..100).map(|_| 0.1 + next()).collect();
        splats[4][OPACITY] = 1e-3;
        scores[7] = 0.0;
        scores[9] = f32::NAN;
        for capacity in [100, 110, 300] {
            let growth = Growth::new(&splats, &scores, capacity);
            let children = (capacity - 97).min(24);
            assert_eq!(growth.live as usize, 97 + children);
            let expected: Vec<_> = (0..100).filter(|row| ![4, 7, 9].contains(row)).collect();
            assert_eq!(growth.sources[..97], expected);
            assert_eq!(growth.state_sources[..97], expected);
            assert!(growth.state_sources[97..].iter().all(|&source| source == -1));
            assert!(growth.sources[97 + children..].iter().all(|&source| source == -1));
            let least = |rows: &mut dyn Iterator<Item = f32>| rows.fold(f32::INFINITY, f32::min);
            let divided = &growth.sources[97..97 + children];
            let others = expected.iter().filter(|row| !divided.contains(row)).map(|&row| scores[row as usize]);
            let highest = others.fold(0.0, f32::max);
            assert!(least(&mut divided.iter().map(|&row| scores[row as usize])) > highest);
            for (child, &parent) in growth.parents.iter().enumerate() {
                let is_child = (97..97 + children).contains(&child);
                assert_eq!(parent >= 0, is_child);
                assert!(!is_child || growth.sources[parent as usize] == growth.sources[child]);
            }
        }
    }

    #[test]
    fn a_split_keeps_mass_centre_and_variance_along_the_longer_axis() {
        for mut parent in [[5.0, 6.0, 1.5, 0.2, 0.4, 1.0, 0.5, 0.2, 0.8], [5.0, 6.0, 0.2, 1.5, 0.4, 1.0, 0.5, 0.2, 0.8]]
        {
            let before = parent;
            let child = divide(&mut parent);
            let mass = |splat: &Splat| splat[OPACITY] * (splat[LOG_LENGTH] + splat[LOG_WIDTH]).exp();
            assert!((mass(&parent) + mass(&child) - mass(&before)).abs() < 1e-5);
            assert!([X, Y].iter().all(|&axis| (parent[axis] + child[axis] - 2.0 * before[axis]).abs() < 1e-5));
            let longest = if before[LOG_LENGTH] > before[LOG_WIDTH] { LOG_LENGTH } else { LOG_WIDTH };
            let apart = (parent[X] - child[X]).hypot(parent[Y] - child[Y]) / 2.0;
            let variance = |splat: &Splat| (2.0 * splat[longest]).exp();
            assert!((variance(&parent) + apart * apart - variance(&before)).abs() < 1e-4);
        }
    }

    #[test]
    fn clones_keep_the_size_and_half_the_opacity() {
        let before = [5.0, 6.0, 0.1, 0.2, 0.4, 1.0, 0.5, 0.2, 0.8];
        let mut parent = before;
        let child = divide(&mut parent);
        for clone in [parent, child] {
            assert_eq!(clone[LOG_LENGTH..OPACITY], before[LOG_LENGTH..OPACITY]);
            assert_eq!(clone[OPACITY], 0.4);
        }
        assert!(((parent[X] - child[X]).hypot(parent[Y] - child[Y]) - 0.2).abs() < 1e-5);
    }
}
