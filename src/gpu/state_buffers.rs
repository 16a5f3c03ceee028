//! States in buffers of the program.

use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Buffer, BufferSlice, BufferUsages, CommandEncoderDescriptor, Device, Queue};

use super::buffer_slices::{BufferRange, BufferSlices, FlatSpace, check_usage, check_word_starts};
use crate::Error;
use crate::plan::StepPlan;
use crate::storage::Dtype;

/// Usages of a state's buffers.
pub(crate) const STATE_USAGE: BufferUsages =
    BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);
/// Maximum bytes of the source that states other than 0 are copied from.
const SOURCE_BYTES: u64 = 1 << 20;

/// The memory of one state: see [`OptimizerBuilder::state_sizes`](crate::OptimizerBuilder::state_sizes).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateSize {
    /// The rule's name for the state.
    pub name: String,
    /// Bytes of its elements, padding of the layout included.
    pub bytes: u64,
    /// Usages that its buffers need.
    pub usage: BufferUsages,
}

/// [`BufferSlices`] without a borrow.
#[derive(Debug, Clone)]
pub(crate) enum OwnedSlices {
    Whole(Buffer),
    Slice(Buffer, u64, u64),
    Slices(Vec<(Buffer, u64, u64)>),
}

impl From<BufferSlices<'_>> for OwnedSlices {
    fn from(slices: BufferSlices<'_>) -> Self {
        let part = |slice: &BufferSlice<'_>| (slice.buffer().clone(), slice.offset(), slice.size());
        match slices {
            BufferSlices::Whole(buffer) => Self::Whole(buffer.clone()),
            BufferSlices::Slice(slice) => Self::Slice(slice.buffer().clone(), slice.offset(), slice.size()),
            BufferSlices::Slices(slices) => Self::Slices(slices.iter().map(part).collect()),
            // A missing slice leaves too few elements.
            BufferSlices::Optional(slices) => Self::Slices(slices.iter().flatten().map(part).collect()),
        }
    }
}

impl OwnedSlices {
    /// Places the slices in the flat space, after the checks of [`BufferSlices::ranges`].
    fn ranges(&self, dtype: Dtype, space: &FlatSpace) -> Result<Vec<BufferRange>, Error> {
        let ranges = |slices: BufferSlices<'_>| slices.ranges("state", dtype, space);
        match self {
            Self::Whole(buffer) => ranges(buffer.into()),
            Self::Slice(buffer, offset, size) => ranges(buffer.slice(*offset..offset + size).into()),
            Self::Slices(slices) => {
                let slices = slices.iter().map(|(buffer, offset, size)| buffer.slice(*offset..offset + size));
                let slices: Vec<BufferSlice<'_>> = slices.collect();
                ranges((&slices).into())
            }
        }
    }

    /// Buffer, offset and end of each slice.
    fn places(&self, dtype: Dtype, space: &FlatSpace) -> Vec<(&Buffer, u64, u64)> {
        match self {
            Self::Whole(buffer) => vec![(buffer, 0, dtype.bytes(space.len))],
            Self::Slice(buffer, offset, size) => vec![(buffer, *offset, offset + size)],
            Self::Slices(slices) => {
                slices.iter().map(|(buffer, offset, size)| (buffer, *offset, offset + size)).collect()
            }
        }
    }
}

/// The states whose buffers the program gave.
#[derive(Debug, Default)]
pub(crate) struct GivenStates {
    /// Name and ranges of each state of the rule; `None` for those that the optimizer allocates.
    states: Vec<Option<(String, Vec<BufferRange>)>>,
    /// Buffer, first byte, end and state of each slice, in ascending order. Ends are rounded up to the alignment of bindings.
    places: Vec<(Buffer, u64, u64, usize)>,
    alignment: u64,
}

impl GivenStates {
    /// # Errors
    /// [`Error::UnknownState`], [`Error::StateBuffers`], [`Error::SharedState`].
    pub(crate) fn new(
        given: &[(String, OwnedSlices)],
        plan: &StepPlan,
        space: &FlatSpace,
        limits: &wgpu::Limits,
    ) -> Result<Self, Error> {
        let alignment = u64::from(limits.min_storage_buffer_offset_alignment);
        let names: Vec<String> = plan.states.iter().map(|state| state.name.to_string()).collect();
        let mut all = Self { states: vec![None; names.len()], places: Vec::new(), alignment };
        for (name, slices) in given {
            let Some(state) = names.iter().position(|known| known == name) else {
                let rule = plan.rule.spec().name.to_string();
                return Err(Error::UnknownState { rule, name: name.clone(), known: names });
            };
            if plan.coded_with(state).is_some() {
                return Err(Error::Unsupported {
                    what: format!("`state_buffers` of {name:?}"),
                    with: "states in 8 bits, whose parts lie in buffers of the optimizer".to_owned(),
                    remedy: "leave the call out, or keep the state in f32 or bf16",
                });
            }
            let of_state = |source| Error::StateBuffers { state: name.clone(), source: Box::new(source) };
            let ranges = slices.ranges(plan.states[state].dtype, space).map_err(of_state)?;
            check_word_starts(&ranges, "states").map_err(of_state)?;
            all.places.retain(|(.., other)| *other != state);
            for (slice, (buffer, offset, end)) in slices.places(plan.states[state].dtype, space).into_iter().enumerate()
            {
                if offset % alignment != 0 {
                    return Err(of_state(Error::MisalignedState { slice, offset, alignment }));
                }
                let reason =
                    ", because the optimizer initializes states, and copies them for snapshots and checkpoints";
                check_usage("state", buffer, STATE_USAGE, reason).map_err(of_state)?;
                all.places.push((buffer.clone(), offset, end.next_multiple_of(alignment), state));
            }
            all.states[state] = Some((name.clone(), ranges));
        }
        all.places.sort();
        for pair in all.places.windows(2) {
            let ((first, _, end, state), (second, next, _, other)) = (&pair[0], &pair[1]);
            if first == second && next < end {
                let other = format!("state {:?}", names[*other]);
                return Err(Error::SharedState { state: names[*state].clone(), other, alignment });
            }
        }
        Ok(all)
    }

    /// The ranges of a state, if the program gave them.
    pub(crate) fn ranges(&self, state: usize) -> Option<&[BufferRange]> {
        self.states[state].as_ref().map(|(_, ranges)| &ranges[..])
    }

    pub(crate) fn holds(&self, buffer: &Buffer) -> bool {
        let first = self.places.partition_point(|(known, ..)| known < buffer);
        self.places.get(first).is_some_and(|(known, ..)| known == buffer)
    }

    /// Refuses ranges that share a unit of the alignment with a state: bindings would overlap.
    pub(crate) fn check_apart(&self, ranges: &[BufferRange], what: &'static str) -> Result<(), Error> {
        for range in ranges.iter().filter(|_| !self.places.is_empty()) {
            let end = range.offset + range.bytes();
            let before = self.places.partition_point(|(buffer, start, ..)| (buffer, *start) < (&range.buffer, end));
            let Some((buffer, _, place_end, state)) = before.checked_sub(1).map(|last| &self.places[last]) else {
                continue;
            };
            if *buffer == range.buffer && *place_end > range.offset {
                let state = self.states[*state].as_ref().map(|(name, _)| name.clone()).unwrap_or_default();
                return Err(Error::SharedState { state, other: what.to_owned(), alignment: self.alignment });
            }
        }
        Ok(())
    }

    /// Submits writes of each state's initial value.
    pub(crate) fn initialize(&self, device: &Device, queue: &Queue, plan: &StepPlan) {
        let given = self.states.iter().zip(&plan.states).filter_map(|(given, state)| Some((given.as_ref()?, state)));
        let mut encoder = None;
        for ((_, ranges), state) in given {
            let encoder =
                encoder.get_or_insert_with(|| device.create_command_encoder(&CommandEncoderDescriptor::default()));
            let words = |range: &BufferRange| range.bytes().next_multiple_of(4);
            let bytes = ranges.iter().map(words).max().unwrap_or(0).min(SOURCE_BYTES);
            let source = (state.initial != 0.0).then(|| {
                let words = vec![state.dtype.word_of(state.initial); bytes as usize / 4];
                let (label, contents) = (Some("wgpu-optim initial state"), bytemuck::cast_slice(&words));
                device.create_buffer_init(&BufferInitDescriptor { label, contents, usage: BufferUsages::COPY_SRC })
            });
            for range in ranges {
                let Some(source) = &source else {
                    encoder.clear_buffer(&range.buffer, range.offset, Some(words(range)));
                    continue;
                };
                let end = range.offset + words(range);
                for at in (range.offset..end).step_by(bytes as usize) {
                    encoder.copy_buffer_to_buffer(source, 0, &range.buffer, at, bytes.min(end - at));
                }
            }
        }
        encoder.map(|encoder| queue.submit([encoder.finish()]));
    }
}
