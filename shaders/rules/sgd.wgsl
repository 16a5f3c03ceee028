// SGD (torch.optim.SGD): grad += weight_decay * param; param -= lr * grad. Twin: src/rule/sgd.rs.

fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    updated.param = old.param - step.lr * (grad + step.weight_decay * old.param);
    return updated;
}
