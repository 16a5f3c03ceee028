/// The reaction of a step to a gradient that is NaN or infinite.
///
/// Default: [`NonFinite::Skip`] for steps that compute the norm anyway (clipping by norms, a gradient scale, a rule with
/// sums), [`NonFinite::Propagate`] for single-pass steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum NonFinite {
    /// Leaves every byte of parameters, states and step count unchanged, and counts the step as skipped.
    Skip,
    /// As `Skip`, and refuses every later step until `resume` is called.
    Stop,
    /// Updates with the gradient as it is, as PyTorch; the statistics name the first bad element.
    Propagate,
}
