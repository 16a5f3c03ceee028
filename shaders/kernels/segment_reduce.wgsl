// The rule's sums over each item. Twin: src/cpu/measure.rs.
//
// Composed in src/gpu/shader.rs with items.wgsl; the rule's part is
// `fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Measured`.

struct LaneSums {
    sums: mat4x4<f32>,
}

fn item_at(number: u32) -> vec4<u32> {
    return segments[item_row(number)];
}

fn item_count() -> u32 {
    return segments[0].y;
}

fn add_quad(old: LaneSums, quad: Quad) -> LaneSums {
    var step = quad.step;
    // What is there is of the step before.
    step.measured = Measured();
    let terms = pack_measured(measure(quad.old, clip_by_value(quad.grad), slot.hyper, step));
    var sums = old.sums;
    sums[0] = sums[0] + counted(quad, terms[0]);
    sums[1] = sums[1] + counted(quad, terms[1]);
    sums[2] = sums[2] + counted(quad, terms[2]);
    sums[3] = sums[3] + counted(quad, terms[3]);
    return LaneSums(sums);
}

fn keep_item(number: u32, sums: LaneSums, lane: u32, exists: bool) {
    let total = reduce(sums_of(sums.sums), lane);
    if exists && lane == 0u {
        segments[item_row(number) + 1u] = bitcast<vec4<u32>>(total);
    }
}
