// The gradient of a linear layer's bias: the sum of the output's gradient over the batch.

override OUT: u32;

struct Batch {
    first: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> batch: Batch;

@group(1) @binding(0) var<storage, read> dy: array<f32>;
@group(1) @binding(1) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(64)
fn grad_bias(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= OUT {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < batch.rows; row++) {
        sum += dy[row * OUT + id.x];
    }
    grad[id.x] = sum;
}
