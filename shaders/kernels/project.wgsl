// Projects the columns of active rows after a step.
//
// In: parameters, the row table, the control block. Out: parameters. Grid: one lane per row of one tensor with elements in
// the chunk.

import package::device::chunk::{chunk};
import package::device::control_uniform::{control};
import package::device::group_lookup::search::{find_span, groups};
import package::random::{further_bits, random_bits};
import package::rows::{
    COLUMNS,
    END_PROJECTION,
    FIRST_PROJECTION,
    PROJECTION,
    PROJECTIONS,
    ROW_HEADER,
    ROW_TENSOR,
    TENSOR_START,
    is_row_active,
};
import row_table::{row_table};
import streams::{load_param, store_param};

// Words of a projection: its kind, the first column, one past the last, and two numbers.
const CLAMP: u32 = 0u;
const UNIT_NORM: u32 = 1u;
const NOISE: u32 = 2u;

// Inverse of the standard deviation of the sum of four 16-bit integers, and the sum's mean.
const INVERSE_DEVIATION: f32 = 2.6429034e-5;
const MEAN: i32 = 131070;

fn param_at(element: u32) -> f32 {
    return bitcast<f32>(load_param(element - chunk.start).x);
}

// Noise of mean 0 and standard deviation 1.
fn noise(seed: u32, t: u32, element: u32) -> f32 {
    let first = random_bits(seed, t, vec4<u32>(element));
    let second = further_bits(first, 1u);
    let sum = (first.x & 0xffffu) + (first.x >> 16u) + (second.x & 0xffffu) + (second.x >> 16u);
    return f32(i32(sum) - MEAN) * INVERSE_DEVIATION;
}

// Projects one row, whose first element is `first`.
fn project_row(projection: u32, first: u32) {
    let kind = row_table[projection];
    let begin = first + row_table[projection + 1u];
    let end = first + row_table[projection + 2u];
    let number = bitcast<f32>(row_table[projection + 3u]);
    let last_word = row_table[projection + 4u];
    var scale = 1.0;
    if kind == UNIT_NORM {
        var sum = 0.0;
        for (var element = begin; element < end; element++) {
            let param = param_at(element);
            sum = sum + param * param;
        }
        // The root of a normal number is one.
        let exponent = (bitcast<u32>(sum) >> 23u) & 255u;
        scale = select(1.0, sqrt(sum), exponent > 0u && exponent < 255u);
    }
    for (var element = begin; element < end; element++) {
        let is_inside = element >= chunk.start && element - chunk.start < chunk.length;
        if !is_inside || groups[find_span(element) + 3u] == 0u {
            continue;
        }
        let param = param_at(element);
        var projected = min(max(param, number), bitcast<f32>(last_word));
        if kind == UNIT_NORM {
            projected = param / scale;
        } else if kind == NOISE {
            projected = param + number * noise(last_word, control.step, element);
        }
        store_param(element - chunk.start, bitcast<vec4<u32>>(vec4<f32>(projected)), vec4<bool>(true, false, false, false));
    }
}

@compute @workgroup_size(256)
fn project(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = chunk.first_row + (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, chunk.end_row, control.apply != 0u);
    if row >= end || !is_row_active(row) {
        return;
    }
    let tensor = ROW_HEADER + chunk.tensor * ROW_TENSOR;
    let first = row_table[tensor + TENSOR_START] + row * row_table[tensor + COLUMNS];
    let projections = row_table[PROJECTIONS];
    for (var i = row_table[tensor + FIRST_PROJECTION]; i < row_table[tensor + END_PROJECTION]; i++) {
        project_row(projections + PROJECTION * i, first);
    }
}
