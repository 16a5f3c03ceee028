//! States that the program gives, and the numbers of steps before them.

use std::mem::offset_of;

use wgpu::BufferSlice;

use super::Optimizer;
use crate::Error;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::{ControlBlock, NONE};
use crate::kernels::tensor_steps::TensorStep;
use crate::plan::StepPlan;
use crate::rows::RowTable;

impl Optimizer {
    /// Continues from states that the program gives, after `steps` applied steps (up to 4,294,967,293). Takes effect with
    /// the next submission, for steps recorded from now on: first submit encoders with earlier steps and restorations.
    ///
    /// The schedule continues at that position, and the next step is number `steps + 1`. It is never a first step, even
    /// with `steps` 0. Rows and tensors that count their own steps have `steps` of them. A first step would set SGD's
    /// momentum buffer to the gradient. Write the states before that step,
    /// through [`Optimizer::state`], [`Optimizer::set_scalar_states`] and [`Optimizer::set_tensor_states`].
    /// [`Optimizer::set_skipped_steps`] sets the counts of skipped steps. The window of
    /// [`Percentile`](crate::clip::Percentile) stays as it is. The history begins anew: it orders steps by their
    /// number. An average that is not debiased equals the parameters after step 1; later, states `average` and `slow`
    /// are those that the program writes.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for more steps; nothing has changed then.
    pub fn set_applied_steps(&mut self, steps: u64) -> Result<(), Error> {
        self.undo_dropped_calls()?;
        let steps = self.plan.set_applied_steps(steps)?;
        self.clear_records();
        let powers = BiasPowers::new(&self.plan.rule.spec().bias_corrected);
        let control = &self.resources.persistent.control;
        let write = |buffer, offset: usize, bytes: &[u8]| self.queue.write_buffer(buffer, offset as u64, bytes);
        let corrections = [powers.bias_correction(steps), powers.bias_correction(steps + 1)];
        write(control, offset_of!(ControlBlock, bias_correction), bytemuck::bytes_of(&corrections));
        write(control, offset_of!(ControlBlock, step), bytemuck::bytes_of(&steps));
        self.set_tensor_steps(steps);
        self.set_row_steps(steps);
        // A step expects the word of its parity to be free.
        for buffer in [control, &self.resources.persistent.next] {
            write(buffer, offset_of!(ControlBlock, first_nonfinite), bytemuck::bytes_of(&[NONE; 2]));
        }
        Ok(())
    }

    /// Sets the counts of skipped steps: all (up to 4,294,967,295), and those in a row up to the last step. Takes effect with
    /// the next submission: first submit encoders with earlier steps and restorations. The schedule's position stays, and the
    /// history begins anew, as with [`Optimizer::set_applied_steps`]. [`Optimizer::stats`] reads all counts.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] for more steps, and for more in a row than all; nothing has changed then.
    pub fn set_skipped_steps(&mut self, skipped: u64, consecutive: u64) -> Result<(), Error> {
        let [skipped, consecutive] = StepPlan::check_skipped_steps(skipped, consecutive)?;
        self.clear_records();
        let control = &self.resources.persistent.control;
        let write = |offset: usize, count: u32| self.queue.write_buffer(control, offset as u64, &count.to_ne_bytes());
        write(offset_of!(ControlBlock, skipped), skipped);
        write(offset_of!(ControlBlock, consecutive_skipped), consecutive);
        Ok(())
    }

    /// Sets the steps of all tensors, where gradients may be missing. Scalar states begin anew.
    pub(super) fn set_tensor_steps(&self, steps: u32) {
        if let (Some(table), Some(steps)) = (&self.resources.persistent.tensor_steps, self.plan.tensor_steps(steps)) {
            self.queue.write_buffer(table, 0, bytemuck::cast_slice(&steps));
        }
    }

    /// Sets the steps of all rows, if rows count them.
    pub(super) fn set_row_steps(&self, steps: u32) {
        let bytes = self.plan.groups.rows().and_then(RowTable::step_bytes);
        let table = self.resources.persistent.row_table.as_ref().zip(bytes);
        if let (Some((table, [counts, corrections])), Some(steps)) = (table, self.plan.row_steps(steps)) {
            self.queue.write_buffer(table, counts.start, bytemuck::cast_slice(&steps.steps));
            self.queue.write_buffer(table, corrections.start, bytemuck::cast_slice(&steps.bias_corrections));
        }
    }

    /// Forgets the records and the metric sums, which belong to steps of other numbers.
    fn clear_records(&mut self) {
        if let Some(history) = &mut self.history {
            history.clear(&self.device);
        }
        if let (Some(table), Some(sampler)) = (&self.resources.persistent.metric_table, &self.plan.sampler) {
            self.queue.write_buffer(table, sampler.record_bytes().start, bytemuck::bytes_of(&0_u32));
        }
    }

    /// The numbers that the rule stores once, as f32 in the order of
    /// [`ScalarState::initial_scalars`](crate::rule::ScalarState::initial_scalars), with `COPY_SRC` usage; `None` for rules
    /// without such numbers.
    pub fn scalar_states(&self) -> Option<BufferSlice<'_>> {
        let bytes = 4 * self.plan.rule.initial_scalars().len() as u64;
        let start = offset_of!(ControlBlock, scalar_state) as u64;
        (bytes > 0).then(|| self.resources.persistent.control.slice(start..start + bytes))
    }

    /// Sets the numbers that the rule stores once, from the next submission on; those of every tensor where gradients may be
    /// missing.
    ///
    /// # Errors
    /// [`Error::StateCount`] for another count than the rule's; nothing has changed then.
    pub fn set_scalar_states(&mut self, values: &[f32]) -> Result<(), Error> {
        self.plan.check_scalar_states(values.len())?;
        let offset = offset_of!(ControlBlock, scalar_state) as u64;
        self.queue.write_buffer(&self.resources.persistent.control, offset, bytemuck::cast_slice(values));
        if let Some(table) = &self.resources.persistent.tensor_steps {
            for tensor in 0..self.plan.layout.tensors().len() {
                let offset = size_of::<TensorStep>() * tensor + offset_of!(TensorStep, scalar_state);
                self.queue.write_buffer(table, offset as u64, bytemuck::cast_slice(values));
            }
        }
        Ok(())
    }

    /// Sets the tensor state of each segment, in the order of [`Optimizer::tensor_states`], from the next submission on.
    ///
    /// # Errors
    /// [`Error::StateCount`] for another count than that of the segments; nothing has changed then.
    pub fn set_tensor_states(&mut self, values: &[[f32; 4]]) -> Result<(), Error> {
        self.plan.check_tensor_states(values.len())?;
        if let Some(states) = self.tensor_states() {
            self.queue.write_buffer(states.buffer(), states.offset(), bytemuck::cast_slice(values));
        }
        Ok(())
    }
}
