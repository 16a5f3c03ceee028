// From an element of the flat space to its group's options. Twin: src/groups.rs.

// Word 0: where the spans begin. Then the first span of every block of 1,024 elements and of one block more.
// Then four words per span: end, learning-rate scale, weight decay, whether it is live (not frozen, no padding).
@group(0) @binding(2) var<storage, read> groups: array<u32>;

struct Lanes {
    live: vec4<bool>,
    lr_scale: vec4<f32>,
    weight_decay: vec4<f32>,
}

// First word of the span that holds `index`.
fn find_span(index: u32) -> u32 {
    let block = index / 1024u;
    var low = groups[1u + block];
    var high = groups[2u + block];
    while low < high {
        let middle = (low + high) / 2u;
        if groups[groups[0] + middle * 4u] > index {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return groups[0] + low * 4u;
}

// The options of the elements `index` to `index + 3`, of which the first `count` exist. Written out lane by lane: some
// compilers of HLSL refuse stores to a component that is chosen at run time.
fn lanes_at(index: u32, count: u32) -> Lanes {
    let last = index + min(count, 4u) - 1u;
    let span0 = find_span(index);
    var span1 = span0;
    var span2 = span0;
    var span3 = span0;
    if groups[span0] <= last {
        span1 = find_span(min(index + 1u, last));
        span2 = find_span(min(index + 2u, last));
        span3 = find_span(last);
    }
    let live = vec4<u32>(groups[span0 + 3u], groups[span1 + 3u], groups[span2 + 3u], groups[span3 + 3u]);
    let exists = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);
    let lr_scale = vec4<u32>(groups[span0 + 1u], groups[span1 + 1u], groups[span2 + 1u], groups[span3 + 1u]);
    let weight_decay = vec4<u32>(groups[span0 + 2u], groups[span1 + 2u], groups[span2 + 2u], groups[span3 + 2u]);
    return Lanes(
        (live != vec4<u32>(0u)) & exists,
        bitcast<vec4<f32>>(lr_scale),
        bitcast<vec4<f32>>(weight_decay),
    );
}
