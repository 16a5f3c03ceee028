//! The tensors of a checkpoint, and the place of each in an optimizer.

use std::collections::HashMap;
use std::ops::Range;

use safetensors::tensor::Dtype;

use crate::kernels::tensor_steps::TensorStep;
use crate::plan::{Mode, StepPlan};
use crate::rule::{ReduceBy, StateSpec};
use crate::{Layout, TensorInfo, storage};

/// The name of the last tensor: checksums of the header and of every tensor before.
pub(super) const CHECKSUMS: &str = "checksums";

/// The part of an optimizer that a tensor of the file holds, or a range of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The parameters that the caller gives.
    Params,
    /// The copy that `eval` and `perturb` make for `train`.
    TrainingParams,
    /// The weighted sum of gradients since the last step.
    Accumulated,
    /// A state, by its number among those that the rule keeps.
    State(usize),
    /// Row factors, column factors and variances.
    Factors,
    /// The mean of the row factors of each matrix.
    FactorMeans,
    /// Four numbers per segment.
    SegmentStates,
    /// Four sums per segment.
    SegmentSums,
    /// The applied steps of each tensor, and what follows from them.
    TensorSteps,
    ScalarStates,
    /// Four numbers of the last step, then of the next.
    BiasCorrections,
    /// The last norms of clipping at a percentile, oldest first.
    Norms,
    /// Bits of the loss scale, and the applied steps since it changed.
    LossScale,
    /// The sums of the last sampled step.
    MetricSums,
    /// The records of the last steps, oldest first.
    History,
    /// The count of applied steps of each row.
    RowSteps,
    /// Four bias corrections per row.
    RowBiasCorrections,
}

impl Place {
    /// Whether a file may lack it, or have it in another shape. A step computes it anew, or it begins as in a new optimizer.
    pub(super) fn is_optional(self) -> bool {
        matches!(
            self,
            Self::Accumulated
                | Self::FactorMeans
                | Self::SegmentSums
                | Self::TensorSteps
                | Self::RowSteps
                | Self::RowBiasCorrections
                | Self::BiasCorrections
                | Self::Norms
                | Self::LossScale
                | Self::MetricSums
                | Self::History
        )
    }

    /// Whether the file holds integers.
    fn is_integer(self) -> bool {
        matches!(self, Self::TensorSteps | Self::LossScale | Self::MetricSums | Self::History | Self::RowSteps)
    }
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) place: Place,
    /// Elements of the place.
    pub(crate) range: Range<usize>,
    pub(super) dtype: Dtype,
    storage: storage::Dtype,
}

impl Entry {
    fn new(name: String, shape: &[usize], place: Place, range: Range<usize>) -> Self {
        let dtype = if place.is_integer() { Dtype::U32 } else { Dtype::F32 };
        Self { name, shape: shape.to_vec(), place, range, dtype, storage: storage::Dtype::F32 }
    }

    fn with_dtype(self, storage: storage::Dtype) -> Self {
        let dtype = match storage {
            storage::Dtype::F32 | storage::Dtype::F32Per256 | storage::Dtype::F32Per32 => Dtype::F32,
            storage::Dtype::Bf16 => Dtype::BF16,
            storage::Dtype::F16 => Dtype::F16,
            storage::Dtype::I16 => Dtype::I16,
            storage::Dtype::Dynamic8 | storage::Dtype::Companded8 => Dtype::U8,
        };
        Self { dtype, storage, ..self }
    }

    /// A tensor without a dimension per element of the model.
    pub(super) fn small(name: &str, shape: &[usize], place: Place) -> Self {
        Self::new(name.to_owned(), shape, place, 0..shape.iter().product())
    }

    /// Bytes of the tensor.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes_of(self.range.len())
    }

    /// Bytes of so many elements.
    pub(super) fn bytes_of(&self, elements: usize) -> usize {
        self.storage.bytes(elements as u64) as usize
    }

    /// Some elements of the place.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        Self { range, ..self.clone() }
    }

    /// Elements of the place that the bytes hold.
    pub(crate) fn elements_in(&self, bytes: usize) -> usize {
        self.storage.numbers_in(bytes as u64) as usize
    }
}

/// The large tensors of a checkpoint, in their order in the file. `renamed` maps names of the program to names of the
/// file.
pub(crate) fn bulk_entries(
    plan: &StepPlan,
    has_params: bool,
    mode: Mode,
    renamed: &HashMap<String, String>,
) -> Vec<Entry> {
    let layout = &plan.layout;
    let name_of = |name: &str| renamed.get(name).map_or_else(|| name.to_owned(), Clone::clone);
    let mut entries = Vec::new();
    let of_params = plan.settings.precision.params.dtype();
    let flat = [
        has_params.then(|| ("params".to_owned(), Place::Params, of_params)),
        (mode != Mode::Training).then(|| ("training_params".to_owned(), Place::TrainingParams, of_params)),
        plan.settings.accumulates.then(|| ("accumulated".to_owned(), Place::Accumulated, storage::Dtype::F32)),
    ];
    for (prefix, place, dtype) in flat.into_iter().flatten() {
        entries.extend(tensor_entries(layout, (place, dtype), |name| format!("{prefix}/{}", name_of(name))));
    }
    for state in plan.states.iter().enumerate() {
        entries.extend(state_entries(plan, state, name_of));
    }
    if let Some(factors) = &plan.factors {
        for (number, tensor) in layout.tensors().iter().enumerate() {
            let name = name_of(tensor.name());
            for (state, shape, range) in factors.states_of(number, tensor.shape()) {
                entries.push(Entry::new(format!("states/{state}/{name}"), &shape, Place::Factors, range));
            }
            let (shape, range) = factors.means_of(number, tensor.shape());
            entries.push(Entry::new(format!("row_means/{name}"), &shape, Place::FactorMeans, range));
        }
    }
    if let Some(reduction) = plan.rule.reduction() {
        let segments = segments(plan, reduction.by(), name_of);
        let has_states = plan.rule.tensor_state().is_some();
        let places = [
            has_states.then_some(("segment_states", Place::SegmentStates)),
            Some(("segment_sums", Place::SegmentSums)),
        ];
        for (prefix, place) in places.into_iter().flatten() {
            entries.extend(segments.iter().map(|(name, range)| {
                let range = 4 * range.start..4 * range.end;
                let name = name.as_ref().map_or_else(|| prefix.to_owned(), |name| format!("{prefix}/{name}"));
                Entry::new(name, &[range.len() / 4, 4], place, range)
            }));
        }
    }
    if let Some(rows) = plan.row_step_count() {
        entries.push(Entry::small("row_steps", &[rows], Place::RowSteps));
        entries.push(Entry::small("row_bias_corrections", &[rows, 4], Place::RowBiasCorrections));
    }
    if plan.settings.misses_gradients {
        let steps = |(number, tensor): (usize, &TensorInfo)| {
            let range = TensorStep::WORDS * number..TensorStep::WORDS * (number + 1);
            Entry::new(format!("tensor_steps/{}", name_of(tensor.name())), &[range.len()], Place::TensorSteps, range)
        };
        entries.extend(layout.tensors().iter().enumerate().map(steps));
    }
    entries
}

/// An entry for each tensor of the layout that has elements in a state. Of an 8-bit state, a tensor has codes and scales, or
/// f32 under the name of the codes.
fn state_entries(
    plan: &StepPlan,
    (number, state): (usize, &StateSpec),
    name_of: impl Fn(&str) -> String,
) -> Vec<Entry> {
    let of_tensor = |prefix: &str, name: &str| format!("states/{prefix}/{}", name_of(name));
    let place = (Place::State(number), state.dtype);
    let Some(coded) = plan.coded_with(number) else {
        return tensor_entries(&plan.layout, place, |name| of_tensor(&state.name, name)).collect();
    };
    let is_small = coded.small == Some(number);
    let codes = plan.states.get(coded.codes).filter(|_| is_small).unwrap_or(state);
    let entries = tensor_entries(&plan.layout, place, |name| of_tensor(&codes.name, name));
    let mut entries: Vec<_> = entries.filter(|entry| plan.f32_parts.holds(&entry.range) == is_small).collect();
    for entry in entries.iter_mut().filter(|_| number == coded.scales) {
        entry.shape = vec![entry.range.len().div_ceil(coded.map.block_len())];
    }
    entries
}

/// An entry for each tensor of the layout.
pub(super) fn tensor_entries(
    layout: &Layout,
    (place, dtype): (Place, storage::Dtype),
    name_of: impl Fn(&str) -> String,
) -> impl Iterator<Item = Entry> {
    let entry = move |tensor: &TensorInfo| {
        Entry::new(name_of(tensor.name()), tensor.shape(), place, tensor.range()).with_dtype(dtype)
    };
    layout.tensors().iter().map(entry)
}

/// Name and numbers of the segments of each tensor, or of each group. All elements, and those without a group, have no name.
fn segments(plan: &StepPlan, by: ReduceBy, name_of: impl Fn(&str) -> String) -> Vec<(Option<String>, Range<usize>)> {
    let (layout, mut first) = (&plan.layout, 0);
    let mut next = |count: usize| {
        first += count;
        first - count..first
    };
    match by {
        ReduceBy::Tensor => layout.tensors().iter().map(|tensor| (Some(name_of(tensor.name())), next(1))).collect(),
        ReduceBy::Unit => {
            let tensors = layout.tensors().iter();
            let units = |shape: &[usize]| if let [units, _, ..] = shape { *units } else { 1 };
            tensors.map(|tensor| (Some(name_of(tensor.name())), next(units(tensor.shape())))).collect()
        }
        ReduceBy::Group => {
            let count = plan.segments.as_ref().map_or(0, crate::segments::Segments::count);
            // The last segment holds the elements without a group, if there are any.
            let names = layout.groups().iter().cloned().map(Some).chain([None]).take(count);
            names.map(|name| (name, next(1))).collect()
        }
        ReduceBy::All => vec![(None, next(1))],
    }
}
