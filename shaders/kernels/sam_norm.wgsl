// Norm of the gradients that SAM perturbs along, first half: one ScaledSum per tile of 8,192 elements.
//
// In: gradients; for ASAM, parameters. Out: `tile_sums`. Grid: one workgroup of 64 per tile of the chunk.

import package::device::chunk_options::{chunk_quad_options};
import package::kernels::tile_norm::{tile_norm};
import group_lookup::{BlockOptions};
import param_scale::{param_scale_at};
import streams::{load_grad};

const LANES: u32 = 64u;

// Absolute bits of the four scaled gradients at `element` of the chunk; 0 where inactive.
fn load_quad(block_options: BlockOptions, element: u32) -> vec4<u32> {
    let is_active = chunk_quad_options(block_options, element).is_active;
    let scaled = param_scale_at(element) * bitcast<vec4<f32>>(load_grad(element));
    return select(vec4<u32>(0u), bitcast<vec4<u32>>(scaled) & vec4<u32>(0x7fffffffu), is_active);
}

@compute @workgroup_size(LANES)
fn sam_norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    tile_norm(workgroup, grid, lane);
}
