use std::path::Path;

use burn::module::Module;
use wgpu_optim::BufferSlices;
use wgpu_optim::checkpoint::{LoadOptions, Loaded};

use crate::leases::BufferLeases;
use crate::parameters::Tensors;
use crate::{Error, FusedOptimizer, StepError, tensors};

impl FusedOptimizer {
    /// Saves the optimizer and the parameters that it trains to one file: a [checkpoint](wgpu_optim::checkpoint) of the
    /// library. Parameters have their paths in the module as names. Waits for the device.
    ///
    /// Running means and frozen parameters, which the optimizer does not train, are in burn's record of the module alone. To
    /// continue from both files, load the record, build the optimizer for that module, and load this file: a record has
    /// parameter ids of its own, and the optimizer finds parameters by ids and paths.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], and those of [`FusedOptimizer::step`] that concern the module.
    pub fn save(&self, path: impl AsRef<Path>, module: &impl Module) -> Result<(), Error> {
        let Tensors { params, .. } = self.list.read(module, None, self.dtypes)?;
        let tensors = tensors::read(params.into_iter().flatten().collect())?;
        let leases = BufferLeases::of(&tensors)?;
        let params = leases.slices();
        Ok(self.optimizer().save(path, Some(BufferSlices::from(&params)))?)
    }

    /// Continues from a file of [`FusedOptimizer::save`]: the next step has the bits of the one that would have followed.
    /// Parameters are matched by their paths. Returns the module, and what the file says of other settings.
    ///
    /// # Errors
    /// The module comes back with [`Error::Checkpoint`] and those of [`FusedOptimizer::step`] that concern it: unchanged,
    /// but for [`ChangedWhileRead`](wgpu_optim::checkpoint::CheckpointError::ChangedWhileRead), after which it holds parts of the file.
    pub fn load<M: Module>(&mut self, path: impl AsRef<Path>, module: M) -> Result<(M, Loaded), StepError<M>> {
        let mut loaded = Loaded::default();
        let module = self.update(module, None, |optimizer, _, slices| {
            loaded = optimizer.load(path, Some(slices.params.into()), &LoadOptions::default())?;
            Ok(())
        })?;
        Ok((module, loaded))
    }
}
