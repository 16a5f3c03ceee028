// Clips by the norms of segments (groups, tensors or units). For rules that need no sums over segments.

import package::kernels::control::{INFINITE};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums};

// true: the maximum norm is a multiple of the parameters' norm; false: it is equal for all segments.
override clip_by_params: bool;

// Gradients below 2^-40 and above 2^40 are scaled and summed separately, so that no sum underflows or overflows.
const CLIP_SMALL: f32 = 9.0949470177e-13;
const CLIP_LARGE: f32 = 1.099511627776e12;
const CLIP_SHRINK: f32 = 8.27180612553e-25;
const CLIP_GROW: f32 = 1.20892581961e24;
const CLIP_LEAST: f32 = 1.17549435082e-38;

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    // equivalent(boundary): both sums represent a power of two exactly
    let is_small = abs(grad) < vec4<f32>(CLIP_SMALL);
    // equivalent(boundary): both sums represent a power of two exactly
    let is_large = abs(grad) > vec4<f32>(CLIP_LARGE);
    let small = select(vec4<f32>(0.0), grad * CLIP_GROW, is_small);
    let middle = select(grad, vec4<f32>(0.0), is_small | is_large);
    let large = select(vec4<f32>(0.0), grad * CLIP_SHRINK, is_large);
    return SegmentSums(small * small, middle * middle, large * large, old.param * old.param);
}

// Gradients are multiplied by `first`, then by `last`.
struct ClipFactors {
    first: vec4<f32>,
    last: vec4<f32>,
}

// NaN where a gradient is NaN.
fn clip_factors(sums: SegmentSums, hyper: Hyper) -> ClipFactors {
    let has_middle = sums.clip_middle > vec4<f32>(0.0);
    let has_large = sums.clip_large > vec4<f32>(0.0);
    // norm = root * unit. Scales roots, not squares: compilers fold constants, and CLIP_SHRINK^2 is 0 in f32.
    let small = sqrt(sums.clip_small) * CLIP_SHRINK;
    let middle = sqrt(sums.clip_middle) * CLIP_SHRINK;
    let with_small = sums.clip_middle + small * small;
    let with_middle = sums.clip_large + middle * middle;
    let sum = select(select(sums.clip_small, with_small, has_middle), with_middle, has_large);
    let unit = select(select(vec4<f32>(CLIP_SHRINK), vec4<f32>(1.0), has_middle), vec4<f32>(CLIP_GROW), has_large);
    let root = sqrt(sum);
    let norm = root * unit;
    var max_norm = vec4<f32>(hyper.clip_limit);
    var divisor = norm + vec4<f32>(hyper.clip_eps);
    // equivalent(boundary): the coefficient of equal numbers is 1
    var exceeds = divisor > max_norm;
    if clip_by_params {
        max_norm = hyper.clip_limit * max(sqrt(sums.clip_param), vec4<f32>(hyper.clip_eps));
        divisor = max(norm, vec4<f32>(1e-6));
        // equivalent(boundary): the coefficient of equal numbers is 1, except below 1e-6
        exceeds = norm >= max_norm;
    }
    // Divides by the root where the norm could exceed f32.
    let coef = select(max_norm / divisor, max_norm / root * CLIP_SHRINK, has_large);
    let shrunk = select(divisor * CLIP_SHRINK, root, has_large);
    // Avoids subnormal coefficients: they have fewer bits, and devices may flush them to 0.
    // equivalent(boundary): both branches represent the minimum normal number
    let is_tiny = coef < vec4<f32>(CLIP_LEAST);
    // Detects NaN by its bits, which exceed those of all sums: a device may assume that no float is NaN.
    let middle_bits = bitcast<vec4<u32>>(sums.clip_middle);
    // undetected(drop, minmax): on lavapipe NaN is neither small nor large
    let other_bits = max(bitcast<vec4<u32>>(sums.clip_small), bitcast<vec4<u32>>(sums.clip_large));
    // undetected(drop): on lavapipe NaN is neither small nor large
    let largest_bits = max(middle_bits, other_bits);
    let first = select(vec4<f32>(1.0), select(coef, vec4<f32>(CLIP_SHRINK), is_tiny), exceeds);
    return ClipFactors(
        select(first, bitcast<vec4<f32>>(largest_bits), largest_bits > vec4<u32>(INFINITE)),
        select(vec4<f32>(1.0), max_norm / shrunk, exceeds & is_tiny),
    );
}

fn clip_by_segment(grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let factors = clip_factors(step.sums, hyper);
    return grad * factors.first * factors.last;
}

fn is_clipped_by_segment(hyper: Hyper, step: StepScalars) -> vec4<bool> {
    return clip_factors(step.sums, hyper).first < vec4<f32>(1.0);
}
