//! The CPU engine with its parameters, and the calls that led there.

use std::sync::Arc;

use wgpu_optim::half::bf16;
use wgpu_optim::{CpuOptimizer, CpuSnapshot, Dtype, Error, HostSliceMut, Layout, OptimizerBuilder};

use crate::numbers;

/// A call that changes the optimizer.
#[derive(Debug)]
pub enum Action {
    Step(Vec<f32>),
    Perturb(Vec<f32>),
    UpdateHessian(Vec<f32>),
    SetLr(f64),
    SetGradScale(f32),
    Eval,
    Train,
    Resume,
    SetAppliedSteps(u64),
    SetParams(Vec<f32>),
    SetState(String, Vec<f32>),
    SetScalarStates(Vec<f32>),
    SetTensorStates(Vec<[f32; 4]>),
}

/// A snapshot with the calls that led there.
#[derive(Debug)]
pub struct Kept {
    snapshot: CpuSnapshot,
    log: Vec<Arc<Action>>,
}

pub struct Reference {
    pub optimizer: CpuOptimizer,
    pub params: Vec<f32>,
    builder: OptimizerBuilder,
    layout: Layout,
    grad_dtype: Dtype,
    log: Vec<Arc<Action>>,
}

impl Reference {
    pub fn new(builder: OptimizerBuilder, layout: &Layout, grad_dtype: Dtype) -> Result<Self, Error> {
        let optimizer = builder.clone().grad_dtype(grad_dtype).build_cpu(layout)?;
        let params = numbers::params(layout);
        Ok(Self { optimizer, params, builder, layout: layout.clone(), grad_dtype, log: Vec::new() })
    }

    pub fn make(&mut self, action: Action) -> Result<(), Error> {
        let result = self.apply(&action);
        self.log.push(Arc::new(action));
        result
    }

    fn apply(&mut self, action: &Action) -> Result<(), Error> {
        let Self { optimizer, params, .. } = self;
        match action {
            Action::Step(grads) if self.grad_dtype == Dtype::Bf16 => optimizer.step(params, &narrow(grads)).map(|_| ()),
            Action::Step(grads) => optimizer.step(params, grads).map(|_| ()),
            Action::Perturb(grads) if self.grad_dtype == Dtype::Bf16 => optimizer.perturb(params, &narrow(grads)),
            Action::Perturb(grads) => optimizer.perturb(params, grads),
            Action::UpdateHessian(estimate) => optimizer.update_hessian(params, estimate),
            Action::SetLr(lr) => optimizer.set_lr(*lr),
            Action::SetGradScale(scale) => optimizer.set_grad_scale(*scale),
            Action::Eval => optimizer.eval(params),
            Action::Train => optimizer.train(params),
            Action::Resume => {
                optimizer.resume();
                Ok(())
            }
            Action::SetAppliedSteps(steps) => optimizer.set_applied_steps(*steps),
            Action::SetParams(values) => {
                params.clone_from(values);
                Ok(())
            }
            Action::SetState(name, values) => {
                let state = optimizer.state_mut(name).and_then(HostSliceMut::into_f32);
                state.unwrap_or_default().copy_from_slice(values);
                Ok(())
            }
            Action::SetScalarStates(values) => optimizer.set_scalar_states(values),
            Action::SetTensorStates(values) => optimizer.set_tensor_states(values),
        }
    }

    pub fn snapshot(&self) -> Result<Kept, Error> {
        Ok(Kept { snapshot: self.optimizer.snapshot(&self.params)?, log: self.log.clone() })
    }

    /// Restores a snapshot, or makes the calls that led there on a new optimizer.
    pub fn restore(&mut self, kept: &Kept, replays: bool) -> Result<(), Error> {
        if replays {
            *self = Self::new(self.builder.clone(), &self.layout, self.grad_dtype)?;
            for action in &kept.log {
                // A call was refused then, and is now.
                let _refused = self.apply(action);
            }
        } else {
            self.optimizer.restore(&mut self.params, &kept.snapshot)?;
        }
        self.log.clone_from(&kept.log);
        Ok(())
    }
}

fn narrow(grads: &[f32]) -> Vec<bf16> {
    grads.iter().map(|&grad| bf16::from_f32(grad)).collect()
}
