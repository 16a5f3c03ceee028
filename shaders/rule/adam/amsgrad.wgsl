// AMSGrad (Reddi et al. 2018, arXiv 1904.09237), the maximum taken before bias correction as PyTorch does.
fn second_moment(new: ptr<function, Element>) -> vec4<f32> {
    (*new).max_exp_avg_sq = max((*new).max_exp_avg_sq, (*new).exp_avg_sq);
    return (*new).max_exp_avg_sq;
}
