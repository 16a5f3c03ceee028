// The part of the flat space that one dispatch handles. Twin: src/gpu/plan.rs.

struct Chunk {
    // Flat index of the chunk's first element, and number of elements.
    start: u32,
    length: u32,
    // Whether this is the step's first chunk, which also advances the step counter.
    first: u32,
    // Number of the first of the chunk's items, which `measure` sums.
    first_item: u32,
    // The options of all live elements, if they have the same: see span.wgsl and padded.wgsl.
    lr_scale: f32,
    weight_decay: f32,
    tensor: u32,
    // Where the words of its blocks begin, in chunks that take them: see blocks.wgsl.
    blocks: u32,
    // Where the chunk begins in each bound buffer, in elements: parameters, gradients, then the states.
    shifts: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<uniform> chunk: Chunk;

// By what the options are found of the elements of the chunk from `element` to the end of the block of 64 behind its own.
fn chunk_near(element: u32) -> Near {
    return near_at(chunk.start + element);
}

// The options of the four elements at `element` of the chunk; those past its end are not live.
fn chunk_lanes(near: Near, element: u32) -> Lanes {
    // equivalent(<=): of the quad behind the last no element is live
    let count = select(0u, chunk.length - element, element < chunk.length);
    // Past the end there is no table to search.
    // equivalent(element, 0u): what is found there is of no live element
    return lanes_at(near, chunk.start + min(element, chunk.length - 1u), count);
}
