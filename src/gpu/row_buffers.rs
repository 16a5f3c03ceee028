use wgpu::{Buffer, CommandEncoder};

use super::resources::Resources;
use super::step_uniforms::UniformEntry;
use crate::groups::GroupTable;

/// The number of live rows: see [`Rows`](crate::Rows).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum LiveRows<'a> {
    /// At most the capacity.
    Value(u32),
    /// The first u32 of a buffer with `COPY_SRC` usage, read when the step executes. More than the capacity means all rows.
    Buffer(&'a Buffer),
}

impl From<u32> for LiveRows<'_> {
    fn from(rows: u32) -> Self {
        Self::Value(rows)
    }
}

impl<'a> From<&'a Buffer> for LiveRows<'a> {
    fn from(rows: &'a Buffer) -> Self {
        Self::Buffer(rows)
    }
}

/// The buffers that say which rows are active; `None` where the host says it.
#[derive(Debug, Default)]
pub(crate) struct RowBuffers {
    pub(crate) live: Option<Buffer>,
    pub(crate) visible: Option<Buffer>,
}

impl RowBuffers {
    /// Records copies into the row table, if there is one.
    pub(crate) fn record(
        &self,
        encoder: &mut CommandEncoder,
        uniforms: &UniformEntry<'_>,
        groups: &GroupTable,
        resources: &Resources,
    ) {
        let (Some(table), Some(rows)) = (&resources.persistent.row_table, groups.rows()) else { return };
        let (words, offset) = uniforms.row_words;
        encoder.copy_buffer_to_buffer(words, offset, table, 0, 8);
        self.record_live(encoder, uniforms, table);
        let mask = rows.mask_bytes();
        if let Some(visible) = self.visible.as_ref().filter(|_| !mask.is_empty()) {
            encoder.copy_buffer_to_buffer(visible, 0, table, mask.start, mask.end - mask.start);
        }
    }

    /// Records a copy of the number of live rows to the first word of a buffer.
    pub(crate) fn record_live(&self, encoder: &mut CommandEncoder, uniforms: &UniformEntry<'_>, target: &Buffer) {
        let (live, offset) = self.live.as_ref().map_or(uniforms.row_words, |live| (live, 0));
        encoder.copy_buffer_to_buffer(live, offset, target, 0, 4);
    }
}
