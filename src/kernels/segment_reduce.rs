use super::part_sums::{NO_COLUMNS, Whole, lanes_of, sum_item};
use super::update_elements::WholeStep;
use crate::rule::{MeasuredElements, Rule, Step};
use crate::segments::Item;
use crate::tile::reduce;

/// One tensor: the sums over it, and the rule's states.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TensorRow {
    pub(crate) measured: [f32; 4],
    pub(crate) state: [f32; 4],
}

impl TensorRow {
    pub(crate) fn new(state: [f32; 4]) -> Self {
        Self { measured: [0.0; 4], state }
    }
}

/// The rule's sums over one item. Twin of `shaders/measure.wgsl`.
pub(crate) fn measure(rule: &dyn Rule, step: &WholeStep, whole: &Whole<'_>, item: Item) -> [f32; 4] {
    let mut sums = vec![NO_COLUMNS; rule.measures().len()];
    sum_item(whole, step, item, |run| {
        // What is there is of the step before.
        let step = Step { measured: [0.0; 4], ..run.step };
        rule.measure(MeasuredElements::new(run, &mut sums), &step);
    });
    reduce(&mut lanes_of(&sums), add)
}

pub(crate) fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| a[i] + b[i])
}
