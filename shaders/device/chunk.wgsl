// A chunk: the contiguous range of elements that one dispatch updates.

struct Chunk {
    // Flat index of the first element, and number of elements.
    start: u32,
    length: u32,
    // 1 for the step's first chunk, which advances the step counter of a single-pass step; else 0.
    first: u32,
    // Index of the first segment part in the chunk.
    first_part: u32,
    // The options of all active elements, if they are equal: see group_lookup/uniform.wgsl and padded.wgsl.
    lr_selector: f32,
    weight_decay: f32,
    segment: u32,
    // Index in the group table of the chunk's first block word: see group_lookup/block.wgsl.
    first_block: u32,
    // The factor partials that may have elements in the chunk: first, and end (exclusive).
    first_partial: u32,
    end_partial: u32,
    // The rows of one tensor that have elements in the chunk: first, end (exclusive), and the tensor's number.
    first_row: u32,
    end_row: u32,
    tensor: u32,
    // Seed of stochastic rounding.
    seed: u32,
    // Offset of the chunk in each binding, in elements: parameters, gradients, then states.
    shifts: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<uniform> chunk: Chunk;
