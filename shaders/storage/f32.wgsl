// f32 numbers, four per access; the chunk begins at a multiple of four and the binding ends on one.
@group(0) @binding(BINDING) var<storage, ACCESS> STREAM_words: array<vec4<u32>>;

fn load_STREAM(element: u32) -> vec4<u32> {
    return STREAM_words[element / 4u + SHIFT / 4u];
}
// -- store
fn store_STREAM(element: u32, words: vec4<u32>, live: vec4<bool>) {
    STREAM_words[element / 4u + SHIFT / 4u] = words;
}
