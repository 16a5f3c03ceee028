// Shape of each splat, and the tiles that it touches.
// In: splats, live. Out: shapes; a bit per splat in the masks of its tiles, which are zero before.
// Grid: an invocation per row of the capacity.

override WIDTH: u32;
override HEIGHT: u32;
override CAPACITY: u32;

@group(0) @binding(0) var<storage, read> splats: array<f32>;
@group(0) @binding(1) var<storage, read> live: u32;
@group(0) @binding(2) var<storage, read_write> shapes: array<Shape>;
@group(0) @binding(3) var<storage, read_write> masks: array<atomic<u32>>;

@compute @workgroup_size(64)
fn project(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= live {
        return;
    }
    let base = row * COLUMNS;
    let centre = vec2(splats[base + X], splats[base + Y]);
    let axes = sqrt(exp(2.0 * vec2(splats[base + LOG_LENGTH], splats[base + LOG_WIDTH])) + BLUR);
    let cosine = cos(splats[base + ANGLE]);
    let sine = sin(splats[base + ANGLE]);
    let turned = vec2(length(axes * vec2(cosine, sine)), length(axes * vec2(sine, cosine)));
    let size = vec2(WIDTH, HEIGHT);
    let first = vec2<u32>(clamp(floor(centre - REACH * turned), vec2(0.0), vec2<f32>(size)));
    let end = vec2<u32>(clamp(ceil(centre + REACH * turned), vec2(0.0), vec2<f32>(size)));
    let colour = vec3(splats[base + COLOUR], splats[base + COLOUR + 1u], splats[base + COLOUR + 2u]);
    let light = splats[base + OPACITY] * colour;
    let along = vec2(cosine, sine) / axes.x;
    let across = vec2(-sine, cosine) / axes.y;
    shapes[row] = Shape(centre, along, across, axes, light, first, end);

    let words = (CAPACITY + 31u) / 32u;
    let tiles = (WIDTH + TILE - 1u) / TILE;
    if any(first >= end) {
        return;
    }
    for (var y = first.y / TILE; y * TILE < end.y; y++) {
        for (var x = first.x / TILE; x * TILE < end.x; x++) {
            atomicOr(&masks[(y * tiles + x) * words + row / 32u], 1u << (row % 32u));
        }
    }
}
