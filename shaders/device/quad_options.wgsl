// The options of four elements; those that are not live are frozen, padding, or past the chunk's end.
struct Lanes {
    live: vec4<bool>,
    lr_scale: vec4<f32>,
    weight_decay: vec4<f32>,
    // Counts for nothing where not live.
    tensor: vec4<u32>, // MEASURED
}

// Of four elements.
fn first_lanes(count: u32) -> vec4<bool> {
    return vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);
}

// Those of the elements `index` to `index + 3` that are among the first `count`, and among the first `live` of their block of 64.
fn lanes_of_block(index: u32, live: u32, count: u32) -> vec4<bool> {
    return first_lanes(min(count, live - min(live, index % 64u)));
}
