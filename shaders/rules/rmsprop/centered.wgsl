// Centered (Graves 2013, arXiv 1308.0850, section 4): grad_avg = alpha * grad_avg + (1 - alpha) * grad;
// square_avg - grad_avg^2, never below 0 where rounding would take it there.
fn second_moment(updated: ptr<function, Element>, grad: vec4<f32>, hyper: Hyper) -> vec4<f32> {
    (*updated).grad_avg = hyper.alpha * (*updated).grad_avg + hyper.one_minus_alpha * grad;
    let variance = (*updated).square_avg - (*updated).grad_avg * (*updated).grad_avg;
    // Not `max`, which may make 0 of a NaN.
    // equivalent(<=): 0 is replaced by 0
    return select(variance, vec4<f32>(0.0), variance < vec4<f32>(0.0));
}
