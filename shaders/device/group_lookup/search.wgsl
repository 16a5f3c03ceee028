// Group lookup by binary search. Spans may begin at any element.

import package::device::quad_options::{QuadOptions, first_of_quad};

// Word 0: index of the first word of the spans. Then, per block of 1,024 elements plus one block, the index of its
// first span. Then, optionally, the words of group_lookup/block.wgsl. Then four words per span:
//   end; learning-rate scale, or the index of a learning rate (see step_uniforms/by_group.wgsl); weight decay;
//   0 if inactive, else 1 + the index of its segment.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

// Index of the first word of the span that contains `index`.
fn find_span(index: u32) -> u32 {
    let block = index / 1024u;
    // equivalent(+ block): a search that starts at the first span finds the same span
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

// The span of element `index`, whose predecessor is in `span`: the same or the next, because no span is empty.
fn following_span(span: u32, index: u32, exists: bool) -> u32 {
    return select(span, span + 4u, exists && groups[span] <= index);
}

struct BlockOptions {
    unused: u32,
}

fn block_options_at(index: u32) -> BlockOptions {
    return BlockOptions();
}

// Unrolled: some HLSL compilers reject stores to a vector component with a dynamic index.
fn quad_options_at(block_options: BlockOptions, index: u32, count: u32) -> QuadOptions {
    let exists = first_of_quad(count);
    let span0 = find_span(index);
    // equivalent(>): the general code below finds the same options
    if groups[span0] >= index + 4u {
        return QuadOptions(
            vec4<bool>(groups[span0 + 3u] != 0u) & exists,
            vec4<f32>(bitcast<f32>(groups[span0 + 1u])),
            vec4<f32>(bitcast<f32>(groups[span0 + 2u])),
            vec4<u32>(groups[span0 + 3u] - 1u),
        );
    }
    let span1 = following_span(span0, index + 1u, exists.y);
    let span2 = following_span(span1, index + 2u, exists.z);
    let span3 = following_span(span2, index + 3u, exists.w);
    let segment = vec4<u32>(groups[span0 + 3u], groups[span1 + 3u], groups[span2 + 3u], groups[span3 + 3u]);
    let lr_selector = vec4<u32>(groups[span0 + 1u], groups[span1 + 1u], groups[span2 + 1u], groups[span3 + 1u]);
    let weight_decay = vec4<u32>(groups[span0 + 2u], groups[span1 + 2u], groups[span2 + 2u], groups[span3 + 2u]);
    return QuadOptions(
        (segment != vec4<u32>(0u)) & exists,
        bitcast<vec4<f32>>(lr_selector),
        bitcast<vec4<f32>>(weight_decay),
        segment - vec4<u32>(1u),
    );
}

fn skips_quad(is_active: vec4<bool>) -> bool {
    return !any(is_active);
}
