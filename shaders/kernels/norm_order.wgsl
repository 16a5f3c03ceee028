// The p-norm: p = 1, 2, infinity, or any other positive number.

import package::power_of_two::{power_of_two, scale_by_power_of_two};

// ORDER_ONE, ORDER_TWO, ORDER_INFINITY or ORDER_P.
override norm_order: u32;
// p; only ORDER_P reads it.
override norm_type: f32;

const ORDER_ONE: u32 = 0u;
const ORDER_TWO: u32 = 1u;
const ORDER_INFINITY: u32 = 2u;
const ORDER_P: u32 = 3u;

// base^exponent for base >= 0. WGSL leaves pow(0, p) to the device.
fn power(base: vec4<f32>, exponent: f32) -> vec4<f32> {
    // equivalent(<=): the largest scaled element is at least 1; the power of one this small does not change the sum
    return select(pow(base, vec4<f32>(exponent)), vec4<f32>(0.0), base < vec4<f32>(1.17549435e-38));
}

// The summands of four absolute values, which are scaled to below 4.
fn summands(scaled: vec4<f32>) -> vec4<f32> {
    if norm_order == ORDER_ONE {
        return scaled;
    }
    if norm_order == ORDER_TWO {
        return scaled * scaled;
    }
    if norm_order == ORDER_P {
        return power(scaled, norm_type);
    }
    // The infinity norm is `max_bits`, which the finite check computes.
    return vec4<f32>(0.0);
}

// The factor by which the sum changes when its elements are multiplied by 2^exponent.
fn rescale(exponent: i32) -> f32 {
    if norm_order == ORDER_ONE {
        return power_of_two(exponent);
    }
    if norm_order == ORDER_TWO {
        return power_of_two(2 * exponent);
    }
    if norm_order == ORDER_P {
        return exp2(norm_type * f32(exponent));
    }
    return 0.0;
}

// The norm of the scaled elements, given their sum and the bits of the largest absolute value.
fn root_of(sum: f32, max_bits: u32, exponent: i32) -> f32 {
    if norm_order == ORDER_ONE {
        return sum;
    }
    if norm_order == ORDER_TWO {
        return sqrt(sum);
    }
    if norm_order == ORDER_P {
        return power(vec4<f32>(sum), 1.0 / norm_type).x;
    }
    return scale_by_power_of_two(bitcast<f32>(max_bits), -exponent);
}
