// What a step is about to do, summed over each item. It changes nothing; `update` does the same once more and writes.
// Twin: src/cpu/observe.rs.
//
// Composed in src/gpu/shader.rs with items.wgsl and one of seen/*.wgsl; the rule's part, beside the rule itself, is
// `fn count(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> vec4<bool>`.

struct LaneSums {
    // A column for the squares of each of gradients, parameters and updates, and for clipped elements.
    squares: mat4x4<f32>,
    counts: vec4<f32>,
}

fn item_at(number: u32) -> vec4<u32> {
    return observed[row_of_item(number)];
}

fn item_count() -> u32 {
    return observed[0].y;
}

fn add_quad(old: LaneSums, quad: Quad) -> LaneSums {
    let grad = seen(quad.grad, slot.hyper, quad.step);
    let param = quad.old.param;
    let change = rule(quad.old, grad, slot.hyper, quad.step).param - param;
    let clipped = vec4<f32>(is_clipped(quad.grad, slot.hyper, quad.step));
    let counts = vec4<f32>(count(quad.old, grad, slot.hyper, quad.step));
    var squares = old.squares;
    squares[0] = squares[0] + counted(quad, quad.grad * quad.grad);
    squares[1] = squares[1] + counted(quad, param * param);
    squares[2] = squares[2] + counted(quad, change * change);
    squares[3] = squares[3] + counted(quad, clipped);
    return LaneSums(squares, old.counts + counted(quad, counts));
}

fn keep_item(number: u32, sums: LaneSums, lane: u32, exists: bool) {
    let counts = (sums.counts.x + sums.counts.y) + (sums.counts.z + sums.counts.w);
    keep_sums(row_of_item(number) + 1u, Sums(sums_of(sums.squares), vec4<f32>(counts, 0.0, 0.0, 0.0)), lane, exists);
}
