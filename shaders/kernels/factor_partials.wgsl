// Sums squared gradients over each partial: 64 elements of a row or column, or one element of a vector.
//
// In: gradients, the control block. Out: partials in the factor table. Grid: one lane per partial of the chunk.
// Each lane adds elements in ascending order and continues the sum of the previous chunk: chunking changes no bit.

import package::device::chunk::{chunk};
import package::device::control_uniform::{control};
import package::device::group_lookup::search::{find_span, groups};
import package::device::multiply_twice::{apply_grad_factors, zero_of_applied};
import package::factors::{
    ACTIVE,
    FIRST_PARTIAL,
    LEN,
    PARTIALS,
    PARTIALS_OF_LINE,
    START,
    STRIDE,
    find_axis,
};
import active_rows::{is_element_active};
import clip_value::{clip_by_value};
import factor_table::{factors};
import streams::{load_grad};

const PARTIAL_LEN: u32 = 64u;

fn sum_partial(partial: u32) {
    let axis = find_axis(partial, FIRST_PARTIAL);
    let active_elements = factors[axis + ACTIVE];
    let stride = factors[axis + STRIDE];
    let len = factors[axis + LEN];
    let partials_of_line = factors[axis + PARTIALS_OF_LINE];
    // Partials of adjacent lines are adjacent, as their elements are.
    let number = partial - factors[axis + FIRST_PARTIAL];
    let first = number / stride % partials_of_line * PARTIAL_LEN;
    let count = min(len - first, PARTIAL_LEN);
    // equivalent(+ START): START is word 0
    let first_line = factors[axis + START] + number / (stride * partials_of_line) * (stride * len);
    let start = first_line + first * stride + number % stride;
    // equivalent(constant): only the early return below reads it
    let last = start + (count - 1u) * stride;
    // equivalent(boundary, || last < chunk.start): an optimization; the loop below adds nothing outside the chunk
    // equivalent(|| start >= chunk.start + chunk.length): as above
    if active_elements == 0u || start >= chunk.start + chunk.length || last < chunk.start {
        return;
    }
    var sum = 0.0;
    if start < chunk.start {
        sum = bitcast<f32>(factors[factors[PARTIALS] + partial]);
    }
    for (var i = 0u; i < count; i++) {
        let element = start + i * stride;
        // undetected(>, || element >= chunk.start + chunk.length): lavapipe reads zeros past the end of a binding
        if element < chunk.start || element >= chunk.start + chunk.length {
            continue;
        }
        if (active_elements == 2u || is_active(element)) && is_element_active(element) {
            let raw = vec4<f32>(bitcast<f32>(load_grad(element - chunk.start).x));
            let grad = clip_by_value(apply_grad_factors(raw, control.grad_factors, zero_of_applied())).x;
            sum = sum + grad * grad;
        }
    }
    factors[factors[PARTIALS] + partial] = bitcast<u32>(sum);
}

fn is_active(element: u32) -> bool {
    return groups[find_span(element) + 3u] != 0u;
}

@compute @workgroup_size(256)
fn factor_partials(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, chunk.end_partial, control.apply != 0u);
    // Loops because the device's maximum grid may have fewer lanes than partials.
    // equivalent(boundary): the partial after the last has no element in the chunk
    for (var partial = chunk.first_partial + first; partial < end; partial += grid.x * grid.y * 256u) {
        sum_partial(partial);
    }
}
