// Sums of squares, one per tile of 8,192 elements, in a shape of its own. Composed in variants.rs.

@group(0) @binding(0) var<uniform> unused: vec4<u32>;
@group(0) @binding(1) var<storage, read> grads: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<vec4<f32>>;

var<workgroup> shared_sums: array<f32, LANES>;

fn load(at: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), grads[at], at < arrayLength(&grads));
}

@compute @workgroup_size(LANES)
fn stream(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    // SUBGROUP
) {
    let tile = workgroup.y * grid.x + workgroup.x;
    let first = tile * LANES * QUADS + lane / SIDE * SIDE * QUADS + lane % SIDE;
    var quads = vec4<f32>(0.0);
    // CALLS
    var sum = (quads.x + quads.y) + (quads.z + quads.w);
    // REDUCE
    if lane == 0u && tile < arrayLength(&sums) {
        sums[tile] = vec4<f32>(sum, 0.0, 0.0, 0.0);
    }
}
