//! Clipping that burn lacks, for comparisons. The benchmark of the adapter reads this file, too.

use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;

/// Clips by the global norm with burn's operations, without a read. Returns the norm, too.
pub(crate) fn clip_global(
    model: &impl Module,
    mut grads: GradientsParams,
    max_norm: f64,
) -> (GradientsParams, Option<Tensor<1>>) {
    let mut squares = SquareSum { grads: &grads, sum: None };
    model.visit(&mut squares);
    let Some(sum) = squares.sum else { return (grads, None) };
    let norm = sum.sqrt();
    let coefficient = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
    model.visit(&mut ScaleBy { grads: &mut grads, coefficient });
    (grads, Some(norm))
}

/// The sum of squares of all gradients.
struct SquareSum<'a> {
    grads: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquareSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            let sum = grad.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(total) => total + sum,
                None => sum,
            });
        }
    }
}

/// Multiplies all gradients by one number, which the device has.
struct ScaleBy<'a> {
    grads: &'a mut GradientsParams,
    coefficient: Tensor<1>,
}

impl ModuleVisitor for ScaleBy<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            self.grads.register(param.id, grad * self.coefficient.clone().unsqueeze());
        }
    }
}
