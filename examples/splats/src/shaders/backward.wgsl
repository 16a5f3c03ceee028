// Gradients of half the sum of squared errors. A gather over the box of each splat: no atomics, and the same bits in
// every run.
// In: splats, shapes, live, errors. Out: grads; scores, to which the length of the centre's gradient is added for each
// pixel.
// Grid: a workgroup per row of the capacity.

override WIDTH: u32;

@group(0) @binding(0) var<storage, read> splats: array<f32>;
@group(0) @binding(1) var<storage, read> shapes: array<Shape>;
@group(0) @binding(2) var<storage, read> live: u32;
@group(0) @binding(3) var<storage, read> errors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> grads: array<f32>;
@group(0) @binding(5) var<storage, read_write> scores: array<f32>;

const LANES = 64u;
// Sums over the pixels: slope times u, v, u^2, v^2, u v; error times weight in three channels; score.
const SUMS = 9u;
var<workgroup> lane_sums: array<array<f32, LANES>, SUMS>;
var<workgroup> sums: array<f32, SUMS>;

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if row >= live {
        return;
    }
    let shape = shapes[row];
    let width = shape.end.x - shape.first.x;
    let pixels = width * (shape.end.y - shape.first.y);
    var slopes = vec2(0.0);
    var squares = vec2(0.0);
    var product = 0.0;
    var colours = vec3(0.0);
    var score = 0.0;
    for (var i = lane; i < pixels; i += LANES) {
        let pixel = shape.first + vec2(i % width, i / width);
        let sample = sample_at(shape, pixel);
        if sample.gauss > EDGE {
            let error = errors[pixel.y * WIDTH + pixel.x].rgb;
            let slope = sample.gauss * dot(error, shape.light);
            let coordinates = vec2(sample.u, sample.v);
            slopes += slope * coordinates;
            squares += slope * coordinates * coordinates;
            product += slope * sample.u * sample.v;
            colours += error * (sample.gauss - EDGE);
            score += length(slope * sample.u * shape.along + slope * sample.v * shape.across);
        }
    }
    lane_sums[0][lane] = slopes.x;
    lane_sums[1][lane] = slopes.y;
    lane_sums[2][lane] = squares.x;
    lane_sums[3][lane] = squares.y;
    lane_sums[4][lane] = product;
    lane_sums[5][lane] = colours.x;
    lane_sums[6][lane] = colours.y;
    lane_sums[7][lane] = colours.z;
    lane_sums[8][lane] = score;
    workgroupBarrier();
    if lane < SUMS {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += lane_sums[lane][i];
        }
        sums[lane] = sum;
    }
    workgroupBarrier();
    if lane == 0u {
        let base = row * COLUMNS;
        let centre = sums[0] * shape.along + sums[1] * shape.across;
        let growth = 1.0 - BLUR / (shape.axes * shape.axes);
        let weights = vec3(sums[5], sums[6], sums[7]);
        let colour = vec3(splats[base + COLOUR], splats[base + COLOUR + 1u], splats[base + COLOUR + 2u]);
        let opacity = splats[base + OPACITY];
        grads[base + X] = centre.x;
        grads[base + Y] = centre.y;
        grads[base + LOG_LENGTH] = sums[2] * growth.x;
        grads[base + LOG_WIDTH] = sums[3] * growth.y;
        grads[base + ANGLE] = sums[4] * (shape.axes.x / shape.axes.y - shape.axes.y / shape.axes.x);
        grads[base + COLOUR] = opacity * weights.x;
        grads[base + COLOUR + 1u] = opacity * weights.y;
        grads[base + COLOUR + 2u] = opacity * weights.z;
        grads[base + OPACITY] = dot(colour, weights);
        scores[row] += sums[8];
    }
}
