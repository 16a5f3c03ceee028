// Shared by the kernels: columns of a splat, constants, its shape. CPU reference: src/splats.rs.

// Columns of a splat: a row of `splats` and `grads`.
const COLUMNS = 9u;
const X = 0u;
const Y = 1u;
const LOG_LENGTH = 2u;
const LOG_WIDTH = 3u;
const ANGLE = 4u;
const COLOUR = 5u;
const OPACITY = 8u;

// A weight below which a splat ends. Subtracted from the Gaussian, so that the edge has no step.
const EDGE = 1.0 / 256.0;
// `sqrt(2 ln 256)`: the distance of the edge, in standard deviations.
const REACH = 3.3302184;
// Variance in square pixels that every axis has besides its own.
const BLUR = 0.09;

// Sides of a tile, in pixels.
const TILE = 8u;

// weight = exp(-(u^2 + v^2) / 2) - EDGE, with u = dot(along, offset) and v = dot(across, offset)
struct Shape {
    centre: vec2<f32>,
    along: vec2<f32>,
    across: vec2<f32>,
    // Standard deviations of both axes.
    axes: vec2<f32>,
    // Opacity times colour.
    light: vec3<f32>,
    // First pixel, and the one behind the last, of the box around the splat.
    first: vec2<u32>,
    end: vec2<u32>,
}

struct Sample {
    u: f32,
    v: f32,
    gauss: f32,
}

// Coordinates of a pixel's centre in units of the axes, and the Gaussian there.
fn sample_at(shape: Shape, pixel: vec2<u32>) -> Sample {
    let offset = vec2<f32>(pixel) + 0.5 - shape.centre;
    let u = shape.along.x * offset.x + shape.along.y * offset.y;
    let v = shape.across.x * offset.x + shape.across.y * offset.y;
    return Sample(u, v, exp(-0.5 * (u * u + v * v)));
}
