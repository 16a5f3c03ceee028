// What is summed over each tensor, and what a rule keeps of it. Twin: src/segments.rs.

// Row 0: the numbers of tensors and of items. Then one row per tensor of its states, one of its sums, and one of its
// first item and the end of its items. Then two per item: first element, end and tensor; and its part of the sums.
@group(0) @binding(16) var<storage, ACCESS> segments: array<vec4<u32>>;

fn states_row(tensor: u32) -> u32 {
    return 1u + tensor;
}

fn sums_row(tensor: u32) -> u32 {
    return 1u + segments[0].x + tensor;
}

fn items_row(tensor: u32) -> u32 {
    return 1u + 2u * segments[0].x + tensor;
}

fn item_row(item: u32) -> u32 {
    return 1u + 3u * segments[0].x + 2u * item;
}

fn numbers(row: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(segments[row]);
}

// The states of four elements' tensors.
fn tensor_state_of(tensor: vec4<u32>) -> TensorState {
    return unpack_tensor_state(transpose(mat4x4<f32>(
        numbers(states_row(tensor.x)),
        numbers(states_row(tensor.y)),
        numbers(states_row(tensor.z)),
        numbers(states_row(tensor.w)),
    )));
}

// The sums over four elements' tensors.
fn measured_of(tensor: vec4<u32>) -> Measured {
    return unpack_measured(transpose(mat4x4<f32>(
        numbers(sums_row(tensor.x)),
        numbers(sums_row(tensor.y)),
        numbers(sums_row(tensor.z)),
        numbers(sums_row(tensor.w)),
    )));
}
