// Loads elements, unscales and clips their gradients, applies the rule and stores the results. Shared by the kernels
// that update elements.

import package::device::chunk::{chunk};
import package::device::chunk_options::{chunk_block_options, chunk_quad_options};
import package::device::multiply_twice::{apply_grad_factors};
import package::kernels::control::{NONE, first_nonfinite};
import package::rule::step::{StepScalars};
import active_rows::{skips_rows};
import clip_value::{clip_by_value};
import column_lr::{column_lr};
import factored_variance::{with_variance};
import group_lookup::{BlockOptions, skips_quad};
import interface::{ScalarState};
import own_step::{OwnStep, own_step};
import row_scalars::{apply_by_row};
import segment_values::{segment_sums_of, tensor_state_of};
import step_uniforms::{lr_of, uniforms};
import streams::{element_of, load_grad, read_words, transform_states_of, write_words};

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

// Updates the four elements at `element` of the chunk. Returns the flat index of the first non-finite gradient.
fn update_quad(block_options: BlockOptions, element: u32, context: StepContext) -> u32 {
    let options = chunk_quad_options(block_options, element);
    let is_active = options.is_active & vec4<bool>(context.applies);
    if skips_quad(is_active) || skips_rows(is_active) {
        return NONE;
    }
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
    // Branches after the loads, so that CPU drivers need not mask the loads.
    if any(is_active) {
        write_words(element, words, updated.element, updated.states, is_active, context.t);
    }
    let checked = select(vec4<u32>(0u), bits & vec4<u32>(0x7fffffffu), is_active);
    return first_nonfinite(checked, chunk.start + element);
}

// Updates the sixteen elements of an invocation: four in each of four rows of 32. Eight invocations share 128
// contiguous elements. Unrolled, because CPU drivers spill registers in a loop.
fn update_elements(element: u32, context: StepContext) -> u32 {
    let block_options = chunk_block_options(element);
    var first = update_quad(block_options, element, context);
    first = min(first, update_quad(block_options, element + 32u, context));
    first = min(first, update_quad(block_options, element + 64u, context));
    return min(first, update_quad(block_options, element + 96u, context));
}
