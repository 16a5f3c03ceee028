// The rule's sums over each item: the elements of one tensor in one block of 8,192 elements of the flat space.
// The tree depends on nothing but the elements' flat indices, so chunking does not change a bit.
// Twin: src/cpu/measure.rs.
//
// Composed in src/gpu/shader.rs; the rule's part is
// `fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Measured`.

@group(0) @binding(1) var<uniform> control: Control;

@compute @workgroup_size(256)
fn measure_items(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if control.apply == 0u {
        return;
    }
    let number = chunk.first_item + workgroup.y * grid.x + workgroup.x;
    let item = segments[item_row(number)];
    // The grid may overhang.
    // equivalent(<=, && item.x < chunk.start + chunk.length): the chunk of such an item sums it later, if there is one
    let exists = number < segments[0].y && item.x < chunk.start + chunk.length;
    var sums = mat4x4<f32>();
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
            let counted = lanes.live & (index + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(item.x));
            // Wraps where the chunk begins inside these four elements; what lies before is not counted.
            let element = index - chunk.start;
            let scaled = bitcast<vec4<f32>>(load_grad(element)) * control.grad_factors.x * control.grad_factors.y;
            let grad = clip_by_value(scaled);
            let step = Step(
                lr_of(lanes),
                lanes.weight_decay,
                control.bias_correction,
                control.step,
                unpack(control.scalars),
                Measured(),
                tensor_state_of(lanes.tensor),
            );
            var old = element_of(read_words(element));
            old.variance = variance_at(index, lanes.tensor); // FACTORED
            let terms = pack_measured(measure(old, grad, slot.hyper, step));
            sums[0] = sums[0] + select(vec4<f32>(0.0), terms[0], counted);
            sums[1] = sums[1] + select(vec4<f32>(0.0), terms[1], counted);
            sums[2] = sums[2] + select(vec4<f32>(0.0), terms[2], counted);
            sums[3] = sums[3] + select(vec4<f32>(0.0), terms[3], counted);
        }
    }
    let by_lane = transpose(sums);
    let total = reduce((by_lane[0] + by_lane[1]) + (by_lane[2] + by_lane[3]), lane);
    if exists && lane == 0u {
        segments[item_row(number) + 1u] = bitcast<vec4<u32>>(total);
    }
}
