//! The plan of an optimizer's steps: its validated settings, and the passes of each step.

mod checks;
mod pass;
mod row_streams;
mod settings;
mod state;

use std::ops::Range;
use std::sync::Arc;

pub(crate) use pass::{Pass, StepKind};
pub(crate) use row_streams::{NewRows, RowStream, RowStreams, RowValues};
pub(crate) use settings::PlanSettings;
#[cfg(feature = "safetensors")]
pub(crate) use state::SavedPlanState;
pub(crate) use state::{HostScale, Mode, PlanState};

use checks::{
    check_blocks, check_count, check_grad_scale, check_grad_scaler, check_missing_gradients, check_momentum,
    check_projections, check_row_factors, check_row_steps, check_share, f32_parts, states_of,
};
use settings::{NormClip, split_clip};

use crate::error::check;
use crate::factors::Factors;
use crate::groups::GroupTable;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::{CLIP, ControlBlock, EXACT, GIVEN_STATES, SKIP, STOP, StepHead};
use crate::kernels::norm_order::NormOrder;
use crate::kernels::row_steps::RowSteps;
use crate::kernels::tensor_steps::TensorStep;
use crate::kernels::update_elements::check_arity;
use crate::metrics::{HistoryOptions, MetricsSampler, RecordDecoder};
use crate::params::SeenParams;
use crate::rows::RowTable;
use crate::rule::{self, ReduceBy, StateSpec, check_interface, four};
use crate::segments::Segments;
use crate::states::{CodedState, F32Parts};
use crate::storage::{Access, Dtype, StreamSpec};
use crate::tile::TILE_LEN;
use crate::transform::{Average, EVAL, Lookahead, Sam, TransformedRule, Transforms};
use crate::{Clip, Error, Formats, Layout, NonFinite, Rows, Schedule, TensorInfo};

/// The validated settings and the host's state of an optimizer, for both engines.
#[derive(Debug, Clone)]
pub(crate) struct StepPlan {
    pub(crate) rule: TransformedRule,
    pub(crate) groups: GroupTable,
    /// The segments of the rule's sums, if it has any.
    pub(crate) segments: Option<Segments>,
    /// The states that an optimizer keeps: the rule's, those of its transforms, the scales of 8-bit states, the one that
    /// completes the parameters, then the f32 of small tensors.
    pub(crate) states: Vec<StateSpec>,
    /// The states in 8 bits.
    pub(crate) coded: Vec<CodedState>,
    /// The elements whose moments are f32 beside moments of 8 bits.
    pub(crate) f32_parts: F32Parts,
    pub(crate) factors: Option<Factors>,
    /// The sampled steps, if any.
    pub(crate) sampler: Option<Arc<MetricsSampler>>,
    pub(crate) layout: Layout,
    /// The elements that steps update.
    pub(crate) share: Range<usize>,
    pub(crate) settings: PlanSettings,
    clip: NormClip,
    pub(crate) state: PlanState,
}

/// Completes the bytes of a pass's sums over parts, of which the share's are there.
pub(crate) type Exchange<'a, E> = dyn FnMut(&StepPlan, Pass, &mut [u8]) -> Result<(), E> + 'a;

impl StepPlan {
    pub(crate) fn new(settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let max_skips = settings.max_consecutive_skips;
        check(max_skips > 0, "optimizer", "max_consecutive_skips", max_skips.into(), "1 or more")?;
        settings.history.as_ref().map_or(Ok(()), HistoryOptions::validate)?;
        check_grad_scaler(settings)?;
        let schedule = settings.schedule.clone().unwrap_or_else(|| Schedule::constant(settings.rule.spec().lr));
        schedule.validate()?;
        settings.clip.as_ref().map_or(Ok(()), Clip::validate)?;
        let (clip, clip_value, clip_segment) = split_clip(settings.clip);
        let PlanSettings { lookahead, average, sam, .. } = *settings;
        lookahead.as_ref().map_or(Ok(()), Lookahead::validate)?;
        average.as_ref().map_or(Ok(()), Average::validate)?;
        sam.as_ref().map_or(Ok(()), Sam::validate)?;
        let transforms = Transforms { clip_value, clip_segment, lookahead, average, sam };
        let mut rule = TransformedRule::new(settings.rule.clone(), transforms)?;
        let momentum = schedule.momentum_value(0)?.or(settings.momentum);
        if let Some(momentum) = momentum {
            check_momentum(momentum)?;
            rule = rule.with_cycled_momentum(momentum)?;
        }
        rule::validate(rule.rule())?;
        check_interface(rule.rule())?;
        check_arity(&rule)?;
        let share = settings.share.clone().unwrap_or(0..layout.len());
        let parts = f32_parts(&settings.precision, layout);
        let (states, coded) = states_of(settings, &rule, parts.len() > 0)?;
        let f32_parts = if coded.is_empty() { F32Parts::default() } else { parts.within(share.clone()) };
        if settings.misses_gradients {
            check_missing_gradients(settings, &rule, layout)?;
        }
        let initial = four(&rule.initial_tensor_state());
        let mut segments = rule.reduction().map(|reduction| Segments::new(layout, reduction.by(), initial));
        let rows = settings.rows.as_ref().map(|rows| RowTable::new(layout, rows)).transpose()?;
        // Elements look up the steps of their tensor.
        let tensors = settings.misses_gradients.then(|| Segments::new(layout, ReduceBy::Tensor, [0.0; 4]));
        let of_elements = tensors.as_ref().or(segments.as_ref());
        let groups = GroupTable::new(layout, &settings.groups, rule.spec().weight_decay, of_elements, rows)?;
        check_blocks(settings, &coded, &f32_parts, layout, &groups)?;
        if let Some(segments) = &mut segments {
            segments.set_active(groups.segments());
        }
        let mut factors = Factors::new(layout, rule.rule())?;
        if let Some(factors) = &mut factors {
            factors.set_active(layout, &groups);
        }
        check_row_factors(settings)?;
        check_projections(settings)?;
        check_row_steps(settings, &rule)?;
        check_share(settings)?;
        let has_metric = rule.metric().is_some();
        let sample = |options| MetricsSampler::new(layout, &groups, options, has_metric).map(Arc::new);
        let sampler = settings.history.as_ref().and_then(sample);
        Ok(Self {
            rule,
            groups,
            segments,
            states,
            coded,
            f32_parts,
            factors,
            sampler,
            layout: layout.clone(),
            share,
            settings: settings.clone(),
            clip,
            state: PlanState::new(schedule, momentum),
        })
    }

    /// Replaces the schedule by one learning rate.
    pub(crate) fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        let schedule = Schedule::constant(lr);
        schedule.validate()?;
        self.state.set_schedule(schedule);
        Ok(())
    }

    /// Continues at a position in the schedule, from states that the program gives. Returns the position as the number of
    /// applied steps.
    pub(crate) fn set_applied_steps(&mut self, steps: u64) -> Result<u32, Error> {
        // The control block holds the bias correction of step `steps + 2`.
        let allowed = "0 to 4294967293";
        let is_counted = steps <= u64::from(u32::MAX - 2);
        check(is_counted, "optimizer", "applied_steps", steps as f64, allowed)?;
        self.state.set_applied_steps(steps);
        Ok(steps as u32)
    }

    pub(crate) fn check_scalar_states(&self, actual: usize) -> Result<(), Error> {
        check_count("scalar states", self.rule.initial_scalars().len(), actual)
    }

    pub(crate) fn check_tensor_states(&self, actual: usize) -> Result<(), Error> {
        check_count("tensor states", self.segments.as_ref().map_or(0, Segments::count), actual)
    }

    pub(crate) fn set_grad_scale(&mut self, scale: f32) -> Result<(), Error> {
        self.check_sets_scale()?;
        check_grad_scale(scale)?;
        self.state.set_grad_scale(HostScale::Value(scale));
        Ok(())
    }

    /// The scale on the device replaces the value.
    pub(crate) fn set_device_grad_scale(&mut self) -> Result<(), Error> {
        self.check_sets_scale()?;
        self.state.set_grad_scale(HostScale::Buffer);
        Ok(())
    }

    /// Refuses a scale of the program beside a gradient scaler.
    fn check_sets_scale(&self) -> Result<(), Error> {
        if self.settings.grad_scaler.is_some() { Err(Error::OwnGradScale) } else { Ok(()) }
    }

    /// The control block before the first step.
    pub(crate) fn first_block(&self, powers: &BiasPowers) -> ControlBlock {
        let clip_value = self.rule.clip_value().map(|clip| clip.bound);
        let loss_scale = self.settings.grad_scaler.as_ref().map_or(0.0, |scaler| scaler.init_scale as f32);
        ControlBlock::new(powers, self.rule.first_scalars(), clip_value, loss_scale)
    }

    pub(crate) fn norm_order(&self) -> NormOrder {
        self.clip.order
    }

    /// Number of norms for clipping at a percentile of them.
    pub(crate) fn norm_window(&self) -> Option<u32> {
        self.clip.window
    }

    /// Whether the step computes the norm whatever the policy for non-finite gradients.
    fn computes_norm(&self) -> bool {
        let has_scale = self.state.grad_scale.is_some() || self.settings.grad_scaler.is_some();
        self.segments.is_some() || self.clip.is_computed || has_scale
    }

    fn on_nonfinite(&self) -> NonFinite {
        self.settings.on_nonfinite.unwrap_or(if self.computes_norm() { NonFinite::Skip } else { NonFinite::Propagate })
    }

    /// The kind of the next step.
    pub(crate) fn next_kind(&self) -> StepKind {
        if self.sampler.as_ref().is_some_and(|sampler| sampler.samples(self.state.recorded)) {
            return StepKind::Sampled;
        }
        if self.decides() { StepKind::Decided } else { StepKind::SinglePass }
    }

    /// The number of rows, if each has a step count.
    pub(crate) fn row_step_count(&self) -> Option<usize> {
        self.groups.rows().filter(|rows| rows.has_steps()).map(|rows| rows.rows() as usize)
    }

    /// Whether rows have projections.
    fn projects_rows(&self) -> bool {
        self.settings.rows.as_ref().is_some_and(Rows::has_projections)
    }

    /// Refuses a mask of visible rows where averages and slow weights begin with the optimizer's first step: those of rows
    /// hidden in it would begin at 0.
    pub(crate) fn check_mask(&self) -> Result<(), Error> {
        let begins = self.rule.average().is_some() || self.rule.lookahead().is_some();
        if !begins || self.row_step_count().is_some() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: "a mask of visible rows".to_owned(),
            with: "an average or `Lookahead` that begins with the optimizer's first step".to_owned(),
            remedy: "call `Rows::with_row_steps`: they then begin with each row's own first step",
        })
    }

    /// Whether steps without metrics need a decision.
    fn decides(&self) -> bool {
        // A single-pass step reads bias corrections that the previous step computed, with the previous step's betas.
        let corrects_anew = self.cycles_momentum() && !self.rule.spec().bias_corrected.is_empty();
        let checks = self.on_nonfinite() != NonFinite::Propagate;
        // Rows and tensors count their steps after the decision.
        let counts_steps = self.row_step_count().is_some() || self.settings.misses_gradients;
        let has_tables = self.projects_rows() || self.factors.is_some() || counts_steps;
        let is_shared = self.settings.share.is_some();
        self.layout.is_empty() || is_shared || self.computes_norm() || checks || corrects_anew || has_tables
    }

    /// All kinds of step that may be recorded. Setting a gradient scale turns single-pass steps into decided steps.
    pub(crate) fn kinds(&self) -> Vec<StepKind> {
        let mut kinds = vec![StepKind::Decided];
        kinds.extend((!self.decides()).then_some(StepKind::SinglePass));
        kinds.extend(self.sampler.is_some().then_some(StepKind::Sampled));
        kinds.extend(self.settings.accumulates.then_some(StepKind::Accumulate));
        kinds.extend(self.settings.sam.map(|_| StepKind::Perturb));
        kinds.extend(self.check_replaces_params().is_ok().then_some(StepKind::Restore));
        kinds.extend(self.rule.auxiliary_names().iter().map(|name| StepKind::Auxiliary(name)));
        kinds
    }

    /// Whether a step of that kind may be recorded without a change of settings.
    pub(crate) fn may_follow(&self, kind: StepKind) -> bool {
        match kind {
            StepKind::SinglePass => !self.decides(),
            StepKind::Decided => self.decides(),
            StepKind::Sampled
            | StepKind::Auxiliary(_)
            | StepKind::Accumulate
            | StepKind::Perturb
            | StepKind::Restore => true,
        }
    }

    /// The passes of a step, in their order.
    pub(crate) fn passes(&self, kind: StepKind) -> impl Iterator<Item = Pass> + use<> {
        let (decided, sampled) = (kind.is_decided(), kind == StepKind::Sampled);
        let (has_factors, has_sums) = (self.factors.is_some(), self.segments.is_some());
        let auxiliary = match kind {
            StepKind::Auxiliary(name) => Some(Pass::AuxiliaryUpdate(name)),
            _ => None,
        };
        let passes = [
            (Pass::GlobalNorm, decided),
            (Pass::Decide, decided),
            (Pass::RowSteps, decided && self.row_step_count().is_some()),
            (Pass::TensorSteps, decided && self.settings.misses_gradients),
            (Pass::FactorPartials, decided && has_factors),
            (Pass::FactorUpdate, decided && has_factors),
            (Pass::FactorRowMean, decided && has_factors),
            (Pass::SegmentReduce, decided && has_sums),
            (Pass::SegmentUpdate, decided && has_sums),
            (Pass::MetricsReduce, sampled),
            (Pass::MetricsTotal, sampled),
            (Pass::Update, decided),
            (Pass::Project, decided && self.projects_rows()),
            (Pass::UpdateSinglePass, kind == StepKind::SinglePass),
            (Pass::Accumulate, kind == StepKind::Accumulate),
            (Pass::SamNorm, kind == StepKind::Perturb),
            (Pass::SamFactors, kind == StepKind::Perturb),
            (Pass::Perturb, kind == StepKind::Perturb),
            (Pass::RestoreParams, kind == StepKind::Restore),
        ];
        passes.into_iter().filter_map(|(pass, runs)| runs.then_some(pass)).chain(auxiliary)
    }

    /// Count of the parts that a pass sums over and that begin before an element, which no part contains in its middle.
    pub(crate) fn parts_before(&self, pass: Pass, element: usize) -> usize {
        match pass {
            Pass::GlobalNorm | Pass::SamNorm => element.div_ceil(TILE_LEN),
            Pass::SegmentReduce => self.segments.as_ref().map_or(0, |segments| segments.parts_before(element)),
            Pass::MetricsReduce => self.sampler.as_ref().map_or(0, |sampler| sampler.segments.parts_before(element)),
            _ => 0,
        }
    }

    /// The storage format of what takes the place of gradients.
    pub(crate) fn input_dtype(&self, kind: StepKind) -> Dtype {
        match kind {
            // The stored parameters.
            StepKind::Auxiliary(EVAL) | StepKind::Restore => self.settings.precision.params.dtype(),
            StepKind::Auxiliary(_) => Dtype::F32,
            StepKind::Accumulate => self.settings.precision.grads,
            _ if self.settings.accumulates => Dtype::F32,
            _ => self.settings.precision.grads,
        }
    }

    /// Refuses calls that need an accumulator.
    pub(crate) fn check_accumulates(&self) -> Result<(), Error> {
        if self.settings.accumulates { Ok(()) } else { Err(Error::NoAccumulator) }
    }

    /// The options of perturbations; refuses them without.
    pub(crate) fn sam(&self) -> Result<Sam, Error> {
        self.settings.sam.ok_or(Error::NoSam)
    }

    /// Adaptive SAM scales gradients by the parameters.
    pub(crate) fn scales_by_params(&self) -> bool {
        self.settings.sam.is_some_and(|sam| sam.is_adaptive())
    }

    /// The scalars of kernels that read none.
    pub(crate) fn empty_head() -> StepHead {
        StepHead { lr: 0.0, inv_scale: 1.0, clip_limit: f32::MAX, flags: 0 }
    }

    /// The scalars of adding gradients to the accumulator.
    pub(crate) fn accumulate_head(weight: f32) -> Result<StepHead, Error> {
        check(weight.is_finite(), "accumulate", "weight", weight.into(), "finite numbers")?;
        Ok(StepHead { lr: weight, ..Self::empty_head() })
    }

    /// The storage format of the parameters, or of the accumulator in their place.
    pub(crate) fn param_dtype(&self, kind: StepKind) -> Dtype {
        if kind == StepKind::Accumulate { Dtype::F32 } else { self.settings.precision.params.dtype() }
    }

    /// The states that kernels bind, by their numbers.
    pub(crate) fn bound_states(&self, kind: StepKind) -> Range<usize> {
        match kind {
            // A perturbation starts from the whole parameters.
            StepKind::Perturb => self.companion().map_or(0..0, |companion| companion..companion + 1),
            kind if kind.has_states() => {
                0..self.states.len() - self.coded.iter().filter_map(|state| state.small).count()
            }
            _ => 0..0,
        }
    }

    /// Count of the rule's states and those of its transforms.
    pub(crate) fn rule_states(&self) -> usize {
        self.rule.states().count()
    }

    /// Number of the state that completes the parameters.
    pub(crate) fn companion(&self) -> Option<usize> {
        self.settings.precision.params.companion().map(|_| self.rule_states() + self.coded.len())
    }

    /// The 8-bit state that a state is part of.
    pub(crate) fn coded_with(&self, number: usize) -> Option<&CodedState> {
        self.coded.iter().find(|state| [Some(state.codes), Some(state.scales), state.small].contains(&Some(number)))
    }

    /// Bytes of a state before an element of the share, where it lies in one piece.
    #[cfg(feature = "safetensors")]
    pub(crate) fn state_bytes(&self, number: usize, element: usize) -> usize {
        let element = if self.is_small(number) { self.f32_parts.position(element) } else { element - self.share.start };
        self.states[number].dtype.bytes(element as u64) as usize
    }

    /// Elements of a state.
    pub(crate) fn state_len(&self, number: usize) -> usize {
        if self.is_small(number) { self.f32_parts.len() } else { self.share.len() }
    }

    /// Whether a state holds the f32 of small tensors alone.
    pub(crate) fn is_small(&self, number: usize) -> bool {
        self.coded.iter().any(|state| state.small == Some(number))
    }

    /// The part of the parameters that a pass writes.
    pub(crate) fn written_params(pass: Pass) -> SeenParams {
        // Others take the place of the training parameters for a time.
        let is_temporary = matches!(pass, Pass::AuxiliaryUpdate(EVAL) | Pass::Perturb | Pass::RestoreParams);
        if is_temporary { SeenParams::Alone } else { SeenParams::WithCompanion }
    }

    /// The streams that kernels bind: parameters, gradients, states.
    pub(crate) fn streams(&self, kind: StepKind) -> Vec<StreamSpec> {
        let stream = |name: &str, dtype, access| StreamSpec { name: name.to_owned(), dtype, access, codes: None };
        let mut streams = vec![
            stream("param", self.param_dtype(kind), Access::ReadWrite),
            stream("grad", self.input_dtype(kind), Access::Read),
        ];
        let states = &self.states[self.bound_states(kind)];
        streams.extend(states.iter().map(|state| stream(&state.name, state.dtype, Access::ReadWrite)));
        for state in self.coded.iter().filter(|_| kind.has_states()) {
            streams[2 + state.codes].codes = Some((state.map, self.states[state.scales].name.to_string()));
        }
        streams
    }

    /// The storage formats of all streams of a step.
    pub(crate) fn formats(&self) -> Formats {
        let streams = self.streams(StepKind::Decided).into_iter();
        let grads = self.settings.precision.grads;
        let format = |stream: StreamSpec| if stream.name == "grad" { grads } else { stream.dtype };
        let mut streams: Vec<_> = streams.map(|stream| (stream.name.clone(), format(stream))).collect();
        streams.extend(self.settings.accumulates.then(|| ("accumulated".to_owned(), Dtype::F32)));
        Formats { streams }
    }

    /// Values of a kernel's override constants.
    pub(crate) fn constants(&self, pass: Pass) -> Vec<(String, f64)> {
        let rule = self.rule.spec().constants.iter().map(|(name, value)| (name.to_string(), *value));
        let order = if pass.is_of_sam() { NormOrder::Two } else { self.clip.order };
        let norm = order.constants().map(|(name, value)| (name.to_owned(), value));
        rule.chain(norm).collect()
    }

    /// The steps of each tensor after so many applied steps, where gradients may be missing.
    pub(crate) fn tensor_steps(&self, steps: u32) -> Option<Vec<TensorStep>> {
        let powers = BiasPowers::new(&self.rule.spec().bias_corrected);
        let step = TensorStep::new(&powers, self.rule.first_scalars(), steps);
        self.settings.misses_gradients.then(|| vec![step; self.layout.tensors().len()])
    }

    /// The steps of each row after so many applied steps, if rows count them.
    pub(crate) fn row_steps(&self, steps: u32) -> Option<RowSteps> {
        let powers = BiasPowers::new(&self.rule.spec().bias_corrected);
        self.row_step_count().map(|rows| RowSteps::new(rows, &powers, steps))
    }

    /// Refuses a missing gradient, unless steps may lack it.
    pub(crate) fn check_missing(&self, tensor: &TensorInfo) -> Result<(), Error> {
        if self.settings.misses_gradients || tensor.range().is_empty() {
            return Ok(());
        }
        Err(Error::MissingGradient { tensor: tensor.name().to_owned() })
    }

    /// Decodes the records that steps leave.
    pub(crate) fn decoder(&self) -> RecordDecoder {
        let max_consecutive_skips = self.settings.max_consecutive_skips;
        RecordDecoder { max_consecutive_skips, sampler: self.sampler.clone() }
    }

    /// Bytes of the history's ring, if the optimizer has one.
    pub(crate) fn ring_size(&self) -> Option<u64> {
        self.settings.history.as_ref().map(|history| u64::from(history.steps) * self.decoder().record_size())
    }

    pub(crate) fn cycles_momentum(&self) -> bool {
        self.state.momentum().is_some()
    }

    /// Refuses calls that need training parameters.
    pub(crate) fn check_training(&self, call: &'static str) -> Result<(), Error> {
        self.state.mode.check_training(call)
    }

    /// Refuses calls that need the states of all elements.
    #[cfg(feature = "safetensors")]
    pub(crate) fn check_whole(&self, call: &str) -> Result<(), Error> {
        if self.settings.share.is_none() {
            return Ok(());
        }
        Err(Error::Unsupported {
            what: format!("`{call}`"),
            with: "the optimizer of one rank, which has the states of a share".to_owned(),
            remedy: "call that of `Sharded`",
        })
    }

    /// Refuses steps between `eval` and `train`. A step restores perturbed parameters by itself.
    pub(crate) fn check_step(&self) -> Result<(), Error> {
        if *self.state.mode == Mode::Perturbed { Ok(()) } else { self.check_training("step") }
    }

    /// Refuses to restore parameters that nothing replaces.
    pub(crate) fn check_replaces_params(&self) -> Result<(), Error> {
        if self.settings.sam.is_some() { Ok(()) } else { self.auxiliary(EVAL).map(drop) }
    }

    /// The rule's auxiliary update of that name.
    pub(crate) fn auxiliary(&self, name: &str) -> Result<&'static str, Error> {
        let names = self.rule.auxiliary_names();
        names.iter().copied().find(|&known| known == name).ok_or_else(|| Error::UnknownAuxiliaryUpdate {
            rule: self.rule.spec().name.to_string(),
            name: name.to_owned(),
            known: names.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    /// The scalars of the next step, which counts as recorded.
    pub(crate) fn next_head(&mut self) -> Result<StepHead, Error> {
        let head = self.head(self.state.recorded)?;
        self.state.recorded += 1;
        Ok(head)
    }

    /// The scalars of an auxiliary update: of the next step, or of the last one of a schedule that has ended.
    pub(crate) fn auxiliary_head(&mut self) -> Result<StepHead, Error> {
        self.head(self.state.recorded).or_else(|_| self.head(self.state.recorded.saturating_sub(1)))
    }

    fn set_momentum(&mut self, momentum: f64) -> Result<(), Error> {
        self.rule = self.rule.with_cycled_momentum(momentum)?;
        self.state.follow_momentum(momentum);
        Ok(())
    }

    /// The scalars of a step. Sets the rule's momentum and the groups' learning rates.
    fn head(&mut self, step: u64) -> Result<StepHead, Error> {
        let lr = self.state.schedule.value(step)? as f32;
        if let Some(momentum) = self.state.schedule.momentum_value(step)? {
            self.set_momentum(momentum)?;
        }
        self.groups.set_lrs(lr, step)?;
        let sign = if self.rule.spec().maximize { -1.0 } else { 1.0 };
        let scale = match *self.state.grad_scale {
            Some(HostScale::Value(scale)) => scale,
            Some(HostScale::Buffer) | None => 1.0,
        };
        let policy = match self.on_nonfinite() {
            NonFinite::Skip => SKIP,
            NonFinite::Stop => SKIP | STOP,
            NonFinite::Propagate => 0,
        };
        let clip = if self.clip.limit.is_some() { CLIP } else { 0 };
        let exact = if self.clip.exact { EXACT } else { 0 };
        let given = if *self.state.has_given_states { GIVEN_STATES } else { 0 };
        Ok(StepHead {
            lr,
            inv_scale: sign / scale,
            clip_limit: self.clip.limit.unwrap_or(f32::MAX),
            flags: policy | clip | exact | given,
        })
    }
}
