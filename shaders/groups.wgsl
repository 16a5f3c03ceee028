// From an element of the flat space to its group's options. Twin: src/groups.rs.

// Word 0: where the spans begin. Then the first span of every block of 1,024 elements and of one block more.
// Then four words per span: end, learning-rate scale, weight decay, and 0 where it is frozen or padding, else the number
// of the tensor it lies in (0 for rules that do not ask) and one more.
@group(0) @binding(2) var<storage, read> groups: array<u32>;

struct Lanes {
    live: vec4<bool>,
    tensor: vec4<u32>,
    lr_scale: vec4<f32>,
    weight_decay: vec4<f32>,
}

// First word of the span that holds `index`.
fn find_span(index: u32) -> u32 {
    let block = index / 1024u;
    var low = groups[1u + block];
    var high = groups[2u + block];
    while low < high {
        let middle = (low + high) / 2u;
        if groups[groups[0] + middle * 4u] > index {
            high = middle;
        } else {
            low = middle + 1u;
        }
    }
    return groups[0] + low * 4u;
}

// The options of the elements `index` to `index + 3`, of which the first `count` exist.
fn lanes_at(index: u32, count: u32) -> Lanes {
    let span = find_span(index);
    var lanes: Lanes;
    lanes.live = vec4<bool>(groups[span + 3u] != 0u);
    lanes.tensor = vec4<u32>(max(groups[span + 3u], 1u) - 1u);
    lanes.lr_scale = vec4<f32>(bitcast<f32>(groups[span + 1u]));
    lanes.weight_decay = vec4<f32>(bitcast<f32>(groups[span + 2u]));
    if groups[span] < index + 4u {
        for (var lane = 1u; lane < min(count, 4u); lane++) {
            let own = find_span(index + lane);
            lanes.live[lane] = groups[own + 3u] != 0u;
            lanes.tensor[lane] = max(groups[own + 3u], 1u) - 1u;
            lanes.lr_scale[lane] = bitcast<f32>(groups[own + 1u]);
            lanes.weight_decay[lane] = bitcast<f32>(groups[own + 2u]);
        }
    }
    lanes.live &= vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(count);
    return lanes;
}
