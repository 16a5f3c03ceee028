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
    let mut squares = Squares { grads: &grads, sums: Vec::new() };
    model.visit(&mut squares);
    let sums = squares.sums;
    if sums.is_empty() {
        return (grads, None);
    }
    let norm = Tensor::cat(sums, 0).sum().sqrt();
    let coefficient = ((norm.clone() + 1e-6).recip() * max_norm).clamp_max(1.0);
    model.visit(&mut ScaleBy { grads: &mut grads, coefficient });
    (grads, Some(norm))
}

/// The sum of squares of each gradient. Summed one by one, with burn's fusion on, they take two to three times as long as in one tensor.
struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.sums.extend(self.grads.get::<D>(param.id).map(|grad| grad.square().sum()));
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
