// Loads elements, unscales and clips their gradients, and applies the rule. Shared by the kernels that update elements.

import package::device::chunk::{chunk};
import package::device::multiply_twice::{apply_grad_factors};
import package::device::quad_options::{QuadOptions};
import package::kernels::control::{first_nonfinite};
import package::rule::step::{StepScalars};
import clip_value::{clip_by_value};
import column_lr::{column_lr};
import factored_variance::{with_variance};
import interface::{Element, ScalarState, TransformStates};
import own_step::{OwnStep, own_step};
import row_scalars::{apply_by_row};
import segment_values::{segment_sums_of, tensor_state_of};
import step_uniforms::{lr_of, uniforms};
import streams::{Words, element_of, load_grad, read_words, transform_states_of};

// Values shared by all elements of a step.
struct StepContext {
    applies: bool,
    // Unscale and clip: every gradient is multiplied by x, then by y.
    grad_factors: vec2<f32>,
    // 0 if the step applies: see device/multiply_twice.wgsl.
    zero: u32,
    t: u32,
    is_first: bool,
    bias_correction: vec4<f32>,
    scalar_state: ScalarState,
}

// Four elements before and after an update.
struct QuadUpdate {
    grad_bits: vec4<u32>,
    words: Words,
    element: Element,
    states: TransformStates,
}

// Updates the four elements at `element` of the chunk, and stores nothing.
fn quad_update(options: QuadOptions, is_active: vec4<bool>, element: u32, context: StepContext) -> QuadUpdate {
    let bits = load_grad(element);
    let grad = clip_by_value(apply_grad_factors(bitcast<vec4<f32>>(bits), context.grad_factors, context.zero));
    let of_all = OwnStep(context.bias_correction, context.t, context.is_first, context.scalar_state);
    let own = own_step(of_all, options.segment, is_active);
    let step = StepScalars(
        column_lr(lr_of(options), chunk.start + element),
        options.weight_decay,
        own.bias_correction,
        own.t,
        own.is_first,
        own.scalar_state,
        segment_sums_of(options.segment),
        tensor_state_of(options.segment),
    );
    let words = read_words(element);
    let old = with_variance(element_of(words), chunk.start + element, options.segment);
    let updated = apply_by_row(old, transform_states_of(words), grad, uniforms.hyper, step, chunk.start + element);
    return QuadUpdate(bits, words, updated.element, updated.states);
}

// The flat index of the first active non-finite gradient of a quad.
fn first_nonfinite_of(bits: vec4<u32>, is_active: vec4<bool>, element: u32) -> u32 {
    let checked = select(vec4<u32>(0u), bits & vec4<u32>(0x7fffffffu), is_active);
    return first_nonfinite(checked, chunk.start + element);
}
