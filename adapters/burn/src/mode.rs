use burn::module::Module;

use crate::{FusedOptimizer, StepError};

impl FusedOptimizer {
    /// Writes the evaluation parameters into the module: the average of an [`Ema`](wgpu_optim::Ema) or
    /// [`Swa`](wgpu_optim::Swa), or the evaluation point of a schedule-free rule. Steps are refused until
    /// [`FusedOptimizer::train`].
    ///
    /// # Errors
    /// Those of [`wgpu_optim::Optimizer::eval`], and of [`FusedOptimizer::step`] that concern the module.
    pub fn eval<M: Module>(&mut self, module: M) -> Result<M, StepError<M>> {
        self.update(module, None, |optimizer, encoder, slices| Ok(optimizer.eval(encoder, slices.params)?))
    }

    /// Writes the training parameters back, with the bits that they had before [`FusedOptimizer::eval`].
    ///
    /// # Errors
    /// Those of [`wgpu_optim::Optimizer::train`], and of [`FusedOptimizer::step`] that concern the module.
    pub fn train<M: Module>(&mut self, module: M) -> Result<M, StepError<M>> {
        self.update(module, None, |optimizer, encoder, slices| Ok(optimizer.train(encoder, slices.params)?))
    }
}
