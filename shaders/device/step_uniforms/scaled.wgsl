// Uniforms of one recorded step. Learning rates: the schedule's, times the scale of the element's group.

import package::device::quad_options::{QuadOptions};
import package::kernels::control::{StepHead};
import interface::{Hyper};

struct StepUniforms {
    head: StepHead,
    hyper: Hyper,
}

@group(1) @binding(0) var<uniform> uniforms: StepUniforms;

fn lr_of(options: QuadOptions) -> vec4<f32> {
    return uniforms.head.lr * options.lr_scale;
}
