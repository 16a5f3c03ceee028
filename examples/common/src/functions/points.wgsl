// What every step does at every point before the optimizer; `value`, `gradient` and `curvature` are those of one
// function (functions/).

// Elements of a point; of functions of x alone, 1.
override DIMENSIONS: u32;
// A point is at the target where the function is at most this.
override TARGET: f32;

@group(0) @binding(0) var<storage, read> points: array<f32>;
@group(0) @binding(1) var<storage, read_write> derivatives: array<f32>;
// For how many calls now a point has been at the target.
@group(0) @binding(2) var<storage, read_write> stays: array<u32>;

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
    if i >= arrayLength(&stays) {
        return;
    }
    let p = point(i);
    put(i, gradient(p));
    stays[i] = select(0u, stays[i] + 1u, value(p) <= TARGET);
}

@compute @workgroup_size(64)
fn curvatures(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= arrayLength(&points) / DIMENSIONS {
        return;
    }
    put(i, curvature(point(i)));
}
