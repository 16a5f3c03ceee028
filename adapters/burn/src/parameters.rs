use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
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
    /// The other paths of a tied parameter.
    tied: Vec<String>,
    pub(crate) shape: Vec<usize>,
}

impl Parameter {
    /// All paths: a tied parameter has several.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        [&self.path].into_iter().chain(&self.tied)
    }
}

/// The trainable parameters of a module in the order of its visit, each once.
#[derive(Debug)]
pub(crate) struct ParameterList {
    pub(crate) parameters: Vec<Parameter>,
    numbers: HashMap<ParamId, usize>,
    /// burn's device of all parameters, without autodiff.
    pub(crate) device: Device,
}

/// Tensors of a module and its gradients, by number of the parameter.
pub(crate) struct Tensors {
    pub(crate) params: Vec<Option<Primitive>>,
    pub(crate) grads: Vec<Option<Primitive>>,
    /// The first difference from what the optimizer was built for.
    pub(crate) error: Option<Error>,
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

    /// The parameters of a module, which keeps them, and their gradients out of `grads`.
    ///
    /// # Errors
    /// Those of [`ParameterList::check`].
    pub(crate) fn read(
        &self,
        module: &impl Module,
        grads: Option<&mut GradientsParams>,
        formats: (Dtype, Dtype),
    ) -> Result<Tensors, Error> {
        let mut visit = Read(Walk::new(self, grads));
        module.visit(&mut visit);
        let mut tensors = visit.0.tensors;
        self.check(&mut tensors, formats)?;
        Ok(tensors)
    }

    /// The number of the parameter at a path of a module; `None` where nothing is trained. A frozen clone has the id of its
    /// original at another path.
    ///
    /// # Errors
    /// [`Error::ModuleChanged`].
    fn number<const D: usize>(&self, param: &Param<Tensor<D>>, path: &[String]) -> Result<Option<usize>, Error> {
        let (path, shape) = (path.join("."), param.shape());
        let known = self.numbers.get(&param.id).map(|&number| (number, &self.parameters[number]));
        let change = match known {
            Some((number, parameter)) if parameter.paths().any(|known| *known == path) => {
                let old = &parameter.shape;
                if shape[..] == old[..] {
                    return Ok(Some(number));
                }
                format!("the shape of `{path}` was {old:?} and is {:?}", shape.to_vec())
            }
            _ if !param.is_require_grad() || shape.num_elements() == 0 => return Ok(None),
            Some((_, parameter)) => format!("`{path}` was `{}`, or required no gradient", parameter.path),
            None => format!("`{path}` is new, or requires a gradient now"),
        };
        Err(Error::ModuleChanged { change })
    }

    /// A tensor that belongs to a parameter.
    ///
    /// # Errors
    /// [`Error::ForeignDevice`].
    pub(crate) fn primitive<const D: usize>(&self, tensor: Tensor<D>, number: usize) -> Result<Primitive, Error> {
        let device = tensor.device();
        let primitive = if device == self.device { primitive(tensor) } else { None };
        primitive.ok_or_else(|| Error::ForeignDevice {
            parameter: self.parameters[number].path.clone(),
            device: format!("{device:?}"),
        })
    }

    /// The gradient of a parameter.
    ///
    /// # Errors
    /// [`Error::GradientShape`], [`Error::ForeignDevice`].
    fn grad<const D: usize>(&self, grad: Tensor<D>, number: usize) -> Result<Primitive, Error> {
        let Parameter { path, shape, .. } = &self.parameters[number];
        if grad.dims()[..] == shape[..] {
            return self.primitive(grad.without_autodiff(), number);
        }
        let (parameter, expected, actual) = (path.clone(), shape.clone(), grad.dims().to_vec());
        Err(Error::GradientShape { parameter, expected, actual })
    }

    /// Refuses tensors that the optimizer was not built for. `formats`: those of parameters and gradients.
    ///
    /// # Errors
    /// [`Error::ModuleChanged`], [`Error::ForeignDevice`], [`Error::GradientShape`], [`Error::Dtype`].
    pub(crate) fn check(&self, tensors: &mut Tensors, formats: (Dtype, Dtype)) -> Result<(), Error> {
        if let Some(error) = tensors.error.take() {
            return Err(error);
        }
        if let Some(number) = tensors.params.iter().position(Option::is_none) {
            return Err(Error::ModuleChanged { change: format!("`{}` is gone", self.parameters[number].path) });
        }
        self.check_dtypes(&tensors.params, formats.0, "elements")?;
        self.check_dtypes(&tensors.grads, formats.1, "a gradient")
    }

    fn check_dtypes(&self, tensors: &[Option<Primitive>], expected: Dtype, what: &'static str) -> Result<(), Error> {
        for (parameter, tensor) in self.parameters.iter().zip(tensors) {
            if let Some(actual) = tensor.as_ref().map(|tensor| tensor.dtype).filter(|&dtype| !holds(dtype, expected)) {
                let parameter = parameter.path.clone();
                return Err(Error::Dtype { parameter, what, actual, expected: format!("{expected:?}") });
            }
        }
        Ok(())
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
        if !param.is_require_grad() || param.shape().num_elements() == 0 {
            return;
        }
        let (id, path) = (param.id, self.path.join("."));
        if let Some(&number) = self.numbers.get(&id) {
            self.parameters[number].tied.push(path);
            return;
        }
        self.device.get_or_insert_with(|| param.base().device().without_autodiff());
        self.numbers.insert(id, self.parameters.len());
        self.parameters.push(Parameter { id, path, tied: Vec::new(), shape: param.shape().to_vec() });
    }
}

/// A way through a module, and what was found on it.
pub(crate) struct Walk<'a> {
    pub(crate) list: &'a ParameterList,
    pub(crate) path: Vec<String>,
    given: Option<&'a mut GradientsParams>,
    pub(crate) tensors: Tensors,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(list: &'a ParameterList, given: Option<&'a mut GradientsParams>) -> Self {
        let none = || list.parameters.iter().map(|_| None).collect();
        Self { list, path: Vec::new(), given, tensors: Tensors { params: none(), grads: none(), error: None } }
    }

    /// The number of the parameter at the present path, whose gradient is moved to the tensors.
    ///
    /// # Errors
    /// [`Error::ModuleChanged`], [`Error::GradientShape`], [`Error::ForeignDevice`].
    pub(crate) fn find<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Option<usize>, Error> {
        let Some(number) = self.list.number(param, &self.path)? else { return Ok(None) };
        if let Some(grad) = self.given.as_mut().and_then(|given| given.remove::<D>(param.id)) {
            self.tensors.grads[number] = Some(self.list.grad(grad, number)?);
        }
        Ok(Some(number))
    }

    /// The first error counts.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.tensors.error.get_or_insert(error);
    }
}

struct Read<'a>(Walk<'a>);

impl ModuleVisitor for Read<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Self(walk) = self;
        let found = walk.find(param).and_then(|number| {
            if let Some(number) = number.filter(|&number| walk.tensors.params[number].is_none()) {
                walk.tensors.params[number] = Some(walk.list.primitive(param.base().without_autodiff(), number)?);
            }
            Ok(())
        });
        if let Err(refused) = found {
            walk.refuse(refused);
        }
    }
}

/// True if burn's element type is the library's format.
fn holds(actual: DType, expected: Dtype) -> bool {
    matches!((actual, expected), (DType::F32, Dtype::F32) | (DType::F16, Dtype::F16) | (DType::BF16, Dtype::Bf16))
}
