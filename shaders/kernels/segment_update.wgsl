// Adds the items of each tensor up and brings the tensor's states forward. One workgroup per tensor.
// Twin: src/cpu/settle.rs.
//
// Composed in src/gpu/shader.rs; the rule's part is
// `fn settle(old: TensorState, measured: Measured, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32) -> TensorState`.

@group(0) @binding(1) var<uniform> control: Control;

// A row in all four lanes of each column.
fn spread(row: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(row.x), vec4<f32>(row.y), vec4<f32>(row.z), vec4<f32>(row.w));
}

@compute @workgroup_size(256)
fn settle_tensors(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tensor = workgroup.y * grid.x + workgroup.x;
    // The grid may overhang.
    var exists = (control.apply != 0u) & (tensor < segments[0].x);
    var sums = vec4<f32>(0.0);
    if exists {
        let items = segments[items_row(tensor)];
        // The states of a frozen tensor stay as they are.
        exists = items.x < items.y;
        for (var item = items.x + lane; item < items.y; item += 256u) {
            // Items of other groups may lie between those of one.
            let is_own = segments[item_row(item)].z == tensor;
            sums = sums + select(vec4<f32>(0.0), numbers(item_row(item) + 1u), is_own);
        }
    }
    let total = reduce(sums, lane);
    if !exists || lane != 0u {
        return;
    }
    segments[sums_row(tensor)] = bitcast<vec4<u32>>(total);
    let old = unpack_tensor_state(spread(numbers(states_row(tensor))));
    let measured = unpack_measured(spread(total));
    let settled = settle(old, measured, slot.head.lr, slot.hyper, control.bias_correction, control.step);
    // equivalent(1): the lanes are alike
    segments[states_row(tensor)] = bitcast<vec4<u32>>(transpose(pack_tensor_state(settled))[0]);
}
