// Looks up the options of elements by their offset in the chunk.

import package::device::chunk::{chunk};
import package::device::quad_options::{QuadOptions};
import active_rows::{active_rows};
import group_lookup::{BlockOptions, block_options_at, quad_options_at};

// The options of the block of 64 elements that contains `element`, and of the next block.
fn chunk_block_options(element: u32) -> BlockOptions {
    return block_options_at(chunk.start + element);
}

// The options of the four elements at `element`; those past the chunk's end are inactive.
fn chunk_quad_options(block_options: BlockOptions, element: u32) -> QuadOptions {
    // equivalent(<=): a quad that starts at the chunk's end has a count of 0 either way
    let count = select(0u, chunk.length - element, element < chunk.length);
    // The group table ends with the layout, so the index stays within the chunk.
    // equivalent(element, 0u): the options found there belong to inactive elements
    let index = chunk.start + min(element, chunk.length - 1u);
    var options = quad_options_at(block_options, index, count);
    options.is_active = active_rows(options.is_active, index);
    return options;
}
