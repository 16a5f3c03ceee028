// Reads the gradients, reads and writes every other stream in place. Composed in stream.rs.

override LOADS: u32;

@group(0) @binding(0) var<uniform> mask: vec4<u32>;
@group(0) @binding(1) var<storage, read> grad: array<vec4<u32>>;
// BINDINGS

@compute @workgroup_size(256)
fn stream(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u * LOADS + lane;
    for (var i = 0u; i < LOADS; i++) {
        let at = first + i * 256u;
        if at >= arrayLength(&grad) {
            return;
        }
        let masked = grad[at] & mask;
        // ACCESSES
    }
}
