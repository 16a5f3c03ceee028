use super::kind::{Named, kind};
use crate::Error;

/// Growth of the learning rate of a [`RangeTest`]: torch-lr-finder's `step_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum StepMode {
    /// By a constant factor per step.
    Exp,
    /// By a constant difference per step.
    Linear,
}

#[cfg(feature = "serde")]
crate::number::as_is!(StepMode);

kind! {
    /// Smith's learning rate range test (arXiv 1506.01186), fastai's `lr_find`: records the loss while the learning
    /// rate rises at each step.
    ///
    /// [`Optimizer::range_test`](crate::Optimizer::range_test) and
    /// [`CpuOptimizer::range_test`](crate::CpuOptimizer::range_test) run it and restore parameters and optimizer
    /// afterwards; [`RangeTest::sweep`] runs any training loop. Fields and defaults are fastai's where it has them.
    RangeTest = "range_test" {
        ..
        /// Learning rate of the first step, above 0 (default 1e-7).
        start_lr: f64 = 1e-7, with_start_lr;
        /// Learning rate of the last step, above `start_lr` (default 10).
        end_lr: f64 = 10.0, with_end_lr;
        /// Steps, 2 or more (default 100); suggestions need about 20.
        num_iter: u64 = 100, with_num_iter;
        /// Shape of the rise (default [`StepMode::Exp`]).
        step_mode: StepMode = StepMode::Exp, with_step_mode;
        /// Decay of the running average of the loss, 0 to below 1 (default 0.98).
        beta: f64 = 0.98, with_beta;
        /// Whether to stop once the loss diverges (default true).
        stop_div: bool = true, with_stop_div;
        /// The loss diverges when its average exceeds the minimum average so far by this factor, above 1 (default 4). A
        /// non-finite loss always ends the test.
        diverge_th: f64 = 4.0, with_diverge_th;
    }
}

impl Default for RangeTest {
    fn default() -> Self {
        Self::new()
    }
}

impl RangeTest {
    /// Calls `train_step` with each learning rate in ascending order, until the last or until the loss diverges.
    /// `train_step` trains one step and returns the loss. To restore parameters and optimizer afterwards, use
    /// [`Optimizer::snapshot`](crate::Optimizer::snapshot).
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for a field out of range, before the first step; errors of `train_step`.
    pub fn sweep<E: From<Error>>(&self, mut train_step: impl FnMut(f64) -> Result<f64, E>) -> Result<LrCurve, E> {
        let mut sweep = Sweep::new(self)?;
        while let Some(lr) = sweep.next_lr() {
            sweep.record(lr, train_step(lr)?);
        }
        Ok(sweep.curve())
    }

    /// As [`RangeTest::sweep`], with a loss that is awaited: browsers have no other way to read it.
    ///
    /// # Errors
    /// Those of [`RangeTest::sweep`].
    pub async fn sweep_async<E: From<Error>>(
        &self,
        mut train_step: impl AsyncFnMut(f64) -> Result<f64, E>,
    ) -> Result<LrCurve, E> {
        let mut sweep = Sweep::new(self)?;
        while let Some(lr) = sweep.next_lr() {
            sweep.record(lr, train_step(lr).await?);
        }
        Ok(sweep.curve())
    }

    fn lr(&self, iteration: u64) -> f64 {
        let part = iteration as f64 / (self.num_iter as f64 - 1.0);
        match self.step_mode {
            StepMode::Exp => self.start_lr * (self.end_lr / self.start_lr).powf(part),
            StepMode::Linear => super::kind::linear(self.start_lr, self.end_lr, part),
        }
    }

    fn validate(&self) -> Result<(), Error> {
        let Self { start_lr, end_lr, num_iter, beta, diverge_th, .. } = *self;
        Self::check_rate("start_lr", start_lr)?;
        Self::check(start_lr > 0.0, "start_lr", start_lr, "above 0")?;
        Self::check_rate("end_lr", end_lr)?;
        Self::check(end_lr > start_lr, "end_lr", end_lr, "above start_lr")?;
        Self::check(num_iter >= 2, "num_iter", num_iter as f64, "at least 2")?;
        Self::check((0.0..1.0).contains(&beta), "beta", beta, "0 to below 1")?;
        Self::check(diverge_th > 1.0, "diverge_th", diverge_th, "above 1")
    }
}

/// A test under way.
struct Sweep<'a> {
    test: &'a RangeTest,
    iteration: u64,
    points: Vec<LrPoint>,
    average: f64,
    best: f64,
    has_ended: bool,
    ended_nonfinite: bool,
}

impl<'a> Sweep<'a> {
    fn new(test: &'a RangeTest) -> Result<Self, Error> {
        test.validate()?;
        let (points, best) = (Vec::new(), f64::INFINITY);
        Ok(Self { test, iteration: 0, points, average: 0.0, best, has_ended: false, ended_nonfinite: false })
    }

    /// The learning rate of the next step; `None` at the end.
    fn next_lr(&self) -> Option<f64> {
        (!self.has_ended && self.iteration < self.test.num_iter).then(|| self.test.lr(self.iteration))
    }

    fn record(&mut self, lr: f64, loss: f64) {
        let RangeTest { beta, stop_div, diverge_th, .. } = *self.test;
        self.iteration = self.iteration.saturating_add(1);
        self.average = loss + beta * (self.average - loss);
        let smooth_loss = self.average / (1.0 - beta.powf(self.iteration as f64));
        self.ended_nonfinite = !smooth_loss.is_finite();
        if self.ended_nonfinite {
            self.has_ended = true;
            return;
        }
        self.points.push(LrPoint { lr, loss, smooth_loss });
        self.best = smooth_loss.min(self.best);
        // The threshold is diverge_th * best for positive losses; it also exceeds `best` for negative ones.
        self.has_ended = stop_div && smooth_loss > self.best + (diverge_th - 1.0) * self.best.abs();
    }

    fn curve(self) -> LrCurve {
        LrCurve { num_iter: self.test.num_iter, points: self.points, ended_nonfinite: self.ended_nonfinite }
    }
}

/// One step of a [`RangeTest`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LrPoint {
    /// The step's learning rate.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub lr: f64,
    /// The loss that `train_step` returned.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub loss: f64,
    /// Running average of the losses so far, bias-corrected.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub smooth_loss: f64,
}

/// The result of a [`RangeTest`].
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LrCurve {
    /// [`RangeTest::num_iter`].
    pub num_iter: u64,
    /// The steps with a finite loss and average, in order: fewer than `num_iter` if the loss diverged.
    pub points: Vec<LrPoint>,
    /// Whether a loss, or the running average, that was not finite ended the test. Default false in files.
    #[cfg_attr(feature = "serde", serde(default))]
    pub ended_nonfinite: bool,
}

/// Learning rates that fastai's suggestion functions return.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LrSuggestions {
    /// The rate at which the slope of the loss over log(lr) is minimal: fastai's `steep`.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub steepest: f64,
    /// Near the middle of the longest decreasing subsequence of the losses: fastai's `valley`, its default.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub valley: f64,
    /// A tenth of the learning rate with the minimum loss: fastai's `minimum`.
    #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
    pub minimum: f64,
}

impl LrCurve {
    /// The suggestions of fastai's `lr_find`, from the averaged losses without the first tenth of `num_iter` steps and
    /// without the last five steps. After a non-finite loss, the last steps are those of `num_iter`: fastai continues
    /// there and omits the non-finite averages. `None` if fewer than two points remain, or if
    /// one is not finite.
    pub fn suggestions(&self) -> Option<LrSuggestions> {
        let steps = if self.ended_nonfinite { self.num_iter as usize } else { self.points.len() };
        let end = steps.saturating_sub(5).min(self.points.len());
        let points = self.points.get(self.num_iter as usize / 10..end)?;
        if points.iter().any(|point| !(point.lr.is_finite() && point.smooth_loss.is_finite())) {
            return None;
        }
        let slope = |before: &LrPoint, after: &LrPoint| {
            (after.smooth_loss - before.smooth_loss) / (after.lr.ln() - before.lr.ln())
        };
        let slopes = points.iter().zip(points.iter().skip(1)).map(|(before, after)| (before.lr, slope(before, after)));
        let (steepest, _) = slopes.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let minimum = points.iter().min_by(|a, b| a.smooth_loss.total_cmp(&b.smooth_loss))?.lr / 10.0;
        Some(LrSuggestions { steepest, valley: points.get(valley(points))?.lr, minimum })
    }
}

/// fastai's `valley`: an index computed from the last element and the length of the longest decreasing subsequence.
fn valley(points: &[LrPoint]) -> usize {
    // Lengths of the decreasing subsequences that end at each element.
    let mut lengths: Vec<usize> = Vec::new();
    let (mut last, mut longest) = (0, 0);
    for (i, point) in points.iter().enumerate() {
        let before = points.iter().zip(&lengths).filter(|(before, _)| before.smooth_loss > point.smooth_loss);
        let length = before.map(|(_, length)| length.saturating_add(1)).max().unwrap_or(1);
        lengths.push(length);
        if length > longest {
            (last, longest) = (i, length);
        }
    }
    last.saturating_add(longest / 3).saturating_add(longest / 6).saturating_sub(longest)
}
