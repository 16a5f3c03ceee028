// One optimizer step over a chunk of the flat space: the harness around a rule. Twin: src/cpu/update.rs.
//
// Composed in src/gpu/shader.rs, which declares `Hyper` (the rule's hyperparameters), `Element` (parameter and
// states), and the functions `load_element`, `store_element` and `load_grad` over the storage format.
// The rule is `fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element`.

// The scalars a rule sees: its group's learning rate and weight decay, 1 - beta^t, and the applied step t.
struct Step {
    lr: vec4<f32>,
    weight_decay: vec4<f32>,
    bias_correction: vec4<f32>,
    t: u32,
}

struct Slot {
    head: SlotHead,
    hyper: Hyper,
}

@group(0) @binding(1) var<uniform> control: Control;
// What `control` will be after this step; written by the bare step alone, which has no `finish` before it.
@group(0) @binding(3) var<storage, read_write> next: ControlBlock;
@group(1) @binding(0) var<uniform> slot: Slot;

fn update_elements(element: u32, lanes: Lanes, bits: vec4<u32>, scale: vec2<f32>, t: u32, correction: vec4<f32>) {
    let grad = bitcast<vec4<f32>>(bits) * scale.x * scale.y;
    let step = Step(slot.head.lr * lanes.lr_scale, lanes.weight_decay, correction, t);
    let old = load_element(element);
    store_element(element, old, rule(old, grad, slot.hyper, step), lanes.live);
}

fn element_of(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) -> u32 {
    return ((workgroup.y * grid.x + workgroup.x) * 256u + lane) * 4u;
}

// The update of a step that `finish` has decided on.
@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = element_of(workgroup, grid, lane);
    if control.apply == 0u || element >= chunk.length {
        return;
    }
    let lanes = lanes_at(chunk.start + element, chunk.length - element);
    if !any(lanes.live) {
        return;
    }
    let scale = vec2<f32>(control.inv_scale, control.clip_coef);
    update_elements(element, lanes, load_grad(element), scale, control.step, control.bias_correction);
}

// The whole step in one dispatch: every gradient is applied as it is, and the first chunk counts the step.
@compute @workgroup_size(256)
fn update_bare(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = element_of(workgroup, grid, lane);
    let t = control.step + 1u;
    if chunk.first != 0u && element == 0u {
        next.control = control;
        next.control.step = t;
        next.control.upcoming_bias_correction = bias_correction(t + 1u);
        next.control.lr = slot.head.lr;
        next.control.clip_coef = 1.0;
        next.control.measured = 0u;
        atomicStore(&next.first_nonfinite[(t + 1u) & 1u], NONE);
    }
    if element >= chunk.length {
        return;
    }
    let lanes = lanes_at(chunk.start + element, chunk.length - element);
    if !any(lanes.live) {
        return;
    }
    let bits = load_grad(element);
    let nonfinite = lanes.live & ((bits & vec4<u32>(0x7fffffffu)) >= vec4<u32>(INFINITE));
    if any(nonfinite) {
        for (var i = 0u; i < 4u; i++) {
            if nonfinite[i] {
                atomicMin(&next.first_nonfinite[t & 1u], chunk.start + element + i);
            }
        }
    }
    update_elements(element, lanes, bits, vec2<f32>(slot.head.inv_scale, 1.0), t, control.upcoming_bias_correction);
}
