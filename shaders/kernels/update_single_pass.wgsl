// The whole step in one dispatch per chunk. Every step is applied; the first chunk advances the step counter.
//
// In: parameters, states, gradients, the control block. Out: parameters, states, and the next control block, which is
// then copied over the current one. Grid: one workgroup of 64 per 1,024 elements of the chunk.

import package::device::chunk::{chunk};
import package::device::control_uniform::{control};
import package::kernels::bias_correction::{bias_correction_of};
import package::kernels::control::{NONE, has_initial_states};
import package::kernels::update_elements::{StepContext};
import element_updates::{update_elements};
import interface::{pack_scalar_state, unpack_scalar_state};
import scalar_state::{update_scalars};
import step_uniforms::{uniforms};

// The words of the next control block. Words for clipping and stopping never change in a single-pass step.
@group(0) @binding(3) var<storage, read_write> next: array<atomic<u32>>;

// Word indices in the control block. Words 0 to 11: bias corrections, upcoming bias corrections, scalar state.
const STEP_WORD: u32 = 12u;
const SKIPPED_WORD: u32 = 13u;
const LR_WORD: u32 = 16u;
const FIRST_NONFINITE_WORD: u32 = 24u;
// Number of words that a step writes, one per lane.
const NEXT_WORDS: u32 = 16u;

// Index and bits of the word that a lane writes.
fn next_word(lane: u32, t: u32, correction: vec4<f32>, upcoming: f32, scalar_state: vec4<f32>) -> vec2<u32> {
    var word = vec2<u32>(lane, bitcast<vec4<u32>>(correction)[lane % 4u]);
    word.y = select(word.y, bitcast<u32>(upcoming), lane / 4u == 1u);
    word.y = select(word.y, bitcast<vec4<u32>>(scalar_state)[lane % 4u], lane / 4u == 2u);
    word = select(word, vec2<u32>(STEP_WORD, t), lane == 12u);
    word = select(word, vec2<u32>(SKIPPED_WORD, control.skipped), lane == 13u);
    word = select(word, vec2<u32>(LR_WORD, bitcast<u32>(uniforms.head.lr)), lane == 14u);
    return select(word, vec2<u32>(FIRST_NONFINITE_WORD + ((t + 1u) & 1u), NONE), lane == 15u);
}

@compute @workgroup_size(64)
fn update_single_pass(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let t = control.step + 1u;
    let correction = control.upcoming_bias_correction;
    let old = unpack_scalar_state(control.scalar_state);
    let scalar_state = update_scalars(old, uniforms.head.lr, uniforms.hyper, correction, t);
    // One word per lane: CPU drivers run all invocations through these lines, so that each further store would cost
    // as much as the store of a state.
    // equivalent(drop): all workgroups would write the same values
    let is_first_workgroup = chunk.first != 0u && all(workgroup == vec3<u32>(0u));
    // undetected(<=, && lane < NEXT_WORDS): the other lanes write words that no test reads
    let counts = is_first_workgroup && lane < NEXT_WORDS;
    let upcoming = bias_correction_of(lane % 4u, t + 1u, counts);
    if counts {
        let word = next_word(lane, t, correction, upcoming, pack_scalar_state(scalar_state));
        atomicStore(&next[word.x], word.y);
    }
    let factors = vec2<f32>(uniforms.head.inv_scale, 1.0);
    let is_first = has_initial_states(t, 1u, uniforms.head.flags);
    let context = StepContext(true, factors, 0u, t, is_first, correction, scalar_state);
    let first = update_elements(workgroup, grid, lane, context);
    if first != NONE {
        atomicMin(&next[FIRST_NONFINITE_WORD + (t & 1u)], first);
    }
}
