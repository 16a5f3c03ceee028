// Averages the parameters after each step: an exponential moving average (EMA), or an equally weighted one (SWA).
//   average += weight * (param - average)

import package::rule::math::{lerp};
import package::rule::step::{StepScalars};
import interface::{Element, Hyper, TransformStates};

// true: equal weights (SWA); false: exponential ones (EMA).
override average_is_equal: bool;
// The decay of step t is at most (1 + t) / (10 + t).
override average_warms_up: bool;
// The average begins at 0, and `eval` divides by the sum of the weights.
override average_is_debiased: bool;
// Number of the first step that counts; before and at that step the average equals the parameters.
override average_start: u32;
// Steps from one that counts to the next.
override average_every: u32;

// Weight of the parameters after step t: x; 1 - x: y.
fn average_weight(hyper: Hyper, t: u32) -> vec2<f32> {
    if average_is_equal {
        // Meaningless before the start, where the average equals the parameters.
        let count = (t - average_start) / average_every + 1u;
        let share = 1.0 / f32(count);
        return vec2<f32>(share, 1.0 - share);
    }
    var weight = vec2<f32>(hyper.average_share, hyper.average_decay);
    if average_warms_up {
        // Exact below 2^24; the decay is constant long before.
        let warm = f32(t);
        let share = 9.0 / (10.0 + warm);
        weight = select(weight, vec2<f32>(share, (1.0 + warm) / (10.0 + warm)), share > weight.x);
    }
    return weight;
}

fn update_average(old: TransformStates, param: vec4<f32>, hyper: Hyper, t: u32) -> TransformStates {
    var updated = old;
    let weight = average_weight(hyper, t);
    let counts = (t - average_start) % average_every == 0u;
    let average = select(old.average, lerp(old.average, param, weight.y, weight.x), counts);
    // No branch: CPU drivers compile a kernel anew for each value of t that a branch depends on.
    let has_begun = (t > average_start) | average_is_debiased;
    updated.average = select(param, average, has_begun);
    return updated;
}

// The parameters to evaluate. Before the first step there is no average.
fn averaged(old: TransformStates, param: vec4<f32>, bias_correction: f32, t: u32) -> vec4<f32> {
    var average = old.average;
    if average_is_debiased {
        average = old.average / bias_correction;
    }
    return select(average, param, t == 0u);
}
