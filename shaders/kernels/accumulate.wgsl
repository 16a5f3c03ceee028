// Adds weighted gradients to the accumulator: accumulated += weight * grad.
//
// In: gradients, the accumulator in the place of parameters, the weight in the place of the learning rate. Out: the
// accumulator. Grid: one workgroup of 64 per 1,024 elements of the chunk.

import package::device::chunk_options::{chunk_block_options, chunk_quad_options};
import package::device::first_element::{first_element};
import group_lookup::{BlockOptions, skips_quad};
import step_uniforms::{uniforms};
import streams::{load_grad, load_param, store_param};

fn accumulate_quad(block_options: BlockOptions, element: u32) {
    let is_active = chunk_quad_options(block_options, element).is_active;
    if skips_quad(is_active) {
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
    let element = first_element(workgroup, grid, lane);
    let block_options = chunk_block_options(element);
    accumulate_quad(block_options, element);
    accumulate_quad(block_options, element + 32u);
    accumulate_quad(block_options, element + 64u);
    accumulate_quad(block_options, element + 96u);
}
