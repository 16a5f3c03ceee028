//! Makes a failing case small.

use std::time::{Duration, Instant};

use wgpu_optim::{Dtype, GroupOptions};

use crate::case::{Call, Case, Place};

/// Applies changes as long as `fails` holds, until none helps or the time is up.
pub fn shrink(mut case: Case, limit: Duration, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let start = Instant::now();
    'again: loop {
        for candidate in candidates(&case) {
            if start.elapsed() > limit {
                return case;
            }
            if candidate != case && fails(&candidate) {
                case = candidate;
                continue 'again;
            }
        }
        return case;
    }
}

/// Simpler cases, the greatest simplifications first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Case)| {
        let mut candidate = case.clone();
        change(&mut candidate);
        let without_ranges = Case { ranges: Vec::new(), ..candidate.clone() };
        let len = without_ranges.layout().map_or(0, |layout| layout.len());
        for (start, end, _) in &mut candidate.ranges {
            (*start, *end) = ((*start).min(len), (*end).min(len));
        }
        all.push(candidate);
    };
    let calls = case.calls.len();
    add(&|case| case.calls.truncate(calls / 2));
    add(&|case| drop(case.calls.drain(..calls / 2)));
    for i in (0..calls).rev() {
        add(&|case| drop(case.calls.remove(i)));
    }
    for i in (0..case.tensors.len()).filter(|_| case.tensors.len() > 1) {
        add(&|case| drop(case.tensors.remove(i)));
    }
    add(&|case| case.schedule = None);
    add(&|case| case.history = None);
    add(&|case| case.clip = None);
    add(&|case| case.sam = None);
    add(&|case| case.on_nonfinite = None);
    add(&|case| case.max_consecutive_skips = None);
    add(&|case| case.grad_dtype = Dtype::F32);
    add(&|case| case.packed = true);
    add(&|case| case.param_places.clear());
    add(&|case| case.grad_places.clear());
    add(&|case| case.groups.clear());
    add(&|case| case.ranges.clear());
    for i in 0..case.ranges.len() {
        add(&|case| drop(case.ranges.remove(i)));
    }
    for i in 0..case.groups.len() {
        add(&|case| drop(case.groups.remove(i)));
        add(&|case| case.groups[i].1 = GroupOptions::default().frozen());
        add(&|case| case.groups[i].1 = GroupOptions::default().with_lr_scale(0.5));
    }
    for key in case.rule.as_object().into_iter().flat_map(|fields| fields.keys()).filter(|key| *key != "name") {
        add(&|case| drop(case.rule.as_object_mut().and_then(|fields| fields.remove(key))));
    }
    for i in 0..case.tensors.len() {
        add(&|case| case.tensors[i].group = None);
        for dim in 0..case.tensors[i].shape.len() {
            for shorter in [1, case.tensors[i].shape[dim] / 2, case.tensors[i].shape[dim].saturating_sub(1)] {
                add(&|case| case.tensors[i].shape[dim] = case.tensors[i].shape[dim].min(shorter));
            }
        }
    }
    for i in 0..case.param_places.len() {
        add(&|case| drop(case.param_places.remove(i)));
        for place in simpler_places(&case.param_places[i]) {
            add(&|case| case.param_places[i] = place.clone());
        }
    }
    for i in 0..case.grad_places.len() {
        add(&|case| drop(case.grad_places.remove(i)));
        for place in simpler_places(&case.grad_places[i]) {
            add(&|case| case.grad_places[i] = place.clone());
        }
    }
    for i in 0..calls {
        for call in simpler_calls(&case.calls[i]) {
            add(&|case| case.calls[i] = call.clone());
        }
        if let Call::Together(calls) = &case.calls[i] {
            add(&|case| drop(case.calls.splice(i..=i, calls.clone())));
        }
    }
    all
}

fn simpler_places(place: &Place) -> Vec<Place> {
    match place {
        Place::Whole => Vec::new(),
        Place::Cut { at, ahead, one_buffer } => {
            let without = (0..at.len()).map(|i| [&at[..i], &at[i + 1..]].concat());
            let halved = (0..at.len()).map(|i| {
                let mut at = at.clone();
                at[i] /= 2;
                at
            });
            let cut = |at| Place::Cut { at, ahead: *ahead, one_buffer: *one_buffer };
            let plain = Place::Cut { at: at.clone(), ahead: 0, one_buffer: false };
            [Place::Whole, plain].into_iter().chain(without.chain(halved).map(cut)).collect()
        }
        Place::Tensors { .. } => vec![Place::Whole, Place::Tensors { ahead: 0, one_buffer: false }],
        Place::Slice { ahead } => vec![Place::Whole, Place::Slice { ahead: (*ahead).min(1) }],
        Place::Rounded => vec![Place::Whole],
    }
}

fn simpler_calls(call: &Call) -> Vec<Call> {
    match call {
        Call::Step(of) | Call::UpdateHessian(of) => {
            let mut all = vec![of.clone(); 4];
            all[0].bad.clear();
            all[1].bad.pop();
            all[2].magnitude = 1.0;
            all[3].place = 0;
            let is_step = matches!(call, Call::Step(_));
            all.into_iter().map(|of| if is_step { Call::Step(of) } else { Call::UpdateHessian(of) }).collect()
        }
        Call::Together(calls) => fewer(calls).map(Call::Together).collect(),
        Call::Dropped(calls) => fewer(calls).map(Call::Dropped).collect(),
        Call::DroppedLate { dropped, then, submits_first } => {
            let late = |dropped, then| Call::DroppedLate { dropped, then, submits_first: *submits_first };
            let fewer_dropped = fewer(dropped).map(|dropped| late(dropped, then.clone()));
            fewer_dropped.chain(fewer(then).map(|then| late(dropped.clone(), then))).collect()
        }
        Call::SetAppliedSteps(steps) => vec![Call::SetAppliedSteps(steps / 2)],
        _ => Vec::new(),
    }
}

/// The calls without one of them, or with a simpler one.
fn fewer(calls: &[Call]) -> impl Iterator<Item = Vec<Call>> {
    let without = (0..calls.len()).map(|i| [&calls[..i], &calls[i + 1..]].concat());
    let simpler = (0..calls.len()).flat_map(move |i| {
        simpler_calls(&calls[i]).into_iter().map(move |call| [&calls[..i], &[call], &calls[i + 1..]].concat())
    });
    without.chain(simpler)
}
