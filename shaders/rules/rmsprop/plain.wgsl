fn second_moment(updated: ptr<function, Element>, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    return (*updated).square_avg;
}
