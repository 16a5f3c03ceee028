// AMSGrad (Reddi et al. 2018, arXiv 1904.09237), the maximum taken before bias correction as PyTorch does, or after it
// as optax does.
fn second_moment(updated: ptr<function, Element>, step: Step) -> vec4<f32> {
    var moment = (*updated).exp_avg_sq;
    if corrected_max {
        moment = moment / step.bias_correction.y;
    }
    (*updated).max_exp_avg_sq = maximum((*updated).max_exp_avg_sq, moment);
    return (*updated).max_exp_avg_sq;
}
