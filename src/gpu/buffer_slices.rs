use wgpu::{Buffer, BufferSlice, BufferUsages};

use crate::Error;

/// The flat space of parameters or of gradients: one buffer, one slice, or a list of slices that follow each other.
///
/// A whole buffer holds exactly the layout's elements, or [`Layout::buffer_size`](crate::Layout::buffer_size)
/// bytes. Slices together hold exactly the layout's elements, wherever they are cut: a buffer per tensor, or
/// several buffers for a model larger than `max_buffer_size`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum FlatBuffer<'a> {
    /// A whole buffer.
    Whole(&'a Buffer),
    /// Part of a buffer.
    Slice(BufferSlice<'a>),
    /// Several parts, of one buffer or many.
    Slices(&'a [BufferSlice<'a>]),
}

impl<'a> From<&'a Buffer> for FlatBuffer<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Self::Whole(buffer)
    }
}

impl<'a> From<BufferSlice<'a>> for FlatBuffer<'a> {
    fn from(slice: BufferSlice<'a>) -> Self {
        Self::Slice(slice)
    }
}

impl<'a> From<&'a [BufferSlice<'a>]> for FlatBuffer<'a> {
    fn from(slices: &'a [BufferSlice<'a>]) -> Self {
        Self::Slices(slices)
    }
}

impl<'a, const N: usize> From<&'a [BufferSlice<'a>; N]> for FlatBuffer<'a> {
    fn from(slices: &'a [BufferSlice<'a>; N]) -> Self {
        Self::Slices(slices)
    }
}

impl<'a> From<&'a Vec<BufferSlice<'a>>> for FlatBuffer<'a> {
    fn from(slices: &'a Vec<BufferSlice<'a>>) -> Self {
        Self::Slices(slices)
    }
}

/// A run of the flat space in one buffer. Units: `start` and `len` in elements, `offset` in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Piece {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    pub(crate) fn slice(&self) -> BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.len * 4)
    }
}

impl<'a> FlatBuffer<'a> {
    /// Buffer, offset and bytes of each slice; a whole buffer gives `whole_bytes`.
    fn slices(self, whole_bytes: u64) -> impl Iterator<Item = (&'a Buffer, u64, u64)> {
        let (whole, slices) = match self {
            Self::Whole(buffer) => (Some((buffer, 0, whole_bytes)), &[][..]),
            Self::Slice(slice) => (Some((slice.buffer(), slice.offset(), slice.size())), &[][..]),
            Self::Slices(slices) => (None, slices),
        };
        let slices = slices.iter().map(|slice| (slice.buffer(), slice.offset(), slice.size()));
        whole.into_iter().chain(slices)
    }

    /// Whether `pieces` were made from the same bytes of the same buffers.
    pub(crate) fn is(self, pieces: &[Piece], len: u64) -> bool {
        let whole_fits = match self {
            Self::Whole(buffer) => fits_whole(buffer.size(), len),
            Self::Slice(_) | Self::Slices(_) => true,
        };
        let given = self.slices(len * 4).filter(|&(.., bytes)| bytes > 0);
        let kept = pieces.iter().map(|piece| (&piece.buffer, piece.offset, piece.len * 4));
        whole_fits && given.eq(kept)
    }

    /// Checks lengths, alignment, usage and overlaps. Empty slices are dropped.
    pub(crate) fn pieces(self, what: &'static str, len: u64) -> Result<Vec<Piece>, Error> {
        match self {
            Self::Whole(buffer) if !buffer.size().is_multiple_of(4) => {
                return Err(Error::MisalignedSlice { what, slice: 0, offset: 0, end: buffer.size() });
            }
            Self::Whole(buffer) if !fits_whole(buffer.size(), len) => {
                return Err(Error::LengthMismatch { what, expected: len, actual: buffer.size() / 4 });
            }
            Self::Whole(_) | Self::Slice(_) | Self::Slices(_) => {}
        }
        let mut pieces: Vec<Piece> = Vec::new();
        let mut start = 0;
        for (slice, (buffer, offset, bytes)) in self.slices(len * 4).enumerate() {
            if offset % 4 != 0 || bytes % 4 != 0 {
                return Err(Error::MisalignedSlice { what, slice, offset, end: offset + bytes });
            }
            check_usage(what, buffer, BufferUsages::STORAGE, "")?;
            if bytes > 0 {
                pieces.push(Piece { buffer: buffer.clone(), offset, start, len: bytes / 4 });
            }
            start += bytes / 4;
        }
        if start != len {
            return Err(Error::LengthMismatch { what, expected: len, actual: start });
        }
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|&i| (&pieces[i].buffer, pieces[i].offset));
        for pair in order.windows(2) {
            let (first, second) = (&pieces[pair[0]], &pieces[pair[1]]);
            if first.buffer == second.buffer && second.offset < first.offset + first.len * 4 {
                return Err(Error::OverlappingSlices { what, first: pair[0], second: pair[1] });
            }
        }
        Ok(pieces)
    }
}

fn fits_whole(bytes: u64, len: u64) -> bool {
    bytes == len * 4 || bytes == (len * 4).next_multiple_of(16)
}

pub(crate) fn check_usage(
    what: &'static str,
    buffer: &Buffer,
    needed: BufferUsages,
    reason: &'static str,
) -> Result<(), Error> {
    let missing = needed - buffer.usage();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::MissingUsage { what, missing, actual: buffer.usage(), reason })
}
