// The options of four elements, in place of `lanes_at` in groups.wgsl: for chunks that lie in one live span as a whole.
fn lanes_at(index: u32, count: u32) -> Lanes {
    return Lanes(
        vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
