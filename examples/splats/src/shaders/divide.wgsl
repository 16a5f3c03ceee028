// Makes two of each parent: long splats are split, short ones cloned. CPU reference: src/growth.rs.
// In: parents; splats, where children are copies of their parents. Out: splats.
// Grid: an invocation per row of the capacity.

@group(0) @binding(0) var<storage, read> parents: array<i32>;
@group(0) @binding(1) var<storage, read_write> splats: array<f32>;

// Length in pixels from which a splat is split along its longer axis; shorter ones are cloned.
const MIN_SPLIT = 1.5;

@compute @workgroup_size(64)
fn divide(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= arrayLength(&parents) || parents[id.x] < 0 {
        return;
    }
    let child = id.x * COLUMNS;
    let parent = u32(parents[id.x]) * COLUMNS;
    let is_wide = splats[parent + LOG_LENGTH] < splats[parent + LOG_WIDTH];
    let longest = select(LOG_LENGTH, LOG_WIDTH, is_wide);
    let length = exp(splats[parent + longest]);
    let angle = splats[parent + ANGLE];
    let axis = select(vec2(cos(angle), sin(angle)), vec2(-sin(angle), cos(angle)), is_wide);
    // Clones stand a fifth of a pixel apart, or their gradients would be the same for ever.
    var distance = 0.1;
    var log_shrink = 0.0;
    var dim = 0.5;
    if length >= MIN_SPLIT {
        // Mass and variance stay: 0.6^2 + 0.8^2 = 1, and 2 * 0.8 * 0.625 = 1.
        distance = 0.6 * length;
        log_shrink = log(0.8);
        dim = 0.625;
    }
    let size = splats[parent + longest] + log_shrink;
    let opacity = dim * splats[parent + OPACITY];
    let centre = vec2(splats[parent + X], splats[parent + Y]);
    put(parent, centre + distance * axis, longest, size, opacity);
    put(child, centre - distance * axis, longest, size, opacity);
}

fn put(base: u32, centre: vec2<f32>, longest: u32, size: f32, opacity: f32) {
    splats[base + X] = centre.x;
    splats[base + Y] = centre.y;
    splats[base + longest] = size;
    splats[base + OPACITY] = opacity;
}
