// Clips by the norms of segments (groups, tensors or units). For rules that need no sums over segments.

import package::device::multiply_twice::{multiply_twice, zero_of_applied};
import package::kernels::control::{INFINITE};
import package::power_of_two::{scale_quad};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, SegmentSums};

// true: the maximum norm is a multiple of the parameters' norm; false: it is equal for all segments.
override clip_by_params: bool;

// Gradients below 2^-40 and above 2^40 are scaled by 2^80 or 2^-80 and summed separately, so that no sum underflows or
// overflows.
const CLIP_SMALL_BITS: u32 = (127u - 40u) << 23u;
const CLIP_LARGE_BITS: u32 = (127u + 40u) << 23u;
const CLIP_SHRINK: f32 = 8.27180612553e-25;
const CLIP_LEAST: f32 = 1.17549435082e-38;
const CLIP_EXPONENT: i32 = 80;

// Numbers that are positive or 0, times 2^exponent.
fn clip_scaled(values: vec4<f32>, exponent: vec4<i32>) -> vec4<f32> {
    return scale_quad(bitcast<vec4<u32>>(values), exponent);
}

fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
    let bits = bitcast<vec4<u32>>(grad) & vec4<u32>(0x7fffffffu);
    // equivalent(boundary): both sums represent a power of two exactly
    let is_small = bits < vec4<u32>(CLIP_SMALL_BITS);
    // Includes infinity and NaN.
    // equivalent(boundary): both sums represent a power of two exactly
    let is_large = bits > vec4<u32>(CLIP_LARGE_BITS);
    let small = select(vec4<f32>(0.0), scale_quad(bits, vec4<i32>(CLIP_EXPONENT)), is_small);
    let middle = select(grad, vec4<f32>(0.0), is_small | is_large);
    let shrunk = select(scale_quad(bits, vec4<i32>(-CLIP_EXPONENT)), grad, bits >= vec4<u32>(INFINITE));
    let large = select(vec4<f32>(0.0), shrunk, is_large);
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
    // norm = root * 2^exponent. Scales roots, not squares: 2^-160 is no f32.
    let higher = select(select(sums.clip_small, sums.clip_middle, has_middle), sums.clip_large, has_large);
    let lower = select(select(vec4<f32>(0.0), sums.clip_small, has_middle), sums.clip_middle, has_large);
    let rest = clip_scaled(sqrt(lower), vec4<i32>(-CLIP_EXPONENT));
    let root = sqrt(higher + rest * rest);
    let below = select(vec4<i32>(-CLIP_EXPONENT), vec4<i32>(0), has_middle);
    let exponent = select(below, vec4<i32>(CLIP_EXPONENT), has_large);
    let norm = clip_scaled(root, exponent);
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
    let coef = select(max_norm / divisor, clip_scaled(max_norm / root, vec4<i32>(-CLIP_EXPONENT)), has_large);
    let shrunk = select(clip_scaled(divisor, vec4<i32>(-CLIP_EXPONENT)), root, has_large);
    // Avoids subnormal coefficients: they have fewer bits, and devices may flush them to 0.
    // equivalent(boundary): both branches represent the minimum normal number
    let is_tiny = coef < vec4<f32>(CLIP_LEAST);
    // Detects NaN by its bits: a device may assume that no float is NaN.
    let large_bits = bitcast<vec4<u32>>(sums.clip_large);
    let first = select(vec4<f32>(1.0), select(coef, vec4<f32>(CLIP_SHRINK), is_tiny), exceeds);
    return ClipFactors(
        select(first, bitcast<vec4<f32>>(large_bits), large_bits > vec4<u32>(INFINITE)),
        select(vec4<f32>(1.0), max_norm / shrunk, exceeds & is_tiny),
    );
}

fn clip_by_segment(grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> vec4<f32> {
    let factors = clip_factors(step.sums, hyper);
    return multiply_twice(grad, factors.first, factors.last, zero_of_applied());
}

fn is_clipped_by_segment(hyper: Hyper, step: StepScalars) -> vec4<bool> {
    return clip_factors(step.sums, hyper).first < vec4<f32>(1.0);
}
