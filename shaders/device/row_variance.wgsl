// Sets `variance` of four elements from the factors of their rows.

import package::factors::{AXIS, HEADER, START, find_axis, variance_of};
import interface::{Element};

// Number of the tensor that holds an element: the last one that begins there or before, because empty ones have no
// elements.
fn tensor_at(index: u32) -> u32 {
    return (find_axis(index, START) - HEADER) / (2u * AXIS);
}

fn with_variance(old: Element, index: u32, segment: vec4<u32>) -> Element {
    var element = old;
    element.variance = vec4<f32>(
        variance_of(index, tensor_at(index)),
        variance_of(index + 1u, tensor_at(index + 1u)),
        variance_of(index + 2u, tensor_at(index + 2u)),
        variance_of(index + 3u, tensor_at(index + 3u)),
    );
    return element;
}
