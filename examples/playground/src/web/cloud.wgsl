// Draws every point of a cloud as a disc, or the cell of its start, in the colour of the attractor next to the point.
// In: the starts and the points. Six vertices a point: software drivers draw each instance on its own.

const ATTRACTORS: u32 = 32u;
// The last colour is that of points that have diverged.
const COLOURS: u32 = 7u;

struct View {
    // Left, bottom, right, top of the window.
    window: vec4<f32>,
    // Half the width and height of a disc, then of a cell, in clip space.
    disc: vec2<f32>,
    cell: vec2<f32>,
    // Points farther out than this have diverged.
    far: vec2<f32>,
    // 0 draws points, 1 cells at their starts.
    cells: f32,
    attractors: u32,
    opacity: f32,
    // x, y, index of the colour.
    places: array<vec4<f32>, ATTRACTORS>,
    colours: array<vec4<f32>, COLOURS>,
}

@group(0) @binding(0) var<uniform> view: View;
@group(0) @binding(1) var<storage, read> starts: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> points: array<vec2<f32>>;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) inside: vec2<f32>,
    @location(1) @interpolate(flat) colour: vec4<f32>,
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn has_diverged(p: vec2<f32>) -> bool {
    return !is_finite(p.x) || !is_finite(p.y) || abs(p.x) > view.far.x || abs(p.y) > view.far.y;
}

fn colour_of(p: vec2<f32>) -> vec4<f32> {
    var nearest = view.places[0];
    for (var i = 1u; i < view.attractors; i++) {
        if distance(view.places[i].xy, p) < distance(nearest.xy, p) {
            nearest = view.places[i];
        }
    }
    return view.colours[u32(nearest.z)];
}

@vertex
fn corner(@builtin(vertex_index) vertex: u32) -> Corner {
    var corners = array(vec2(-1.0, -1.0), vec2(1.0, -1.0), vec2(-1.0, 1.0), vec2(-1.0, 1.0), vec2(1.0, -1.0), vec2(1.0, 1.0));
    let inside = corners[vertex % 6u];
    let start = starts[vertex / 6u];
    let point = points[vertex / 6u];
    let diverged = has_diverged(point);
    let as_cell = view.cells > 0.5;
    // What has diverged is drawn where it started.
    var place = point;
    if diverged || as_cell {
        place = start;
    }
    let unit = (place - view.window.xy) / (view.window.zw - view.window.xy) * 2.0 - 1.0;
    var out: Corner;
    out.position = vec4(unit + inside * select(view.disc, view.cell, as_cell), 0.0, 1.0);
    out.inside = select(inside, vec2(0.0), as_cell);
    if diverged {
        out.colour = view.colours[COLOURS - 1u];
    } else {
        out.colour = colour_of(point);
    }
    return out;
}

@fragment
fn fill(corner: Corner) -> @location(0) vec4<f32> {
    let edge = clamp((1.0 - length(corner.inside)) * 3.0, 0.0, 1.0);
    let opacity = edge * view.opacity;
    return vec4(corner.colour.rgb * opacity, opacity);
}
