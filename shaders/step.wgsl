// What the elements of a step are given. Twin: src/cpu/update.rs.

@group(0) @binding(1) var<uniform> control: Control;

// What a step has for all elements.
struct WholeStep {
    // Inverse gradient scale and clip coefficient.
    scale: vec2<f32>,
    t: u32,
    bias_correction: vec4<f32>,
    scalars: Scalars,
}

// A step as `finish` decided on it.
fn decided_step() -> WholeStep {
    let scale = vec2<f32>(control.inv_scale, control.clip_coef);
    return WholeStep(scale, control.step, control.bias_correction, unpack(control.scalars));
}

fn step_of(lanes: Lanes, whole: WholeStep, measured: Measured) -> Step {
    let lr = slot.head.lr * lanes.lr_scale;
    let tensor = tensor_state_of(lanes.tensor);
    return Step(lr, lanes.weight_decay, whole.bias_correction, whole.t, whole.scalars, measured, tensor);
}
