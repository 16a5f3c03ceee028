//! Takes turns between what is compared, so that whatever else the machine does meets all of them alike.

use std::time::Instant;

use crate::Result;

/// Rounds that medians are taken over, at least.
const ROUNDS: usize = 7;
/// Seconds of turns before the first time counts, at most. They raise the clocks of a device.
const WARM_UP: f64 = 0.2;
/// Turns of one round, at most.
pub(crate) const MOST_TURNS: u32 = 64;

/// Seconds per turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    /// By the clock on the wall, the average of each round.
    pub(crate) wall: Vec<f64>,
    /// Of each turn, by the device's timestamps or on the CPU; empty where a device has none.
    pub(crate) turns: Vec<f64>,
}

impl Times {
    /// Those of each turn where there are any.
    fn best(&self) -> &[f64] {
        if self.turns.is_empty() { &self.wall } else { &self.turns }
    }

    pub(crate) fn median(&self) -> f64 {
        quantile(self.best(), 0.5)
    }

    pub(crate) fn min(&self) -> f64 {
        quantile(self.best(), 0.0)
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        (quantile(self.best(), 0.75) - quantile(self.best(), 0.25)) / 2.0 / self.median()
    }
}

/// Takes so many turns, and gives the time of each, where there is a clock for that.
pub(crate) type Subject<'a> = dyn FnMut(u32) -> Result<Vec<f64>> + 'a;

/// Measures all subjects by turns, for about so many seconds.
pub(crate) fn measure<const N: usize>(mut subjects: [&mut Subject<'_>; N], seconds: f64) -> Result<[Times; N]> {
    let mut times = measure_all(&mut subjects, seconds)?.into_iter();
    Ok([(); N].map(|()| times.next().unwrap_or_default()))
}

/// The same for a list. Half of the time, at most [`WARM_UP`], warms up.
pub(crate) fn measure_all(subjects: &mut [&mut Subject<'_>], seconds: f64) -> Result<Vec<Times>> {
    let mut turns = Vec::new();
    let start = Instant::now();
    let warm_up = WARM_UP.min(seconds / 2.0);
    while start.elapsed().as_secs_f64() < warm_up {
        subjects[0](1)?;
    }
    let share = (seconds - warm_up) / (subjects.len() * ROUNDS) as f64;
    for subject in subjects.iter_mut() {
        // The first turn makes pipelines and touches memory.
        subject(1)?;
        let start = Instant::now();
        subject(1)?;
        turns.push(((share / start.elapsed().as_secs_f64()) as u32).clamp(1, MOST_TURNS));
    }
    let mut times = vec![Times::default(); subjects.len()];
    let mut rounds = 0;
    while rounds < ROUNDS || start.elapsed().as_secs_f64() < seconds {
        for ((subject, &turns), times) in subjects.iter_mut().zip(&turns).zip(&mut times) {
            let start = Instant::now();
            times.turns.extend(subject(turns)?);
            times.wall.push(start.elapsed().as_secs_f64() / f64::from(turns));
        }
        rounds += 1;
    }
    Ok(times)
}

/// The value that a share of all values lies below.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!([0.0, 0.25, 0.5, 0.75, 1.0].map(|share| quantile(&values, share)), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn subjects_take_turns_and_the_first_two_do_not_count() {
        let (mut one, mut other) = (0, 0);
        let mut with_clock = |turns| {
            one += turns;
            Ok(vec![2.0; turns as usize])
        };
        let mut without = |turns| {
            other += turns;
            Ok(Vec::new())
        };
        let [first, second] = measure([&mut with_clock, &mut without], 0.0).expect("no errors");
        assert_eq!([first.turns.len() as u32 + 2, second.wall.len() as u32 + 2], [one, other]);
        assert_eq!([first.median(), first.min(), first.spread()], [2.0, 2.0, 0.0]);
        assert!(second.turns.is_empty() && second.median() == quantile(&second.wall, 0.5));
    }

    #[test]
    fn half_of_the_time_warms_up() {
        let start = Instant::now();
        let mut begun = Vec::new();
        let mut subject = |turns| {
            begun.push(start.elapsed().as_secs_f64());
            std::thread::sleep(std::time::Duration::from_micros(100));
            Ok(vec![1.0; turns as usize])
        };
        let [times] = measure([&mut subject], 0.1).expect("no errors");
        let counted = begun.len() - times.wall.len();
        assert!(begun[counted] >= 0.05, "{begun:?}");
    }
}
