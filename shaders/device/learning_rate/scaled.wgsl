// The learning rates of four elements. Twin: `GroupTable::lr` in src/groups.rs.
fn lr_of(lanes: Lanes) -> vec4<f32> {
    return slot.head.lr * lanes.lr_scale;
}
