// Updates the sixteen elements of an invocation, four at a time. The kernel provides `update_quad`.

import package::device::chunk_options::{chunk_block_options};
import package::device::first_element::{first_element};
import kernel::{update_quad};

fn update_quads(workgroup: vec3<u32>, grid: vec3<u32>, lane: u32) {
    let element = first_element(workgroup, grid, lane);
    let block_options = chunk_block_options(element);
    update_quad(block_options, element);
    update_quad(block_options, element + 32u);
    update_quad(block_options, element + 64u);
    update_quad(block_options, element + 96u);
}
