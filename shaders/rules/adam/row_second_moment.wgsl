// One second moment per row, of the mean square of its gradients before weight decay.

fn second_moment(old: Element, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    return old.variance;
}

fn update_factor(old: f32, mean_sq: f32, hyper: Hyper, scalar_state: ScalarState, t: u32) -> f32 {
    return hyper.beta2 * old + hyper.one_minus_beta2 * mean_sq;
}

fn floor_mean(mean: f32, hyper: Hyper) -> f32 {
    return mean;
}
