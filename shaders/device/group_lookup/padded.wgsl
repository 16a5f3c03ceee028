// Group lookup for chunks whose active elements all have equal options. `chunk` stores the options; one word per block
// of 64 elements stores the count of active elements.

import package::device::chunk::{chunk};
import package::device::quad_options::{QuadOptions, active_of_block};

// From `chunk.first_block` on: the words of group_lookup/block.wgsl.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

struct BlockOptions {
    number: u32,
    // Counts of active elements in the block and in the next block.
    active_counts: vec2<u32>,
}

fn block_options_at(index: u32) -> BlockOptions {
    let number = index / 64u;
    let word = chunk.first_block + number;
    return BlockOptions(number, vec2<u32>(groups[word], groups[word + 1u]) % 128u);
}

fn quad_options_at(block_options: BlockOptions, index: u32, count: u32) -> QuadOptions {
    let active_count = select(block_options.active_counts.x, block_options.active_counts.y, index / 64u != block_options.number);
    return QuadOptions(
        active_of_block(index, active_count, count),
        vec4<f32>(chunk.lr_selector),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.segment),
    );
}

// Inactive elements are padding, at most 63 per block: testing each quad costs more than it saves.
fn skips_quad(is_active: vec4<bool>) -> bool {
    return false;
}
