// Uniforms of one recorded step. The learning rate of an element is `head.lr` times the scale of its group.

import package::device::quad_options::{QuadOptions};
import package::kernels::control::{StepHead};
import interface::{Hyper};

struct StepUniforms {
    head: StepHead,
    hyper: Hyper,
}

@group(1) @binding(0) var<uniform> uniforms: StepUniforms;

fn lr_of(options: QuadOptions) -> vec4<f32> {
    return uniforms.head.lr * options.lr_selector;
}
