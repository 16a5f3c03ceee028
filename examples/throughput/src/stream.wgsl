// Reads the gradients, reads and writes every other stream in place. Composed in stream.rs.

@group(0) @binding(0) var<uniform> mask: vec4<u32>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
// BINDINGS

fn stream_quad(at: u32) {
    let masked = grad[at] & mask;
    // LOADS
    // What is read past the end is not written.
    if at < arrayLength(&grad) {
        // STORES
    }
}

@compute @workgroup_size(LANES)
fn stream(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let invocation = (workgroup.y * grid.x + workgroup.x) * LANES + lane;
    let first = invocation / 8u * 8u * QUADS + lane % 8u;
    // CALLS
}
