// The scale of the parameters in adaptive SAM (ASAM, Kwon et al. 2021, arXiv 2102.11600): |param| + eta.

import step_uniforms::{uniforms};
import streams::{load_param};

fn param_scale(param: vec4<f32>) -> vec4<f32> {
    return abs(param) + vec4<f32>(uniforms.hyper.sam_eta);
}

fn param_scale_at(element: u32) -> vec4<f32> {
    return param_scale(bitcast<vec4<f32>>(load_param(element)));
}
