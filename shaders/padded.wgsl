// The options of four elements, in place of `lanes_at` in blocks.wgsl: for chunks of which all live elements have the same.

// From `chunk.blocks` on one word for each block of 64 elements, as blocks.wgsl has them.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

// Of an element's block and the one behind it, how many elements are live.
struct Near {
    block: u32,
    live: vec2<u32>,
}

fn near_at(index: u32) -> Near {
    let block = index / 64u;
    let word = chunk.blocks + block;
    return Near(block, vec2<u32>(groups[word], groups[word + 1u]) % 128u);
}

fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    let live = select(near.live.x, near.live.y, index / 64u != near.block);
    return Lanes(
        first_lanes(min(count, live - min(live, index % 64u))),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
