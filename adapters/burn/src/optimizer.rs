use std::fmt;

use burn::backend::wgpu::{CubeTensor, WgpuSetup};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use wgpu_optim::wgpu::{BufferSlice, CommandEncoder, CommandEncoderDescriptor};
use wgpu_optim::{BufferSlices, Dtype, Optimizer, ReadbackHistory, ReadbackStats};

use crate::leases::BufferLeases;
use crate::parameters::{ParameterList, Tensors};
use crate::tensors::{self, Resolved, primitive};
use crate::traversal::take;
use crate::{Error, StepError};

/// The optimizer of a module: one fused step for all its parameters, on burn's own buffers.
///
/// Parameters are updated where burn has them. Those that a clone of the module shares are copied first, so that no clone
/// changes. Nothing waits for the device.
pub struct FusedOptimizer {
    optimizer: Optimizer,
    pub(crate) list: ParameterList,
    /// The formats of parameters and gradients.
    pub(crate) dtypes: (Dtype, Dtype),
    setup: WgpuSetup,
}

/// The buffer slices of a call.
pub(crate) struct Slices<'a> {
    pub(crate) params: &'a [BufferSlice<'a>],
    /// `None` for parameters without a gradient.
    grads: &'a [Option<BufferSlice<'a>>],
}

impl FusedOptimizer {
    pub(crate) fn new(optimizer: Optimizer, list: ParameterList, dtypes: (Dtype, Dtype), setup: &WgpuSetup) -> Self {
        Self { optimizer, list, dtypes, setup: setup.clone() }
    }

    /// The library's optimizer, for its settings and states.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The library's optimizer, for its settings and states.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// Updates the parameters of the module for which `grads` has gradients.
    ///
    /// `lr` is the learning rate from this step on, for instance from one of burn's schedulers; it replaces the settings'
    /// schedule. `None` leaves the schedule, or the rate set last. Parameters without gradients need
    /// [`missing_gradients`](wgpu_optim::OptimizerBuilder::missing_gradients).
    ///
    /// # Errors
    /// The module comes back unchanged with [`Error::ModuleChanged`], [`Error::Dtype`], [`Error::GradientShape`],
    /// [`Error::ForeignDevice`], [`Error::Burn`], and the errors of [`Optimizer::step`] and [`Optimizer::set_lr`]. The gradients
    /// are lost; a valid `lr` counts from now on.
    ///
    /// # Panics
    /// In burn, for a gradient that was registered with another rank than its parameter's: burn offers no look at it.
    pub fn step<M: Module>(
        &mut self,
        lr: impl Into<Option<f64>>,
        module: M,
        mut grads: GradientsParams,
    ) -> Result<M, StepError<M>> {
        let lr = lr.into();
        self.update(module, Some(&mut grads), |optimizer, encoder, Slices { params, grads }| {
            set_lr(optimizer, lr)?;
            Ok(optimizer.step(encoder, params, BufferSlices::Optional(grads))?)
        })
    }

    /// Adds `weight` times the gradients to the accumulator, which
    /// [`accumulate_gradients`](wgpu_optim::OptimizerBuilder::accumulate_gradients) of the builder keeps. burn's
    /// `GradientsAccumulator` works too, and keeps the sum in burn's memory.
    ///
    /// # Errors
    /// [`Error::ModuleChanged`], [`Error::Dtype`], [`Error::GradientShape`], [`Error::ForeignDevice`], [`Error::Burn`], and
    /// the errors of [`Optimizer::accumulate`].
    ///
    /// # Panics
    /// As [`FusedOptimizer::step`].
    pub fn accumulate(&mut self, module: &impl Module, mut grads: GradientsParams, weight: f32) -> Result<(), Error> {
        let Tensors { grads, .. } = self.list.read(module, Some(&mut grads), self.dtypes)?;
        let is_present = presence(&grads);
        let tensors = tensors::read(grads.into_iter().flatten().collect())?;
        let leases = BufferLeases::of(&tensors)?;
        let slices = spread(leases.slices(), &is_present);
        self.submit(|optimizer, encoder| Ok(optimizer.accumulate(encoder, BufferSlices::Optional(&slices), weight)?))
    }

    /// As [`FusedOptimizer::step`], with the accumulated gradients, which are 0 after it.
    ///
    /// # Errors
    /// Those of [`FusedOptimizer::step`], and [`wgpu_optim::Error::NoAccumulator`].
    pub fn step_accumulated<M: Module>(&mut self, lr: impl Into<Option<f64>>, module: M) -> Result<M, StepError<M>> {
        let lr = lr.into();
        self.update(module, None, |optimizer, encoder, slices| {
            set_lr(optimizer, lr)?;
            Ok(optimizer.step_accumulated(encoder, slices.params)?)
        })
    }

    /// Ties the places of tied parameters again: each takes the value of the first, and they are one leaf of autodiff. All
    /// calls that return the module do so. One of them is needed before the first gradients of a module that was made by
    /// burn's `fork`, `train` or `load_file`: burn makes a leaf of each place then, and leaves the gradient of one alone.
    ///
    /// # Errors
    /// Those of [`FusedOptimizer::step`] that concern the module.
    pub fn tie<M: Module>(&self, module: M) -> Result<M, StepError<M>> {
        let mut taken = take(&self.list, module, None);
        let checked = self.list.check(&mut taken.tensors, self.dtypes);
        let params = std::mem::take(&mut taken.tensors.params);
        let module = taken.put(params);
        match checked {
            Ok(()) => Ok(module),
            Err(error) => Err(StepError { module, error }),
        }
    }

    /// The statistics of the last step: see [`Optimizer::stats`]. They arrive when `setup.device` is polled.
    pub fn stats(&self) -> ReadbackStats {
        self.read_back(Optimizer::stats)
    }

    /// The statistics of the last steps: see [`Optimizer::history`]. They arrive when `setup.device` is polled.
    ///
    /// # Errors
    /// [`wgpu_optim::Error::NoHistory`], without [`history`](wgpu_optim::OptimizerBuilder::history) of the builder.
    pub fn history(&self) -> Result<ReadbackHistory, Error> {
        Ok(self.read_back(Optimizer::history)?)
    }

    fn read_back<T>(&self, record: impl FnOnce(&Optimizer, &mut CommandEncoder) -> T) -> T {
        let mut encoder = self.encoder();
        let readback = record(&self.optimizer, &mut encoder);
        self.setup.queue.submit([encoder.finish()]);
        readback
    }

    /// The loss scale of the settings' [`GradScaler`](wgpu_optim::GradScaler), to multiply the loss by; it stays on the
    /// device. `None` without one.
    ///
    /// # Errors
    /// [`Error::Burn`].
    pub fn loss_scale(&mut self) -> Result<Option<Tensor<1>>, Error> {
        if self.optimizer.loss_scale().is_none() {
            return Ok(None);
        }
        let scale = Tensor::<1>::zeros([1], &self.list.device);
        let tensors = tensors::read(primitive(scale.clone()).into_iter().collect())?;
        let leases = BufferLeases::of(&tensors)?;
        self.submit(|optimizer, encoder| {
            for (from, to) in optimizer.loss_scale().iter().zip(leases.slices()) {
                encoder.copy_buffer_to_buffer(from.buffer(), from.offset(), to.buffer(), to.offset(), 4);
            }
            Ok(())
        })?;
        Ok(Some(scale))
    }

    /// Records and submits work on the parameters of a module, and returns the module with them.
    pub(crate) fn update<M: Module>(
        &mut self,
        module: M,
        grads: Option<&mut GradientsParams>,
        record: impl FnOnce(&mut Optimizer, &mut CommandEncoder, Slices<'_>) -> Result<(), Error>,
    ) -> Result<M, StepError<M>> {
        let mut taken = take(&self.list, module, grads);
        let checked = self.list.check(&mut taken.tensors, self.dtypes);
        let (given, grads) = (std::mem::take(&mut taken.tensors.params), std::mem::take(&mut taken.tensors.grads));
        let is_present = presence(&grads);
        let grads = match checked.and_then(|()| tensors::read(grads.into_iter().flatten().collect())) {
            Ok(grads) => grads,
            Err(error) => return Err(StepError { module: taken.put(given), error }),
        };
        let Resolved { updated, memory } = tensors::resolve(given.into_iter().flatten().collect());
        let outcome = memory.and_then(|params| self.submit_on([params, grads], &is_present, record));
        let module = taken.put(updated.into_iter().map(Some).collect());
        match outcome {
            Ok(()) => Ok(module),
            Err(error) => Err(StepError { module, error }),
        }
    }

    fn submit_on(
        &mut self,
        [mut tensors, grads]: [Vec<CubeTensor>; 2],
        is_present: &[bool],
        record: impl FnOnce(&mut Optimizer, &mut CommandEncoder, Slices<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = tensors.len();
        tensors.extend(grads);
        let leases = BufferLeases::of(&tensors)?;
        let mut params = leases.slices();
        let grads = spread(params.split_off(count), is_present);
        self.submit(|optimizer, encoder| record(optimizer, encoder, Slices { params: &params, grads: &grads }))
    }

    fn submit(
        &mut self,
        record: impl FnOnce(&mut Optimizer, &mut CommandEncoder) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut encoder = self.encoder();
        record(&mut self.optimizer, &mut encoder)?;
        self.setup.queue.submit([encoder.finish()]);
        Ok(())
    }

    fn encoder(&self) -> CommandEncoder {
        self.setup.device.create_command_encoder(&CommandEncoderDescriptor { label: Some("optimizer step") })
    }
}

impl fmt::Debug for FusedOptimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FusedOptimizer")
            .field("parameters", &self.list.parameters.len())
            .field("device", &self.list.device)
            .finish_non_exhaustive()
    }
}

fn set_lr(optimizer: &mut Optimizer, lr: Option<f64>) -> Result<(), Error> {
    Ok(lr.map_or(Ok(()), |lr| optimizer.set_lr(lr))?)
}

fn presence<T>(items: &[Option<T>]) -> Vec<bool> {
    items.iter().map(Option::is_some).collect()
}

/// The items where `is_present`, in their order.
fn spread<T>(items: Vec<T>, is_present: &[bool]) -> Vec<Option<T>> {
    let mut items = items.into_iter();
    is_present.iter().map(|&is_present| if is_present { items.next() } else { None }).collect()
}
