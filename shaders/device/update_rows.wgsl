// Updates the sixteen elements of an invocation: four in each of four rows of 32.

import package::device::chunk_options::{chunk_block_options, chunk_quad_options};
import package::device::first_element::{first_element};
import package::kernels::control::{NONE};
import package::kernels::update_elements::{StepContext, first_nonfinite_of, quad_update};
import active_rows::{skips_rows};
import group_lookup::{BlockOptions, skips_quad};
import streams::{write_words};

// Updates the four elements at `element` of the chunk. Returns the flat index of the first non-finite gradient.
fn update_quad(block_options: BlockOptions, element: u32, context: StepContext) -> u32 {
    let options = chunk_quad_options(block_options, element);
    let is_active = options.is_active & vec4<bool>(context.applies);
    if skips_quad(is_active) || skips_rows(is_active) {
        return NONE;
    }
    let updated = quad_update(options, is_active, element, context);
    // Branches after the loads, so that CPU drivers need not mask the loads.
    if any(is_active) {
        write_words(element, updated.words, updated.element, updated.states, is_active, context.t);
    }
    return first_nonfinite_of(updated.grad_bits, is_active, element);
}

// Returns the flat index of the first non-finite gradient. Unrolled, because CPU drivers spill registers in a loop.
fn update_elements(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32, context: StepContext) -> u32 {
    // A skipped step reads only the chunk's first elements.
    let element = select(0u, first_element(workgroup, grid, lane), context.applies);
    let block_options = chunk_block_options(element);
    var first = update_quad(block_options, element, context);
    first = min(first, update_quad(block_options, element + 32u, context));
    first = min(first, update_quad(block_options, element + 64u, context));
    return min(first, update_quad(block_options, element + 96u, context));
}
