// For rules that measure nothing.

fn tensor_state_of(tensor: vec4<u32>) -> TensorState {
    return TensorState();
}

fn measured_of(tensor: vec4<u32>) -> Measured {
    return Measured();
}
