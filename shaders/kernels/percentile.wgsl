// The percentile of the last norms, for clipping by it. Twin: src/cpu/percentile.rs.

// How many norms there were in all, then the last ones; they take turns.
@group(0) @binding(4) var<storage, read_write> norms: array<u32>;

// The two norms that the percentile lies between.
var<workgroup> neighbours: array<f32, 2>;

const MOST: f32 = 3.40282347e+38;

// The norm to clip at, after taking `grad_norm` of lane 0 in if it `counts`. To be called by all lanes.
fn max_norm_of(grad_norm: f32, counts: bool, lane: u32) -> f32 {
    let window = arrayLength(&norms) - 1u;
    if lane == 0u {
        neighbours[0] = MOST;
        // equivalent: without a norm, what this adds is 0 times finite
        neighbours[1] = MOST;
        if counts && bitcast<u32>(grad_norm) < INFINITE {
            norms[1u + norms[0] % window] = bitcast<u32>(grad_norm);
            norms[0] += 1u;
        }
    }
    // equivalent: lavapipe runs lane 0 first
    storageBarrier();
    // equivalent: as above
    workgroupBarrier();
    let count = min(norms[0], window);
    // Wraps where there is no norm yet; none has that rank then.
    let position = slot.head.max_norm * f32(count - 1u);
    let below = u32(position);
    for (var i = lane; i < count; i += LANES) {
        let norm = norms[1u + i];
        // The bits of numbers that are not negative are ordered as they are.
        var rank = 0u;
        for (var other = 0u; other < count; other++) {
            let comes_first = norms[1u + other] < norm || (norms[1u + other] == norm && other < i);
            rank += select(0u, 1u, comes_first);
        }
        if rank == below {
            neighbours[0] = bitcast<f32>(norm);
        }
        if rank == below + 1u {
            neighbours[1] = bitcast<f32>(norm);
        }
    }
    workgroupBarrier();
    return neighbours[0] + (position - f32(below)) * (neighbours[1] - neighbours[0]);
}
