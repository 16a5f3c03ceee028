// beta * old + (1 - beta) * value in the form that keeps more digits, as torch.lerp does: as a step from `old`, the
// rounding of beta, up to 1e-4 of 1 - beta, takes no part. Twin: src/rule.rs.
fn average(old: vec4<f32>, value: vec4<f32>, beta: f32, one_minus_beta: f32) -> vec4<f32> {
    let stepped = old + one_minus_beta * (value - old);
    // equivalent(<): at 0.5 either form will do
    return select(beta * old + one_minus_beta * value, stepped, one_minus_beta <= 0.5);
}
