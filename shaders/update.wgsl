// One optimizer step over a chunk of the flat space: the harness around a rule. Twin: src/cpu/update.rs.
//
// Composed in src/gpu/shader.rs, which declares the functions `read_words`, `write_words` and `load_grad` over the
// storage format, `element_of`, `clip_by_value`, `apply` (the rule, or one of its further passes), and `count_for_rule`,
// which writes what the rule has of bias corrections and scalars into `next`.

@group(0) @binding(1) var<uniform> control: Control;
// What `control` will be after this step; written by the bare step alone, which has no `finish` before it.
@group(0) @binding(3) var<storage, read_write> next: ControlBlock;

// What a step has for all elements.
struct WholeStep {
    // What gradients are multiplied by, one factor after the other.
    grad_factors: vec2<f32>,
    t: u32,
    bias_correction: vec4<f32>,
    scalars: Scalars,
}

fn update_elements(element: u32, lanes: Lanes, bits: vec4<u32>, whole: WholeStep) {
    let grad = clip_by_value(bitcast<vec4<f32>>(bits) * whole.grad_factors.x * whole.grad_factors.y);
    let step = Step(
        lr_of(lanes),
        lanes.weight_decay,
        whole.bias_correction,
        whole.t,
        whole.scalars,
        measured_of(lanes.tensor), // MEASURED
        tensor_state_of(lanes.tensor), // MEASURED
    );
    let words = read_words(element);
    var old = element_of(words);
    old.variance = variance_at(chunk.start + element, lanes.tensor); // FACTORED
    write_words(element, words, apply(old, grad, slot.hyper, step), lanes.live);
}

fn first_element(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) -> u32 {
    return ((workgroup.y * grid.x + workgroup.x) * 256u + lane) * 4u;
}

// The update of a step that `finish` has decided on.
@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = first_element(workgroup, grid, lane);
    // equivalent(>): of the quad behind the last no element is live
    // equivalent(|| element >= chunk.length): lavapipe discards what is written past a binding
    if control.apply == 0u || element >= chunk.length {
        return;
    }
    // equivalent: lavapipe discards what is written past a binding
    let count = chunk.length - element;
    let lanes = lanes_at(chunk.start + element, count);
    if !any(lanes.live) {
        return;
    }
    let whole = WholeStep(control.grad_factors, control.step, control.bias_correction, unpack(control.scalars));
    update_elements(element, lanes, load_grad(element), whole);
}

// The whole step in one dispatch: every gradient is applied as it is, and the first chunk counts the step.
@compute @workgroup_size(256)
fn update_bare(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = first_element(workgroup, grid, lane);
    let t = control.step + 1u;
    let correction = control.upcoming_bias_correction;
    let scalars = advance(unpack(control.scalars), slot.head.lr, slot.hyper, correction, t);
    // Compilers for CPUs let every invocation run through these lines, so there are no more of them than can differ between
    // `control` and `next`: no optimizer that takes bare steps clips or stops, which leaves the others as they were made.
    // equivalent: all threads write the same
    let is_first = element == 0u;
    // equivalent(&& is_first): all threads write the same
    if chunk.first != 0u && is_first {
        next.control.step = t;
        next.control.skipped = control.skipped;
        next.control.lr = slot.head.lr;
        count_for_rule(t, correction, scalars);
        // equivalent(0u): the first workgroup, which clears, is the first to run on lavapipe
        let upcoming = t + 1u;
        atomicStore(&next.first_nonfinite[upcoming & 1u], NONE);
    }
    // equivalent(>): of the quad behind the last no element is live
    if element >= chunk.length {
        return;
    }
    // equivalent: lavapipe discards what is written past a binding
    let count = chunk.length - element;
    let lanes = lanes_at(chunk.start + element, count);
    if !any(lanes.live) {
        return;
    }
    let bits = load_grad(element);
    let checked = select(vec4<u32>(0u), bits & vec4<u32>(0x7fffffffu), lanes.live);
    let first = first_nonfinite(checked, chunk.start + element);
    if first != NONE {
        atomicMin(&next.first_nonfinite[t & 1u], first);
    }
    update_elements(element, lanes, bits, WholeStep(vec2<f32>(slot.head.inv_scale, 1.0), t, correction, scalars));
}

// A further pass of the rule over all elements, with `load_grad` giving what it was called with. It counts no step.
@compute @workgroup_size(256)
fn update_pass(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = first_element(workgroup, grid, lane);
    // equivalent(>): of the quad behind the last no element is live
    if element >= chunk.length {
        return;
    }
    // equivalent: lavapipe discards what is written past a binding
    let count = chunk.length - element;
    let lanes = lanes_at(chunk.start + element, count);
    if !any(lanes.live) {
        return;
    }
    let whole = WholeStep(vec2<f32>(1.0), control.step, control.bias_correction, unpack(control.scalars));
    update_elements(element, lanes, load_grad(element), whole);
}
