// Sets `variance` of four elements from the row and column factors.

import package::factors::{variance_of};
import interface::{Element};

fn with_variance(old: Element, index: u32, segment: vec4<u32>) -> Element {
    var element = old;
    element.variance = vec4<f32>(
        variance_of(index, segment.x),
        variance_of(index + 1u, segment.y),
        variance_of(index + 2u, segment.z),
        variance_of(index + 3u, segment.w),
    );
    return element;
}
