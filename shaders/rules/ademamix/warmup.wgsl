// Paper, section 3: beta3_t = exp(ln beta1 ln beta3 / ((1 - s) ln beta3 + s ln beta1)) with s = t / t_beta3 < 1, a
// half-life that grows evenly from beta1's to beta3's. With z the negative exponent, 1 - beta3_t is
// 1 - e^-z = z (1 - z/2 (1 - z/3 (1 - …))); z <= ln 2, where nine terms leave out less than 1e-8 of it.
fn one_minus_slow_beta(hyper: Hyper, t: f32) -> f32 {
    let z = hyper.half_lives / ((hyper.t_beta3 - t) * hyper.minus_ln_beta3 + t * hyper.minus_ln_beta1);
    var series = 1.0;
    for (var k = 9u; k > 1u; k--) {
        series = 1.0 - (z / f32(k)) * series;
    }
    // equivalent(>): where the warm-up ends, both are 1 - beta3
    return select(z * series, hyper.one_minus_beta3, t >= hyper.t_beta3);
}
