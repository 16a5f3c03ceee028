// Sums over segment parts, shared by segment_reduce and metrics_reduce.
//
// A part is the elements of one segment in one tile; one workgroup of 256 sums it. The order of additions depends on
// flat indices alone: chunking changes no bit. Eight lanes read 256 contiguous elements, 32 at a time.
// The kernel provides `LaneSums`, `part_at`, `part_count`, `add_quad` and `store_part`.

import package::device::chunk::{chunk};
import package::device::control_uniform::{control};
import package::device::multiply_twice::{apply_grad_factors, zero_of_applied};
import package::device::quad_options::{QuadOptions};
import package::kernels::control::{has_initial_states};
import package::rule::step::{StepScalars};
import package::tile::{TILE_LEN};
import active_rows::{active_rows};
import column_lr::{column_lr};
import factored_variance::{with_variance};
import group_lookup::{block_options_at, quad_options_at};
import interface::{Element, unpack_scalar_state};
import kernel::{LaneSums, add_quad, part_at, part_count, store_part};
import segment_values::{segment_sums_of, tensor_state_of};
import step_uniforms::{lr_of, uniforms};
import streams::{element_of, load_grad, read_words};

struct Quad {
    old: Element,
    // Unscaled, and clipped by the global norm.
    grad: vec4<f32>,
    step: StepScalars,
    // Whether each element is in the part and active.
    counts: vec4<bool>,
}

fn sum_part(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) {
    let number = chunk.first_part + workgroup.y * grid.x + workgroup.x;
    let part = part_at(number);
    // The grid may have more workgroups than there are parts.
    // equivalent(part.x <= chunk.start, & (part.x < chunk.start + chunk.length)): a later chunk sums such a part again
    // undetected(number <= part_count(), & (number < part_count())): lavapipe discards stores past the buffer
    let exists = (control.apply != 0u) & (number < part_count()) & (part.x < chunk.start + chunk.length);
    var sums = LaneSums();
    if exists {
        let tile = part.x / TILE_LEN * TILE_LEN;
        // equivalent(<=): no part has elements in a ninth row
        for (var i = 0u; i < 8u; i++) {
            let index = tile + lane / 8u * 256u + i * 32u + lane % 8u * 4u;
            // equivalent(boundary): an optimization; no element of an adjacent quad counts below
            if index + 4u <= part.x || index >= part.y {
                continue;
            }
            let options = quad_options_at(block_options_at(index), index, part.y - index);
            let is_active = active_rows(options.is_active, index);
            let counts = is_active & (index + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(part.x));
            // Wraps around if the chunk begins within the quad; elements before the chunk do not count.
            let element = index - chunk.start;
            let grad = apply_grad_factors(bitcast<vec4<f32>>(load_grad(element)), control.grad_factors, zero_of_applied());
            let step = StepScalars(
                column_lr(lr_of(options), index),
                options.weight_decay,
                control.bias_correction,
                control.step,
                has_initial_states(control.step, 1u, uniforms.head.flags),
                unpack_scalar_state(control.scalar_state),
                segment_sums_of(options.segment),
                tensor_state_of(options.segment),
            );
            let old = with_variance(element_of(read_words(element)), index, options.segment);
            sums = add_quad(sums, Quad(old, grad, step, counts));
        }
    }
    store_part(number, sums, lane, exists);
}

fn counted(quad: Quad, values: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(0.0), values, quad.counts);
}

// The sum of the four rows of each column.
fn sums_of(columns: mat4x4<f32>) -> vec4<f32> {
    let rows = transpose(columns);
    return (rows[0] + rows[1]) + (rows[2] + rows[3]);
}
