fn one_minus_slow_beta(hyper: Hyper, t: f32) -> f32 {
    return hyper.one_minus_beta3;
}
