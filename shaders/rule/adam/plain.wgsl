fn second_moment(updated: ptr<function, Element>) -> vec4<f32> {
    return (*updated).exp_avg_sq;
}
