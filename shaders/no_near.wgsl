// Of options that are looked up for each four elements, or not at all: see chunk.wgsl.

struct Near {
    unused: u32,
}

fn near_at(index: u32) -> Near {
    return Near();
}
