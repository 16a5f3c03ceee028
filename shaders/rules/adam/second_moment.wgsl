// The second moment of each element.

fn second_moment(old: Element, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    return hyper.beta2 * old.exp_avg_sq + hyper.one_minus_beta2 * (grad * grad);
}
