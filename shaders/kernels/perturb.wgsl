// Perturbs the parameters along the gradient (SAM): param += scale * (scale * grad) * rho / norm.
//
// In: parameters, gradients, `perturbation`. Out: parameters. Grid: one workgroup of 64 per 1,024 elements of the chunk.

import package::device::chunk_options::{chunk_quad_options};
import package::device::multiply_twice::{multiply_twice};
import package::device::update_quads::{update_quads};
import active_rows::{skips_rows};
import group_lookup::{BlockOptions, skips_quad};
import param_scale::{param_scale};
import streams::{load_grad, load_param, store_param};

// x, y: the two factors that scale gradients to the length rho. z: 0.
@group(0) @binding(3) var<uniform> perturbation: vec4<f32>;

fn update_quad(block_options: BlockOptions, element: u32) {
    let is_active = chunk_quad_options(block_options, element).is_active;
    if skips_quad(is_active) || skips_rows(is_active) {
        return;
    }
    let bits = load_param(element);
    let param = bitcast<vec4<f32>>(bits);
    let scale = param_scale(param);
    let scaled = scale * bitcast<vec4<f32>>(load_grad(element));
    let zero = bitcast<u32>(perturbation.z);
    let direction = multiply_twice(scaled, vec4<f32>(perturbation.x), vec4<f32>(perturbation.y), zero);
    let perturbed = param + scale * direction;
    if any(is_active) {
        store_param(element, select(bits, bitcast<vec4<u32>>(perturbed), is_active), is_active);
    }
}

@compute @workgroup_size(64)
fn perturb(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    update_quads(workgroup, grid, lane);
}
