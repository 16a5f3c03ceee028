//! The step on the CPU: for machines without a GPU, and what tests compare the device with.

mod accumulate;
mod auxiliary;
#[cfg(feature = "safetensors")]
mod checkpoint;
mod given_states;
mod memory;
mod snapshot;

pub use snapshot::CpuSnapshot;

use crate::error::WITH_PADDING;
use crate::factors::{FactorValues, NAMES};
use crate::kernels::accumulate::accumulate;
use crate::kernels::auxiliary_update::auxiliary_update;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::{ControlBlock, NONE, StepHead};
use crate::kernels::decide::decide;
use crate::kernels::factor_partials::factor_partials;
use crate::kernels::factor_row_mean::factor_row_mean;
use crate::kernels::factor_update::factor_update;
use crate::kernels::global_norm::global_norm;
use crate::kernels::metrics_reduce::metrics_reduce;
use crate::kernels::metrics_total::metrics_total;
use crate::kernels::part_sums::StepInputs;
use crate::kernels::percentile::Norms;
use crate::kernels::scaled_sum::ScaledSum;
use crate::kernels::segment_reduce::segment_reduce;
use crate::kernels::segment_update::segment_update;
use crate::kernels::update::update;
use crate::kernels::update_elements::{ElementTables, SegmentRow, Shard, StepContext};
use crate::kernels::update_single_pass::update_single_pass;
use crate::metrics::{History, HostHistory, Stats};
use crate::plan::{Pass, PlanSettings, StepKind, StepPlan};
use crate::rule::four;
use crate::segments::Segments;
use crate::storage::HostSlice;
use crate::tile::TILE_LEN;
use crate::{Error, Layout, parallel};
use memory::StateMemory;

/// Minimum elements of a shard: as many as the caches hold after a pass over the gradients.
const MIN_SHARD_LEN: usize = 16 * TILE_LEN;
/// Shards per thread where nothing was read before: few, since memory is read best from one end to the other.
const SHARDS_PER_THREAD: usize = 4;

/// The optimizer over slices of host memory, with the numerics of the kernels.
///
/// Made by [`OptimizerBuilder::build_cpu`](crate::OptimizerBuilder::build_cpu). Feature `rayon` adds threads; results do not
/// depend on their number.
///
/// ```
/// use wgpu_optim::{Layout, Optimizer, Sgd};
/// let layout = Layout::flat(3)?;
/// let mut optimizer = Optimizer::builder(Sgd::default().with_lr(0.5)).build_cpu(&layout)?;
/// let mut params = [1.0, 2.0, 3.0];
/// let stats = optimizer.step(&mut params, &[2.0, 0.0, -2.0])?;
/// assert_eq!(params, [0.0, 2.0, 4.0]);
/// assert_eq!(stats.step, 1);
/// # Ok::<(), wgpu_optim::Error>(())
/// ```
#[derive(Debug)]
pub struct CpuOptimizer {
    plan: StepPlan,
    powers: BiasPowers,
    state: CpuState,
}

/// Everything that steps change, except the position in the schedule.
#[derive(Debug, Clone)]
struct CpuState {
    control: ControlBlock,
    states: Vec<(String, StateMemory)>,
    /// One row per segment of the rule's sums.
    segments: Vec<SegmentRow>,
    factors: Option<FactorValues>,
    norms: Option<Norms>,
    history: Option<HostHistory>,
    /// The metric sums of the last sampled step, as in the device's records; empty without metrics.
    metrics: Vec<u8>,
    /// The copy that `eval` makes for `train`.
    training_params: Vec<f32>,
    /// The weighted sum of gradients since the last step; empty unless the optimizer accumulates.
    accumulated: Vec<f32>,
}

/// Results of the passes of one step, for later passes.
struct StepProgress {
    context: StepContext,
    tile_sums: Vec<ScaledSum>,
    part_sums: Vec<[f32; 4]>,
    metric_part_sums: Vec<[[f32; 4]; 2]>,
}

impl CpuOptimizer {
    pub(crate) fn new(settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let plan = StepPlan::new(settings, layout)?;
        let spec = plan.rule.spec();
        let powers = BiasPowers::new(&spec.bias_corrected);
        let states = plan.rule.states().enumerate();
        let states = states
            .map(|(number, state)| (state.name.to_string(), StateMemory::new(number, state.initial, plan.layout.len())))
            .collect();
        let row = SegmentRow { sums: [0.0; 4], state: four(&plan.rule.initial_tensor_state()) };
        let segments = vec![row; plan.segments.as_ref().map_or(0, Segments::count)];
        let clip_value = plan.rule.clip_value().map(|clip| clip.bound);
        let state = CpuState {
            control: ControlBlock::new(&powers, plan.rule.first_scalars(), clip_value),
            states,
            segments,
            factors: plan.factors.as_ref().map(FactorValues::new),
            norms: plan.norm_window().map(Norms::new),
            history: plan.ring_size().map(HostHistory::new),
            metrics: plan.sampler.as_ref().map_or(Vec::new(), |sampler| sampler.record(0, &[])),
            training_params: Vec::new(),
            accumulated: vec![0.0; if settings.accumulates { layout.len() } else { 0 }],
        };
        Ok(Self { plan, powers, state })
    }

    /// One step: updates `params`. Both slices hold [`Layout::len`] elements; gradients come in the format of
    /// [`OptimizerBuilder::grad_dtype`](crate::OptimizerBuilder::grad_dtype).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DtypeMismatch`], [`Error::EvaluationMode`], and those of
    /// [`Schedule::lr`](crate::Schedule::lr); nothing has changed then.
    pub fn step<'a>(&mut self, params: &mut [f32], grads: impl Into<HostSlice<'a>>) -> Result<Stats, Error> {
        let grads = grads.into();
        self.plan.check_training("step")?;
        self.check_len("params", params.len())?;
        self.check_len("grads", grads.len())?;
        let kind = self.plan.next_kind();
        self.check_dtype(grads, kind)?;
        let head = self.plan.next_head()?;
        if self.plan.cycles_momentum() {
            self.powers = BiasPowers::new(&self.plan.rule.spec().bias_corrected);
        }
        self.run(kind, &head, params, grads);
        let CpuState { control, metrics, history, .. } = &mut self.state;
        if let Some(history) = history {
            history.keep(self.plan.decoder().record_size(), self.plan.state.recorded, control, metrics);
        }
        Ok(self.stats())
    }

    /// Runs the passes of a step.
    fn run(&mut self, kind: StepKind, head: &StepHead, params: &mut [f32], grads: HostSlice<'_>) {
        let mut progress = StepProgress {
            context: StepContext::new(&self.state.control, head, [1.0; 2], 0),
            tile_sums: Vec::new(),
            part_sums: Vec::new(),
            metric_part_sums: Vec::new(),
        };
        for pass in self.plan.passes(kind) {
            self.run_pass(pass, head, &mut progress, params, grads);
            let is_skipped = pass == Pass::Decide && self.state.control.apply == 0;
            if is_skipped {
                return;
            }
        }
    }

    fn run_pass(
        &mut self,
        pass: Pass,
        head: &StepHead,
        progress: &mut StepProgress,
        params: &mut [f32],
        grads: HostSlice<'_>,
    ) {
        let Self { plan, powers, state } = self;
        let (rule, context) = (&plan.rule, progress.context);
        match pass {
            Pass::GlobalNorm => {
                let tiles = (0..plan.layout.len()).step_by(TILE_LEN).collect();
                progress.tile_sums = parallel::map(tiles, |start: usize| {
                    let mut scratch = Vec::new();
                    let grad = grads.load(start..plan.layout.len().min(start + TILE_LEN), &mut scratch);
                    global_norm(plan.norm_order(), grad, start, &plan.groups)
                });
            }
            Pass::Decide => {
                let norms = state.norms.as_mut();
                decide(&mut state.control, plan.norm_order(), &progress.tile_sums, norms, head, powers, rule);
                progress.context = StepContext::new(&state.control, head, state.control.grad_factors, 1);
            }
            Pass::FactorPartials | Pass::FactorUpdate | Pass::FactorRowMean => {
                let (Some(mut values), Some(factors)) = (state.factors.take(), &plan.factors) else { return };
                match pass {
                    Pass::FactorPartials => {
                        let inputs = inputs(plan, state, params, grads);
                        factor_partials(&mut values, factors, &context, &inputs);
                    }
                    Pass::FactorUpdate => factor_update(&mut values, rule, factors, &context),
                    _ => factor_row_mean(&mut values, rule, factors),
                }
                state.factors = Some(values);
            }
            Pass::SegmentReduce => {
                let Some(segments) = &plan.segments else { return };
                let inputs = inputs(plan, state, params, grads);
                let reduce = |part| segment_reduce(rule, &context, &inputs, part);
                progress.part_sums = parallel::map(segments.parts().to_vec(), reduce);
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
                let inputs = inputs(plan, state, params, grads);
                let reduce = |part| metrics_reduce(rule, &context, &inputs, part);
                progress.metric_part_sums = parallel::map(sampler.segments.parts().to_vec(), reduce);
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
                map_shards(plan, state, params, MIN_SHARD_LEN, true, |tables, shard| {
                    update(rule, tables, &context, grads, shard)
                });
            }
            Pass::UpdateSinglePass => {
                let context = update_single_pass(&mut state.control, head, powers, rule);
                let len = MIN_SHARD_LEN.max(shard_len(plan));
                let findings = map_shards(plan, state, params, len, false, |tables, shard| {
                    update(rule, tables, &context, grads, shard)
                });
                let first_nonfinite = findings.into_iter().min();
                let t = state.control.step as usize;
                state.control.first_nonfinite[t & 1] = first_nonfinite.unwrap_or(NONE);
            }
            Pass::Accumulate => {
                let len = MIN_SHARD_LEN.max(shard_len(plan));
                let shards = params.chunks_mut(len).enumerate().collect();
                parallel::map(shards, |(i, accumulated): (usize, &mut [f32])| {
                    accumulate(&plan.groups, head.lr, grads, i * len, accumulated);
                });
            }
            Pass::AuxiliaryUpdate(name) => {
                let context = StepContext { clip_value: f32::INFINITY, ..context };
                let len = MIN_SHARD_LEN.max(shard_len(plan));
                map_shards(plan, state, params, len, false, |tables, shard| {
                    auxiliary_update(rule, name, tables, &context, grads, shard);
                });
            }
        }
    }

    /// The statistics of the last steps, oldest first: see [`Optimizer::history`](crate::Optimizer::history).
    ///
    /// # Errors
    /// [`Error::NoHistory`].
    pub fn history(&self) -> Result<History, Error> {
        let history = self.state.history.as_ref().ok_or(Error::NoHistory)?;
        Ok(history.read(&self.plan.decoder()))
    }

    /// The statistics of the last step.
    pub fn stats(&self) -> Stats {
        self.plan.decoder().decode(&self.state.control, &self.state.metrics).0
    }

    /// The learning rate of the next step.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`](crate::Schedule::lr).
    pub fn lr(&self) -> Result<f64, Error> {
        self.plan.state.lr()
    }

    /// Replaces the schedule by one learning rate from the next step on, as assigning a parameter group's `lr` in PyTorch.
    /// Groups scale it as before; groups with schedules keep them, and a cycled momentum keeps its last value.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless it is 0 or greater and finite in f32; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.plan.set_lr(lr)
    }

    /// Divides all gradients by `scale` from the next step on. Default 1.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless the scale is positive and normal, and so is its inverse.
    pub fn set_grad_scale(&mut self, scale: f32) -> Result<(), Error> {
        self.plan.set_grad_scale(scale)
    }

    /// Allows steps again after [`NonFinite::Stop`](crate::NonFinite::Stop).
    pub fn resume(&mut self) {
        self.state.control.stopped = 0;
    }

    /// Names of the states, in the rule's order.
    pub fn state_names(&self) -> impl Iterator<Item = &str> {
        let factors = self.state.factors.as_ref().map_or(&[][..], |_| &NAMES);
        self.state.states.iter().map(|(name, _)| name.as_str()).chain(factors.iter().copied())
    }

    /// One state over the flat space, by the rule's name for it (`exp_avg`, …). A factored state
    /// ([`Rule::factored`](crate::Rule::factored)) holds the factors of each tensor that has them, in the layout's order.
    pub fn state(&self, name: &str) -> Option<&[f32]> {
        if let (Some(factors), Some(range)) = (&self.state.factors, self.factor_range(name)) {
            return Some(&factors.values[range]);
        }
        self.state.states.iter().find(|(state, _)| state == name).map(|(_, values)| &values[..])
    }

    /// As [`CpuOptimizer::state`], to change it. Writing states does not restore an optimizer:
    /// [`CpuOptimizer::set_applied_steps`] sets step counter, bias corrections and schedule.
    pub fn state_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let range = self.factor_range(name);
        if let (Some(factors), Some(range)) = (&mut self.state.factors, range) {
            return Some(&mut factors.values[range]);
        }
        self.state.states.iter_mut().find(|(state, _)| state == name).map(|(_, values)| &mut values[..])
    }

    fn factor_range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        self.plan.factors.as_ref()?.range(name)
    }

    /// Refuses gradients in another storage format than that kind of step takes.
    fn check_dtype(&self, grads: HostSlice<'_>, kind: StepKind) -> Result<(), Error> {
        let (expected, actual) = (self.plan.input_dtype(kind), grads.dtype());
        if expected == actual { Ok(()) } else { Err(Error::DtypeMismatch { what: "grads", expected, actual }) }
    }

    fn check_len(&self, what: &'static str, actual: usize) -> Result<(), Error> {
        let (expected, actual) = (self.plan.layout.len() as u64, actual as u64);
        if expected == actual {
            return Ok(());
        }
        Err(Error::LengthMismatch { what, expected, actual, remedy: WITH_PADDING })
    }
}

fn inputs<'a>(plan: &'a StepPlan, state: &'a CpuState, param: &'a [f32], grad: HostSlice<'a>) -> StepInputs<'a> {
    StepInputs {
        param,
        grad,
        states: state.states.iter().take(plan.rule.own_states()).map(|(_, state)| &state[..]).collect(),
        factors: plan.factors.as_ref().zip(state.factors.as_ref()),
        groups: &plan.groups,
        segments: &state.segments,
    }
}

/// Elements of each of a few shards per thread.
fn shard_len(plan: &StepPlan) -> usize {
    (plan.layout.len() / (SHARDS_PER_THREAD * parallel::threads())).next_multiple_of(TILE_LEN)
}

/// Cuts the flat space into shards of `len` elements, and calls `f` for each.
fn map_shards<T: Send>(
    plan: &StepPlan,
    state: &mut CpuState,
    params: &mut [f32],
    len: usize,
    last_first: bool,
    f: impl Fn(ElementTables<'_>, Shard<'_>) -> T + Sync + Send,
) -> Vec<T> {
    let factors = plan.factors.as_ref().zip(state.factors.as_ref());
    let own_states = plan.rule.own_states();
    let tables = ElementTables { groups: &plan.groups, own_states, segments: &state.segments, factors };
    let mut states: Vec<_> = state.states.iter_mut().map(|(_, state)| state.chunks_mut(len)).collect();
    let shard = |(i, param)| {
        let states = states.iter_mut().filter_map(Iterator::next).collect();
        Shard { start: i * len, param, states }
    };
    let mut shards: Vec<_> = params.chunks_mut(len).enumerate().map(shard).collect();
    if last_first {
        shards.reverse();
    }
    parallel::map(shards, |shard| f(tables, shard))
}
