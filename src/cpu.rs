//! The step on the CPU: what runs where there is no GPU, and what the kernels are tested against.

mod memory;
mod passes;
mod snapshot;

pub use snapshot::CpuSnapshot;

use crate::factors::NAMES;
use crate::kernels::control::{BiasPowers, ControlBlock, NONE};
use crate::kernels::factor_partials::FactorValues;
use crate::kernels::metrics_reduce::{self as observe, Observation};
use crate::kernels::part_sums::Whole;
use crate::kernels::percentile::Norms;
use crate::kernels::segment_reduce::{self as measure, TensorRow};
use crate::kernels::update_elements::{self as update, Part, WholeStep};
use crate::kernels::{decide as finish, global_norm as norm, segment_update as settle};
use crate::metrics::{GroupStats, History, HostHistory, Observer, Stats};
use crate::plan::{Plan, PlanSettings};
use crate::rule::initial;
use crate::segments::Segments;
use crate::tile::NORM_BLOCK;
use crate::{Error, Layout};
use memory::State;

/// Elements a thread updates at a time, at least: as many as caches hold after a pass over the gradients.
const PART: usize = 16 * NORM_BLOCK;
/// Parts of each thread where nothing was read before: few, as memory is read best from one end to the other.
const PARTS_OF_A_THREAD: usize = 4;

/// The optimizer over slices of host memory, with the numerics of the kernels.
///
/// Made by [`OptimizerBuilder::build_cpu`]; threads by feature `rayon`. Results do not depend on their number.
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
    plan: Plan,
    powers: BiasPowers,
    moment: Moment,
}

/// All that steps change, but the place in the schedule.
#[derive(Debug, Clone)]
struct Moment {
    control: ControlBlock,
    states: Vec<(String, State)>,
    /// Of each tensor, if the rule measures.
    tensors: Vec<TensorRow>,
    /// In place of a state per element, if the rule is factored.
    factors: Option<FactorValues>,
    /// The last norms, where gradients are clipped by a percentile of them.
    norms: Option<Norms>,
    history: Option<HostHistory>,
    observation: Observation,
    /// What `eval` keeps for `train`.
    training_params: Vec<f32>,
}

impl CpuOptimizer {
    pub(crate) fn new(settings: &PlanSettings, layout: &Layout) -> Result<Self, Error> {
        let plan = Plan::new(settings, layout)?;
        let powers = BiasPowers::new(&plan.rule.bias_corrected());
        let state = |(number, &name): (usize, &&str)| {
            (name.to_owned(), State::new(number, plan.rule.initial_state(name), plan.len))
        };
        let states = plan.rule.states().iter().enumerate().map(state).collect();
        let rows = |segments: &Segments| vec![TensorRow::new(segments.initial()); segments.count()];
        let tensors = plan.segments.as_ref().map(rows).unwrap_or_default();
        let factors = plan.factors.as_ref().map(FactorValues::new);
        let control = ControlBlock::new(&powers, initial(&plan.rule.scalars()), &plan.clip());
        let norms = plan.clip().window.map(Norms::new);
        let history = settings.history.as_ref().map(|history| HostHistory::new(history.steps));
        let (observation, training_params) = (Observation::default(), Vec::new());
        let moment = Moment { control, states, tensors, factors, norms, history, observation, training_params };
        Ok(Self { plan, powers, moment })
    }

    /// One optimizer step: `params` is updated in place. Both slices have [`Layout::len`] elements.
    ///
    /// # Errors
    /// [`Error::LengthMismatch`], [`Error::EvaluationMode`], and those of [`Schedule::lr`](crate::Schedule::lr); nothing has
    /// changed then.
    pub fn step(&mut self, params: &mut [f32], grads: &[f32]) -> Result<Stats, Error> {
        self.plan.check_training("step")?;
        self.check_len("params", params.len())?;
        self.check_len("grads", grads.len())?;
        let observes = self.plan.observes();
        let is_bare = self.plan.is_bare() && !observes;
        let slot = self.plan.next_slot()?;
        if self.plan.cycles() {
            self.powers = BiasPowers::new(&self.plan.rule.bias_corrected());
        }
        let plan = &self.plan;
        let clip = plan.clip();
        let grad_factors = if is_bare {
            let bias_correction = self.moment.control.upcoming_bias_correction;
            let upcoming = self.powers.bias_correction(self.moment.control.step + 2);
            update::count_bare(&mut self.moment.control, slot.lr, upcoming);
            plan.rule.advance(&mut self.moment.control.scalars, slot.lr, bias_correction, self.moment.control.step);
            [slot.inv_scale, 1.0]
        } else {
            let partials = map_parts(parts(NORM_BLOCK, &mut [], grads, &mut []), |part| {
                norm::norm(clip.norm, part.grad, part.start, &plan.groups)
            });
            let norms = self.moment.norms.as_mut();
            finish::finish(&mut self.moment.control, clip.norm, &partials, norms, &slot, &self.powers, &*plan.rule);
            self.moment.control.grad_factors
        };
        let whole = WholeStep::new(&self.moment.control, slot.lr, grad_factors);
        if is_bare || self.moment.control.apply != 0 {
            self.measure(&whole, params, grads);
            if observes {
                self.observe(&whole, params, grads);
            }
            let first_nonfinite = self.update(None, &whole, !is_bare, params, grads);
            if is_bare {
                self.moment.control.first_nonfinite[whole.t as usize & 1] = first_nonfinite;
            }
        }
        let (stats, groups) = self.last();
        if let Some(history) = &mut self.moment.history {
            history.keep((stats, groups));
        }
        Ok(stats)
    }

    /// Runs one of the rule's further passes ([`Rule::passes`](crate::Rule::passes)) over all elements, with `input`
    /// where a step has gradients, taken as it is. It counts no step, clips and skips nothing.
    ///
    /// # Errors
    /// [`Error::UnknownPass`], [`Error::LengthMismatch`]; nothing has changed then.
    pub fn run_pass(&mut self, pass: &str, params: &mut [f32], input: &[f32]) -> Result<(), Error> {
        let pass = self.plan.pass(pass)?;
        self.check_len("params", params.len())?;
        self.check_len("input", input.len())?;
        let lr = self.plan.pass_slot()?.lr;
        let whole = WholeStep { clip_value: f32::INFINITY, ..WholeStep::new(&self.moment.control, lr, [1.0; 2]) };
        self.update(Some(pass), &whole, false, params, input);
        Ok(())
    }

    /// Sums over the tensors, if the rule asks for it.
    fn measure(&mut self, step: &WholeStep, param: &[f32], grad: &[f32]) {
        if let (Some(values), Some(factors)) = (&mut self.moment.factors, &self.plan.factors) {
            values.settle(&*self.plan.rule, factors, &self.plan.groups, step, grad);
        }
        let rule = &*self.plan.rule;
        let Some(segments) = &self.plan.segments else { return };
        let whole = self.whole(param, grad);
        let sums = map_parts(segments.items().to_vec(), |item| measure::measure(rule, step, &whole, item));
        for (number, (tensor, items)) in self.moment.tensors.iter_mut().zip(segments.ranges()).enumerate() {
            let own = segments.is_own(number, items.clone());
            settle::settle(rule, step, own.zip(sums[items].iter().copied()), tensor);
        }
    }

    /// Sums what the step is about to do, if it is to be observed.
    fn observe(&mut self, step: &WholeStep, param: &[f32], grad: &[f32]) {
        let (rule, clip) = (&*self.plan.rule, self.plan.clip());
        let Some(Observer { segments, .. }) = self.plan.observer.as_deref() else { return };
        let whole = self.whole(param, grad);
        let sums = map_parts(segments.items().to_vec(), |item| observe::observe(rule, &clip, step, &whole, item));
        let totals = segments.ranges().enumerate().map(|(number, items)| {
            let own = segments.is_own(number, items.clone());
            observe::totals(&own.zip(sums[items].iter().copied()))
        });
        let ControlBlock { step, skipped, .. } = self.moment.control;
        self.moment.observation = Observation { executed: step + skipped, totals: totals.collect() };
    }

    fn whole<'a>(&'a self, param: &'a [f32], grad: &'a [f32]) -> Whole<'a> {
        let Moment { states, tensors, factors, .. } = &self.moment;
        Whole {
            param,
            grad,
            states: states.iter().map(|(_, state)| &state[..]).collect(),
            factors: self.plan.factors.as_ref().zip(factors.as_ref()),
            groups: &self.plan.groups,
            tensors,
        }
    }

    /// The rule, or a pass of it, over all elements; gives the flat index of the first non-finite gradient, or [`NONE`].
    fn update(
        &mut self,
        pass: Option<&str>,
        whole: &WholeStep,
        after_others: bool,
        params: &mut [f32],
        grads: &[f32],
    ) -> u32 {
        let plan = &self.plan;
        let factors = plan.factors.as_ref().zip(self.moment.factors.as_ref());
        let mut states: Vec<&mut [f32]> = self.moment.states.iter_mut().map(|(_, state)| &mut state[..]).collect();
        let parts = if after_others {
            // What the passes before read last, they left in the cache.
            let mut parts = parts(PART, params, grads, &mut states);
            parts.reverse();
            parts
        } else {
            let share = (plan.len / (PARTS_OF_A_THREAD * threads())).next_multiple_of(NORM_BLOCK);
            parts(share.max(PART), params, grads, &mut states)
        };
        let bad = map_parts(parts, |part| {
            update::update(&*plan.rule, pass, &plan.groups, &self.moment.tensors, factors, whole, part)
        });
        bad.into_iter().min().unwrap_or(NONE)
    }

    /// Statistics of the last steps, oldest first; see [`Optimizer::history`](crate::Optimizer::history).
    ///
    /// # Errors
    /// [`Error::NoHistory`] for an optimizer built without.
    pub fn history(&self) -> Result<History, Error> {
        self.moment.history.as_ref().map(HostHistory::steps).ok_or(Error::NoHistory)
    }

    /// Statistics of the last step.
    pub fn stats(&self) -> Stats {
        self.last().0
    }

    /// Statistics of the last step, and of its groups.
    fn last(&self) -> (Stats, Vec<GroupStats>) {
        let Observation { executed, totals } = &self.moment.observation;
        self.plan.reader().stats(&self.moment.control, *executed, totals)
    }

    /// The learning rate that the next step will use.
    ///
    /// # Errors
    /// Those of [`Schedule::lr`](crate::Schedule::lr).
    pub fn lr(&self) -> Result<f64, Error> {
        self.plan.lr()
    }

    /// Sets the learning rate from the next step on, in place of the schedule, as assigning a parameter group's `lr`
    /// does in PyTorch. Groups scale it as before; those with schedules keep them, and a momentum that was cycled stays.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless it is 0 or greater and finite in f32; nothing has changed then.
    pub fn set_lr(&mut self, lr: f64) -> Result<(), Error> {
        self.plan.set_lr(lr)
    }

    /// Divides all gradients by `scale` from the next step on, as a loss scaler needs. Default 1.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`] unless the scale is positive and finite, and so is its inverse.
    pub fn set_grad_scale(&mut self, scale: f32) -> Result<(), Error> {
        self.plan.set_grad_scale(scale)
    }

    /// Lets steps through again after [`NonFinite::Stop`](crate::NonFinite::Stop).
    pub fn resume(&mut self) {
        self.moment.control.stopped = 0;
    }

    /// Names of the states, in the rule's order.
    pub fn state_names(&self) -> impl Iterator<Item = &str> {
        let factors = self.moment.factors.as_ref().map_or(&[][..], |_| &NAMES);
        self.moment.states.iter().map(|(name, _)| name.as_str()).chain(factors.iter().copied())
    }

    /// One state over the flat space, by the rule's name for it (`exp_avg`, …). One that is kept as factors
    /// ([`Rule::factored`](crate::Rule::factored)): of each tensor that has it, in the order of the layout.
    pub fn state(&self, name: &str) -> Option<&[f32]> {
        if let (Some(factors), Some(range)) = (&self.moment.factors, self.factor_range(name)) {
            return Some(&factors.values[range]);
        }
        self.moment.states.iter().find(|(state, _)| state == name).map(|(_, values)| &values[..])
    }

    /// As [`CpuOptimizer::state`], to restore or change.
    pub fn state_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let range = self.factor_range(name);
        if let (Some(factors), Some(range)) = (&mut self.moment.factors, range) {
            return Some(&mut factors.values[range]);
        }
        self.moment.states.iter_mut().find(|(state, _)| state == name).map(|(_, values)| &mut values[..])
    }

    fn factor_range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        self.plan.factors.as_ref()?.range(name)
    }

    fn check_len(&self, what: &'static str, actual: usize) -> Result<(), Error> {
        let (expected, actual) = (self.plan.len as u64, actual as u64);
        if expected == actual { Ok(()) } else { Err(Error::LengthMismatch { what, expected, actual }) }
    }
}

/// Cuts the flat space into parts of `size` elements. `params` may be empty where only gradients are read.
fn parts<'a>(size: usize, params: &'a mut [f32], grads: &'a [f32], states: &'a mut [&mut [f32]]) -> Vec<Part<'a>> {
    let mut params = params.chunks_mut(size);
    let mut states: Vec<_> = states.iter_mut().map(|state| state.chunks_mut(size)).collect();
    let part = |(i, grad)| Part {
        start: i * size,
        param: params.next().unwrap_or_default(),
        grad,
        states: states.iter_mut().filter_map(Iterator::next).collect(),
    };
    grads.chunks(size).enumerate().map(part).collect()
}

pub(crate) fn map_parts<P: Send, T: Send>(parts: Vec<P>, f: impl Fn(P) -> T + Sync + Send) -> Vec<T> {
    // To wake one thread of a pool and to wait for it takes longer than a small part.
    #[cfg(feature = "rayon")]
    if parts.len() > 1 && threads() > 1 {
        use rayon::prelude::*;
        return parts.into_par_iter().map(f).collect();
    }
    parts.into_iter().map(f).collect()
}

fn threads() -> usize {
    #[cfg(feature = "rayon")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "rayon"))]
    1
}
