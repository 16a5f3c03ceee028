// The graph of a function over its window as a shaded surface, and paths on it. `value` and `gradient` are those of the
// function, whose text precedes this one. The projection is orthographic.

const CELLS: u32 = 96u;
const STOPS: u32 = 5u;
const HEIGHT: f32 = 0.55;

struct View {
    // Left, bottom, right, top of the window.
    window: vec4<f32>,
    // Cosine and sine of the turn, then of the tilt.
    turn: vec4<f32>,
    // Scale in x and y, then half the width of a path in x and y.
    scale: vec4<f32>,
    // Lowest and highest scaled value, lowest value, 1 for a logarithmic scale.
    heights: vec4<f32>,
    // Colours from the lowest to the highest value.
    stops: array<vec4<f32>, STOPS>,
}

@group(0) @binding(0) var<uniform> view: View;

struct Vertex {
    @builtin(position) position: vec4<f32>,
    @location(0) colour: vec3<f32>,
    @location(1) height: f32,
}

// From 0 to 1.
fn height_of(p: vec2<f32>) -> f32 {
    let v = value(p);
    let scaled = select(v, log(1.0 + max(v - view.heights.z, 0.0)), view.heights.w > 0.5);
    return clamp((scaled - view.heights.x) / (view.heights.y - view.heights.x), 0.0, 1.0);
}

fn project(unit: vec2<f32>, height: f32) -> vec3<f32> {
    let turned = vec2(unit.x * view.turn.x - unit.y * view.turn.y, unit.x * view.turn.y + unit.y * view.turn.x);
    let up = (2.0 * height - 1.0) * HEIGHT;
    let screen = vec2(turned.x, up * view.turn.z + turned.y * view.turn.w);
    let depth = turned.y * view.turn.z - up * view.turn.w;
    return vec3(screen * view.scale.xy, 0.5 + 0.2 * depth);
}

fn unit_of(p: vec2<f32>) -> vec2<f32> {
    return (p - view.window.xy) / (view.window.zw - view.window.xy) * 2.0 - 1.0;
}

fn colour_of(height: f32) -> vec3<f32> {
    let at = height * f32(STOPS - 1u);
    let below = min(u32(at), STOPS - 2u);
    return mix(view.stops[below].rgb, view.stops[below + 1u].rgb, at - f32(below));
}

@vertex
fn sheet(@builtin(vertex_index) index: u32) -> Vertex {
    var corners = array(vec2(0u, 0u), vec2(1u, 0u), vec2(0u, 1u), vec2(0u, 1u), vec2(1u, 0u), vec2(1u, 1u));
    let cell = index / 6u;
    let at = vec2(cell % CELLS, cell / CELLS) + corners[index % 6u];
    let share = vec2<f32>(at) / f32(CELLS);
    let size = view.window.zw - view.window.xy;
    let p = view.window.xy + share * size;
    let height = height_of(p);
    let by = size / f32(CELLS);
    let rise = vec2(height_of(p + vec2(by.x, 0.0)) - height, height_of(p + vec2(0.0, by.y)) - height) * f32(CELLS) * HEIGHT;
    let normal = normalize(vec3(-rise, 1.0));
    let light = 0.62 + 0.38 * max(dot(normal, normalize(vec3(-0.5, -0.6, 0.8))), 0.0);
    var out: Vertex;
    out.position = vec4(project(share * 2.0 - 1.0, height), 1.0);
    out.colour = colour_of(height) * light;
    out.height = height;
    return out;
}

// Fine lines of equal height.
@fragment
fn shade(vertex: Vertex) -> @location(0) vec4<f32> {
    let at = vertex.height * 16.0;
    let from_line = abs(fract(at - 0.5) - 0.5) / max(fwidth(at), 1e-5);
    let line = 1.0 - clamp(from_line, 0.0, 1.0);
    return vec4(vertex.colour * (1.0 - 0.25 * line), 1.0);
}

struct Stroke {
    @builtin(position) position: vec4<f32>,
    @location(0) colour: vec3<f32>,
}

// A point of a path: its place, its colour and the path's number.
struct Point {
    x: f32,
    y: f32,
    red: f32,
    green: f32,
    blue: f32,
    path: f32,
}

@group(0) @binding(1) var<storage, read> points: array<Point>;

// A segment from one point of a path to the next, as six vertices.
@vertex
fn stroke(@builtin(vertex_index) index: u32) -> Stroke {
    var corners = array(vec2(0.0, -1.0), vec2(1.0, -1.0), vec2(0.0, 1.0), vec2(0.0, 1.0), vec2(1.0, -1.0), vec2(1.0, 1.0));
    let corner = corners[index % 6u];
    let from_point = points[index / 6u];
    let to_point = points[index / 6u + 1u];
    let place = vec2(from_point.x, from_point.y);
    let next_place = vec2(to_point.x, to_point.y);
    let a = project(unit_of(place), height_of(place));
    let b = project(unit_of(next_place), height_of(next_place));
    let along = (b.xy - a.xy) / view.scale.zw;
    let length = max(length(along), 1e-6);
    let across = vec2(-along.y, along.x) / length * view.scale.zw;
    let forward = along / length * view.scale.zw * (corner.x * 2.0 - 1.0) * 0.6;
    let at = mix(a, b, corner.x);
    var out: Stroke;
    out.colour = vec3(from_point.red, from_point.green, from_point.blue);
    out.position = vec4(at.xy + across * corner.y + forward, at.z - 0.012, 1.0);
    // The last point of a path and the first of the next are of no segment.
    if from_point.path != to_point.path {
        out.position = vec4(2.0, 2.0, 2.0, 1.0);
    }
    return out;
}

@fragment
fn ink(stroke: Stroke) -> @location(0) vec4<f32> {
    return vec4(stroke.colour, 1.0);
}
