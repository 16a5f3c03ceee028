// Adds the pieces of each line up and brings its factor forward. Twin: src/cpu/factors.rs.
//
// Composed in src/gpu/shader.rs; the rule's part is
// `fn settle_factor(old: f32, mean_sq: f32, hyper: Hyper, scalars: Scalars, t: u32) -> f32`.

@group(0) @binding(1) var<uniform> control: Control;

// Pieces that are added up before they are added to the others.
const RUN: u32 = 64u;

fn settle_line(number: u32) {
    let axis = find_axis(number, FIRST_LINE);
    if factors[axis + LIVE] == 0u {
        return;
    }
    let line = number - factors[axis + FIRST_LINE];
    let stride = factors[axis + STRIDE];
    let pieces_of_line = factors[axis + PIECES_OF_LINE];
    let first_piece = factors[axis + FIRST_PIECE] + line / stride * (stride * pieces_of_line) + line % stride;
    var total = 0.0;
    var run = 0.0;
    for (var i = 0u; i < pieces_of_line; i++) {
        run = run + bitcast<f32>(factors[factors[SUMS] + first_piece + i * stride]);
        if i % RUN == RUN - 1u {
            total = total + run;
            run = 0.0;
        }
    }
    total = total + run;
    let mean_sq = total / f32(factors[axis + LEN]);
    let settled = settle_factor(factor(axis, line), mean_sq, slot.hyper, unpack(control.scalars), control.step);
    factors[factors[VALUES] + factors[axis + FIRST_VALUE] + line] = bitcast<u32>(settled);
}

@compute @workgroup_size(256)
fn settle_lines(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (workgroup.y * grid.x + workgroup.x) * 256u + lane;
    let end = select(0u, factors[LINES], control.apply != 0u);
    for (var line = first; line < end; line += grid.x * grid.y * 256u) {
        settle_line(line);
    }
}
