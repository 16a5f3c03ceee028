// From an element of the flat space to its group's options. Twin: src/groups.rs.

// Word 0: where the spans begin. Then the first span of every block of 1,024 elements and of one block more. Behind them may
// be the words of blocks.wgsl.
// Four words per span: end, learning-rate scale (or what group_lrs.wgsl says), weight decay, and 0 where it is not
// live (frozen, or padding), else 1 more than the number of the tensor it lies in; 1 for rules that do not measure.
//
// Lines that end in MEASURED are there for rules with sums over tensors only: see src/gpu/shader.rs.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

// First word of the span that holds `index`.
fn find_span(index: u32) -> u32 {
    let block = index / 1024u;
    // equivalent(+ block): from the first span on, the search is only longer
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

// The span of the element after one in `span`: no span is empty, so it is that one or the next.
fn following_span(span: u32, index: u32, exists: bool) -> u32 {
    return select(span, span + 4u, exists && groups[span] <= index);
}

// The options of the elements `index` to `index + 3`, of which the first `count` exist. Written out lane by lane: some
// compilers of HLSL refuse stores to a component that is chosen at run time.
fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    let exists = first_lanes(count);
    let span0 = find_span(index);
    // equivalent(>): one by one they have the same options
    if groups[span0] >= index + 4u {
        return Lanes(
            vec4<bool>(groups[span0 + 3u] != 0u) & exists,
            vec4<f32>(bitcast<f32>(groups[span0 + 1u])),
            vec4<f32>(bitcast<f32>(groups[span0 + 2u])),
            vec4<u32>(groups[span0 + 3u] - 1u), // MEASURED
        );
    }
    let span1 = following_span(span0, index + 1u, exists.y);
    let span2 = following_span(span1, index + 2u, exists.z);
    let span3 = following_span(span2, index + 3u, exists.w);
    let live = vec4<u32>(groups[span0 + 3u], groups[span1 + 3u], groups[span2 + 3u], groups[span3 + 3u]);
    let lr_scale = vec4<u32>(groups[span0 + 1u], groups[span1 + 1u], groups[span2 + 1u], groups[span3 + 1u]);
    let weight_decay = vec4<u32>(groups[span0 + 2u], groups[span1 + 2u], groups[span2 + 2u], groups[span3 + 2u]);
    return Lanes(
        (live != vec4<u32>(0u)) & exists,
        bitcast<vec4<f32>>(lr_scale),
        bitcast<vec4<f32>>(weight_decay),
        live - vec4<u32>(1u), // MEASURED
    );
}
