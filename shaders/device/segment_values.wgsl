// Reads the sums and tensor states of the segments of four elements.

import package::segments::{floats_at, state_row, sums_row};
import interface::{SegmentSums, TensorState, unpack_segment_sums, unpack_tensor_state};

fn tensor_state_of(segment: vec4<u32>) -> TensorState {
    return unpack_tensor_state(transpose(mat4x4<f32>(
        floats_at(state_row(segment.x)),
        floats_at(state_row(segment.y)),
        floats_at(state_row(segment.z)),
        floats_at(state_row(segment.w)),
    )));
}

fn segment_sums_of(segment: vec4<u32>) -> SegmentSums {
    return unpack_segment_sums(transpose(mat4x4<f32>(
        floats_at(sums_row(segment.x)),
        floats_at(sums_row(segment.y)),
        floats_at(sums_row(segment.z)),
        floats_at(sums_row(segment.w)),
    )));
}
