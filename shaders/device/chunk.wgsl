// The part of the flat space that one dispatch binds.

struct Chunk {
    // Flat index of the first element, and number of elements.
    start: u32,
    length: u32,
    // Whether this is the step's first chunk, which counts a single-pass step.
    first: u32,
    // Number of the first segment part in the chunk.
    first_part: u32,
    // The options of all active elements, if these have the same: see group_lookup/uniform.wgsl and padded.wgsl.
    lr_scale: f32,
    weight_decay: f32,
    segment: u32,
    // First word of the blocks in the group table: see group_lookup/block.wgsl.
    first_block: u32,
    // The factor partials that may have elements in the chunk: the first, and the one behind the last.
    first_partial: u32,
    end_partial: u32,
    // Element of each bound stream at which the chunk begins: parameters, gradients, then states.
    shifts: array<vec4<u32>, 3>,
}

@group(0) @binding(0) var<uniform> chunk: Chunk;
