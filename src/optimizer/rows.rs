//! Which rows are active, and the learning rates of columns.

use wgpu::{Buffer, BufferUsages};

use super::Optimizer;
use crate::Error;
use crate::gpu::{LiveRows, check_usage};

impl Optimizer {
    /// Sets the number of live rows from the next recorded step on: a number, or a buffer that is read when the step
    /// executes. See [`Rows`](crate::Rows).
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::Hyperparameter`] above the capacity; [`Error::MissingUsage`], [`Error::RowBufferTooSmall`]
    /// for a buffer without `COPY_SRC` or below four bytes. Nothing has changed then.
    pub fn set_live_rows<'a>(&mut self, rows: impl Into<LiveRows<'a>>) -> Result<(), Error> {
        let live = match rows.into() {
            LiveRows::Value(rows) => {
                self.plan.groups.set_rows(|table| table.set_live(rows))?;
                None
            }
            LiveRows::Buffer(buffer) => {
                self.check_row_buffer("live_rows", buffer, 4)?;
                Some(buffer.clone())
            }
        };
        self.row_buffers.live = live;
        Ok(())
    }

    /// Sets the visible rows from the next recorded step on: bit r % 32 of word r / 32 of a buffer with `COPY_SRC` usage for
    /// row r, read when the step executes. `None`: all rows.
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::MissingUsage`], [`Error::RowBufferTooSmall`] for a buffer with less than a bit per row,
    /// [`Error::Unsupported`] for a mask beside an average or `Lookahead` without
    /// [`Rows::with_row_steps`](crate::Rows::with_row_steps). Nothing has changed then.
    pub fn set_visible_rows(&mut self, mask: Option<&Buffer>) -> Result<(), Error> {
        let rows = self.plan.groups.rows().ok_or(Error::NoRows)?;
        mask.map_or(Ok(()), |_| self.plan.check_mask())?;
        let bytes = 4 * rows.mask_words() as u64;
        mask.map_or(Ok(()), |buffer| self.check_row_buffer("visible_rows", buffer, bytes))?;
        self.row_buffers.visible = mask.cloned();
        Ok(())
    }

    /// Sets the scales of a tensor's columns from the next recorded step on: see
    /// [`Rows::with_column_lr_scales`](crate::Rows::with_column_lr_scales).
    ///
    /// # Errors
    /// [`Error::NoRows`], [`Error::UnknownTensor`], [`Error::ColumnScales`], [`Error::Hyperparameter`] for a scale that is
    /// negative or not finite; nothing has changed then.
    pub fn set_column_lr_scales(&mut self, tensor: &str, scales: &[f32]) -> Result<(), Error> {
        self.plan.groups.set_rows(|table| table.set_scales(tensor, scales))
    }

    /// The first words of the row table, if there are rows: the number of live rows, and 1 if the mask counts.
    pub(super) fn row_words(&self) -> Option<[u32; 2]> {
        self.plan.groups.rows().map(|rows| [rows.live(), self.row_buffers.visible.is_some().into()])
    }

    fn check_row_buffer(&self, what: &'static str, buffer: &Buffer, expected: u64) -> Result<(), Error> {
        self.plan.groups.rows().ok_or(Error::NoRows)?;
        check_usage(what, buffer, BufferUsages::COPY_SRC, ", because steps copy it")?;
        let actual = buffer.size();
        if actual < expected { Err(Error::RowBufferTooSmall { what, expected, actual }) } else { Ok(()) }
    }
}
