use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor};
use wgpu_optim::Dtype;

use crate::Error;
use crate::tensors::{Primitive, primitive};

/// A trainable parameter, as it was when the optimizer was built.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) id: ParamId,
    /// The names of the fields that lead to it, with dots between.
    pub(crate) path: String,
    pub(crate) shape: Vec<usize>,
}

/// The trainable parameters of a module in the order of its visit, each once.
#[derive(Debug)]
pub(crate) struct ParameterList {
    pub(crate) parameters: Vec<Parameter>,
    numbers: HashMap<ParamId, usize>,
    /// burn's device of all parameters, without autodiff.
    pub(crate) device: Device,
}

impl ParameterList {
    /// # Errors
    /// [`Error::NoParameters`].
    pub(crate) fn of(module: &impl Module) -> Result<Self, Error> {
        let mut visit = Collect::default();
        module.visit(&mut visit);
        let Collect { parameters, numbers, device, .. } = visit;
        Ok(Self { parameters, numbers, device: device.ok_or(Error::NoParameters)? })
    }

    /// A tensor that belongs to a parameter.
    pub(crate) fn primitive<const D: usize>(&self, tensor: Tensor<D>, number: usize) -> Result<Primitive, Error> {
        let device = tensor.device();
        let primitive = if device == self.device { primitive(tensor) } else { None };
        primitive.ok_or_else(|| Error::ForeignDevice {
            parameter: self.parameters[number].path.clone(),
            device: format!("{device:?}"),
        })
    }

    /// The gradient of a parameter.
    pub(crate) fn grad<const D: usize>(&self, grad: Tensor<D>, number: usize) -> Result<Primitive, Error> {
        let Parameter { path, shape, .. } = &self.parameters[number];
        if grad.dims()[..] != shape[..] {
            let (parameter, expected, actual) = (path.clone(), shape.clone(), grad.dims().to_vec());
            return Err(Error::GradientShape { parameter, expected, actual });
        }
        self.primitive(grad.without_autodiff(), number)
    }

    /// The tensors, read where they lie. Their module keeps them.
    pub(crate) fn read(&self, module: &impl Module, expected: Dtype) -> Result<Vec<Primitive>, Error> {
        let mut visit = Read { list: self, found: self.parameters.iter().map(|_| None).collect(), error: None };
        module.visit(&mut visit);
        if let Some(error) = visit.error {
            return Err(error);
        }
        self.check_complete(&visit.found)?;
        self.check_dtypes(&visit.found, expected, "elements")?;
        Ok(visit.found.into_iter().flatten().collect())
    }

    /// Refuses a module that lacks a parameter.
    pub(crate) fn check_complete(&self, found: &[Option<Primitive>]) -> Result<(), Error> {
        match found.iter().position(Option::is_none) {
            Some(number) => Err(Error::ModuleChanged { change: format!("`{}` is gone", self.parameters[number].path) }),
            None => Ok(()),
        }
    }

    /// Refuses tensors of another format.
    pub(crate) fn check_dtypes(
        &self,
        tensors: &[Option<Primitive>],
        expected: Dtype,
        what: &'static str,
    ) -> Result<(), Error> {
        for (parameter, tensor) in self.parameters.iter().zip(tensors) {
            if let Some(actual) = tensor.as_ref().map(|tensor| tensor.dtype).filter(|&dtype| !holds(dtype, expected)) {
                let parameter = parameter.path.clone();
                return Err(Error::Dtype { parameter, what, actual, expected: format!("{expected:?}") });
            }
        }
        Ok(())
    }

    /// The number of a parameter of the list.
    pub(crate) fn number(&self, id: ParamId) -> Option<usize> {
        self.numbers.get(&id).copied()
    }
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    parameters: Vec<Parameter>,
    numbers: HashMap<ParamId, usize>,
    /// The first parameter's.
    device: Option<Device>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_known = self.numbers.contains_key(&param.id);
        if is_known || !param.is_require_grad() || param.shape().num_elements() == 0 {
            return;
        }
        self.device.get_or_insert_with(|| param.base().device().without_autodiff());
        self.numbers.insert(param.id, self.parameters.len());
        self.parameters.push(Parameter { id: param.id, path: self.path.join("."), shape: param.shape().to_vec() });
    }
}

struct Read<'a> {
    list: &'a ParameterList,
    found: Vec<Option<Primitive>>,
    error: Option<Error>,
}

impl ModuleVisitor for Read<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(number) = self.list.number(param.id) else { return };
        if self.error.is_some() || self.found[number].is_some() {
            return;
        }
        match self.list.primitive(param.base().without_autodiff(), number) {
            Ok(tensor) => self.found[number] = Some(tensor),
            Err(refused) => self.error = Some(refused),
        }
    }
}

/// True if burn's element type is the library's format.
fn holds(actual: DType, expected: Dtype) -> bool {
    matches!((actual, expected), (DType::F32, Dtype::F32) | (DType::F16, Dtype::F16) | (DType::BF16, Dtype::Bf16))
}
