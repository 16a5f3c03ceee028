//! Parameters and states of the engine's memory, each with the streams that complete it.

use super::CpuState;
use super::memory::Numbers;
use crate::host::{HostSlice, HostSliceMut};
use crate::params::{ParamSlice, ParamSliceMut};
use crate::plan::StepPlan;
use crate::states::{StateSlice, StateSliceMut};

/// The parameters with the state that completes them.
pub(super) fn whole_params<'a>(plan: &StepPlan, state: &'a CpuState, seen: HostSlice<'a>) -> ParamSlice<'a> {
    let companion = plan.companion().map(|number| state.states[number].1.as_slice());
    ParamSlice { format: plan.settings.precision.params, seen, companion, first: plan.share.start }
}

/// As [`whole_params`], those of the share alone, in shards of `len` elements.
pub(super) fn param_shards<'a>(
    plan: &StepPlan,
    companion: Option<&'a mut Numbers>,
    params: HostSliceMut<'a>,
    len: usize,
) -> impl Iterator<Item = ParamSliceMut<'a>> {
    let format = plan.settings.precision.params;
    let mut companions = companion.map(|numbers| numbers.as_mut().chunks(len));
    params.sub_slice(plan.share.clone()).chunks(len).map(move |seen| ParamSliceMut {
        format,
        seen,
        companion: companions.as_mut().and_then(Iterator::next),
    })
}

/// The rule's own states.
pub(super) fn own_states<'a>(plan: &'a StepPlan, state: &'a CpuState) -> Vec<StateSlice<'a>> {
    let slice = |number: usize| state.states[number].1.as_slice();
    let own = (0..plan.rule.own_states()).map(|number| {
        let coded = plan.coded.iter().find(|coded| coded.codes == number);
        match (coded, slice(number)) {
            (Some(coded), HostSlice::Dynamic8(codes) | HostSlice::Companded8(codes)) => StateSlice::Coded {
                map: coded.map,
                codes,
                scales: slice(coded.scales).as_f32().unwrap_or_default(),
                small: coded.small.and_then(|small| slice(small).as_f32()).unwrap_or_default(),
                parts: &plan.f32_parts,
            },
            (_, numbers) => StateSlice::Single(numbers),
        }
    });
    own.collect()
}

/// The rule's states and those of its transforms, then the one that completes the parameters.
pub(super) fn states_mut<'a>(
    plan: &'a StepPlan,
    states: &'a mut [(String, Numbers)],
) -> (Vec<StateSliceMut<'a>>, Option<&'a mut Numbers>) {
    let mut numbers: Vec<Option<&mut Numbers>> = states.iter_mut().map(|(_, numbers)| Some(numbers)).collect();
    let mut take = |number: usize| numbers[number].take();
    let companion = plan.companion().and_then(&mut take);
    let mut take_f32 = |number: Option<usize>| {
        let numbers = number.and_then(&mut take);
        numbers.and_then(|numbers| numbers.as_mut().into_f32()).unwrap_or_default()
    };
    let mut parts: Vec<_> =
        plan.coded.iter().map(|coded| (coded, take_f32(Some(coded.scales)), take_f32(coded.small))).collect();
    let slices = numbers.into_iter().take(plan.rule_states()).enumerate().filter_map(|(number, numbers)| {
        let coded = parts.iter().position(|(coded, ..)| coded.codes == number).map(|at| parts.swap_remove(at));
        Some(match (coded, numbers?.as_mut()) {
            (Some((coded, scales, small)), HostSliceMut::Dynamic8(codes) | HostSliceMut::Companded8(codes)) => {
                StateSliceMut::Coded { map: coded.map, codes, scales, small, parts: &plan.f32_parts }
            }
            (_, numbers) => StateSliceMut::Single(numbers),
        })
    });
    (slices.collect(), companion)
}
