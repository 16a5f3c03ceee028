// Adds weighted gradients to the accumulator: accumulated += weight * grad.
//
// In: gradients, the accumulator in the place of parameters, the weight in the place of the learning rate. Out: the
// accumulator. Grid: one workgroup of 64 per 1,024 elements of the chunk.

import package::device::chunk_options::{chunk_quad_options};
import package::device::update_quads::{update_quads};
import active_rows::{skips_rows};
import group_lookup::{BlockOptions, skips_quad};
import step_uniforms::{uniforms};
import streams::{load_grad, load_param, store_param};

fn update_quad(block_options: BlockOptions, element: u32) {
    let is_active = chunk_quad_options(block_options, element).is_active;
    if skips_quad(is_active) || skips_rows(is_active) {
        return;
    }
    let bits = load_param(element);
    let grad = bitcast<vec4<f32>>(load_grad(element));
    let sum = bitcast<vec4<f32>>(bits) + uniforms.head.lr * grad;
    if any(is_active) {
        store_param(element, select(bits, bitcast<vec4<u32>>(sum), is_active), is_active);
    }
}

@compute @workgroup_size(64)
fn accumulate(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    update_quads(workgroup, grid, lane);
}
