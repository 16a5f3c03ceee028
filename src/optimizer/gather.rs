//! Copies of gradients in a buffer of the optimizer.

use wgpu::{BufferSlice, BufferUsages, CommandEncoder};

use super::Optimizer;
use crate::gpu::{BufferRange, WHOLE_WORDS, check_usage, copy_ranges, joined, runs};
use crate::plan::StepKind;
use crate::{BufferSlices, Error};

/// The gradients as they were given, and their copies.
type Copies = [Vec<BufferRange>; 2];

impl Optimizer {
    /// The copies before a step of that kind, checked; `None` if it reads gradients where they lie.
    pub(super) fn gather(
        &self,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        kind: StepKind,
    ) -> Result<Option<Copies>, Error> {
        if self.gathered.is_empty() {
            return Ok(None);
        }
        let dtype = self.plan.input_dtype(kind);
        let to: Vec<_> = self.gathered.iter().map(|range| BufferRange { dtype, ..range.clone() }).collect();
        // Neighbors need one copy.
        let from = grads.disjoint_ranges((params, self.plan.param_dtype(kind)), dtype, &self.space)?;
        let missing = grads.missing(&self.space);
        let from: Vec<_> = runs(&from, &missing, &self.space).flat_map(joined).collect();
        self.resources.check_apart(&from, "grads")?;
        for range in &from {
            check_usage("grads", &range.buffer, BufferUsages::COPY_SRC, ", because they are copied first")?;
            let is_copied = |copy: &BufferRange| copy.start < range.end() && range.start < copy.end();
            for copy in to.iter().filter(|copy| is_copied(copy)) {
                let first = range.start.max(copy.start);
                if range.offset_of(first) % 4 != 0 || copy.offset_of(first) % 4 != 0 {
                    return Err(Error::Unsupported {
                        what: format!("a slice of {dtype:?} gradients that begins at element {first}"),
                        with: "`gather_gradients`, which copies words".to_owned(),
                        remedy: WHOLE_WORDS,
                    });
                }
            }
        }
        Ok(Some([from, to]))
    }

    /// As `bind`, to the copies of the gradients if there are any.
    pub(super) fn bind_gathered(
        &mut self,
        params: BufferSlices<'_>,
        grads: BufferSlices<'_>,
        copies: Option<&Copies>,
        kind: StepKind,
    ) -> Result<(), Error> {
        let Some([_, to]) = copies else { return self.bind(params, grads, kind) };
        let BufferSlices::Optional(given) = grads else {
            let slices: Vec<BufferSlice<'_>> = to.iter().map(BufferRange::slice).collect();
            return self.bind(params, (&slices).into(), kind);
        };
        // Copies of missing gradients are those of earlier steps.
        let slice = |(number, given): (usize, &Option<BufferSlice<'_>>)| {
            let (tensor, _) = (&self.space.tensors[number], given.as_ref()?);
            let copy = to.iter().find(|copy| copy.start <= tensor.start && tensor.end <= copy.end())?;
            let (start, end) = (copy.offset_of(tensor.start), copy.offset_of(tensor.end));
            Some(copy.buffer.slice(start..end))
        };
        let slices: Vec<Option<BufferSlice<'_>>> = given.iter().enumerate().map(slice).collect();
        if let Some(cut) = slices.iter().zip(given).position(|(slice, given)| slice.is_some() != given.is_some()) {
            return Err(Error::Unsupported {
                what: format!("a list of options with tensor {:?}", self.plan.layout.tensors()[cut].name()),
                with: "`gather_gradients`, whose buffers end within the tensor".to_owned(),
                remedy: "raise `max_buffer_size` in `required_limits` of `request_device`, or do not gather",
            });
        }
        self.bind(params, (&slices).into(), kind)
    }

    /// Records the copies, if there are any.
    pub(super) fn record_copies(encoder: &mut CommandEncoder, copies: Option<&Copies>) {
        if let Some([from, to]) = copies {
            copy_ranges(encoder, from, to);
        }
    }
}
