// The options of four elements.

struct QuadOptions {
    // False for frozen elements, for padding, and past the chunk's end.
    is_active: vec4<bool>,
    lr_selector: vec4<f32>,
    weight_decay: vec4<f32>,
    // Index of the segment; undefined where inactive.
    segment: vec4<u32>,
}

fn first_of_quad(count: u32) -> vec4<bool> {
    return vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);
}

// Whether each of the four elements at `index` is among the first `count` of the quad and the first `active_count` of
// its block of 64.
fn active_of_block(index: u32, active_count: u32, count: u32) -> vec4<bool> {
    return first_of_quad(min(count, active_count - min(active_count, index % 64u)));
}
