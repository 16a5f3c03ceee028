use std::sync::Arc;

use crate::cpu::CpuOptimizer;
use crate::error::check;
use crate::gpu::{OwnedSlices, STATE_USAGE};
use crate::metrics::HistoryOptions;
use crate::optimizer::{DeviceOptions, Optimizer};
use crate::plan::{PlanSettings, StepPlan};
use crate::rule::{Rule, StateSpec};
use crate::storage::Dtype;
use crate::{
    Average, BufferSlices, Clip, Error, Formats, GradScaler, GroupOptions, Layout, Lookahead, NonFinite, Precision,
    Rows, Sam, Schedule, SharedPipelines, StateSize,
};

/// The settings of an optimizer: see [`Optimizer::builder`].
#[must_use]
#[derive(Debug, Clone)]
pub struct OptimizerBuilder {
    pub(crate) settings: PlanSettings,
    options: DeviceOptions,
}

impl Optimizer {
    /// Starts an optimizer with a rule: a built-in one or your own.
    pub fn builder(rule: impl Rule + 'static) -> OptimizerBuilder {
        OptimizerBuilder::new(Arc::new(rule))
    }
}

#[cfg(feature = "serde")]
impl crate::RuleConfig {
    /// Starts an optimizer with the rule.
    pub fn builder(self) -> OptimizerBuilder {
        OptimizerBuilder::new(self.into_rule())
    }
}

impl OptimizerBuilder {
    pub(crate) fn new(rule: Arc<dyn Rule>) -> Self {
        Self { settings: PlanSettings::new(rule), options: DeviceOptions::default() }
    }

    /// Starts an optimizer with the settings that a checkpoint holds: rule, schedule, clipping, groups, history, storage
    /// formats. Its states are those before the first step; `load` continues from the file.
    ///
    /// # Errors
    /// [`CheckpointError::CustomRule`](crate::checkpoint::CheckpointError::CustomRule) for a rule that is not built in,
    /// [`CheckpointError::NotACheckpoint`](crate::checkpoint::CheckpointError::NotACheckpoint) for settings that this version
    /// does not know, and for schedules of groups that are functions.
    #[cfg(feature = "safetensors")]
    pub fn from_checkpoint<R: std::io::Read + std::io::Seek>(
        checkpoint: &crate::checkpoint::Checkpoint<R>,
    ) -> Result<Self, crate::checkpoint::CheckpointError> {
        Ok(Self { settings: checkpoint.plan_settings()?, options: DeviceOptions::default() })
    }

    /// Sets the learning rate over time; [`OneCycle`](crate::schedule::OneCycle) and [`Cyclic`](crate::schedule::Cyclic) also
    /// the momentum. Default: the rule's `lr` and momentum.
    pub fn schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.settings.schedule = Some(schedule.into());
        self
    }

    /// Clips gradients: a [`Clip`], or one of its kinds. Default: no clipping.
    pub fn clip(mut self, clip: impl Into<Clip>) -> Self {
        self.settings.clip = Some(clip.into());
        self
    }

    /// Puts [`Lookahead`] around the rule: after every k steps the parameters go back part of the way. Clipping comes before,
    /// an average after it. From a checkpoint without Lookahead, the slow weights begin as its parameters. Default: none.
    pub fn lookahead(mut self, lookahead: Lookahead) -> Self {
        self.settings.lookahead = Some(lookahead);
        self
    }

    /// Averages the parameters after each step, in the same dispatch: [`Ema`](crate::Ema) or [`Swa`](crate::Swa).
    /// `eval` puts the average into the parameters, `train` restores them. A frozen element has no average. Default: none.
    ///
    /// From a checkpoint without an average, it begins as the parameters, as if all steps before had ended with them. A
    /// debiased average cannot begin so.
    ///
    /// ```
    /// use wgpu_optim::{Ema, Layout, Optimizer, Sgd};
    /// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).average(Ema::new(0.5));
    /// let mut optimizer = builder.build_cpu(&Layout::flat(1)?)?;
    /// let mut params = [0.0];
    /// optimizer.step(&mut params, &[-1.0])?; // parameter 1, average 1
    /// optimizer.step(&mut params, &[-1.0])?; // parameter 2, average 1.5
    /// optimizer.eval(&mut params)?;
    /// assert_eq!(params, [1.5]);
    /// optimizer.train(&mut params)?;
    /// assert_eq!(params, [2.0]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn average(mut self, average: impl Into<Average>) -> Self {
        self.settings.average = Some(average.into());
        self
    }

    /// Steps with the gradient at a perturbed point: see [`Sam`]. Before each step, `perturb` moves the parameters along a
    /// first gradient. `step` clips and scales the second gradient alone, and starts from the stored parameters; Lookahead and
    /// averages follow these. Takes 4 bytes per parameter. Default: none.
    pub fn sam(mut self, sam: Sam) -> Self {
        self.settings.sam = Some(sam);
        self
    }

    /// Sets the reaction to a non-finite gradient. Default: see [`NonFinite`].
    pub fn on_nonfinite(mut self, policy: NonFinite) -> Self {
        self.settings.on_nonfinite = Some(policy);
        self
    }

    /// Sets [`Stats::too_many_skips`](crate::Stats::too_many_skips) after that many skipped steps in a row, 1 or more: a sign
    /// that skipping does not help. Steps go on as before. Default: never.
    pub fn max_consecutive_skips(mut self, steps: u32) -> Self {
        self.settings.max_consecutive_skips = steps;
        self
    }

    /// Keeps the statistics of the last steps where the optimizer is: a number of steps, or
    /// [`HistoryOptions`](crate::history::HistoryOptions). Default: of the last step alone.
    pub fn history(mut self, options: impl Into<HistoryOptions>) -> Self {
        self.settings.history = Some(options.into());
        self
    }

    /// Sets the options of one of the layout's groups; the later of two calls counts. Default: the rule's.
    pub fn group(mut self, name: impl Into<String>, options: GroupOptions) -> Self {
        self.settings.groups.push((name.into(), options));
        self
    }

    /// Sets the storage formats of gradients, parameters and states: see [`Precision`]. Default: f32.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.settings.precision = precision;
        self
    }

    /// Sets the storage format of the gradients given to `step`, of all formats of [`OptimizerBuilder::precision`]. Inputs of
    /// auxiliary updates stay f32. Default: [`Dtype::F32`].
    pub fn grad_dtype(mut self, dtype: Dtype) -> Self {
        self.settings.precision.grads = dtype;
        self
    }

    /// Keeps an accumulator for the gradients of micro-batches, f32, 4 bytes per parameter: `accumulate` adds to it,
    /// `step_accumulated` steps with it. `step` itself then takes f32 gradients. Default: none.
    ///
    /// ```
    /// use wgpu_optim::{Layout, Optimizer, Sgd};
    /// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).accumulate_gradients();
    /// let mut optimizer = builder.build_cpu(&Layout::flat(1)?)?;
    /// let mut params = [0.0];
    /// // Micro-batches of 3 and of 1 tokens.
    /// optimizer.accumulate(&[-2.0], 3.0 / 4.0)?;
    /// optimizer.accumulate(&[-6.0], 1.0 / 4.0)?;
    /// optimizer.step_accumulated(&mut params)?;
    /// assert_eq!(params, [3.0]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn accumulate_gradients(mut self) -> Self {
        self.settings.accumulates = true;
        self
    }

    /// Scales the loss as `torch.amp.GradScaler`: see [`GradScaler`]. The program multiplies its loss by the scale: on a
    /// device, a kernel reads it from [`Optimizer::loss_scale`]; on the CPU, [`CpuOptimizer::loss_scale`] returns it. `step`
    /// divides the gradients by it before norm, clipping and finite check, and updates it. Accumulated gradients are divided
    /// once, with the scale of the step. Default: no scale.
    ///
    /// ```
    /// use wgpu_optim::{GradScaler, Layout, Optimizer, Sgd};
    /// let scaler = GradScaler::default().with_init_scale(8.0).with_growth_interval(1);
    /// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).grad_scaler(scaler);
    /// let mut optimizer = builder.build_cpu(&Layout::flat(1)?)?;
    /// let mut params = [0.0];
    /// optimizer.step(&mut params, &[-8.0])?;
    /// assert_eq!((params, optimizer.loss_scale()), ([1.0], Some(16.0)));
    /// let stats = optimizer.step(&mut params, &[f32::INFINITY])?;
    /// assert_eq!((params, stats.skipped, stats.loss_scale), ([1.0], 1, Some(8.0)));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn grad_scaler(mut self, scaler: GradScaler) -> Self {
        self.settings.grad_scaler = Some(scaler);
        self
    }

    /// Lets rows of the tensors come and go: see [`Rows`]. Default: all elements are live.
    ///
    /// ```
    /// use wgpu_optim::{Layout, Optimizer, Rows, Sgd};
    /// // Room for three rows of two columns; one is live.
    /// let layout = Layout::builder().tensor("splats", &[3, 2]).packed().build()?;
    /// let rows = Rows::default().with_live(1).with_column_lr_scales("splats", [1.0, 0.5]);
    /// let mut optimizer = Optimizer::builder(Sgd::default().with_lr(1.0)).rows(rows).build_cpu(&layout)?;
    /// let mut params = [0.0; 6];
    /// optimizer.step(&mut params, &[-1.0; 6])?;
    /// assert_eq!(params, [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]);
    /// optimizer.set_live_rows(2)?;
    /// optimizer.set_visible_rows(Some(&[0b10]))?;
    /// optimizer.step(&mut params, &[-1.0; 6])?;
    /// assert_eq!(params, [1.0, 0.5, 1.0, 0.5, 0.0, 0.0]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn rows(mut self, rows: Rows) -> Self {
        self.settings.rows = Some(rows);
        self
    }

    /// Lets tensors have no gradient in a step: [`Optimizer::step`] then takes a `&[Option<BufferSlice>]`, and
    /// [`CpuOptimizer::step_with_missing`] a list of options. Such a tensor keeps every byte of parameters and states, and
    /// counts for no norm: PyTorch's `grad=None`. Default: every tensor has a gradient.
    ///
    /// Each tensor counts its own applied steps, as `state["step"]` in PyTorch: bias corrections, scalar states (NAdam's
    /// `mu_product`), averages and Lookahead follow it. Schedules follow the optimizer's steps. Steps take four dispatches
    /// or more. On a device, each pattern of missing gradients counts as a set of buffers: see
    /// [`OptimizerBuilder::cached_buffer_sets`].
    ///
    /// [`Error::Unsupported`] with rules and clipping that sum over tensors, units or groups, with norms in the history, with
    /// SAM, accumulation and rows, and for layouts whose tensors begin at elements that are no multiples of four.
    ///
    /// ```
    /// use wgpu_optim::{Layout, Optimizer, Sgd};
    /// let layout = Layout::builder().tensor("a", &[1]).tensor("b", &[1]).build()?;
    /// let builder = Optimizer::builder(Sgd::default().with_lr(1.0)).missing_gradients();
    /// let mut optimizer = builder.build_cpu(&layout)?;
    /// let mut params = vec![0.0; layout.len()];
    /// let stats = optimizer.step_with_missing(&mut params, &[Some((&[-1.0]).into()), None])?;
    /// assert_eq!((params[0], params[64], stats.missing_gradients), (1.0, 0.0, 1));
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    pub fn missing_gradients(mut self) -> Self {
        self.settings.misses_gradients = true;
        self
    }

    /// Sets how many sets of parameter and gradient buffers an optimizer on a device keeps bind groups for, for each kind of
    /// step; 1 or more. Kept sets keep their buffers alive. Default: 8.
    pub fn cached_buffer_sets(mut self, sets: usize) -> Self {
        self.options.cached_buffer_sets = sets;
        self
    }

    /// Copies the gradients of each step into a buffer of the optimizer, and steps from there. For frameworks whose gradients
    /// lie elsewhere at every step: no step then makes a wgpu object, wherever they lie. It takes the bytes of the gradients,
    /// and `COPY_SRC` on their buffers. Default: kernels read gradients where they lie.
    ///
    /// A step over many tensors whose parameters lie in one buffer takes one copy per tensor, and the dispatches of a flat step.
    pub fn gather_gradients(mut self) -> Self {
        self.options.gathers_gradients = true;
        self
    }

    /// The storage formats of parameters, gradients and states.
    ///
    /// # Errors
    /// The errors of [`OptimizerBuilder::build`] that need no device.
    pub fn formats(&self, layout: &Layout) -> Result<Formats, Error> {
        Ok(StepPlan::new(&self.settings, layout)?.formats())
    }

    /// Names, bytes and usages of the states that the optimizer allocates one number per element for, but for those in 8 bits.
    /// Allocates nothing.
    ///
    /// ```
    /// use wgpu_optim::{AdamW, Layout, Optimizer};
    /// let sizes = Optimizer::builder(AdamW::default()).state_sizes(&Layout::flat(1_000)?)?;
    /// let sizes: Vec<_> = sizes.iter().map(|state| (&*state.name, state.bytes)).collect();
    /// assert_eq!(sizes, [("exp_avg", 4_000), ("exp_avg_sq", 4_000)]);
    /// # Ok::<(), wgpu_optim::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`OptimizerBuilder::build`] that need no device.
    pub fn state_sizes(&self, layout: &Layout) -> Result<Vec<StateSize>, Error> {
        let plan = StepPlan::new(&self.settings, layout)?;
        let size = |state: &StateSpec| {
            let bytes = state.dtype.bytes(layout.len() as u64).next_multiple_of(4);
            StateSize { name: state.name.to_string(), bytes, usage: STATE_USAGE }
        };
        let states = plan.states.iter().enumerate();
        Ok(states.filter(|(number, _)| plan.coded_with(*number).is_none()).map(|(_, state)| size(state)).collect())
    }

    /// Keeps a state, by its name in [`OptimizerBuilder::state_sizes`], in a buffer, a slice or slices of the program, on a
    /// device. They hold numbers of the state's format in the forms of [`BufferSlices`]. Parameters, gradients and other states
    /// may lie in the same buffer. The later of two calls with one name counts. Default: the optimizer allocates.
    ///
    /// Each slice begins at a multiple of the device's `min_storage_buffer_offset_alignment`; its bytes up to the next multiple
    /// hold nothing else that the optimizer binds. [`OptimizerBuilder::build`] submits writes of the initial values.
    /// Two optimizers need two sets of buffers.
    ///
    /// ```no_run
    /// # use wgpu_optim::{AdamW, Layout, Optimizer, wgpu};
    /// # fn f(device: &wgpu::Device, queue: &wgpu::Queue, pool: &wgpu::Buffer) -> Result<(), wgpu_optim::Error> {
    /// let layout = Layout::flat(1_000)?;
    /// let mut builder = Optimizer::builder(AdamW::default());
    /// let mut at = 8_192; // behind parameters and gradients
    /// for state in builder.state_sizes(&layout)? {
    ///     builder = builder.state_buffers(state.name, pool.slice(at..at + state.bytes));
    ///     at = (at + state.bytes).next_multiple_of(256);
    /// }
    /// let mut optimizer = builder.build(device, queue, &layout)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state_buffers<'a>(mut self, name: impl Into<String>, buffers: impl Into<BufferSlices<'a>>) -> Self {
        self.options.states.push((name.into(), OwnedSlices::from(buffers.into())));
        self
    }

    /// Sets how many bytes a checkpoint moves between device and host at a time; 4 or more, at most as many as a buffer may
    /// have. Saving keeps two of these windows on the host, loading three; browsers stage a whole file. Default: 16 MiB.
    #[cfg(feature = "safetensors")]
    pub fn checkpoint_window(mut self, bytes: u64) -> Self {
        self.options.checkpoint_window = bytes;
        self
    }

    /// Builds the optimizer on a device, at step 0. States take the rule's bytes per parameter (see each rule), in as many
    /// buffers as the device's limits require. `queue` is the device's, and the one that encoders are submitted to.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`], [`Error::UnknownGroup`], [`Error::Unsupported`], [`Error::DeviceLimit`],
    /// [`Error::RuleInterface`], [`Error::Shader`]; [`Error::UnknownState`], [`Error::StateBuffers`] and [`Error::SharedState`]
    /// for buffers of states.
    pub fn build(self, device: &wgpu::Device, queue: &wgpu::Queue, layout: &Layout) -> Result<Optimizer, Error> {
        self.build_shared(&SharedPipelines::new(device), queue, layout)
    }

    /// As [`OptimizerBuilder::build`], on the device of `pipelines`. Optimizers that share pipelines compile each kernel once.
    ///
    /// # Errors
    /// Those of [`OptimizerBuilder::build`].
    pub fn build_shared(
        self,
        pipelines: &SharedPipelines,
        queue: &wgpu::Queue,
        layout: &Layout,
    ) -> Result<Optimizer, Error> {
        let (sets, window) = (self.options.cached_buffer_sets, self.options.checkpoint_window);
        check(sets > 0, "optimizer", "cached_buffer_sets", sets as f64, "1 or more")?;
        check(window >= 4, "optimizer", "checkpoint_window", window as f64, "4 bytes or more")?;
        Optimizer::new(pipelines, queue, &self.settings, self.options, layout)
    }

    /// Restricts states and steps to a share of the elements.
    pub(crate) fn share(mut self, share: std::ops::Range<usize>) -> Self {
        self.settings.share = Some(share);
        self
    }

    /// Builds the optimizer on the CPU.
    ///
    /// # Errors
    /// [`Error::Hyperparameter`], [`Error::UnknownGroup`], [`Error::Unsupported`], [`Error::RuleInterface`].
    pub fn build_cpu(self, layout: &Layout) -> Result<CpuOptimizer, Error> {
        CpuOptimizer::new(&self.settings, layout)
    }
}
