use thiserror::Error;

/// Everything the crate refuses, with what was given, what is allowed and what to do.
///
/// All checks run before `wgpu` sees the call, so a refused step records nothing and changes nothing.
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
    /// The history of an optimizer that keeps none was asked for.
    #[error("the optimizer keeps the statistics of its last step only; call `.history(1_000)` on its builder")]
    NoHistory,
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
    /// A step lies behind the last one of a schedule that ends.
    #[error("{schedule} schedule: the step is {step}; allowed: 0 to {name}, which is {steps}")]
    ScheduleEnded {
        /// Name of the schedule.
        schedule: &'static str,
        /// The step asked for, counted from 0.
        step: u64,
        /// Name of the field that says where the schedule ends.
        name: &'static str,
        /// Its value.
        steps: u64,
    },
    /// A buffer or slice has another length than the layout.
    #[error(
        "{what} holds {actual} elements; the layout has {expected}: pass a buffer of that many f32, or a slice of a longer one"
    )]
    LengthMismatch {
        /// `params`, `grads`, ….
        what: &'static str,
        /// Elements of the layout.
        expected: u64,
        /// Elements given.
        actual: u64,
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
        /// Why, where it is not plain; empty otherwise.
        reason: &'static str,
    },
    /// A slice does not start or end on an f32.
    #[error("{what}: slice {slice} covers bytes {offset}..{end}; both ends must be multiples of 4")]
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
    /// Two slices of one list cover the same bytes.
    #[error(
        "{what}: slices {first} and {second} overlap in one buffer; each element of the flat space needs bytes of its own"
    )]
    OverlappingSlices {
        /// `params` or `grads`.
        what: &'static str,
        /// Index of one slice.
        first: usize,
        /// Index of the other.
        second: usize,
    },
    /// A list of slices is cut inside a tensor that the rule sums over, by whose norms gradients are clipped, or whose norms a
    /// history keeps.
    #[error(
        "the slices are cut at element {element}, inside a tensor; rule {rule:?}, the clipping of its gradients, or the history sums over tensors: cut between tensors, or at multiples of 8,192 elements of the flat space"
    )]
    CutTensor {
        /// The rule's name.
        rule: String,
        /// Element of the flat space at which the slices are cut.
        element: u64,
    },
    /// One buffer was given in two roles.
    #[error("{first} and {second} share a buffer; wgpu tracks hazards per whole buffer, so give each its own")]
    AliasedBuffers {
        /// One role.
        first: &'static str,
        /// The other role.
        second: &'static str,
    },
    /// The device was requested with a limit that is too small.
    #[error(
        "the device allows {limit} = {available}, and this optimizer needs {required}: raise it in `required_limits` of `request_device`"
    )]
    DeviceLimit {
        /// Name of the field of [`wgpu::Limits`].
        limit: &'static str,
        /// The least value that works.
        required: u64,
        /// The device's value.
        available: u64,
    },
    /// A rule declares an interface that cannot be built.
    #[error("rule {rule:?}: {problem}")]
    RuleInterface {
        /// The rule's name.
        rule: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// A rule has no pass of that name.
    #[error("rule {rule:?} has no pass {pass:?}; it has: {}", list(.known))]
    UnknownPass {
        /// The rule's name.
        rule: String,
        /// The name given.
        pass: String,
        /// The rule's passes.
        known: Vec<String>,
    },
    /// A step, or a second `eval`, between `eval` and `train`.
    #[error(
        "{call} was called while the parameters are those for evaluation; call `train` first, which brings the training parameters back"
    )]
    EvaluationMode {
        /// What was called.
        call: &'static str,
    },
    /// A snapshot was taken from another optimizer.
    #[error("the snapshot was taken from another optimizer; restore it into the one whose `snapshot` made it")]
    ForeignSnapshot,
    /// The WGSL of a rule does not compile.
    #[error("rule {rule:?}: its WGSL does not compile\n{message}")]
    Shader {
        /// The rule's name.
        rule: String,
        /// The compiler's message with the source lines it speaks of.
        message: String,
    },
    /// A rule's WGSL and its Rust give different results; see
    /// [`OptimizerBuilder::verify`](crate::OptimizerBuilder::verify).
    #[error(
        "rule {rule:?}: in step {step}, `{function}` makes {stream} {device:e} in WGSL and {cpu:e} in Rust, of parameter {param:e} and gradient {grad:e}: both must compute the same, statement by statement"
    )]
    RuleMismatch {
        /// The rule's name.
        rule: String,
        /// The WGSL function: `rule`, or a pass.
        function: String,
        /// `param`, or the state.
        stream: String,
        /// Number of the step, from 1.
        step: u32,
        /// The parameter before the step; NaN for a factor, which belongs to no single one.
        param: f32,
        /// The gradient; likewise.
        grad: f32,
        /// What the WGSL made.
        device: f32,
        /// What the Rust made.
        cpu: f32,
    },
    /// No adapter fits.
    #[error("no {wanted} adapter was found (present: {}); install a driver: on Debian and Ubuntu `apt install mesa-vulkan-drivers`, on Fedora `dnf install mesa-vulkan-drivers`, on NVIDIA cards the vendor's driver with its Vulkan ICD; or use the CPU engine", list(.found))]
    NoAdapter {
        /// The kind that was asked for.
        wanted: &'static str,
        /// The adapters that are present.
        found: Vec<String>,
    },
    /// The adapter refused to make a device.
    #[error("the adapter {adapter} made no device: {source}")]
    RequestDevice {
        /// The adapter.
        adapter: String,
        /// What wgpu says.
        source: wgpu::RequestDeviceError,
    },
    /// The encoder that carried a statistics request was dropped without being submitted.
    #[error("the statistics were recorded into an encoder that was never submitted; submit it, or ask again")]
    StatsDropped,
    /// Statistics, or a buffer, could not be mapped.
    #[error("the device's memory could not be read back: {0}; the device may be lost")]
    Unreadable(String),
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

/// Whether a value can serve as a learning rate, a decay or a scale in f32.
pub(crate) fn is_rate(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}
