// Updates 1,024 elements in a workgroup, 256 at a time, and stores 8-bit states relative to the largest of their blocks.

import package::device::chunk_options::{chunk_block_options, chunk_quad_options};
import package::kernels::control::{NONE};
import package::kernels::update_elements::{QuadUpdate, StepContext, first_nonfinite_of, quad_update};
import streams::{clear_scales, raise_scales, write_words};

// Returns the flat index of the first non-finite gradient.
fn update_elements(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32, context: StepContext) -> u32 {
    let start = (workgroup.y * grid.x + workgroup.x) * 1024u + lane * 4u;
    var first = NONE;
    clear_scales(lane);
    workgroupBarrier();
    // Not unrolled: every lane waits for the scales of its block.
    for (var row = 0u; row < 4u; row++) {
        let element = start + row * 256u;
        let options = chunk_quad_options(chunk_block_options(element), element);
        let is_active = options.is_active & vec4<bool>(context.applies);
        var updated = QuadUpdate();
        if any(is_active) {
            updated = quad_update(options, is_active, element, context);
            raise_scales(element, updated.words, updated.element, updated.states, is_active);
            first = min(first, first_nonfinite_of(updated.grad_bits, is_active, element));
        }
        workgroupBarrier();
        if any(is_active) {
            write_words(element, updated.words, updated.element, updated.states, is_active, context.t);
        }
    }
    return first;
}
