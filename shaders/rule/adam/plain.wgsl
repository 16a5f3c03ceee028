fn second_moment(new: ptr<function, Element>) -> vec4<f32> {
    return (*new).exp_avg_sq;
}
