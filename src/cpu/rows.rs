use super::CpuOptimizer;
use crate::Error;

impl CpuOptimizer {
    /// Sets the number of live rows from the next step on: see [`Rows`](crate::Rows).
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::Hyperparameter`] above the capacity; nothing has changed then.
    pub fn set_live_rows(&mut self, rows: u32) -> Result<(), Error> {
        self.plan.groups.set_rows(|table| table.set_live(rows))
    }

    /// Sets the visible rows from the next step on: bit r % 32 of word r / 32 for row r. `None`: all rows.
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::MaskLength`], [`Error::Unsupported`] as
    /// [`Optimizer::set_visible_rows`](crate::Optimizer::set_visible_rows); nothing has changed then.
    pub fn set_visible_rows(&mut self, mask: Option<&[u32]>) -> Result<(), Error> {
        mask.filter(|_| self.plan.groups.rows().is_some()).map_or(Ok(()), |_| self.plan.check_mask())?;
        self.plan.groups.set_rows(|table| table.set_visible(mask))
    }

    /// Sets the scales of a tensor's columns from the next step on: see [`Rows::with_column_lr_scales`](crate::Rows::with_column_lr_scales).
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::UnknownTensor`], [`Error::ColumnScales`], [`Error::Hyperparameter`] for a scale that is
    /// negative or not finite; nothing has changed then.
    pub fn set_column_lr_scales(&mut self, tensor: &str, scales: &[f32]) -> Result<(), Error> {
        self.plan.groups.set_rows(|table| table.set_scales(tensor, scales))
    }
}
