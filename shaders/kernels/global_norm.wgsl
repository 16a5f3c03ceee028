// Global norm and finite check of the gradients, first half: one ScaledSum per tile of 8,192 elements.
//
// In: gradients. Out: `tile_sums`. Grid: one workgroup of 64 per tile of the chunk.

import package::device::chunk_options::{chunk_quad_options};
import package::kernels::tile_norm::{tile_norm};
import group_lookup::{BlockOptions};
import streams::{load_grad};

const LANES: u32 = 64u;

// Absolute bits of the four gradients at `element` of the chunk; 0 where inactive.
fn load_quad(block_options: BlockOptions, element: u32) -> vec4<u32> {
    let is_active = chunk_quad_options(block_options, element).is_active;
    return select(vec4<u32>(0u), load_grad(element) & vec4<u32>(0x7fffffffu), is_active);
}

@compute @workgroup_size(LANES)
fn global_norm(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    tile_norm(workgroup, grid, lane);
}
