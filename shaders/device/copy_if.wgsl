// Copies words to another buffer if a flag is 1.
//
// In: the flag, the source. Out: the target. Grid: one workgroup of 256 per 1,024 words of the chunk.

import package::device::chunk::{chunk};

@group(0) @binding(1) var<storage, read> flag: u32;
@group(0) @binding(2) var<storage, read> source_words: array<u32>;
@group(0) @binding(3) var<storage, read_write> target_words: array<u32>;

@compute @workgroup_size(256)
fn copy_if(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 1024u + lane;
    let is_set = flag == 1u;
    for (var i = 0u; i < 4u; i++) {
        let word = first + 256u * i;
        if is_set && word < chunk.length {
            target_words[word + chunk.shifts[0].y] = source_words[word + chunk.shifts[0].x];
        }
    }
}
