// The rule's sums over segments, second half: sums the parts of each segment and updates its tensor state.
//
// In and out: the segment table. Grid: one workgroup of 256 per segment.

import package::device::control_uniform::{control};
import package::device::workgroup_sum::{workgroup_sum};
import package::kernels::control::{has_initial_states};
import package::segments::{floats_at, part_row, parts_row, state_row, sums_row};
import interface::{pack_tensor_state, unpack_segment_sums, unpack_tensor_state};
import segment_table::{segments};
import step_uniforms::{uniforms};
import tensor_state::{update_tensor_state};

// A matrix whose column i has component i in all four rows.
fn columns_of(row: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(vec4<f32>(row.x), vec4<f32>(row.y), vec4<f32>(row.z), vec4<f32>(row.w));
}

@compute @workgroup_size(256)
fn segment_update(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let segment = workgroup.y * grid.x + workgroup.x;
    // The grid may have more workgroups than there are segments.
    var exists = (control.apply != 0u) & (segment < segments[0].x);
    var sums = vec4<f32>(0.0);
    if exists {
        let parts = segments[parts_row(segment)];
        // The range of a segment without active elements is empty; its state stays unchanged.
        exists = parts.x < parts.y;
        for (var part = parts.x + lane; part < parts.y; part += 256u) {
            // The range may contain parts of other segments.
            let is_own = segments[part_row(part)].z == segment;
            sums = sums + select(vec4<f32>(0.0), floats_at(part_row(part) + 1u), is_own);
        }
    }
    let total = workgroup_sum(sums, lane);
    if !exists || lane != 0u {
        return;
    }
    segments[sums_row(segment)] = bitcast<vec4<u32>>(total);
    let old = unpack_tensor_state(columns_of(floats_at(state_row(segment))));
    let sums_of_segment = unpack_segment_sums(columns_of(total));
    let updated = update_tensor_state(
        old,
        sums_of_segment,
        uniforms.head.lr,
        uniforms.hyper,
        control.bias_correction,
        control.step,
        has_initial_states(control.step, 1u, uniforms.head.flags),
    );
    // equivalent(1): the rows are equal
    segments[state_row(segment)] = bitcast<vec4<u32>>(transpose(pack_tensor_state(updated))[0]);
}
