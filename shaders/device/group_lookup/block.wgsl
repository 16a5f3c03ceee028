// The options of four elements, in place of groups.wgsl: for layouts in which the live elements of every block
// of 64 are its first and have the same options, and chunks that begin where a block does.
// Twin: `GroupTable::push_blocks` in src/groups.rs.

// Word 0: where the spans begin, as groups.wgsl has them. From `chunk.blocks` on one word for each block of 64 elements: the
// number of its span, times 128, and how many of its elements are live.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

// What there is to know of a block.
struct Block {
    live: u32,
    lr_scale: f32,
    weight_decay: f32,
    tensor: u32, // MEASURED
}

fn block_at(number: u32) -> Block {
    let word = groups[chunk.blocks + number];
    let span = groups[0] + word / 128u * 4u;
    return Block(
        word % 128u,
        bitcast<f32>(groups[span + 1u]),
        bitcast<f32>(groups[span + 2u]),
        groups[span + 3u] - 1u, // MEASURED
    );
}

// The number of an element's block, it and the one behind it.
struct Near {
    number: u32,
    block: Block,
    next: Block,
}

fn near_at(index: u32) -> Near {
    let number = index / 64u;
    return Near(number, block_at(number), block_at(number + 1u));
}

fn lanes_at(near: Near, index: u32, count: u32) -> Lanes {
    let is_next = index / 64u != near.number;
    let live = select(near.block.live, near.next.live, is_next);
    return Lanes(
        lanes_of_block(index, live, count),
        vec4<f32>(select(near.block.lr_scale, near.next.lr_scale, is_next)),
        vec4<f32>(select(near.block.weight_decay, near.next.weight_decay, is_next)),
        vec4<u32>(select(near.block.tensor, near.next.tensor, is_next)), // MEASURED
    );
}
