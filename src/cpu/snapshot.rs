//! Going back to an earlier moment of training.

use super::{CpuOptimizer, Moment};
use crate::Error;
use crate::plan::PlanState;
use crate::schedule::{LrCurve, RangeTest};

/// Parameters and optimizer as [`CpuOptimizer::snapshot`] found them.
#[derive(Debug, Clone)]
pub struct CpuSnapshot {
    plan: PlanState,
    params: Vec<f32>,
    moment: Moment,
}

impl CpuOptimizer {
    /// Copies `params` and everything the optimizer changes from step to step: see
    /// [`Optimizer::snapshot`](crate::Optimizer::snapshot).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`].
    pub fn snapshot(&self, params: &[f32]) -> Result<CpuSnapshot, Error> {
        self.check_len("params", params.len())?;
        // The powers follow from the plan.
        let Self { plan, powers: _, moment } = self;
        Ok(CpuSnapshot { plan: plan.state(), params: params.to_vec(), moment: moment.clone() })
    }

    /// Goes back to a snapshot, which can be used again: bit for bit, the next step is the one that would have followed
    /// [`CpuOptimizer::snapshot`].
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] for a snapshot of another optimizer, [`Error::LengthMismatch`]; nothing has changed then.
    pub fn restore(&mut self, params: &mut [f32], snapshot: &CpuSnapshot) -> Result<(), Error> {
        self.plan.check_own(&snapshot.plan)?;
        self.check_len("params", params.len())?;
        params.copy_from_slice(&snapshot.params);
        self.plan.set_state(&snapshot.plan);
        self.moment = snapshot.moment.clone();
        Ok(())
    }

    /// A [`RangeTest`] whose training leaves no trace: `train_step` trains one step with this optimizer, whose learning rate
    /// is set (see [`CpuOptimizer::set_lr`]), and these parameters, and returns the loss of the batch before the step.
    /// Parameters and optimizer are restored also where the test or `train_step` fails.
    ///
    /// ```
    /// use wgpu_optim::{Error, Layout, Optimizer, Sgd, schedule::RangeTest};
    /// let mut optimizer = Optimizer::builder(Sgd::default()).build_cpu(&Layout::flat(1)?)?;
    /// let mut params = [5.0];
    /// let curve = optimizer.range_test(&mut params, &RangeTest::default(), |optimizer, params| {
    ///     let loss = f64::from(params[0] * params[0]);
    ///     optimizer.step(params, &[2.0 * params[0]])?;
    ///     Ok::<_, Error>(loss)
    /// })?;
    /// assert_eq!(params, [5.0]);
    /// let suggestions = curve.suggestions().expect("a long curve");
    /// assert!(suggestions.valley > 1e-3 && suggestions.valley < 1.0);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `train_step`, of [`RangeTest::sweep`] and of [`CpuOptimizer::snapshot`].
    pub fn range_test<E: From<Error>>(
        &mut self,
        params: &mut [f32],
        test: &RangeTest,
        mut train_step: impl FnMut(&mut Self, &mut [f32]) -> Result<f64, E>,
    ) -> Result<LrCurve, E> {
        let snapshot = self.snapshot(params)?;
        let curve = test.sweep(|lr| {
            self.set_lr(lr)?;
            train_step(self, params)
        });
        self.restore(params, &snapshot)?;
        curve
    }
}
