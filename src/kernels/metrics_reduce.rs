use super::part_sums::{NO_COLUMNS, Run, Whole, lanes_of, sum_item};
use super::segment_reduce::add;
use super::segment_update::total;
use super::update_elements::WholeStep;
use crate::clip::ClipForm;
use crate::metrics::Totals;
use crate::rule::{Elements, Grads, MeasuredElements, Rule};
use crate::segments::Item;
use crate::tile::reduce;

/// The sums of the last observed step, and how many steps were executed then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    pub(crate) executed: u32,
    pub(crate) totals: Vec<Totals>,
}

/// What a step is about to do, summed over one item. Twin of `shaders/observe.wgsl`.
pub(crate) fn observe(
    rule: &dyn Rule,
    clip: &ClipForm,
    step: &WholeStep,
    whole: &Whole<'_>,
    item: Item,
) -> [[f32; 4]; 2] {
    let (mut sums, mut counts) = (vec![NO_COLUMNS; 4], vec![NO_COLUMNS]);
    sum_item(whole, step, item, |run| {
        rule.count(MeasuredElements::new(run, &mut counts), &run.step);
        let mut updated = run.param.to_vec();
        let mut states: Vec<Vec<f32>> = run.states.iter().map(|state| state.to_vec()).collect();
        let mut states: Vec<&mut [f32]> = states.iter_mut().map(|state| &mut state[..]).collect();
        rule.update(Elements::new(&mut updated, run.grads, &mut states, &mut 0), &run.step);
        let factors = clip.segments.map_or([1.0; 2], |segments| segments.factors(run.step.measured));
        let (all_clipped, clip_value) = (factors[0] < 1.0, step.clip_value);
        // Gradients before they are clipped; the new parameters as if they were a state.
        let grads = Grads { clip_value: f32::INFINITY, ..run.grads };
        MeasuredElements::new(Run { grads, states: &[&updated], ..run }, &mut sums).each(
            #[inline(always)]
            move |param, grad, [updated]| {
                let change = updated - param;
                let clipped = if all_clipped | (grad.abs() > clip_value) { 1.0 } else { 0.0 };
                [grad * grad, param * param, change * change, clipped]
            },
        );
    });
    [sums, counts].map(|sums| reduce(&mut lanes_of(&sums), add))
}

/// Adds the items of one segment up. Twin of `shaders/totals.wgsl`; `sums` as [`total`] has them.
pub(crate) fn totals(sums: &(impl Iterator<Item = (bool, [[f32; 4]; 2])> + Clone)) -> Totals {
    let of = |kind: usize| total(sums.clone().map(move |(is_own, sums)| (is_own, sums[kind])));
    Totals::new(of(0), of(1)[0])
}
