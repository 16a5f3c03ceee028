// Softmax cross-entropy, averaged over the batch, and its gradient:
//   loss(row) = ln Σⱼ exp(logits[j]) - logits[label]
//   grad[j]   = (softmax(logits)[j] - [j = label]) / rows · loss_scale
//
// One workgroup takes the whole batch: rows are few and short, and the sums then have one fixed order without atomics.

override CLASSES: u32;

struct Batch {
    first: u32,
    rows: u32,
}

// What has happened since the host last asked.
struct Tally {
    loss: f32,
    correct: u32,
    examples: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

@group(1) @binding(0) var<storage, read> logits: array<f32>;
@group(1) @binding(1) var<storage, read> labels: array<u32>;
@group(1) @binding(2) var<storage, read_write> grad: array<f32>;
@group(1) @binding(3) var<storage, read_write> tally: Tally;
@group(1) @binding(4) var<storage, read> loss_scale: f32;

const THREADS: u32 = 128u;

var<workgroup> losses: array<f32, THREADS>;
var<workgroup> hits: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn cross_entropy(@builtin(local_invocation_index) thread: u32) {
    var loss = 0.0;
    var correct = 0u;
    for (var row = thread; row < batch.rows; row += THREADS) {
        let start = row * CLASSES;
        let label = labels[row];
        // The largest logit is subtracted, so that exp cannot overflow.
        var largest = logits[start];
        var predicted = 0u;
        for (var j = 1u; j < CLASSES; j++) {
            if logits[start + j] > largest {
                largest = logits[start + j];
                predicted = j;
            }
        }
        var sum = 0.0;
        for (var j = 0u; j < CLASSES; j++) {
            sum += exp(logits[start + j] - largest);
        }
        for (var j = 0u; j < CLASSES; j++) {
            let softmax = exp(logits[start + j] - largest) / sum;
            grad[start + j] = (softmax - f32(j == label)) / f32(batch.rows) * loss_scale;
        }
        loss += log(sum) + (largest - logits[start + label]);
        correct += u32(predicted == label);
    }

    losses[thread] = loss;
    hits[thread] = correct;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            losses[thread] += losses[thread + half];
            hits[thread] += hits[thread + half];
        }
    }
    if thread == 0u {
        tally.loss += losses[0];
        tally.correct += hits[0];
        tally.examples += batch.rows;
    }
}
