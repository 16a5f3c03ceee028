// One optimizer step over a chunk of the flat space: the harness around a rule. Twin: src/cpu/update.rs.
//
// Composed in src/gpu/shader.rs, which declares the functions `read_words`, `write_words` and `load_grad` over the
// storage format, `element_of`, `clip_by_value`, `apply` (the rule, or one of its further passes), and `next_word`, which
// gives the words of `next` that a bare step changes: its place, and what it becomes. Lines that end in FROZEN are there for
// chunks which may have frozen elements only.

@group(0) @binding(1) var<uniform> control: Control;
// The words of what the control block will be after this step; written by the bare step alone, which has no `finish` before
// it. No optimizer that takes bare steps clips or stops, which leaves most of them as they were made.
@group(0) @binding(3) var<storage, read_write> next: array<atomic<u32>>;

// What a step has for all elements.
struct WholeStep {
    applies: bool,
    // What gradients are multiplied by, one factor after the other.
    grad_factors: vec2<f32>,
    t: u32,
    bias_correction: vec4<f32>,
    scalars: Scalars,
}

// Four elements of the chunk; gives the flat index of the first whose gradient is not finite.
fn update_quad(near: Near, element: u32, whole: WholeStep) -> u32 {
    var lanes = chunk_lanes(near, element);
    lanes.live = lanes.live & vec4<bool>(whole.applies);
    if !any(lanes.live) { return NONE; } // FROZEN
    let bits = load_grad(element);
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
    let updated = apply(old, grad, slot.hyper, step);
    // Here and not before the loads, which compilers for CPUs then need no mask for.
    if any(lanes.live) {
        write_words(element, words, updated, lanes.live);
    }
    let checked = select(vec4<u32>(0u), bits & vec4<u32>(0x7fffffffu), lanes.live);
    return first_nonfinite(checked, chunk.start + element);
}

// The sixteen elements of an invocation: of 128 that lie side by side, which eight invocations take four at a time.
// Written out, since in a loop compilers for CPUs keep what lives across it in memory. What comes before costs a quarter.
fn update_elements(element: u32, whole: WholeStep) -> u32 {
    let near = chunk_near(element);
    var first = update_quad(near, element, whole);
    first = min(first, update_quad(near, element + 32u, whole));
    first = min(first, update_quad(near, element + 64u, whole));
    return min(first, update_quad(near, element + 96u, whole));
}

fn first_element(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) -> u32 {
    return (workgroup.y * grid.x + workgroup.x) * 1024u + lane / 8u * 128u + lane % 8u * 4u;
}

// The update of a step that `finish` has decided on.
@compute @workgroup_size(64)
fn update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let applies = control.apply != 0u;
    // Where nothing is to be written nothing but the first elements is read.
    let element = select(0u, first_element(workgroup, grid, lane), applies);
    let scalars = unpack(control.scalars);
    _ = update_elements(element, WholeStep(applies, control.grad_factors, control.step, control.bias_correction, scalars));
}

// The whole step in one dispatch: every gradient is applied as it is, and the first chunk counts the step.
@compute @workgroup_size(64)
fn update_bare(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = control.step + 1u;
    let correction = control.upcoming_bias_correction;
    let scalars = advance(unpack(control.scalars), slot.head.lr, slot.hyper, correction, t);
    // One word for each of the first invocations: compilers for CPUs let all run through these lines, if not through every
    // turn of a loop, so that each further store would cost what one of a state does.
    // equivalent: whoever else counts writes the same
    let is_first = chunk.first != 0u && all(workgroup == vec3<u32>(0u));
    // equivalent(<=, && lane < NEXT_WORDS): those behind the last write again what the first does
    let counts = is_first && lane < NEXT_WORDS;
    let upcoming = bias_correction_of((lane - FIRST_UPCOMING) % 4u, t + 1u, counts);
    if counts {
        let word = next_word(lane, t, correction, upcoming, scalars);
        atomicStore(&next[word.x], word.y);
    }
    let whole = WholeStep(true, vec2<f32>(slot.head.inv_scale, 1.0), t, correction, scalars);
    let first = update_elements(first_element(workgroup, grid, lane), whole);
    if first != NONE {
        atomicMin(&next[FIRST_NONFINITE + (t & 1u)], first);
    }
}

// A further pass of the rule over all elements, with `load_grad` giving what it was called with. It counts no step.
@compute @workgroup_size(64)
fn update_pass(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = first_element(workgroup, grid, lane);
    let scalars = unpack(control.scalars);
    _ = update_elements(element, WholeStep(true, vec2<f32>(1.0), control.step, control.bias_correction, scalars));
}
