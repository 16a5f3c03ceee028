// AdamW in a shape of its own. Composed in variants.rs.

struct Options {
    // Learning rate over 1 - beta1^t, learning rate times weight decay, 1 / sqrt(1 - beta2^t), eps.
    step: vec4<f32>,
    // beta1, 1 - beta1, beta2, 1 - beta2.
    betas: vec4<f32>,
}

@group(0) @binding(0) var<uniform> options: Options;
@group(0) @binding(1) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> params: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> exp_avgs: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> exp_avg_sqs: array<vec4<f32>>;

struct Quad {
    grad: vec4<f32>,
    param: vec4<f32>,
    exp_avg: vec4<f32>,
    exp_avg_sq: vec4<f32>,
}

fn load(at: u32) -> Quad {
    return Quad(grads[at], params[at], exp_avgs[at], exp_avg_sqs[at]);
}

// The statements of shaders/rules/adam.wgsl.
fn store(at: u32, old: Quad) {
    let exp_avg = options.betas.x * old.exp_avg + options.betas.y * old.grad;
    let exp_avg_sq = options.betas.z * old.exp_avg_sq + options.betas.w * (old.grad * old.grad);
    let denom = sqrt(exp_avg_sq) * options.step.z + options.step.w;
    let change = options.step.x * (exp_avg / denom);
    // Out-of-range elements are not stored.
    if at < arrayLength(&grads) {
        params[at] = (old.param - options.step.y * old.param) - change;
        exp_avgs[at] = exp_avg;
        exp_avg_sqs[at] = exp_avg_sq;
    }
}

@compute @workgroup_size(LANES)
fn stream(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * LANES * QUADS + lane / SIDE * SIDE * QUADS + lane % SIDE;
    // CALLS
}
