// SGD with momentum (torch.optim.SGD; Sutskever et al. 2013 for Nesterov). Twin: src/rule/sgd.rs.
//   step 1: buf = grad; then buf = momentum * buf + (1 - dampening) * grad
//   param -= lr * buf, or with Nesterov lr * (grad + momentum * buf)

override nesterov: bool;

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    let decayed = grad + step.weight_decay * old.param;
    let averaged = hyper.momentum * old.momentum_buffer + hyper.one_minus_dampening * decayed;
    updated.momentum_buffer = select(averaged, decayed, step.t == 1u);
    var direction = updated.momentum_buffer;
    if nesterov {
        direction = decayed + hyper.momentum * updated.momentum_buffer;
    }
    updated.param = old.param - step.lr * direction;
    return updated;
}
