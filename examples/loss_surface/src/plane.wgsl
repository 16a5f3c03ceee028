// The mean loss of a network with one hidden layer at every point of a plane through its parameters,
//   θ(a, b) = θ₀ + a·θ₁ + b·θ₂
//
// The hidden layer is linear in its parameters up to the ReLU: z(a, b) = z₀ + a·z₁ + b·z₂, where zₖ = x·Wₖᵀ + bₖ are three
// products for all points together. A workgroup takes one point: it mixes the last layer's parameters, then each of its
// threads takes every 128th example.

override HIDDEN: u32;
// Elements of one of the three zₖ, and of one of the three θₖ.
override Z: u32;
override PARAMETERS: u32;
// Where the last layer's weight `[CLASSES, HIDDEN]` and bias `[CLASSES]` begin in θₖ.
override WEIGHT: u32;
override BIAS: u32;

struct Batch {
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

@group(1) @binding(0) var<storage, read> z: array<f32>;
@group(1) @binding(1) var<storage, read> parameters: array<f32>;
@group(1) @binding(2) var<storage, read> labels: array<u32>;
// a of every column of the plane, then b of every row.
@group(1) @binding(3) var<storage, read> places: array<f32>;
@group(1) @binding(4) var<storage, read_write> losses: array<f32>;

const CLASSES: u32 = 10u;
const THREADS: u32 = 128u;

// The last layer at this point, `[HIDDEN, CLASSES]`.
var<workgroup> weight: array<f32, HIDDEN * CLASSES>;
var<workgroup> bias: array<f32, CLASSES>;
var<workgroup> sums: array<f32, THREADS>;

fn mix(element: u32, a: f32, b: f32) -> f32 {
    return parameters[element] + a * parameters[PARAMETERS + element] + b * parameters[2u * PARAMETERS + element];
}

@compute @workgroup_size(THREADS)
fn plane(
    @builtin(workgroup_id) point: vec3<u32>,
    @builtin(num_workgroups) points: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let a = places[point.x];
    let b = places[points.x + point.y];
    for (var i = thread; i < HIDDEN * CLASSES; i += THREADS) {
        weight[i % HIDDEN * CLASSES + i / HIDDEN] = mix(WEIGHT + i, a, b);
    }
    if thread < CLASSES {
        bias[thread] = mix(BIAS + thread, a, b);
    }
    workgroupBarrier();

    var sum = 0.0;
    for (var row = thread; row < batch.rows; row += THREADS) {
        var logits = bias;
        for (var j = 0u; j < HIDDEN; j++) {
            let at = row * HIDDEN + j;
            let h = max(z[at] + a * z[Z + at] + b * z[2u * Z + at], 0.0);
            for (var c = 0u; c < CLASSES; c++) {
                logits[c] += h * weight[j * CLASSES + c];
            }
        }
        // The largest logit is subtracted, so that exp cannot overflow.
        var largest = logits[0];
        for (var c = 1u; c < CLASSES; c++) {
            largest = max(largest, logits[c]);
        }
        var exps = 0.0;
        for (var c = 0u; c < CLASSES; c++) {
            exps += exp(logits[c] - largest);
        }
        sum += log(exps) + (largest - logits[labels[row]]);
    }

    sums[thread] = sum;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            sums[thread] += sums[thread + half];
        }
    }
    if thread == 0u {
        losses[point.y * points.x + point.x] = sums[0] / f32(batch.rows);
    }
}
