use std::ops::Range;

use wgpu::{Buffer, BufferSlice, BufferUsages};

use crate::Error;
use crate::error::WITH_PADDING;
use crate::storage::Dtype;

/// The parameters or the gradients of all tensors: one buffer, one slice, or a list of slices in the layout's order.
///
/// - A whole buffer or a single slice holds the layout's elements, padding included: [`Layout::len`](crate::Layout::len)
///   of them, or [`Layout::buffer_size_of`](crate::Layout::buffer_size_of) bytes.
/// - Parameters and gradients may lie in one buffer, in ranges that do not overlap, as slices of a memory pool do.
/// - Gradients of a list may overlap each other: two parameters that enter as a sum have one gradient. Norms count it for each
///   tensor. Slices of parameters or of a state do not overlap, nor do gradients that
///   [`Sharded`](crate::distributed::Sharded) replaces by their mean.
/// - 16-bit parameters and states lie two to a word: their slices begin at multiples of four bytes and of two elements, and the
///   two bytes behind an odd number of elements belong to the slice.
/// - The slices of a list hold together either all elements with the padding, cut anywhere, or all elements without it: a
///   buffer per tensor, each of the tensor's own length.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum BufferSlices<'a> {
    /// A whole buffer.
    Whole(&'a Buffer),
    /// Part of a buffer.
    Slice(BufferSlice<'a>),
    /// Several parts, of one buffer or many.
    Slices(&'a [BufferSlice<'a>]),
    /// The gradient of each tensor of the layout, of its own length; `None` for those without one: see
    /// [`OptimizerBuilder::missing_gradients`](crate::OptimizerBuilder::missing_gradients).
    Optional(&'a [Option<BufferSlice<'a>>]),
}

impl<'a> From<&'a Buffer> for BufferSlices<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        Self::Whole(buffer)
    }
}

impl<'a> From<BufferSlice<'a>> for BufferSlices<'a> {
    fn from(slice: BufferSlice<'a>) -> Self {
        Self::Slice(slice)
    }
}

impl<'a> From<&'a [BufferSlice<'a>]> for BufferSlices<'a> {
    fn from(slices: &'a [BufferSlice<'a>]) -> Self {
        Self::Slices(slices)
    }
}

impl<'a, const N: usize> From<&'a [BufferSlice<'a>; N]> for BufferSlices<'a> {
    fn from(slices: &'a [BufferSlice<'a>; N]) -> Self {
        Self::Slices(slices)
    }
}

impl<'a> From<&'a Vec<BufferSlice<'a>>> for BufferSlices<'a> {
    fn from(slices: &'a Vec<BufferSlice<'a>>) -> Self {
        Self::Slices(slices)
    }
}

impl<'a> From<&'a [Option<BufferSlice<'a>>]> for BufferSlices<'a> {
    fn from(slices: &'a [Option<BufferSlice<'a>>]) -> Self {
        Self::Optional(slices)
    }
}

impl<'a, const N: usize> From<&'a [Option<BufferSlice<'a>>; N]> for BufferSlices<'a> {
    fn from(slices: &'a [Option<BufferSlice<'a>>; N]) -> Self {
        Self::Optional(slices)
    }
}

impl<'a> From<&'a Vec<Option<BufferSlice<'a>>>> for BufferSlices<'a> {
    fn from(slices: &'a Vec<Option<BufferSlice<'a>>>) -> Self {
        Self::Optional(slices)
    }
}

/// A slice as it was given: buffer, offset and bytes; `None` for a missing gradient.
pub(crate) type SliceKey<T> = Option<(T, u64, u64)>;

/// Contiguous elements of the flat space in one buffer. Units: `start` and `len` in elements, `offset` in bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BufferRange {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) dtype: Dtype,
}

impl BufferRange {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.dtype.bytes(self.len)
    }

    /// First byte of an element of the flat space.
    pub(crate) fn offset_of(&self, element: u64) -> u64 {
        self.offset + self.dtype.bytes(element - self.start)
    }

    /// The part with elements of another range, if there is one.
    pub(crate) fn within(&self, elements: &Range<u64>) -> Option<Self> {
        let (start, end) = (self.start.max(elements.start), self.end().min(elements.end));
        (start < end).then(|| Self { offset: self.offset_of(start), start, len: end - start, ..self.clone() })
    }

    /// All words of a buffer.
    pub(crate) fn words(buffer: &Buffer) -> Self {
        Self { buffer: buffer.clone(), offset: 0, start: 0, len: buffer.size() / 4, dtype: Dtype::F32 }
    }

    /// The range in words, padding of the last one included.
    pub(crate) fn as_words(&self) -> Self {
        let (start, len) = (self.dtype.bytes(self.start) / 4, self.bytes().div_ceil(4));
        Self { buffer: self.buffer.clone(), offset: self.offset, start, len, dtype: Dtype::F32 }
    }

    pub(crate) fn slice(&self) -> BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + self.bytes())
    }
}

/// The flat space as buffers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FlatSpace {
    /// Elements, padding included.
    pub(crate) len: u64,
    /// The elements of each tensor.
    pub(crate) tensors: Vec<Range<u64>>,
}

impl FlatSpace {
    /// Elements without padding.
    fn packed_len(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.end - tensor.start).sum()
    }

    /// The parts of ranges that hold elements of tensors.
    pub(crate) fn without_padding(&self, ranges: &[BufferRange]) -> Vec<BufferRange> {
        let adjacent = self.tensors.chunk_by(|tensor, next| tensor.end == next.start);
        let runs: Vec<_> = adjacent.map(|tensors| tensors[0].start..tensors[tensors.len() - 1].end).collect();
        let parts = ranges.iter().flat_map(|range| {
            let first = runs.partition_point(|run| run.end <= range.start);
            runs[first..].iter().take_while(|run| run.start < range.end()).map(|run| {
                let (start, end) = (run.start.max(range.start), run.end.min(range.end()));
                BufferRange { offset: range.offset_of(start), start, len: end - start, ..range.clone() }
            })
        });
        parts.filter(|part| part.len > 0).collect()
    }
}

impl<'a> BufferSlices<'a> {
    /// Buffer, offset and bytes of each slice; a whole buffer counts as `whole_bytes`.
    fn slices(self, whole_bytes: u64) -> impl Iterator<Item = (&'a Buffer, u64, u64)> {
        self.entries(whole_bytes).flatten()
    }

    /// As [`BufferSlices::slices`], with missing gradients.
    fn entries(self, whole_bytes: u64) -> impl Iterator<Item = SliceKey<&'a Buffer>> {
        let (whole, slices, optional) = match self {
            Self::Whole(buffer) => (Some((buffer, 0, whole_bytes)), &[][..], &[][..]),
            Self::Slice(slice) => {
                // The last word may be whole.
                let is_whole = slice.size() == whole_bytes.next_multiple_of(4);
                let size = if is_whole { whole_bytes } else { slice.size() };
                (Some((slice.buffer(), slice.offset(), size)), &[][..], &[][..])
            }
            Self::Slices(slices) => (None, slices, &[][..]),
            Self::Optional(slices) => (None, &[][..], slices),
        };
        let part = |slice: &BufferSlice<'a>| (slice.buffer(), slice.offset(), slice.size());
        let slices = slices.iter().map(move |slice| Some(part(slice)));
        whole.into_iter().map(Some).chain(slices).chain(optional.iter().map(move |slice| slice.as_ref().map(part)))
    }

    /// The tensors that have no gradient, of those that have elements.
    pub(crate) fn missing(self, space: &FlatSpace) -> Vec<usize> {
        let Self::Optional(slices) = self else { return Vec::new() };
        let is_missing = |&tensor: &usize| slices[tensor].is_none() && !space.tensors[tensor].is_empty();
        (0..slices.len()).filter(is_missing).collect()
    }

    /// The slices as they were given, for comparison with those of another call.
    pub(crate) fn key(self) -> impl Iterator<Item = SliceKey<&'a Buffer>> {
        let whole_bytes = if let Self::Whole(buffer) = self { buffer.size() } else { 0 };
        self.entries(whole_bytes)
    }

    /// Checks lengths, alignment, usage and overlaps; returns the slices with their places in the flat space, empty ones
    /// dropped.
    pub(crate) fn ranges(self, what: &'static str, dtype: Dtype, space: &FlatSpace) -> Result<Vec<BufferRange>, Error> {
        let ranges = self.readable_ranges(what, dtype, space)?;
        self.check_no_overlap(what, dtype.bytes(space.len))?;
        Ok(ranges)
    }

    /// As [`BufferSlices::ranges`], for slices that are only read: they may overlap each other.
    fn readable_ranges(self, what: &'static str, dtype: Dtype, space: &FlatSpace) -> Result<Vec<BufferRange>, Error> {
        let (unit, bytes_of_all) = (dtype.bytes(1), dtype.bytes(space.len));
        if let Self::Whole(buffer) = self {
            let bytes = buffer.size();
            if !bytes.is_multiple_of(4) {
                return Err(Error::MisalignedSlice { what, slice: 0, offset: 0, end: bytes });
            }
            if ![4, 16].iter().any(|&align| bytes == bytes_of_all.next_multiple_of(align)) {
                let remedy = ": pass a buffer of that many elements, or a slice of a longer one";
                return Err(Error::LengthMismatch { what, expected: space.len, actual: bytes / unit, remedy });
            }
        }
        let mut slices = Vec::new();
        for (slice, (buffer, offset, bytes)) in self.slices(bytes_of_all).enumerate() {
            // Kernels bind whole words.
            let has_last_word = (offset + bytes).next_multiple_of(4) <= buffer.size();
            if offset % 4 != 0 || bytes % unit != 0 || !has_last_word {
                return Err(Error::MisalignedSlice { what, slice, offset, end: offset + bytes });
            }
            check_usage(what, buffer, BufferUsages::STORAGE, "")?;
            slices.push((buffer, offset, bytes / unit));
        }
        let given: u64 = slices.iter().map(|(.., len)| len).sum();
        let is_list = matches!(self, Self::Slices(_));
        let ranges = if let Self::Optional(list) = self {
            let mut spaces = Vec::new();
            if list.len() != space.tensors.len() {
                return Err(Error::GradientCount { expected: space.tensors.len(), actual: list.len() });
            }
            for (tensor, slice) in space.tensors.iter().zip(list) {
                let (expected, actual) = (tensor.end - tensor.start, slice.map_or(0, |slice| slice.size() / unit));
                if actual != expected && (slice.is_some() || what != "grads") {
                    return Err(Error::LengthMismatch { what, expected, actual, remedy: " in that tensor" });
                }
                spaces.extend(slice.map(|_| tensor.clone()));
            }
            place(&slices, dtype, &spaces)
        } else if given == space.len {
            place(&slices, dtype, std::slice::from_ref(&(0..space.len)))
        } else if is_list && given == space.packed_len() {
            place(&slices, dtype, &space.tensors)
        } else {
            let remedy = if is_list {
                " with padding: pass all of them, or one slice per tensor of its own length; `LayoutBuilder::packed` \
                 makes a layout without padding"
            } else {
                WITH_PADDING
            };
            return Err(Error::LengthMismatch { what, expected: space.len, actual: given, remedy });
        };
        Ok(ranges)
    }

    /// Refuses slices that have bytes in common; a whole buffer counts as `whole_bytes`.
    fn check_no_overlap(self, what: &'static str, whole_bytes: u64) -> Result<(), Error> {
        let slices: Vec<_> = self.slices(whole_bytes).collect();
        let mut order: Vec<usize> = (0..slices.len()).filter(|&i| slices[i].2 > 0).collect();
        order.sort_by_key(|&i| (slices[i].0, slices[i].1));
        for pair in order.windows(2) {
            let ((first, offset, bytes), (second, next, _)) = (slices[pair[0]], slices[pair[1]]);
            if first == second && next < offset + bytes {
                return Err(Error::OverlappingSlices { what, first: pair[0], second: pair[1] });
            }
        }
        Ok(())
    }
}

/// Refuses ranges whose first 16-bit number is the second of a word, of memory or of the flat space: copies move whole words.
pub(crate) fn check_word_starts(ranges: &[BufferRange], what: &'static str) -> Result<(), Error> {
    let is_cut = |range: &&BufferRange| {
        let begins_words = range.start.is_multiple_of(2) && range.offset.is_multiple_of(4);
        range.dtype.bytes(1) < 4 && !begins_words
    };
    ranges.iter().find(is_cut).map_or(Ok(()), |range| Err(cut_word(what, range.start)))
}

/// Advice where 16-bit numbers would begin within a word.
pub(crate) const WHOLE_WORDS: &str = "begin each slice, and each tensor in it, at a multiple of 4 bytes and of 2 elements, \
                                      as a slice per tensor of a layout with padding does";

pub(crate) fn cut_word(what: &str, start: u64) -> Error {
    Error::Unsupported {
        what: format!("a slice that begins at element {start}"),
        with: format!("{what} of 16 bits, of which a word of memory holds two"),
        remedy: WHOLE_WORDS,
    }
}

/// Refuses parameters and gradients that have bytes in common. Gradients may overlap each other, parameters do not.
fn check_disjoint(
    params: (BufferSlices<'_>, Dtype),
    grads: (BufferSlices<'_>, Dtype),
    space: &FlatSpace,
) -> Result<(), Error> {
    let mut all = Vec::new();
    for ((slices, dtype), is_grad) in [(params, false), (grads, true)] {
        let slices = slices.slices(dtype.bytes(space.len)).enumerate();
        all.extend(slices.map(|(i, (buffer, offset, bytes))| (buffer, offset, offset + bytes, is_grad, i)));
    }
    all.retain(|(_, offset, end, ..)| offset < end);
    all.sort_by_key(|&(buffer, offset, ..)| (buffer, offset));
    // Of the slices so far, the one of parameters and the one of gradients that end last.
    let mut last: [Option<(&Buffer, u64, usize)>; 2] = [None; 2];
    for (buffer, offset, end, is_grad, slice) in all {
        let [own, other] = [is_grad, !is_grad].map(usize::from);
        if let Some((.., other)) = last[other].filter(|(known, end, _)| *known == buffer && offset < *end) {
            let [params, grads] = if is_grad { [other, slice] } else { [slice, other] };
            return Err(Error::AliasedSlices { params, grads });
        }
        if last[own].is_none_or(|(known, known_end, _)| known != buffer || known_end < end) {
            last[own] = Some((buffer, end, slice));
        }
    }
    Ok(())
}

impl BufferSlices<'_> {
    /// The ranges of gradients that have no bytes in common with parameters.
    pub(crate) fn disjoint_ranges(
        self,
        params: (BufferSlices<'_>, Dtype),
        dtype: Dtype,
        space: &FlatSpace,
    ) -> Result<Vec<BufferRange>, Error> {
        let ranges = self.readable_ranges("grads", dtype, space)?;
        check_disjoint(params, (self, dtype), space)?;
        Ok(ranges)
    }
}

/// The runs of ranges that have no missing tensor between them.
pub(crate) fn runs<'a>(
    ranges: &'a [BufferRange],
    missing: &'a [usize],
    space: &'a FlatSpace,
) -> impl Iterator<Item = &'a [BufferRange]> {
    ranges.chunk_by(|range, next| {
        let first = missing.partition_point(|&tensor| space.tensors[tensor].start < range.start);
        missing.get(first).is_none_or(|&tensor| space.tensors[tensor].start >= next.start)
    })
}

/// Places slices of (buffer, offset in bytes, elements) one after the other into ranges of the flat space that hold as many
/// elements.
fn place(slices: &[(&Buffer, u64, u64)], dtype: Dtype, spaces: &[Range<u64>]) -> Vec<BufferRange> {
    let mut ranges = Vec::new();
    let mut spaces = spaces.iter().filter(|space| !space.is_empty()).cloned();
    let mut space = spaces.next().unwrap_or_default();
    for &(buffer, mut offset, mut rest) in slices {
        while rest > 0 {
            if space.is_empty() {
                space = spaces.next().unwrap_or_default();
            }
            let len = rest.min(space.end - space.start);
            ranges.push(BufferRange { buffer: buffer.clone(), offset, start: space.start, len, dtype });
            (space.start, rest, offset) = (space.start + len, rest - len, offset + dtype.bytes(len));
        }
    }
    ranges
}

/// Joins neighbors in each list: ranges that follow each other in a buffer as in the flat space. Padding between them is
/// joined, too, unless a range of any list begins in it.
pub(crate) fn join(lists: &[&[BufferRange]]) -> Vec<Vec<BufferRange>> {
    let mut starts: Vec<_> = lists.iter().copied().flatten().map(|range| (&range.buffer, range.offset)).collect();
    starts.sort();
    let is_free = |buffer: &Buffer, from: u64, end: u64| {
        let next = starts.partition_point(|start| *start < (buffer, from));
        starts.get(next).is_none_or(|start| *start >= (buffer, end))
    };
    let joined = |ranges: &&[BufferRange]| {
        let mut joined: Vec<BufferRange> = Vec::new();
        for range in *ranges {
            let follows = |last: &&mut BufferRange| {
                let (is_next, end) = (last.offset_of(range.start) == range.offset, last.offset + last.bytes());
                last.buffer == range.buffer && is_next && is_free(&range.buffer, end, range.offset)
            };
            match joined.last_mut().filter(follows) {
                Some(last) => last.len = range.end() - last.start,
                None => joined.push(range.clone()),
            }
        }
        joined
    };
    lists.iter().map(joined).collect()
}

/// As [`join`], for one list.
pub(crate) fn joined(ranges: &[BufferRange]) -> Vec<BufferRange> {
    join(&[ranges]).concat()
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

/// Records copies from one list of ranges to another over the same flat space, however each is cut.
pub(crate) fn copy_ranges(encoder: &mut wgpu::CommandEncoder, from: &[BufferRange], to: &[BufferRange]) {
    for source in from {
        for target in to {
            let (start, end) = (source.start.max(target.start), source.end().min(target.end()));
            if start < end {
                // After an odd 16-bit element there is padding.
                let (read, write) = (source.offset_of(start), target.offset_of(start));
                let bytes = source.dtype.bytes(end - start).next_multiple_of(4);
                encoder.copy_buffer_to_buffer(&source.buffer, read, &target.buffer, write, bytes);
            }
        }
    }
}
