/// The scalars of one step, as the CPU reference of a rule reads them.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StepScalars {
    /// Learning rate, the group's scale applied.
    pub lr: f32,
    /// Weight decay of the group.
    pub weight_decay: f32,
    /// 1 - βᵗ for each β in [`RuleSpec::bias_corrected`](super::RuleSpec::bias_corrected); 1 beyond them.
    pub bias_correction: [f32; 4],
    /// Number of applied steps, this step included: 1 in the first step.
    pub t: u32,
    /// Whether the states hold their initial values: no step was applied, and the program gave none
    /// ([`Optimizer::set_applied_steps`](crate::Optimizer::set_applied_steps)).
    pub is_first: bool,
    /// The scalar state, in the order of [`ScalarState::initial_scalars`](super::ScalarState::initial_scalars).
    pub scalar_state: [f32; 4],
    /// Sums over the elements' segment, in the order of [`Reduction::sums`](super::Reduction::sums).
    pub sums: [f32; 4],
    /// State of the elements' tensor, in the order of
    /// [`TensorState::initial_tensor_state`](super::TensorState::initial_tensor_state).
    pub tensor_state: [f32; 4],
}
