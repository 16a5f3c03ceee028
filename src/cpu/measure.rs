use super::factors::FactorValues;
use super::norm::NORM_BLOCK;
use super::update::{RUN, WholeStep, runs};
use crate::factors::Factors;
use crate::groups::GroupTable;
use crate::rule::{MeasuredElements, Rule};
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

/// Parameters, gradients and states over the whole flat space.
pub(crate) struct Whole<'a> {
    pub(crate) param: &'a [f32],
    pub(crate) grad: &'a [f32],
    pub(crate) states: Vec<&'a [f32]>,
    pub(crate) factors: Option<(&'a Factors, &'a FactorValues)>,
}

/// The rule's sums over one item. Twin of `shaders/measure.wgsl`: lane l adds up elements 4l to 4l + 3 of each of the
/// block's eight rows.
pub(crate) fn measure(
    rule: &dyn Rule,
    groups: &GroupTable,
    step: &WholeStep,
    tensors: &[TensorRow],
    whole: &Whole<'_>,
    item: Item,
) -> [f32; 4] {
    let mut sums = vec![[0.0; RUN]; rule.measures().len()];
    let mut variance = [0.0; RUN];
    let before = TensorRow::new(tensors[item.segment as usize].state);
    for (from, to, span) in groups.covering(item.start, item.end) {
        if !span.live() {
            continue;
        }
        let step_of_span = step.of(groups, span, before);
        // Runs end where rows do, so that each lies in one row of sums.
        for run in runs(from as usize, to as usize, RUN) {
            let grads = step.grads(&whole.grad[run.clone()]);
            let mut states: Vec<&[f32]> = whole.states.iter().map(|state| &state[run.clone()]).collect();
            if let Some((factors, values)) = whole.factors {
                let axes = factors.tensor(item.segment as usize);
                values.write_variance(axes, run.start, &mut variance[..run.len()]);
                states.push(&variance[..run.len()]);
            }
            let column = run.start % NORM_BLOCK % RUN;
            let mut row: Vec<&mut [f32]> = sums.iter_mut().map(|sums| &mut sums[column..column + run.len()]).collect();
            let elements = MeasuredElements::new(&whole.param[run.clone()], grads, &states, &mut row);
            rule.measure(elements, &step_of_span);
        }
    }
    reduce(over_lanes(&sums))
}

/// The sums of each lane, which has four elements of a row.
pub(crate) fn over_lanes(sums: &[[f32; RUN]]) -> [[f32; 4]; 256] {
    let mut lanes = [[0.0; 4]; 256];
    for (name, sums) in sums.iter().enumerate() {
        for (lane, sum) in lanes.iter_mut().zip(sums.chunks_exact(4)) {
            lane[name] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        }
    }
    lanes
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
