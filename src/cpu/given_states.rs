//! States that the program gives, and the numbers of steps before them.

use super::CpuOptimizer;
use crate::Error;
use crate::kernels::control::NONE;
use crate::plan::StepPlan;

impl CpuOptimizer {
    /// Continues from states that the program gives: see
    /// [`Optimizer::set_applied_steps`](crate::Optimizer::set_applied_steps).
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for more than 4,294,967,293 steps; nothing has changed then.
    pub fn set_applied_steps(&mut self, steps: u64) -> Result<(), Error> {
        let steps = self.plan.set_applied_steps(steps)?;
        self.clear_records();
        let control = &mut self.state.control;
        control.step = steps;
        control.bias_correction = self.powers.bias_correction(steps);
        control.upcoming_bias_correction = self.powers.bias_correction(steps + 1);
        control.first_nonfinite = [NONE; 2];
        self.state.tensor_steps = self.plan.tensor_steps(steps).unwrap_or_default();
        self.state.row_steps = self.plan.row_steps(steps);
        Ok(())
    }

    /// Sets the counts of skipped steps: see [`Optimizer::set_skipped_steps`](crate::Optimizer::set_skipped_steps).
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for more than 4,294,967,295 steps, and for more in a row than all; nothing has changed then.
    pub fn set_skipped_steps(&mut self, skipped: u64, consecutive: u64) -> Result<(), Error> {
        let [skipped, consecutive] = StepPlan::check_skipped_steps(skipped, consecutive)?;
        self.clear_records();
        self.state.control.skipped = skipped;
        self.state.control.consecutive_skipped = consecutive;
        Ok(())
    }

    /// Forgets the records and the metric sums, which belong to steps of other numbers.
    fn clear_records(&mut self) {
        if let Some(history) = &mut self.state.history {
            history.clear();
        }
        self.state.metrics.fill(0);
    }

    /// The numbers that the rule stores once, in the order of
    /// [`ScalarState::initial_scalars`](crate::rule::ScalarState::initial_scalars).
    pub fn scalar_states(&self) -> &[f32] {
        &self.state.control.scalar_state[..self.plan.rule.initial_scalars().len()]
    }

    /// Sets the numbers that the rule stores once.
    ///
    /// # Errors
    /// [`Error::StateCount`] for another count than the rule's; nothing has changed then.
    pub fn set_scalar_states(&mut self, values: &[f32]) -> Result<(), Error> {
        self.plan.check_scalar_states(values.len())?;
        let scalars = self.state.tensor_steps.iter_mut().map(|step| &mut step.scalar_state);
        scalars
            .chain([&mut self.state.control.scalar_state])
            .for_each(|own| own[..values.len()].copy_from_slice(values));
        Ok(())
    }

    /// Sets the tensor state of each segment, in the order of [`CpuOptimizer::tensor_states`].
    ///
    /// # Errors
    /// [`Error::StateCount`] for another count than that of the segments; nothing has changed then.
    pub fn set_tensor_states(&mut self, values: &[[f32; 4]]) -> Result<(), Error> {
        self.plan.check_tensor_states(values.len())?;
        for (row, state) in self.state.segments.iter_mut().zip(values) {
            row.state = *state;
        }
        Ok(())
    }
}
