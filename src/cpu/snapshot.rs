use super::memory::Numbers;
use super::{CpuOptimizer, CpuState};
use crate::Error;
use crate::host::{HostSlice, HostSliceMut};
use crate::kernels::bias_correction::BiasPowers;
use crate::plan::PlanState;
use crate::schedule::{LrCurve, RangeTest};

/// Parameters and optimizer at the time of [`CpuOptimizer::snapshot`].
#[derive(Debug, Clone)]
pub struct CpuSnapshot {
    plan: PlanState,
    params: Numbers,
    state: CpuState,
}

impl CpuOptimizer {
    /// Copies `params` and everything that steps change: see
    /// [`Optimizer::snapshot`](crate::Optimizer::snapshot).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DtypeMismatch`].
    pub fn snapshot<'a>(&self, params: impl Into<HostSlice<'a>>) -> Result<CpuSnapshot, Error> {
        let params = params.into();
        self.check_params(params)?;
        let params = Numbers::copy_of(params);
        Ok(CpuSnapshot { plan: self.plan.state.clone(), params, state: self.state.clone() })
    }

    /// Restores a snapshot, which stays usable. The next step has the bits of the one that would have followed
    /// [`CpuOptimizer::snapshot`].
    ///
    /// # Errors
    /// [`Error::ForeignSnapshot`] for a snapshot of another optimizer, [`Error::LengthMismatch`],
    /// [`Error::DtypeMismatch`]; nothing has changed then.
    pub fn restore<'a>(&mut self, params: impl Into<HostSliceMut<'a>>, snapshot: &CpuSnapshot) -> Result<(), Error> {
        let params = params.into();
        self.plan.check_own(&snapshot.plan)?;
        self.check_params(params.as_slice())?;
        params.bytes_mut().copy_from_slice(snapshot.params.as_slice().bytes());
        self.plan.restore(&snapshot.plan)?;
        self.powers = BiasPowers::new(&self.plan.rule.spec().bias_corrected);
        self.state = snapshot.state.clone();
        Ok(())
    }

    /// A [`RangeTest`] whose training leaves no trace. `train_step` trains one step with this optimizer, whose learning rate
    /// is set, and these parameters; it returns the loss of the batch before the step. Parameters and optimizer are restored
    /// even if the test or `train_step` fails.
    ///
    /// ```
    /// use wgpu_optim::{Error, Layout, Optimizer, Sgd, schedule::RangeTest};
    /// let mut optimizer = Optimizer::builder(Sgd::default()).build_cpu(&Layout::flat(1)?)?;
    /// let mut params = [5.0_f32];
    /// let curve = optimizer.range_test(&mut params, &RangeTest::default(), |optimizer, params| {
    ///     let loss = f64::from(params[0] * params[0]);
    ///     let grads = [2.0 * params[0]];
    ///     optimizer.step(params, &grads)?;
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
    pub fn range_test<T, E: From<Error>>(
        &mut self,
        params: &mut [T],
        test: &RangeTest,
        mut train_step: impl FnMut(&mut Self, &mut [T]) -> Result<f64, E>,
    ) -> Result<LrCurve, E>
    where
        for<'a> &'a [T]: Into<HostSlice<'a>>,
        for<'a> &'a mut [T]: Into<HostSliceMut<'a>>,
    {
        let snapshot = self.snapshot(&*params)?;
        let curve = test.sweep(|lr| {
            self.set_lr(lr)?;
            train_step(self, params)
        });
        self.restore(params, &snapshot)?;
        curve
    }
}
