use burn::tensor::DType;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The module has no parameter that requires a gradient.
    #[error(
        "the module has no parameter that requires a gradient: make it on a device with autodiff (`device.autodiff()`), or \
         let parameters require gradients (`set_require_grad`)"
    )]
    NoParameters,
    /// A tensor lies in the memory of another device than the setup's.
    #[error(
        "`{parameter}` lies on another device ({device}) than the setup: call \
         `let (device, setup) = Device::wgpu_options().init_with_setup()?` before burn's first operation, and make the \
         module on `device`"
    )]
    ForeignDevice {
        /// The path of the parameter.
        parameter: String,
        /// burn's name of the tensor's device.
        device: String,
    },
    /// A parameter or gradient has another element type than the optimizer was built for.
    #[error(
        "`{parameter}` has {what} of {actual:?}; the optimizer takes {expected}: set the format with `precision` or \
         `grad_dtype` of the builder, or cast the module"
    )]
    Dtype {
        /// The path of the parameter.
        parameter: String,
        /// "elements" or "a gradient".
        what: &'static str,
        /// The tensor's element type.
        actual: DType,
        /// The format in which the optimizer was built.
        expected: String,
    },
    /// A gradient has another shape than its parameter.
    #[error("the gradient of `{parameter}` has shape {actual:?}; the parameter has {expected:?}")]
    GradientShape {
        /// The path of the parameter.
        parameter: String,
        /// The parameter's shape.
        expected: Vec<usize>,
        /// The gradient's shape.
        actual: Vec<usize>,
    },
    /// The module has other parameters than the one that the optimizer was built for.
    #[error(
        "the module has changed since the optimizer was built: {change}. Build an optimizer for the new module; its states \
         begin anew"
    )]
    ModuleChanged {
        /// The first difference.
        change: String,
    },
    /// A pattern of [`FusedOptimizerBuilder::group`](crate::FusedOptimizerBuilder::group) matches no parameter.
    #[error("no parameter matches {pattern}; the parameters are {}", list(.parameters))]
    UnmatchedGroup {
        /// The pattern.
        pattern: String,
        /// The paths of all parameters.
        parameters: Vec<String>,
    },
    /// burn could not execute the operations that the step follows. With fusion, parameters that these operations were to
    /// write cannot be read afterwards, nor others of the same module: go on from a clone or a file.
    #[error("burn: {0}")]
    Burn(String),
    /// The library refuses settings, tensors or a mode.
    #[error(transparent)]
    Optimizer(#[from] wgpu_optim::Error),
    /// A checkpoint cannot be written or read.
    #[cfg(feature = "safetensors")]
    #[error(transparent)]
    Checkpoint(#[from] wgpu_optim::checkpoint::CheckpointError),
}

/// At most eight names.
fn list(names: &[String]) -> String {
    let shown = names.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(8) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// The error of a call that takes a module by value, with that module: it is as it was before the call, but for
/// [`Error::Burn`] and what `load` excepts.
#[derive(thiserror::Error)]
#[error("{error}")]
pub struct StepError<M> {
    /// The module.
    pub module: M,
    /// The reason.
    pub error: Error,
}

impl<M> std::fmt::Debug for StepError<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<M> From<StepError<M>> for Error {
    fn from(refused: StepError<M>) -> Self {
        refused.error
    }
}
