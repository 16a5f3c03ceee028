// The options of four elements, in place of `lanes_at` in groups.wgsl: for chunks that lie in one live span as a whole.

// Nothing is looked up.
struct Near {
    unused: u32,
}

fn near_at(index: u32) -> Near {
    return Near();
}

fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    return Lanes(
        first_lanes(count),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
