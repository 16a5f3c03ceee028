// Shapes come from outside: no arithmetic overflows.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::Error;
use crate::error::check;
use crate::storage::Dtype;

/// Alignment of padded tensors, in elements: 64 f32 are 256 bytes, wgpu's default offset alignment of bindings.
pub const TENSOR_ALIGNMENT: usize = 64;

/// Maximum length of a layout, in elements, padding included: flat indices are `u32` on the device.
pub const MAX_ELEMENTS: u64 = u32::MAX as u64 - (1 << 20);

/// One named tensor of a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
    group: Option<String>,
}

impl TensorInfo {
    /// The tensor's name, unique in its layout.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The shape, outermost dimension first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// The tensor's range in the flat space, in elements.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
    /// The tensor's group; `None` if it has none. [`LayoutBuilder::range`] may move elements to other groups.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }
}

/// Contiguous elements of one [`Member`], from the previous span's end to `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) end: usize,
    pub(crate) member: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    /// Padding between tensors: never read, never written.
    Gap,
    /// Elements without a named group.
    Ungrouped,
    /// Index into [`Layout::groups`].
    Group(usize),
}

/// Maps named tensors to ranges of one flat space of f32 elements, and elements to parameter groups.
///
/// By default every tensor starts at a multiple of [`TENSOR_ALIGNMENT`] elements, so that a program can also bind each
/// tensor separately. Optimizers leave the padding unchanged. [`LayoutBuilder::packed`] omits padding, to match an
/// existing buffer.
///
/// ```
/// use wgpu_optim::Layout;
/// let layout = Layout::builder()
///     .tensor("fc1.weight", &[10, 7])
///     .tensor("fc1.bias", &[10]).group("no_decay")
///     .build()?;
/// assert_eq!(layout.tensor("fc1.bias").unwrap().range(), 128..138);
/// assert_eq!(layout.len(), 192);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorInfo>,
    groups: Vec<String>,
    spans: Vec<Span>,
    len: usize,
}

impl Layout {
    /// Starts an empty layout.
    pub fn builder() -> LayoutBuilder {
        LayoutBuilder::default()
    }

    /// A layout of one tensor named `params` with `len` elements, without padding.
    ///
    /// # Errors
    /// [`Error::LayoutTooLarge`] above [`MAX_ELEMENTS`].
    pub fn flat(len: usize) -> Result<Self, Error> {
        Self::builder().tensor("params", &[len]).packed().build()
    }

    /// Length of the flat space in elements, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the flat space has no elements (every tensor has a dimension of 0).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of a buffer for f32 parameters or gradients: [`Layout::buffer_size_of`] f32.
    pub fn buffer_size(&self) -> u64 {
        self.buffer_size_of(Dtype::F32)
    }

    /// Bytes of a buffer for all elements in a storage format, rounded up to a multiple of 16: kernels then access four
    /// elements at a time up to the end. A buffer without that rounding (a multiple of 4 bytes) is accepted too, and
    /// its last elements, or all of them, are accessed one at a time.
    pub fn buffer_size_of(&self, dtype: Dtype) -> u64 {
        dtype.bytes(self.len as u64).next_multiple_of(16)
    }

    /// The tensor with this name; `None` if there is none.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// All tensors, in the order in which they were added.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The names of all groups: first those of tensors, then those of ranges, each in order of first use.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }
}

/// Builds a [`Layout`]; errors are reported by [`LayoutBuilder::build`].
#[must_use]
#[derive(Debug, Clone, Default)]
pub struct LayoutBuilder {
    tensors: Vec<(String, Vec<usize>, Option<String>)>,
    ranges: Vec<(Range<usize>, String)>,
    alignment: Option<usize>,
    group_without_tensor: Option<String>,
}

impl LayoutBuilder {
    /// Adds a tensor with a unique name. `shape` has the outermost dimension first; `&[]` is a scalar.
    pub fn tensor(mut self, name: impl Into<String>, shape: &[usize]) -> Self {
        self.tensors.push((name.into(), shape.to_vec(), None));
        self
    }

    /// Assigns the last added tensor to a group. Default: no group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        let group = group.into();
        match self.tensors.last_mut() {
            Some(tensor) => tensor.2 = Some(group),
            None => self.group_without_tensor = Some(group),
        }
        self
    }

    /// Assigns a range of the flat space, in elements, to a group. It may begin and end inside tensors, and overrides
    /// the groups of tensors. Ranges must not overlap.
    pub fn range(mut self, elements: Range<usize>, group: impl Into<String>) -> Self {
        self.ranges.push((elements, group.into()));
        self
    }

    /// Omits padding between tensors, as [`LayoutBuilder::aligned`] with 1.
    pub fn packed(self) -> Self {
        self.aligned(1)
    }

    /// Sets the alignment of tensors, in elements. Default [`TENSOR_ALIGNMENT`]. Moments in
    /// [`Dtype::Dynamic8`] need a multiple of 256, those in [`Dtype::Companded8`] one of 32.
    pub fn aligned(mut self, elements: usize) -> Self {
        self.alignment = Some(elements);
        self
    }

    /// Validates all settings and builds the layout.
    ///
    /// # Errors
    /// [`Error::EmptyLayout`] without a tensor, [`Error::DuplicateTensor`] for a repeated name,
    /// [`Error::GroupWithoutTensor`] if [`group`](Self::group) came first, [`Error::RangeOutOfBounds`],
    /// [`Error::OverlappingRanges`], [`Error::Hyperparameter`] for an alignment of 0, [`Error::LayoutTooLarge`] above [`MAX_ELEMENTS`].
    pub fn build(self) -> Result<Layout, Error> {
        if let Some(group) = self.group_without_tensor {
            return Err(Error::GroupWithoutTensor { group });
        }
        if self.tensors.is_empty() {
            return Err(Error::EmptyLayout);
        }
        let alignment = self.alignment.unwrap_or(TENSOR_ALIGNMENT) as u64;
        check(alignment > 0, "layout", "alignment", 0.0, "1 or more")?;
        let mut names = HashSet::new();
        let mut tensors = Vec::with_capacity(self.tensors.len());
        let mut len = 0u64;
        for (name, shape, group) in self.tensors {
            if !names.insert(name.clone()) {
                return Err(Error::DuplicateTensor { name });
            }
            let too_large = |len| Error::LayoutTooLarge { len, max: MAX_ELEMENTS };
            let elements = shape
                .iter()
                .try_fold(1u64, |product, &dim| product.checked_mul(dim as u64))
                .ok_or(too_large(u64::MAX))?;
            let end = len.checked_add(elements).ok_or(too_large(u64::MAX))?;
            let padded = end.checked_next_multiple_of(alignment).ok_or(too_large(u64::MAX))?;
            if padded > MAX_ELEMENTS {
                return Err(too_large(padded));
            }
            tensors.push(TensorInfo { name, shape, range: len as usize..end as usize, group });
            len = padded;
        }
        let len = len as usize;
        let mut groups: Vec<String> = Vec::new();
        let mut index = HashMap::new();
        // Includes groups without elements.
        let named = tensors.iter().filter_map(|tensor| tensor.group.as_ref());
        for group in named.chain(self.ranges.iter().map(|(_, group)| group)) {
            index.entry(group.clone()).or_insert_with(|| {
                let number = groups.len();
                groups.push(group.clone());
                number
            });
        }
        let ranges = sorted_ranges(self.ranges, len)?;
        let member = |name: &str| index.get(name).copied().map_or(Member::Ungrouped, Member::Group);
        let mut spans = Spans::default();
        let mut ranges = ranges.iter().peekable();
        for tensor in &tensors {
            let own = tensor.group.as_deref().map_or(Member::Ungrouped, member);
            spans.push(tensor.range.start, Member::Gap);
            let mut at = tensor.range.start;
            while at < tensor.range.end {
                while ranges.next_if(|(range, _)| range.end <= at).is_some() {}
                match ranges.peek() {
                    Some((range, name)) if range.start <= at => {
                        at = range.end.min(tensor.range.end);
                        spans.push(at, member(name));
                    }
                    next => {
                        at = next.map_or(tensor.range.end, |(range, _)| range.start.min(tensor.range.end));
                        spans.push(at, own);
                    }
                }
            }
        }
        spans.push(len, Member::Gap);
        Ok(Layout { tensors, groups, spans: spans.0, len })
    }
}

/// Spans in ascending order. Merges adjacent spans with equal members; drops empty spans.
#[derive(Default)]
struct Spans(Vec<Span>);

impl Spans {
    fn push(&mut self, end: usize, member: Member) {
        match self.0.last_mut() {
            Some(last) if last.end >= end => {}
            Some(last) if last.member == member => last.end = end,
            None if end == 0 => {}
            _ => self.0.push(Span { end, member }),
        }
    }
}

fn sorted_ranges(mut ranges: Vec<(Range<usize>, String)>, len: usize) -> Result<Vec<(Range<usize>, String)>, Error> {
    for (range, group) in &ranges {
        if range.start > range.end || range.end > len {
            let (start, end, group) = (range.start, range.end, group.clone());
            return Err(Error::RangeOutOfBounds { group, start, end, len });
        }
    }
    ranges.retain(|(range, _)| !range.is_empty());
    ranges.sort_by_key(|(range, _)| range.start);
    for ((before, first), (range, second)) in ranges.iter().zip(ranges.iter().skip(1)) {
        if range.start < before.end {
            let (first, second) = (first.clone(), second.clone());
            return Err(Error::OverlappingRanges { first, second, element: range.start });
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cut_tensors_and_padding_stays_a_gap() {
        let layout =
            Layout::builder().tensor("a", &[10]).tensor("b", &[70]).group("g").range(4..66, "r").build().unwrap();
        let spans: Vec<_> = layout.spans().iter().map(|span| (span.end, span.member)).collect();
        let [g, r] = ["g", "r"].map(|name| layout.groups().iter().position(|group| group == name).unwrap());
        assert_eq!(
            spans,
            [
                (4, Member::Ungrouped),
                (10, Member::Group(r)),
                (64, Member::Gap),
                (66, Member::Group(r)),
                (134, Member::Group(g)),
                (192, Member::Gap),
            ]
        );
    }

    #[test]
    fn a_packed_layout_of_one_group_is_one_span() {
        let layout =
            Layout::builder().tensor("a", &[3]).tensor("b", &[0, 5]).tensor("c", &[]).packed().build().unwrap();
        assert_eq!(layout.spans(), [Span { end: 4, member: Member::Ungrouped }]);
        assert_eq!(layout.buffer_size(), 16);
    }
}
