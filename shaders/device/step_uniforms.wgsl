// What a rule is given. Twin: src/rule.rs.
//
// Composed in src/gpu/shader.rs, which declares `Hyper` (the rule's hyperparameters), `Element` (parameter and states)
// and `Scalars` (what the rule carries from step to step), with `pack` and `unpack` for the last; for rules that measure
// also `Measured` (sums over a tensor) and `TensorState` (what the rule keeps of one), with `pack_measured` and so on.
// The rule is `fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element`.
//
// What changes from step to step is chosen by `select` and not by `if`: lavapipe compiles a shader anew for every value
// of a uniform that a branch depends on.

// The scalars of a step: its group's learning rate and weight decay, 1 - beta^t, and the applied step t.
struct Step {
    lr: vec4<f32>,
    weight_decay: vec4<f32>,
    bias_correction: vec4<f32>,
    t: u32,
    scalars: Scalars,
    measured: Measured, // MEASURED
    tensor: TensorState, // MEASURED
}

struct Slot {
    head: SlotHead,
    hyper: Hyper,
    // Of groups with schedules: see group_lrs.wgsl.
    group_lrs: array<vec4<f32>, GROUP_LRS>, // SCHEDULED
}

@group(1) @binding(0) var<uniform> slot: Slot;
