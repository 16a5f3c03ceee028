//! Moves the rows of one stream: each becomes the row that a table of indices names, or a new one.

use bytemuck::{Pod, Zeroable};

/// Index of a new row.
const NEW_ROW: i32 = -1;

pub(crate) const KEEP: u32 = 0;
pub(crate) const FILL: u32 = 1;
pub(crate) const COPY: u32 = 2;
pub(crate) const SCALE: u32 = 3;

/// `Remap` of the WGSL.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub(crate) struct RemapUniform {
    pub(crate) start: u32,
    pub(crate) length: u32,
    pub(crate) target_shift: u32,
    pub(crate) fresh_shift: u32,
    pub(crate) source_start: u32,
    pub(crate) source_length: u32,
    pub(crate) source_shift: u32,
    pub(crate) first_tensor: u32,
    pub(crate) tensors: u32,
    pub(crate) fresh: u32,
    pub(crate) correction: u32,
    pub(crate) padding: u32,
    pub(crate) initial: [u32; 4],
}

/// A tensor whose rows move, by the elements of its stream.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub(crate) struct MovedTensor {
    pub(crate) start: u32,
    /// End with the padding behind it.
    pub(crate) end: u32,
    pub(crate) columns: u32,
    padding: u32,
}

impl MovedTensor {
    pub(crate) fn new(start: usize, end: usize, columns: usize) -> Self {
        Self { start: start as u32, end: end as u32, columns: columns as u32, padding: 0 }
    }
}

/// The elements of new rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewValues<'a> {
    /// Unchanged.
    Keep,
    /// By column modulo 4.
    Fill([f32; 4]),
    /// Those of another stream at the same place.
    Copy(&'a [f32]),
    /// As `Copy`, times a factor.
    Scale(&'a [f32], f32),
}

/// Moves rows from `old` to `new`. Returns whether an index was invalid: such a row keeps its values.
pub(crate) fn remap(
    tensors: &[MovedTensor],
    (live, capacity): (usize, usize),
    sources: &[i32],
    fresh: NewValues<'_>,
    old: &[f32],
    new: &mut [f32],
) -> bool {
    let mut is_invalid = false;
    for tensor in tensors.iter().filter(|tensor| tensor.columns > 0) {
        let (start, columns) = (tensor.start as usize, tensor.columns as usize);
        for (row, &source) in sources.iter().enumerate().take(live.min(capacity)) {
            let elements = start + row * columns..start + (row + 1) * columns;
            if source == NEW_ROW {
                write_new(fresh, elements.start, &mut new[elements]);
                continue;
            }
            let source = usize::try_from(source).ok().filter(|&source| source < capacity);
            is_invalid |= source.is_none();
            let from = start + source.unwrap_or(row) * columns;
            new[elements].copy_from_slice(&old[from..from + columns]);
        }
    }
    is_invalid
}

/// Writes a new row that begins at element `start`.
fn write_new(fresh: NewValues<'_>, start: usize, row: &mut [f32]) {
    match fresh {
        NewValues::Keep => {}
        NewValues::Fill(initial) => {
            for (column, value) in row.iter_mut().enumerate() {
                *value = initial[column % 4];
            }
        }
        NewValues::Copy(values) => row.copy_from_slice(&values[start..start + row.len()]),
        NewValues::Scale(values, factor) => {
            for (value, new) in row.iter_mut().zip(&values[start..]) {
                *value = new * factor;
            }
        }
    }
}
