// The options of four elements, in place of `lanes_at` in groups.wgsl: for layouts in which the live elements of every block
// of 64 are its first and have the same options, and chunks that begin at a multiple of four.
// Twin: `GroupTable::push_blocks` in src/groups.rs.

// Word 0: where the spans begin, as groups.wgsl has them. From `chunk.blocks` on one word for each block of 64 elements: the
// number of its span, times 128, and how many of its elements are live.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

fn lanes_at(index: u32, count: u32) -> Lanes {
    let block = groups[chunk.blocks + index / 64u];
    let span = groups[0] + block / 128u * 4u;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    return Lanes(
        (four < vec4<u32>(count)) & (index % 64u + four < vec4<u32>(block % 128u)),
        vec4<f32>(bitcast<f32>(groups[span + 1u])),
        vec4<f32>(bitcast<f32>(groups[span + 2u])),
        vec4<u32>(groups[span + 3u] - 1u), // MEASURED
    );
}
