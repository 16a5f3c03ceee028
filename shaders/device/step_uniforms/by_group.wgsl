// Uniforms of one recorded step, for groups with separate schedules. `lr_selector` of an element is the index of its
// group's learning rate in `group_lrs`, which includes the group's scale.

import package::device::quad_options::{QuadOptions};
import package::kernels::control::{StepHead};
import interface::{GROUP_LR_QUADS, Hyper};

struct StepUniforms {
    head: StepHead,
    hyper: Hyper,
    group_lrs: array<vec4<f32>, GROUP_LR_QUADS>,
}

@group(1) @binding(0) var<uniform> uniforms: StepUniforms;

fn group_lr(number: f32) -> f32 {
    let lr = u32(number);
    return uniforms.group_lrs[lr / 4u][lr % 4u];
}

fn lr_of(options: QuadOptions) -> vec4<f32> {
    let number = options.lr_selector;
    return vec4<f32>(group_lr(number.x), group_lr(number.y), group_lr(number.z), group_lr(number.w));
}
