#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use thiserror::Error;

use crate::storage::Dtype;

/// The errors of this crate. Each message says what was given, what is allowed, and what to do.
///
/// All checks run before `wgpu` sees the call: a refused step records nothing and changes nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A layout was built without a single tensor.
    #[error("the layout has no tensors; add at least one with `.tensor(name, shape)`")]
    EmptyLayout,
    /// Two tensors of a layout share a name.
    #[error("the layout names the tensor {name:?} twice; tensor names must be unique")]
    DuplicateTensor {
        /// The repeated name.
        name: String,
    },
    /// `.group(…)` was called before any `.tensor(…)`.
    #[error("group {group:?} was named before any tensor; call `.group` after the `.tensor` it belongs to")]
    GroupWithoutTensor {
        /// The group's name.
        group: String,
    },
    /// An element range reaches outside the flat space, or is reversed.
    #[error("the range {start}..{end} of group {group:?} does not lie in the layout's 0..{len}")]
    RangeOutOfBounds {
        /// The group the range was given for.
        group: String,
        /// First element.
        start: usize,
        /// One past the last element.
        end: usize,
        /// Elements of the layout.
        len: usize,
    },
    /// Two element ranges given to `.range(…)` overlap.
    #[error(
        "the ranges given for groups {first:?} and {second:?} overlap at element {element}; an element has one group"
    )]
    OverlappingRanges {
        /// The group given first.
        first: String,
        /// The group given second.
        second: String,
        /// The first element they share.
        element: usize,
    },
    /// The flat space is larger than one optimizer can address.
    #[error(
        "the layout has {len} elements; one optimizer holds at most {max}: split the model over several optimizers"
    )]
    LayoutTooLarge {
        /// Elements asked for, or `u64::MAX` where their number overflows.
        len: u64,
        /// The largest flat space, in elements.
        max: u64,
    },
    /// Options were given for a group the layout does not have.
    #[error("the layout has no group {group:?}; it has: {}", list(.known))]
    UnknownGroup {
        /// The name given.
        group: String,
        /// The layout's groups.
        known: Vec<String>,
    },
    /// The tensors of an optimizer with rows differ in their number of rows.
    #[error(
        "tensor {tensor:?} of shape {shape:?} has not the {expected} rows of the first tensor; with `.rows(...)` the first dimension of all tensors is the number of rows: build an optimizer of its own for other tensors"
    )]
    RowCount {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Rows of the first tensor.
        expected: usize,
    },
    /// An optimizer without rows was given a number of rows, a mask or scales of columns.
    #[error("the optimizer has no rows that come and go; call `.rows(Rows::default())` on its builder")]
    NoRows,
    /// The layout has no tensor of that name.
    #[error("the layout has no tensor {tensor:?}; it has: {}", list(.known))]
    UnknownTensor {
        /// The name given.
        tensor: String,
        /// The layout's tensors.
        known: Vec<String>,
    },
    /// The mask of visible rows has another length than the rows.
    #[error("the mask of visible rows has {actual} words of 32 rows; the layout's rows need {expected}")]
    MaskLength {
        /// Words for one bit per row.
        expected: usize,
        /// Words given.
        actual: usize,
    },
    /// A buffer that says which rows are active is too small.
    #[error("{what}: the buffer has {actual} bytes; {expected} or more are needed")]
    RowBufferTooSmall {
        /// `live_rows` or `visible_rows`.
        what: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes given.
        actual: u64,
    },
    /// A tensor has another number of columns than scales were given.
    #[error(
        "{actual} learning-rate scales were given for tensor {tensor:?}, which has {expected}: give one per column, and begin with `Rows::with_column_lr_scales`"
    )]
    ColumnScales {
        /// The tensor's name.
        tensor: String,
        /// Its scales: its columns, or 0 if the optimizer was built without.
        expected: usize,
        /// Scales given.
        actual: usize,
    },
    /// An optimizer without a history was asked for one.
    #[error("the optimizer stores only the statistics of its last step; call `.history(1_000)` on its builder")]
    NoHistory,
    /// A table of rows has another length than the optimizer has rows.
    #[error("{what} holds {actual} indices; the layout's tensors have {expected} rows: give one index per row")]
    IndexCount {
        /// `sources` or `state_sources`.
        what: &'static str,
        /// Rows of the layout's tensors.
        expected: u64,
        /// Indices given.
        actual: u64,
    },
    /// An optimizer without an accumulator was given gradients to accumulate.
    #[error("the optimizer has no accumulator for gradients; call `.accumulate_gradients()` on its builder")]
    NoAccumulator,
    /// A gradient scale was set beside a gradient scaler.
    #[error(
        "the optimizer scales gradients by its gradient scaler; build it without `.grad_scaler(...)` to set a scale"
    )]
    OwnGradScale,
    /// Two features exclude each other.
    #[error("{what} does not work with {with}: {remedy}")]
    Unsupported {
        /// One feature.
        what: String,
        /// The other, and why.
        with: String,
        /// Advice.
        remedy: &'static str,
    },
    /// A hyperparameter lies outside its range.
    #[error("{owner}: {name} is {value}; allowed: {allowed}")]
    Hyperparameter {
        /// The rule, schedule, clip or group that was given the value.
        owner: String,
        /// Name of the hyperparameter.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// The step lies behind the end of a schedule.
    #[error("{schedule} schedule: the step is {step}; allowed: 0 to {name}, which is {steps}")]
    ScheduleEnded {
        /// Name of the schedule.
        schedule: &'static str,
        /// The step asked for, counted from 0.
        step: u64,
        /// Name of the field that holds the end.
        name: &'static str,
        /// Its value.
        steps: u64,
    },
    /// A buffer or slice has another length than the layout.
    #[error("{what} holds {actual} elements; the layout has {expected}{remedy}")]
    LengthMismatch {
        /// `params`, `grads`, ….
        what: &'static str,
        /// Elements of the layout.
        expected: u64,
        /// Elements given.
        actual: u64,
        /// Advice.
        remedy: &'static str,
    },
    /// A list of states has another length than the optimizer.
    #[error("{actual} {what} were given; the optimizer has {expected}")]
    StateCount {
        /// `scalar states` or `tensor states`.
        what: &'static str,
        /// Count of the optimizer.
        expected: usize,
        /// Count given.
        actual: usize,
    },
    /// The buffer of a gradient scale is too small.
    #[error("the buffer of the gradient scale has {actual} bytes; it holds one f32: 4 bytes or more are needed")]
    GradScaleTooSmall {
        /// Bytes given.
        actual: u64,
    },
    /// Numbers were given in another storage format than the optimizer was built for.
    #[error("{what} are {actual:?}; the optimizer was built for {expected:?}: call `.precision` on its builder")]
    DtypeMismatch {
        /// `params`, `grads`.
        what: &'static str,
        /// The format the optimizer was built for.
        expected: Dtype,
        /// The format given.
        actual: Dtype,
    },
    /// A buffer lacks usage flags.
    #[error(
        "{what} was created with {actual:?}; it also needs {missing:?}: add that to its BufferDescriptor::usage{reason}"
    )]
    MissingUsage {
        /// `params`, `grads`, ….
        what: &'static str,
        /// The flags that are missing.
        missing: wgpu::BufferUsages,
        /// The flags the buffer has.
        actual: wgpu::BufferUsages,
        /// The reason where it is not obvious; else empty.
        reason: &'static str,
    },
    /// A slice does not begin at a word, does not hold whole numbers, or ends in a word that its buffer does not hold
    /// whole.
    #[error(
        "{what}: slice {slice} covers bytes {offset}..{end}; both ends must be multiples of 4 (16-bit numbers may end 2 bytes before one, within the buffer)"
    )]
    MisalignedSlice {
        /// `params` or `grads`.
        what: &'static str,
        /// Index of the slice in the list.
        slice: usize,
        /// First byte.
        offset: u64,
        /// One past the last byte.
        end: u64,
    },
    /// Two slices of one list cover the same bytes. Gradients may, except those that ranks replace by their mean.
    #[error(
        "{what}: slices {first} and {second} overlap in one buffer; each element of the flat space needs bytes of its own"
    )]
    OverlappingSlices {
        /// `params`, `state`, or the `grads` of [`Sharded`](crate::distributed::Sharded).
        what: &'static str,
        /// Index of one slice.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// A list of slices is cut inside a tensor, and the rule, its clipping or the history sums over tensors.
    #[error(
        "the slices are cut at element {element}, inside a tensor; rule {rule:?}, its clipping or the history sums over tensors: cut between tensors, or at multiples of 8,192 elements of the flat space"
    )]
    CutTensor {
        /// The rule's name.
        rule: String,
        /// Element of the flat space at which the slices are cut.
        element: u64,
    },
    /// A slice of the parameters and one of the gradients cover the same bytes.
    #[error("slice {params} of params and slice {grads} of grads overlap in one buffer; give each bytes of its own")]
    AliasedSlices {
        /// Index of the slice of the parameters.
        params: usize,
        /// Index of the slice of the gradients.
        grads: usize,
    },
    /// A buffer of the optimizer itself was given.
    #[error("{first} and {second} share a buffer; wgpu tracks hazards per whole buffer, so give each its own")]
    AliasedBuffers {
        /// One role.
        first: &'static str,
        /// The other role.
        second: &'static str,
    },
    /// A tensor has no gradient, and the optimizer was not built for that.
    #[error("tensor {tensor:?} has no gradient; call `.missing_gradients()` on the optimizer's builder, or give one")]
    MissingGradient {
        /// The tensor's name.
        tensor: String,
    },
    /// A list of gradients that may be missing has another length than the layout.
    #[error("{actual} gradients were given; the layout has {expected} tensors: give `Some` or `None` for each")]
    GradientCount {
        /// Tensors of the layout.
        expected: usize,
        /// Entries given.
        actual: usize,
    },
    /// A tensor's gradient has another length than the tensor.
    #[error("the gradient of tensor {tensor:?} holds {actual} elements; the tensor has {expected}")]
    GradientLength {
        /// The tensor's name.
        tensor: String,
        /// Elements of the tensor.
        expected: u64,
        /// Elements given.
        actual: u64,
    },
    /// The rule has no state of that name.
    #[error("rule {rule:?} has no state {name:?} for every element; it has: {}", list(.known))]
    UnknownState {
        /// The rule's name.
        rule: String,
        /// The name given.
        name: String,
        /// The states of the optimizer, one number per element each.
        known: Vec<String>,
    },
    /// The buffers given for a state do not fit.
    #[error("the buffers of state {state:?}: {source}")]
    StateBuffers {
        /// The state's name.
        state: String,
        /// The reason.
        source: Box<Error>,
    },
    /// A slice given for a state begins where no binding may begin.
    #[error(
        "slice {slice} begins at byte {offset}; begin it at a multiple of {alignment}, the device's min_storage_buffer_offset_alignment"
    )]
    MisalignedState {
        /// Index of the slice in the list.
        slice: usize,
        /// First byte.
        offset: u64,
        /// The device's alignment of bindings.
        alignment: u64,
    },
    /// A state in a buffer of the program shares bytes with something else, or the rest of its last unit of the alignment.
    #[error(
        "state {state:?} shares {alignment} bytes with {other}, and bindings of a buffer must not overlap: begin what follows a state at the next multiple of {alignment}"
    )]
    SharedState {
        /// The state's name.
        state: String,
        /// `params`, `grads`, or another state.
        other: String,
        /// The device's alignment of bindings, in bytes.
        alignment: u64,
    },
    /// A limit of the device is too small.
    #[error(
        "the device allows {limit} = {available}, and this optimizer needs {required}: raise it in `required_limits` of `request_device`"
    )]
    DeviceLimit {
        /// Name of the field of [`wgpu::Limits`].
        limit: &'static str,
        /// The minimum.
        required: u64,
        /// The device's value.
        available: u64,
    },
    /// A rule declares an interface that cannot be built.
    #[error("rule {rule:?}: {problem}")]
    RuleInterface {
        /// The rule's name.
        rule: String,
        /// The problem, and what is allowed.
        problem: String,
    },
    /// A rule has no auxiliary update of that name.
    #[error("rule {rule:?} has no auxiliary update {name:?}; it has: {}", list(.known))]
    UnknownAuxiliaryUpdate {
        /// The rule's name.
        rule: String,
        /// The name given.
        name: String,
        /// The rule's auxiliary updates.
        known: Vec<String>,
    },
    /// A step, or a second `eval`, between `eval` and `train`.
    #[error(
        "`{call}` needs training parameters, and these are for evaluation: call `train` first, which restores them"
    )]
    EvaluationMode {
        /// The call.
        call: &'static str,
    },
    /// A perturbation or `eval` between `perturb` and the step.
    #[error(
        "`{call}` needs training parameters, and these are perturbed: call `step` first, or `train`, which restores them"
    )]
    Perturbed {
        /// The call.
        call: &'static str,
    },
    /// The optimizer has no options for perturbations.
    #[error("the optimizer has no options for perturbations; call `.sam(...)` on its builder")]
    NoSam,
    /// The snapshot is of another optimizer.
    #[error("the snapshot is of another optimizer; restore it into the one that made it")]
    ForeignSnapshot,
    /// The encoder of the snapshot was dropped.
    #[error(
        "the snapshot was not taken: its encoder was dropped; submit the encoder of `snapshot`, then call `restore`"
    )]
    SnapshotDropped,
    /// A kernel of a rule does not compile.
    #[error("rule {rule:?}: its kernel does not compile\n{message}")]
    Shader {
        /// The rule's name.
        rule: String,
        /// The compiler's message, with the source lines.
        message: String,
    },
    /// A rule's WGSL and its Rust give different results; see
    /// [`OptimizerBuilder::verify`](crate::OptimizerBuilder::verify).
    #[error(
        "rule {rule:?}: in step {step}, `{function}` returns {stream} {device:e} in WGSL and {cpu:e} in Rust, for parameter {param:e} and gradient {grad:e}: write the same statements in both"
    )]
    RuleMismatch {
        /// The rule's name.
        rule: String,
        /// The WGSL function: `rule`, or an auxiliary update.
        function: String,
        /// `param`, or the state.
        stream: String,
        /// Number of the step, from 1.
        step: u32,
        /// The parameter before the step; NaN for a factor, which belongs to many.
        param: f32,
        /// The gradient; likewise.
        grad: f32,
        /// Result of the WGSL.
        device: f32,
        /// Result of the Rust.
        cpu: f32,
    },
    /// No adapter fits.
    #[error("no {wanted} adapter was found (present: {}); {}", list(.found), adapter_remedy(.filter.as_deref()))]
    NoAdapter {
        /// The kind that was asked for.
        wanted: &'static str,
        /// The adapters that are present.
        found: Vec<String>,
        /// The value of `WGPU_ADAPTER_NAME`, if it excluded an adapter.
        filter: Option<String>,
    },
    /// The adapter refused to make a device.
    #[error("the adapter {adapter} made no device: {source}")]
    RequestDevice {
        /// The adapter.
        adapter: String,
        /// The reason.
        source: wgpu::RequestDeviceError,
    },
    /// The encoder that carried a statistics request was dropped without being submitted.
    #[error("the encoder of this request was dropped; submit the encoder, or ask again")]
    StatsDropped,
    /// A readback was awaited again after its value had been taken.
    #[error("the value of this readback was taken already; ask the optimizer again for another")]
    AlreadyTaken,
    /// A buffer could not be mapped.
    #[error("the device's memory could not be read back: {0}; the device may be lost")]
    Unreadable(String),
}

fn adapter_remedy(filter: Option<&str>) -> String {
    match filter {
        Some(name) => {
            format!("WGPU_ADAPTER_NAME is {name:?} and matches none of them: unset it, or set part of a name")
        }
        None => "install a driver: on Debian and Ubuntu `apt install mesa-vulkan-drivers`, on Fedora `dnf install \
                 mesa-vulkan-drivers`, for NVIDIA cards the vendor's driver with its Vulkan ICD; or use the CPU engine"
            .to_owned(),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Refuses `value` unless `ok`.
pub(crate) fn check(ok: bool, owner: &str, name: &'static str, value: f64, allowed: &'static str) -> Result<(), Error> {
    if ok {
        return Ok(());
    }
    Err(Error::Hyperparameter { owner: owner.to_owned(), name, value, allowed })
}

/// Refuses slices of another length than the layout's.
pub(crate) fn check_len(what: &'static str, expected: usize, actual: usize) -> Result<(), Error> {
    if expected == actual {
        return Ok(());
    }
    Err(Error::LengthMismatch { what, expected: expected as u64, actual: actual as u64, remedy: WITH_PADDING })
}

/// The remedy of a wrong length, where padding counts.
pub(crate) const WITH_PADDING: &str =
    " with padding: pass all of them; `LayoutBuilder::packed` makes a layout without padding";

/// Whether a value is a learning rate, a decay or a scale in f32: 0 or greater, finite.
pub(crate) fn is_rate(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}
