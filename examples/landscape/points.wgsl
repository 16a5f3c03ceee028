// What every step does at every point before the optimizer; `value`, `gradient` and `curvature` are those of one
// function (functions/).

// Elements of a point; of functions of x alone, 1.
override DIMENSIONS: u32;
// A point has arrived where the function is at most this.
override TARGET: f32;

const ARRIVED = 0x80000000u;

@group(0) @binding(0) var<storage, read> points: array<f32>;
@group(0) @binding(1) var<storage, read_write> derivatives: array<f32>;
// Steps so far, until one has arrived.
@group(0) @binding(2) var<storage, read_write> arrivals: array<u32>;

fn point(i: u32) -> vec2<f32> {
    let first = DIMENSIONS * i;
    return vec2(points[first], select(0.0, points[first + DIMENSIONS - 1u], DIMENSIONS == 2u));
}

fn put(i: u32, derivative: vec2<f32>) {
    derivatives[DIMENSIONS * i] = derivative.x;
    if DIMENSIONS == 2u {
        derivatives[2u * i + 1u] = derivative.y;
    }
}

@compute @workgroup_size(64)
fn gradients(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= arrayLength(&arrivals) {
        return;
    }
    let p = point(i);
    put(i, gradient(p));
    let steps = arrivals[i];
    let arrived = (steps & ARRIVED) != 0u || value(p) <= TARGET;
    arrivals[i] = select(steps + 1u, steps | ARRIVED, arrived);
}

@compute @workgroup_size(64)
fn curvatures(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= arrayLength(&points) / DIMENSIONS {
        return;
    }
    put(i, curvature(point(i)));
}
