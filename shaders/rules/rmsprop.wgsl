// RMSprop (Tieleman & Hinton 2012, Coursera lecture 6.5; torch.optim.RMSprop). Twin: src/rule/rmsprop.rs.
//   grad += weight_decay * param
//   square_avg = alpha * square_avg + (1 - alpha) * grad^2
//   param -= lr * grad / (sqrt(square_avg) + eps), or with eps in the root sqrt(square_avg + eps)
// `second_moment` is square_avg, or what is left of it when centered; `change` is lr times its argument, or with
// momentum their running sum (rmsprop/*.wgsl).

override eps_in_root: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    updated.square_avg = hyper.alpha * old.square_avg + hyper.one_minus_alpha * (decayed * decayed);
    let moment = second_moment(&updated, decayed, hyper);
    var avg = sqrt(moment) + hyper.eps;
    if eps_in_root {
        avg = sqrt(moment + hyper.eps);
    }
    updated.param = old.param - change(&updated, decayed / avg, hyper, step);
    return updated;
}
