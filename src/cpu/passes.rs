//! The passes of a step on the CPU.

use std::convert::Infallible;

use super::state_slices::{own_states, param_shards, states_mut, whole_params};
use super::{CpuOptimizer, CpuState};
use crate::host::{HostSlice, HostSliceMut};
use crate::kernels::accumulate::accumulate;
use crate::kernels::auxiliary_update::auxiliary_update;
use crate::kernels::control::{ControlBlock, NONE, StepHead};
use crate::kernels::decide::decide;
use crate::kernels::factor_partials::factor_partials;
use crate::kernels::factor_row_mean::factor_row_mean;
use crate::kernels::factor_update::factor_update;
use crate::kernels::global_norm::global_norm;
use crate::kernels::metrics_reduce::metrics_reduce;
use crate::kernels::metrics_total::metrics_total;
use crate::kernels::part_sums::StepInputs;
use crate::kernels::perturb::perturb;
use crate::kernels::project::project;
use crate::kernels::restore_params::restore_params;
use crate::kernels::row_steps::row_steps;
use crate::kernels::sam_factors::sam_factors;
use crate::kernels::sam_norm::sam_norm;
use crate::kernels::scaled_sum::ScaledSum;
use crate::kernels::segment_reduce::segment_reduce;
use crate::kernels::segment_update::segment_update;
use crate::kernels::tensor_steps::tensor_steps;
use crate::kernels::update::update;
use crate::kernels::update_elements::{ElementTables, Shard, StepContext, Stores};
use crate::kernels::update_single_pass::update_single_pass;
use crate::parallel;
use crate::plan::{Exchange, Pass, StepKind, StepPlan};
use crate::tile::TILE_LEN;

/// Minimum elements of a shard: as many as the caches hold after a pass over the gradients.
const MIN_SHARD_LEN: usize = 16 * TILE_LEN;
/// Shards per thread where nothing was read before: few, since memory is read best from one end to the other.
const SHARDS_PER_THREAD: usize = 4;

/// Results of the passes of one step, for later passes.
struct StepProgress {
    context: StepContext,
    tile_sums: Vec<ScaledSum>,
    part_sums: Vec<[f32; 4]>,
    metric_part_sums: Vec<[[f32; 4]; 2]>,
    /// The factors of gradients in a perturbation.
    perturbation: [f32; 2],
}

impl StepProgress {
    /// The sums of a pass over parts.
    fn sums_of(&mut self, pass: Pass) -> Option<&mut [u8]> {
        match pass {
            Pass::GlobalNorm | Pass::SamNorm => Some(bytemuck::cast_slice_mut(&mut self.tile_sums)),
            Pass::SegmentReduce => Some(bytemuck::cast_slice_mut(&mut self.part_sums)),
            Pass::MetricsReduce => Some(bytemuck::cast_slice_mut(&mut self.metric_part_sums)),
            _ => None,
        }
    }
}

/// The sums of all parts of a pass; 0 for those out of the share.
fn sums_of_own<T: bytemuck::Zeroable + Send + Clone>(
    plan: &StepPlan,
    pass: Pass,
    sum: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    let [first, end, all] =
        [plan.share.start, plan.share.end, plan.layout.len()].map(|end| plan.parts_before(pass, end));
    if all == end - first {
        return parallel::map((0..all).collect(), sum);
    }
    let mut sums = vec![T::zeroed(); first];
    sums.extend(parallel::map((first..end).collect(), sum));
    sums.resize(all, T::zeroed());
    sums
}

impl CpuOptimizer {
    /// Runs the passes of a step.
    pub(super) fn run(&mut self, kind: StepKind, head: &StepHead, params: HostSliceMut<'_>, grads: HostSlice<'_>) {
        let Ok(()) = self.run_shared(kind, head, params, grads, &mut |_, _, _| Ok::<_, Infallible>(()));
    }

    /// As [`CpuOptimizer::run`], with sums of parts that others compute: `exchange` adds them to the bytes of a pass's sums.
    ///
    /// # Errors
    /// Those of `exchange`. Only parameters and states of the passes before it have changed.
    pub(super) fn run_shared<E>(
        &mut self,
        kind: StepKind,
        head: &StepHead,
        mut params: HostSliceMut<'_>,
        grads: HostSlice<'_>,
        exchange: &mut Exchange<'_, E>,
    ) -> Result<(), E> {
        let mut progress = StepProgress {
            context: StepContext::new(&self.state.control, head, [1.0; 2], 0),
            tile_sums: Vec::new(),
            part_sums: Vec::new(),
            metric_part_sums: Vec::new(),
            perturbation: [0.0; 2],
        };
        let mut is_skipped = false;
        for pass in self.plan.passes(kind) {
            // A skipped step counts missing gradients, too.
            if !is_skipped || pass == Pass::TensorSteps {
                self.run_pass(pass, head, &mut progress, params.reborrow(), grads);
                if let Some(sums) = progress.sums_of(pass) {
                    exchange(&self.plan, pass, sums)?;
                }
            }
            is_skipped |= pass == Pass::Decide && self.state.control.apply == 0;
        }
        Ok(())
    }

    fn run_pass(
        &mut self,
        pass: Pass,
        head: &StepHead,
        progress: &mut StepProgress,
        params: HostSliceMut<'_>,
        grads: HostSlice<'_>,
    ) {
        let Self { plan, powers, state } = self;
        let (rule, context) = (&plan.rule, progress.context);
        match pass {
            Pass::GlobalNorm | Pass::SamNorm => {
                let params = whole_params(plan, state, params.as_slice());
                progress.tile_sums = sums_of_own(plan, pass, |tile: usize| {
                    let start = tile * TILE_LEN;
                    let range = start..plan.layout.len().min(start + TILE_LEN);
                    let (mut of_grad, mut of_param) = (Vec::new(), Vec::new());
                    let grad = grads.load(range.clone(), &mut of_grad);
                    match rule.sam().filter(|_| pass == Pass::SamNorm) {
                        Some(sam) => sam_norm(sam, params.load(range, &mut of_param), grad, start, &plan.groups),
                        None => global_norm(plan.norm_order(), grad, start, &plan.groups),
                    }
                });
            }
            Pass::Decide => {
                let norms = state.norms.as_mut();
                let scale = state.loss_scale.as_mut();
                decide(&mut state.control, plan.norm_order(), &progress.tile_sums, norms, scale, head, powers, rule);
                progress.context = StepContext::new(&state.control, head, state.control.grad_factors, 1);
            }
            Pass::RowSteps => {
                let counts = state.row_steps.iter_mut().zip(plan.groups.rows());
                counts.for_each(|(counts, rows)| row_steps(rows, powers, counts));
            }
            Pass::TensorSteps => {
                let missing = plan.groups.missing();
                tensor_steps(&mut state.control, head, powers, rule, missing, &mut state.tensor_steps);
            }
            Pass::FactorPartials | Pass::FactorUpdate | Pass::FactorRowMean => {
                run_factors(pass, plan, state, &context, params.as_slice(), grads);
            }
            Pass::SegmentReduce => {
                let Some(segments) = &plan.segments else { return };
                let inputs = inputs(plan, state, params.as_slice(), grads);
                let reduce = |part: usize| segment_reduce(rule, &context, &inputs, segments.parts()[part]);
                progress.part_sums = sums_of_own(plan, pass, reduce);
            }
            Pass::SegmentUpdate => {
                let Some(segments) = &plan.segments else { return };
                for (number, (row, parts)) in state.segments.iter_mut().zip(segments.ranges()).enumerate() {
                    let own = segments.is_own(number, parts.clone());
                    segment_update(rule, &context, own.zip(progress.part_sums[parts].iter().copied()), row);
                }
            }
            Pass::MetricsReduce => {
                let Some(sampler) = &plan.sampler else { return };
                let inputs = inputs(plan, state, params.as_slice(), grads);
                let reduce = |part: usize| metrics_reduce(rule, &context, &inputs, sampler.segments.parts()[part]);
                progress.metric_part_sums = sums_of_own(plan, pass, reduce);
            }
            Pass::MetricsTotal => {
                let Some(sampler) = &plan.sampler else { return };
                let sums = sampler.segments.ranges().enumerate().map(|(number, parts)| {
                    let own = sampler.segments.is_own(number, parts.clone());
                    metrics_total(&own.zip(progress.metric_part_sums[parts].iter().copied()))
                });
                let ControlBlock { step, skipped, .. } = state.control;
                state.metrics = sampler.record(step.wrapping_add(skipped), &sums.collect::<Vec<_>>());
            }
            Pass::Update => {
                // Begins where the passes before ended: those elements are in the cache.
                map_shards(plan, state, params, (MIN_SHARD_LEN, true), pass, |tables, shard| {
                    update(rule, tables, &context, grads, shard)
                });
            }
            Pass::Project => {
                if let (Some(rows), Some(params)) = (plan.groups.rows(), params.into_f32()) {
                    project(rows, &plan.groups, state.control.step, params);
                }
            }
            Pass::UpdateSinglePass => {
                let context = update_single_pass(&mut state.control, head, powers, rule);
                let len = MIN_SHARD_LEN.max(shard_len(plan));
                let findings = map_shards(plan, state, params, (len, false), pass, |tables, shard| {
                    update(rule, tables, &context, grads, shard)
                });
                let first_nonfinite = findings.into_iter().min();
                let t = state.control.step as usize;
                state.control.first_nonfinite[t & 1] = first_nonfinite.unwrap_or(NONE);
            }
            Pass::SamFactors => {
                let rho = rule.sam().map_or(0.0, |sam| sam.hyperparameters(rule.spec().maximize)[0].1);
                progress.perturbation = sam_factors(rho, &progress.tile_sums);
            }
            Pass::Accumulate => add_grads(plan, head, params, grads),
            Pass::Perturb => perturb_shards(plan, state, progress.perturbation, params, grads),
            Pass::RestoreParams => {
                restore_params(&plan.groups, grads, params);
            }
            Pass::AuxiliaryUpdate(name) => {
                let context = StepContext { clip_value: f32::INFINITY, ..context };
                let len = MIN_SHARD_LEN.max(shard_len(plan));
                map_shards(plan, state, params, (len, false), pass, |tables, shard| {
                    auxiliary_update(rule, name, tables, &context, grads, shard);
                });
            }
        }
    }
}

/// Adds gradients to the accumulator, which takes the place of the parameters.
fn add_grads(plan: &StepPlan, head: &StepHead, accumulator: HostSliceMut<'_>, grads: HostSlice<'_>) {
    let Some(accumulator) = accumulator.into_f32() else { return };
    let len = MIN_SHARD_LEN.max(shard_len(plan));
    let shards = accumulator.chunks_mut(len).enumerate().collect();
    parallel::map(shards, |(i, shard): (usize, &mut [f32])| accumulate(&plan.groups, head.lr, grads, i * len, shard));
}

/// Moves the parameters along the gradients.
fn perturb_shards(
    plan: &StepPlan,
    state: &mut CpuState,
    factors: [f32; 2],
    params: HostSliceMut<'_>,
    grads: HostSlice<'_>,
) {
    let Some(sam) = plan.rule.sam() else { return };
    let len = MIN_SHARD_LEN.max(shard_len(plan));
    let (_, companion) = states_mut(plan, &mut state.states);
    let shards = param_shards(plan, companion, params, len).enumerate().collect();
    let first = plan.share.start;
    parallel::map(shards, |(i, shard)| perturb(sam, factors, &plan.groups, grads, first + i * len, shard));
}

fn run_factors(
    pass: Pass,
    plan: &StepPlan,
    state: &mut CpuState,
    context: &StepContext,
    params: HostSlice<'_>,
    grads: HostSlice<'_>,
) {
    let (Some(mut values), Some(factors)) = (state.factors.take(), &plan.factors) else { return };
    match pass {
        Pass::FactorPartials => {
            let inputs = inputs(plan, state, params, grads);
            factor_partials(&mut values, factors, context, &inputs);
        }
        Pass::FactorUpdate => factor_update(&mut values, &plan.rule, factors, &plan.groups, context),
        _ => factor_row_mean(&mut values, &plan.rule, factors),
    }
    state.factors = Some(values);
}

fn inputs<'a>(plan: &'a StepPlan, state: &'a CpuState, seen: HostSlice<'a>, grad: HostSlice<'a>) -> StepInputs<'a> {
    StepInputs {
        param: whole_params(plan, state, seen),
        grad,
        states: own_states(plan, state),
        first: plan.share.start,
        factors: plan.factors.as_ref().zip(state.factors.as_ref()),
        groups: &plan.groups,
        segments: &state.segments,
    }
}

/// Elements of each of a few shards per thread.
fn shard_len(plan: &StepPlan) -> usize {
    (plan.share.len() / (SHARDS_PER_THREAD * parallel::threads())).next_multiple_of(TILE_LEN)
}

/// Cuts the share into shards of `len` elements, and calls `f` for each.
fn map_shards<T: Send>(
    plan: &StepPlan,
    state: &mut CpuState,
    params: HostSliceMut<'_>,
    (len, last_first): (usize, bool),
    pass: Pass,
    f: impl Fn(ElementTables<'_>, Shard<'_>) -> T + Sync + Send,
) -> Vec<T> {
    let factors = plan.factors.as_ref().zip(state.factors.as_ref());
    let own_states = plan.rule.own_states();
    let row_steps = state.row_steps.as_ref();
    let stores = Stores { writes: StepPlan::written_params(pass), seed: plan.settings.precision.rounding.seed() };
    let tables = ElementTables {
        groups: &plan.groups,
        own_states,
        segments: &state.segments,
        factors,
        row_steps,
        tensor_steps: &state.tensor_steps,
        f32_parts: &plan.f32_parts,
        stores,
    };
    let first = plan.share.start;
    let (states, companion) = states_mut(plan, &mut state.states);
    let mut states: Vec<_> = states.into_iter().map(|state| state.chunks(first, len)).collect();
    let shard = |(i, param)| {
        let states = states.iter_mut().filter_map(Iterator::next).collect();
        Shard { start: first + i * len, param, states }
    };
    let mut shards: Vec<_> = param_shards(plan, companion, params, len).enumerate().map(shard).collect();
    if last_first {
        shards.reverse();
    }
    parallel::map(shards, |shard| f(tables, shard))
}
