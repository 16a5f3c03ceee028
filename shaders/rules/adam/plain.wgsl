fn second_moment(updated: ptr<function, Element>, step: Step) -> vec4<f32> {
    return (*updated).exp_avg_sq;
}
