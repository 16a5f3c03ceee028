use super::items::{Whole, lanes_of, sum_item};
use super::update::{RUN, WholeStep};
use crate::rule::{MeasuredElements, Rule, Step};
use crate::segments::Item;

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
    let mut sums = vec![[0.0; RUN]; rule.measures().len()];
    sum_item(whole, step, item, &mut sums, |run, sums| {
        // What is there is of the step before.
        let step = Step { measured: [0.0; 4], ..run.step };
        rule.measure(MeasuredElements::new(run.param, run.grads, run.states, sums), &step);
    });
    reduce(lanes_of(&sums))
}

/// The sums over the 256 lanes of a workgroup, as a tree of fixed shape. Twin of `shaders/reduce.wgsl`.
pub(crate) fn reduce(mut lane_sums: [[f32; 4]; 256]) -> [f32; 4] {
    let mut stride = 128;
    while stride > 0 {
        for lane in 0..stride {
            lane_sums[lane] = add(lane_sums[lane], lane_sums[lane + stride]);
        }
        stride /= 2;
    }
    lane_sums[0]
}

pub(crate) fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
    std::array::from_fn(|i| a[i] + b[i])
}
