// The picture: the sum of all splats, in the order of their rows.
// In: shapes, live, masks, the target (RGBA, 8 bits each). Out: picture (the same format), errors of all pixels, and
// their squares summed over each workgroup.
// Grid: a workgroup for two by two tiles, an invocation for four pixels of a row.

override WIDTH: u32;
override HEIGHT: u32;
override CAPACITY: u32;

@group(0) @binding(0) var<storage, read> shapes: array<Shape>;
@group(0) @binding(1) var<storage, read> live: u32;
@group(0) @binding(2) var<storage, read> masks: array<u32>;
@group(0) @binding(3) var<storage, read> goal: array<u32>;
@group(0) @binding(4) var<storage, read_write> picture: array<u32>;
@group(0) @binding(5) var<storage, read_write> errors: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> squares: array<f32>;

const LANES = TILE * TILE;
var<workgroup> lane_squares: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Sixteen neighbouring lanes have a tile.
    let tile = 2u * group.xy + vec2((lane / 16u) % 2u, lane / 32u);
    let first = TILE * tile + vec2(4u * (lane % 2u), lane / 2u % TILE);
    let tiles = (vec2(WIDTH, HEIGHT) + TILE - 1u) / TILE;
    var red = vec4(0.0);
    var green = vec4(0.0);
    var blue = vec4(0.0);
    if all(tile < tiles) {
        let words = (CAPACITY + 31u) / 32u;
        for (var word = 0u; word * 32u < live; word++) {
            var mask = masks[(tile.y * tiles.x + tile.x) * words + word];
            while mask != 0u {
                let shape = shapes[word * 32u + countTrailingZeros(mask)];
                mask &= mask - 1u;
                let weights = max(gauss_of_four(shape, first) - EDGE, vec4(0.0));
                red += shape.light.r * weights;
                green += shape.light.g * weights;
                blue += shape.light.b * weights;
            }
        }
    }
    var square = 0.0;
    for (var i = 0u; i < 4u; i++) {
        if first.x + i < WIDTH && first.y < HEIGHT {
            let pixel = first.y * WIDTH + first.x + i;
            let light = vec3(red[i], green[i], blue[i]);
            let error = light - unpack4x8unorm(goal[pixel]).rgb;
            picture[pixel] = pack4x8unorm(vec4(light, 1.0));
            errors[pixel] = vec4(error, 0.0);
            square += dot(error, error);
        }
    }
    lane_squares[lane] = square;
    workgroupBarrier();
    if lane == 0u {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += lane_squares[i];
        }
        squares[group.y * groups.x + group.x] = sum;
    }
}

// The Gaussian at four neighbouring pixels of a row.
fn gauss_of_four(shape: Shape, first: vec2<u32>) -> vec4<f32> {
    let x = f32(first.x) + vec4(0.5, 1.5, 2.5, 3.5) - shape.centre.x;
    let y = f32(first.y) + 0.5 - shape.centre.y;
    let u = shape.along.x * x + shape.along.y * y;
    let v = shape.across.x * x + shape.across.y * y;
    return exp(-0.5 * (u * u + v * v));
}
