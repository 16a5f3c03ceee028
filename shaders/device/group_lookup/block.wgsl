// Group lookup by blocks of 64 elements. Requires that the active elements of each block come first and have equal
// options, and that the chunk begins at a block.

import package::device::chunk::{chunk};
import package::device::quad_options::{QuadOptions, active_of_block};

// Word 0: index of the first word of the spans, as in group_lookup/search.wgsl. From `chunk.first_block` on, one word
// per block: 128 * (index of its span) + (count of its active elements).
@group(0) @binding(2) var<storage, read> groups: array<u32>;

struct Block {
    active_count: u32,
    lr_selector: f32,
    weight_decay: f32,
    segment: u32,
}

fn block_at(number: u32) -> Block {
    let word = groups[chunk.first_block + number];
    let span = groups[0] + word / 128u * 4u;
    return Block(
        word % 128u,
        bitcast<f32>(groups[span + 1u]),
        bitcast<f32>(groups[span + 2u]),
        groups[span + 3u] - 1u,
    );
}

struct BlockOptions {
    number: u32,
    block: Block,
    next: Block,
}

fn block_options_at(index: u32) -> BlockOptions {
    let number = index / 64u;
    return BlockOptions(number, block_at(number), block_at(number + 1u));
}

fn quad_options_at(block_options: BlockOptions, index: u32, count: u32) -> QuadOptions {
    let block = block_options.block;
    let next = block_options.next;
    let is_next = index / 64u != block_options.number;
    return QuadOptions(
        active_of_block(index, select(block.active_count, next.active_count, is_next), count),
        vec4<f32>(select(block.lr_selector, next.lr_selector, is_next)),
        vec4<f32>(select(block.weight_decay, next.weight_decay, is_next)),
        vec4<u32>(select(block.segment, next.segment, is_next)),
    );
}

fn skips_quad(is_active: vec4<bool>) -> bool {
    return !any(is_active);
}
