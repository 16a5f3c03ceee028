// The learning rates of four elements, in place of `lr_of` in lr_scale.wgsl: for optimizers whose groups have schedules of
// their own. There `lr_scale` is the number of the group's learning rate in the slot, which counts the scale in.
fn group_lr(number: f32) -> f32 {
    let lr = u32(number);
    return slot.group_lrs[lr / 4u][lr % 4u];
}

fn lr_of(lanes: Lanes) -> vec4<f32> {
    let number = lanes.lr_scale;
    return vec4<f32>(group_lr(number.x), group_lr(number.y), group_lr(number.z), group_lr(number.w));
}
