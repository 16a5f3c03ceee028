// The options of four elements, in place of blocks.wgsl: for chunks of which all live elements have the same.

// From `chunk.blocks` on one word for each block of 64 elements, as blocks.wgsl has them.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

// The number of an element's block, and how many elements of it and of the one behind it are live.
struct Near {
    number: u32,
    live: vec2<u32>,
}

fn near_at(index: u32) -> Near {
    let number = index / 64u;
    let word = chunk.blocks + number;
    return Near(number, vec2<u32>(groups[word], groups[word + 1u]) % 128u);
}

fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    let live = select(near.live.x, near.live.y, index / 64u != near.number);
    return Lanes(
        lanes_of_block(index, live, count),
        vec4<f32>(chunk.lr_scale),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.tensor), // MEASURED
    );
}
