// Group lookup for chunks within one active span. `chunk` stores the options.

import package::device::chunk::{chunk};
import package::device::quad_options::{QuadOptions, first_of_quad};

struct BlockOptions {
    unused: u32,
}

fn block_options_at(index: u32) -> BlockOptions {
    return BlockOptions();
}

fn quad_options_at(block_options: BlockOptions, index: u32, count: u32) -> QuadOptions {
    return QuadOptions(
        first_of_quad(count),
        vec4<f32>(chunk.lr_selector),
        vec4<f32>(chunk.weight_decay),
        vec4<u32>(chunk.segment),
    );
}

// All elements of the chunk are active.
fn skips_quad(is_active: vec4<bool>) -> bool {
    return false;
}
