// f32 numbers, one per access: for chunks that begin at any element, and buffers that end at any.
@group(0) @binding(BINDING) var<storage, ACCESS> STREAM_words: array<u32>;

fn load_STREAM(element: u32) -> vec4<u32> {
    let at = element + SHIFT;
    return vec4<u32>(STREAM_words[at], STREAM_words[at + 1u], STREAM_words[at + 2u], STREAM_words[at + 3u]);
}
// -- store
fn store_STREAM(element: u32, words: vec4<u32>, live: vec4<bool>) {
    for (var lane = 0u; lane < 4u; lane++) {
        if live[lane] {
            STREAM_words[element + SHIFT + lane] = words[lane];
        }
    }
}
