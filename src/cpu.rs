//! The step on the CPU: for machines without a GPU, and what tests compare the device with.

mod accumulate;
mod auxiliary;
#[cfg(feature = "safetensors")]
mod checkpoint;
mod given_states;
mod memory;
mod missing;
mod mode;
mod passes;
mod remap;
mod rows;
mod snapshot;
mod state_slices;

pub use remap::CpuRemap;
pub use snapshot::CpuSnapshot;

use crate::error::check_len;
use crate::factors::{FactorValues, NAMES};
use crate::host::{HostSlice, HostSliceMut};
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::ControlBlock;
use crate::kernels::loss_scale::LossScale;
use crate::kernels::percentile::Norms;
use crate::kernels::row_steps::RowSteps;
use crate::kernels::tensor_steps::TensorStep;
use crate::kernels::update_elements::SegmentRow;
use crate::metrics::{History, HostHistory, Stats};
use crate::plan::{Exchange, PlanSettings, StepKind, StepPlan};
use crate::rule::{StateSpec, four};
use crate::segments::Segments;
use crate::storage::Dtype;
use crate::{Error, Formats, Layout};
pub(crate) use memory::Numbers;

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
    pub(crate) plan: StepPlan,
    powers: BiasPowers,
    state: CpuState,
}

/// Everything that steps change, except the position in the schedule.
#[derive(Debug, Clone)]
struct CpuState {
    control: ControlBlock,
    states: Vec<(String, Numbers)>,
    /// One row per segment of the rule's sums.
    segments: Vec<SegmentRow>,
    factors: Option<FactorValues>,
    /// The steps of each tensor; empty unless gradients may be missing.
    tensor_steps: Vec<TensorStep>,
    norms: Option<Norms>,
    loss_scale: Option<LossScale>,
    history: Option<HostHistory>,
    /// The metric sums of the last sampled step, as in the device's records; empty without metrics.
    metrics: Vec<u8>,
    /// The copy that `eval` and `perturb` make for `train`.
    training_params: Option<Numbers>,
    /// The weighted sum of gradients since the last step; empty unless the optimizer accumulates.
    accumulated: Vec<f32>,
    /// The step counts of rows, if each has one.
    row_steps: Option<RowSteps>,
}

impl CpuOptimizer {
    pub(crate) fn new(settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let plan = StepPlan::new(settings, layout)?;
        let spec = plan.rule.spec();
        let powers = BiasPowers::new(&spec.bias_corrected);
        let numbers = |(number, state): (usize, &StateSpec)| {
            (state.name.to_string(), Numbers::new(number, state.dtype, state.initial, plan.state_len(number)))
        };
        let states = plan.states.iter().enumerate().map(numbers).collect();
        let row = SegmentRow { sums: [0.0; 4], state: four(&plan.rule.initial_tensor_state()) };
        let segments = vec![row; plan.segments.as_ref().map_or(0, Segments::count)];
        let state = CpuState {
            control: plan.first_block(&powers),
            states,
            segments,
            factors: plan.factors.as_ref().map(FactorValues::new),
            tensor_steps: plan.tensor_steps(0).unwrap_or_default(),
            norms: plan.norm_window().map(Norms::new),
            loss_scale: plan.settings.grad_scaler.as_ref().map(LossScale::new),
            history: plan.ring_size().map(HostHistory::new),
            metrics: plan.sampler.as_ref().map_or(Vec::new(), |sampler| sampler.record(0, &[])),
            training_params: None,
            row_steps: plan.row_steps(0),
            accumulated: vec![0.0; if settings.accumulates { layout.len() } else { 0 }],
        };
        Ok(Self { plan, powers, state })
    }

    /// One step: updates `params`. Both slices hold [`Layout::len`] elements in the formats of
    /// [`OptimizerBuilder::precision`](crate::OptimizerBuilder::precision).
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::DtypeMismatch`], [`Error::EvaluationMode`], and those of
    /// [`Schedule::lr`](crate::Schedule::lr); nothing has changed then.
    pub fn step<'a, 'b>(
        &mut self,
        params: impl Into<HostSliceMut<'b>>,
        grads: impl Into<HostSlice<'a>>,
    ) -> Result<Stats, Error> {
        self.step_shared(params.into(), grads.into(), &mut |_, _, _| Ok::<_, Error>(()))
    }

    /// As [`CpuOptimizer::step`], with sums of parts that others compute: see `run_shared`.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::step`]; nothing has changed then. Those of `exchange`.
    pub(crate) fn step_shared<E: From<Error>>(
        &mut self,
        mut params: HostSliceMut<'_>,
        grads: HostSlice<'_>,
        exchange: &mut Exchange<'_, E>,
    ) -> Result<Stats, E> {
        self.check_step(params.as_slice(), grads)?;
        let kind = self.plan.next_kind();
        let head = self.plan.next_head()?;
        self.restore_training_params(params.reborrow());
        if self.plan.cycles_momentum() {
            self.powers = BiasPowers::new(&self.plan.rule.spec().bias_corrected);
        }
        self.run_shared(kind, &head, params, grads, exchange)?;
        let CpuState { control, metrics, history, .. } = &mut self.state;
        if let Some(history) = history {
            history.keep(self.plan.decoder().record_size(), self.plan.state.recorded, control, metrics);
        }
        Ok(self.stats())
    }

    /// Refuses parameters and gradients that the next step cannot take.
    pub(crate) fn check_step(&self, params: HostSlice<'_>, grads: HostSlice<'_>) -> Result<(), Error> {
        self.plan.check_step()?;
        self.check_params(params)?;
        self.check_len("grads", grads.len())?;
        self.check_dtype(grads, self.plan.next_kind())
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

    /// The scale to multiply the loss by before the next step; `None` without a
    /// [`GradScaler`](crate::GradScaler).
    pub fn loss_scale(&self) -> Option<f32> {
        self.state.loss_scale.map(|loss_scale| loss_scale.scale)
    }

    /// Allows steps again after [`NonFinite::Stop`](crate::NonFinite::Stop).
    pub fn resume(&mut self) {
        self.state.control.stopped = 0;
    }

    /// The storage formats of parameters, gradients and states.
    pub fn formats(&self) -> Formats {
        self.plan.formats()
    }

    /// Names of the states, in the rule's order, then the one that completes the parameters.
    pub fn state_names(&self) -> impl Iterator<Item = &str> {
        let factors = self.state.factors.as_ref().map_or(&[][..], |_| &NAMES);
        self.state.states.iter().map(|(name, _)| name.as_str()).chain(factors.iter().copied())
    }

    /// One state over the flat space, by the rule's name for it (`exp_avg`, …). A factored state
    /// ([`Rule::factored`](crate::Rule::factored)) holds the factors of each tensor that has them, in the layout's order.
    pub fn state(&self, name: &str) -> Option<HostSlice<'_>> {
        if let (Some(factors), Some(range)) = (&self.state.factors, self.factor_range(name)) {
            return Some((&factors.values[range]).into());
        }
        self.state.states.iter().find(|(state, _)| state == name).map(|(_, values)| values.as_slice())
    }

    /// As [`CpuOptimizer::state`], to change it. Writing states does not restore an optimizer:
    /// [`CpuOptimizer::set_applied_steps`] sets step counter, bias corrections and schedule.
    pub fn state_mut(&mut self, name: &str) -> Option<HostSliceMut<'_>> {
        let range = self.factor_range(name);
        if let (Some(factors), Some(range)) = (&mut self.state.factors, range) {
            return Some((&mut factors.values[range]).into());
        }
        self.state.states.iter_mut().find(|(state, _)| state == name).map(|(_, values)| values.as_mut())
    }

    fn factor_range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        self.plan.factors.as_ref()?.range(name)
    }

    /// Refuses gradients in another storage format than that kind of step takes.
    fn check_dtype(&self, grads: HostSlice<'_>, kind: StepKind) -> Result<(), Error> {
        check_dtype("grads", self.plan.input_dtype(kind), grads)
    }

    /// Refuses parameters of another length or storage format.
    pub(crate) fn check_params(&self, params: HostSlice<'_>) -> Result<(), Error> {
        self.check_len("params", params.len())?;
        check_dtype("params", self.plan.settings.precision.params.dtype(), params)
    }

    fn check_len(&self, what: &'static str, actual: usize) -> Result<(), Error> {
        check_len(what, self.plan.layout.len(), actual)
    }
}

/// Refuses numbers in another storage format.
fn check_dtype(what: &'static str, expected: Dtype, numbers: HostSlice<'_>) -> Result<(), Error> {
    let actual = numbers.dtype();
    if expected == actual { Ok(()) } else { Err(Error::DtypeMismatch { what, expected, actual }) }
}
