// AMSGrad (Reddi et al. 2018, arXiv 1904.09237), the maximum taken before bias correction as PyTorch does.
fn second_moment(updated: ptr<function, Element>) -> vec4<f32> {
    (*updated).max_exp_avg_sq = max((*updated).max_exp_avg_sq, (*updated).exp_avg_sq);
    return (*updated).max_exp_avg_sq;
}
