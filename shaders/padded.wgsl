// The options of four elements, in place of `lanes_at` in blocks.wgsl: for chunks of which all live elements have the same.

// From `chunk.blocks` on one word for each block of 64 elements, as blocks.wgsl has them.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

fn lanes_at(index: u32, count: u32) -> Lanes {
    let live = groups[chunk.blocks + index / 64u] % 128u;
    let four = vec4<u32>(0u, 1u, 2u, 3u);
    return Lanes(
        (four < vec4<u32>(count)) & (index % 64u + four < vec4<u32>(live)),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
