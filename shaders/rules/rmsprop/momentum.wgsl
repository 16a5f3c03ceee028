// momentum_buffer = momentum * momentum_buffer + direction; param -= lr * momentum_buffer; or, with the learning rate
// in the buffer, momentum_buffer = momentum * momentum_buffer + lr * direction; param -= momentum_buffer.
override lr_in_buffer: bool;

fn change(updated: ptr<function, Element>, direction: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    if lr_in_buffer {
        (*updated).momentum_buffer = hyper.momentum * (*updated).momentum_buffer + step.lr * direction;
        return (*updated).momentum_buffer;
    }
    (*updated).momentum_buffer = hyper.momentum * (*updated).momentum_buffer + direction;
    return step.lr * (*updated).momentum_buffer;
}
