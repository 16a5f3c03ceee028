// The options of four elements, in place of groups.wgsl: for chunks that lie in one live span as a whole.

fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    return Lanes(
        first_lanes(count),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
