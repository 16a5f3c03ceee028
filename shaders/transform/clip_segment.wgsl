// Clipping by the norms of segments, around a rule without sums of its own. Twin: src/rule/clipped.rs.

// Whether the largest norm follows from that of the parameters, or is the same for all segments.
override clip_by_params: bool;

// Squares of what is below 2^-40 or above 2^40 are summed apart, with these scales, so that no sum vanishes or overflows.
const CLIP_SMALL: f32 = 9.0949470177e-13;
const CLIP_LARGE: f32 = 1.099511627776e12;
const CLIP_SHRINK: f32 = 8.27180612553e-25;
const CLIP_GROW: f32 = 1.20892581961e24;
const CLIP_LEAST: f32 = 1.17549435082e-38;

fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Measured {
    // equivalent(boundary): either sum takes a power of two
    let is_small = abs(grad) < vec4<f32>(CLIP_SMALL);
    // equivalent(boundary): either sum takes a power of two
    let is_large = abs(grad) > vec4<f32>(CLIP_LARGE);
    let small = select(vec4<f32>(0.0), grad * CLIP_GROW, is_small);
    let middle = select(grad, vec4<f32>(0.0), is_small | is_large);
    let large = select(vec4<f32>(0.0), grad * CLIP_SHRINK, is_large);
    return Measured(small * small, middle * middle, large * large, old.param * old.param);
}

// What gradients are multiplied by, one factor after the other.
struct ClipFactors {
    first: vec4<f32>,
    last: vec4<f32>,
}

// The factors; NaN where a gradient is.
fn clip_factors(measured: Measured, hyper: Hyper) -> ClipFactors {
    let has_middle = measured.clip_middle > vec4<f32>(0.0);
    let has_large = measured.clip_large > vec4<f32>(0.0);
    // The norm is the root of the sum times the unit. Roots are scaled and not squares, since compilers multiply constants,
    // and the square of this one is 0.
    let small = sqrt(measured.clip_small) * CLIP_SHRINK;
    let middle = sqrt(measured.clip_middle) * CLIP_SHRINK;
    let with_small = measured.clip_middle + small * small;
    let with_middle = measured.clip_large + middle * middle;
    let sum = select(select(measured.clip_small, with_small, has_middle), with_middle, has_large);
    let unit = select(select(vec4<f32>(CLIP_SHRINK), vec4<f32>(1.0), has_middle), vec4<f32>(CLIP_GROW), has_large);
    let root = sqrt(sum);
    let norm = root * unit;
    var max_norm = vec4<f32>(hyper.clip_limit);
    var divisor = norm + vec4<f32>(hyper.clip_eps);
    // equivalent(boundary): where both are the same the coefficient is 1
    var exceeds = divisor > max_norm;
    if clip_by_params {
        max_norm = hyper.clip_limit * max(sqrt(measured.clip_param), vec4<f32>(hyper.clip_eps));
        divisor = max(norm, vec4<f32>(1e-6));
        // equivalent(boundary): where both are the same the coefficient is 1, but below 1e-6
        exceeds = norm >= max_norm;
    }
    // A norm beyond f32 has a root that is not.
    let coef = select(max_norm / divisor, max_norm / root * CLIP_SHRINK, has_large);
    let shrunk = select(divisor * CLIP_SHRINK, root, has_large);
    // Devices may take what is below the normal numbers for 0, and none has all of its bits.
    // equivalent(boundary): both ways hold the least normal number
    let is_tiny = coef < vec4<f32>(CLIP_LEAST);
    // NaN by its bits, which are above those of all sums, since a device may take it that there is none.
    let middle_bits = bitcast<vec4<u32>>(measured.clip_middle);
    // equivalent(drop, minmax): on lavapipe NaN is neither small nor large
    let other_bits = max(bitcast<vec4<u32>>(measured.clip_small), bitcast<vec4<u32>>(measured.clip_large));
    // equivalent(drop): as above
    let sums = max(middle_bits, other_bits);
    let first = select(vec4<f32>(1.0), select(coef, vec4<f32>(CLIP_SHRINK), is_tiny), exceeds);
    return ClipFactors(
        select(first, bitcast<vec4<f32>>(sums), sums > vec4<u32>(INFINITE)),
        select(vec4<f32>(1.0), max_norm / shrunk, exceeds & is_tiny),
    );
}

fn clip_grad(grad: vec4<f32>, measured: Measured, hyper: Hyper) -> vec4<f32> {
    let factors = clip_factors(measured, hyper);
    return grad * factors.first * factors.last;
}

fn clipped_rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    return rule(old, clip_grad(grad, step.measured, hyper), hyper, step);
}
