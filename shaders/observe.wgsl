// What a step is about to do, summed over each item: the elements of one segment in one block of 8,192 elements of the
// flat space. It changes nothing; `update` does the same once more and writes. Twin: src/cpu/observe.rs.
//
// Composed in src/gpu/shader.rs with one of seen/*.wgsl; the rule's part, beside the rule itself, is
// `fn count(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool>`.

@group(0) @binding(1) var<uniform> control: Control;

@compute @workgroup_size(256)
fn observe_items(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if control.apply == 0u {
        return;
    }
    let number = chunk.first_item + workgroup.y * grid.x + workgroup.x;
    let item = observed[row_of_item(number)];
    // The grid may overhang.
    // equivalent(<=, && item.x < chunk.start + chunk.length): the chunk of such an item sums it later, if there is one
    let exists = number < observed[0].y && item.x < chunk.start + chunk.length;
    // One column for the squares of each, and for the counts.
    var sums = mat4x4<f32>();
    var counted = vec4<f32>(0.0);
    if exists {
        let block = item.x / 8192u * 8192u;
        // equivalent(<=): a ninth row would lie behind every item
        for (var i = 0u; i < 8u; i++) {
            let index = block + i * 1024u + lane * 4u;
            // equivalent(boundary): of quads next to the item nothing is counted below; this spares their loads
            if index + 4u <= item.x || index >= item.y {
                continue;
            }
            let lanes = lanes_at(index, item.y - index);
            let counts = lanes.live & (index + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(item.x));
            // Wraps where the chunk begins inside these four elements; what lies before is not counted.
            let element = index - chunk.start;
            let scaled = bitcast<vec4<f32>>(load_grad(element)) * control.grad_factors.x * control.grad_factors.y;
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
            let grad = seen(scaled, slot.hyper, step);
            let change = rule(old, grad, slot.hyper, step).param - old.param;
            let clipped = vec4<f32>(is_clipped(scaled, slot.hyper, step));
            sums[0] = sums[0] + select(vec4<f32>(0.0), scaled * scaled, counts);
            sums[1] = sums[1] + select(vec4<f32>(0.0), old.param * old.param, counts);
            sums[2] = sums[2] + select(vec4<f32>(0.0), change * change, counts);
            sums[3] = sums[3] + select(vec4<f32>(0.0), clipped, counts);
            counted = counted + select(vec4<f32>(0.0), vec4<f32>(count(old, grad, slot.hyper, step)), counts);
        }
    }
    let by_lane = transpose(sums);
    let squares = (by_lane[0] + by_lane[1]) + (by_lane[2] + by_lane[3]);
    let counts = vec4<f32>((counted.x + counted.y) + (counted.z + counted.w), 0.0, 0.0, 0.0);
    keep_sums(row_of_item(number) + 1u, Sums(squares, counts), lane, exists);
}
