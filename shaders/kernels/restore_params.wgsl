// Restores the stored training parameters, if others have their place.
//
// In: `params_replaced`, the stored parameters in the place of gradients. Out: parameters. Inactive elements stay. Grid:
// one workgroup of 64 per 1,024 elements of the chunk.

import package::device::chunk_options::{chunk_quad_options};
import package::device::update_quads::{update_quads};
import group_lookup::{BlockOptions, skips_quad};
import streams::{load_grad, load_param, store_param};

// 1 while others have the place of the training parameters.
@group(0) @binding(3) var<storage, read> params_replaced: u32;

fn update_quad(block_options: BlockOptions, element: u32) {
    let is_active = chunk_quad_options(block_options, element).is_active;
    if skips_quad(is_active) {
        return;
    }
    let restores = is_active & vec4<bool>(params_replaced == 1u);
    if all(restores) {
        store_param(element, load_grad(element), restores);
    } else if any(restores) {
        store_param(element, select(load_param(element), load_grad(element), restores), restores);
    }
}

@compute @workgroup_size(64)
fn restore_params(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    update_quads(workgroup, grid, lane);
}
