// The gradient of a linear layer's bias: the sum of the output's gradient over the batch.

override OUT: u32;
// Format of the gradient: see numbers.wgsl. The binding may begin before it.
override RESULT_FORMAT: u32 = 0u;
override RESULT_FIRST: u32 = 0u;

struct Batch {
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

@group(1) @binding(0) var<storage, read> dy: array<f32>;
@group(1) @binding(1) var<storage, read_write> grad: array<u32>;

fn sum_of(output: u32) -> f32 {
    var sum = 0.0;
    for (var row = 0u; row < batch.rows; row++) {
        sum += dy[row * OUT + output];
    }
    return sum;
}

// A thread per word. For 16 bits OUT is even.
@compute @workgroup_size(64)
fn grad_bias(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= word_of(RESULT_FORMAT, OUT) {
        return;
    }
    let word = word_of(RESULT_FORMAT, RESULT_FIRST) + id.x;
    if RESULT_FORMAT == F32 {
        grad[word] = bitcast<u32>(sum_of(id.x));
    } else {
        grad[word] = narrowed_words(RESULT_FORMAT, vec4(sum_of(2u * id.x), sum_of(2u * id.x + 1u), 0.0, 0.0)).x;
    }
}
