// Sums over items: the elements of one segment in one block of 8,192 elements of the flat space, one workgroup each. Their
// order depends on nothing but the elements' flat indices, so chunking does not change a bit. Eight lanes take 256 elements
// that lie side by side, as in norm.wgsl.
//
// Composed in src/gpu/shader.rs with measure.wgsl or observe.wgsl, which declare `LaneSums`, `item_at`, `item_count`,
// `add_quad` and `keep_item`.

@group(0) @binding(1) var<uniform> control: Control;

// Four elements, of which some count.
struct Quad {
    old: Element,
    // Gradients scaled, and clipped by the global norm.
    grad: vec4<f32>,
    step: Step,
    counts: vec4<bool>,
}

@compute @workgroup_size(256)
fn sum_items(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = chunk.first_item + workgroup.y * grid.x + workgroup.x;
    let item = item_at(number);
    // The grid may overhang.
    // equivalent(<=, & (item.x < chunk.start + chunk.length)): the chunk of such an item sums it later, if there is one
    // equivalent(& (number < item_count())): the buffer ends with the items, and lavapipe discards what is stored behind it
    let exists = (control.apply != 0u) & (number < item_count()) & (item.x < chunk.start + chunk.length);
    var sums = LaneSums();
    if exists {
        let block = item.x / 8192u * 8192u;
        // equivalent(<=): a ninth row would lie behind every item
        for (var i = 0u; i < 8u; i++) {
            let index = block + lane / 8u * 256u + i * 32u + lane % 8u * 4u;
            // equivalent(boundary): of quads next to the item nothing is counted below; this spares their loads
            if index + 4u <= item.x || index >= item.y {
                continue;
            }
            let lanes = lanes_at(near_at(index), index, item.y - index);
            let counts = lanes.live & (index + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(item.x));
            // Wraps where the chunk begins inside these four elements; what lies before is not counted.
            let element = index - chunk.start;
            let grad = bitcast<vec4<f32>>(load_grad(element)) * control.grad_factors.x * control.grad_factors.y;
            let step = Step(
                lr_of(lanes),
                lanes.weight_decay,
                control.bias_correction,
                control.step,
                unpack(control.scalars),
                measured_of(lanes.tensor), // MEASURED
                tensor_state_of(lanes.tensor), // MEASURED
            );
            var old = element_of(read_words(element));
            old.variance = variance_at(index, lanes.tensor); // FACTORED
            sums = add_quad(sums, Quad(old, grad, step, counts));
        }
    }
    keep_item(number, sums, lane, exists);
}

// What counts of some numbers.
fn counted(quad: Quad, numbers: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), numbers, quad.counts);
}

// The sums of the four elements of each column.
fn sums_of(columns: mat4x4<f32>) -> vec4<f32> {
    let by_lane = transpose(columns);
    return (by_lane[0] + by_lane[1]) + (by_lane[2] + by_lane[3]);
}
