//! Parameters out of a module that is owned, and back. While they are out, no place of the module shares their memory.

use std::iter::Peekable;
use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};

use crate::Error;
use crate::parameters::ParameterList;
use crate::tensors::{Primitive, primitive, tensor};

/// A module without its parameters, and these.
pub(crate) struct Taken<M> {
    module: M,
    /// The parameters' places in the module, in the order of its traversal.
    places: Vec<Place>,
    /// By number of the parameter; `None` where `error` says why.
    pub(crate) params: Vec<Option<Primitive>>,
    /// By number of the parameter; `None` without a gradient.
    pub(crate) grads: Vec<Option<Primitive>>,
    /// The first difference from the module that the list was made of.
    pub(crate) error: Option<Error>,
}

/// A place of a parameter in the module. Tied parameters have several.
struct Place {
    id: ParamId,
    number: usize,
    context: Context,
}

/// Properties of burn's tensor beside its numbers.
struct Context {
    is_autodiff: bool,
    requires_grad: bool,
    is_distributed: bool,
    checkpointing: Option<GradientCheckpointingStrategy>,
}

/// Takes the parameters of the list, and their gradients out of `grads`.
pub(crate) fn take<M: Module>(list: &ParameterList, module: M, grads: Option<&mut GradientsParams>) -> Taken<M> {
    let empty = || list.parameters.iter().map(|_| None).collect();
    let mut take = Take {
        list,
        path: Vec::new(),
        given: grads,
        placeholder: None,
        places: Vec::new(),
        params: empty(),
        grads: empty(),
        error: None,
    };
    let module = module.map(&mut take);
    Taken { module, places: take.places, params: take.params, grads: take.grads, error: take.error }
}

/// The gradients of the list's parameters, out of `grads`.
pub(crate) fn take_grads(
    list: &ParameterList,
    module: &impl Module,
    grads: &mut GradientsParams,
) -> Result<Vec<Option<Primitive>>, Error> {
    let mut visit =
        TakeGrads { list, given: grads, found: list.parameters.iter().map(|_| None).collect(), error: None };
    module.visit(&mut visit);
    match visit.error {
        Some(error) => Err(error),
        None => Ok(visit.found),
    }
}

impl<M: Module> Taken<M> {
    /// Puts parameters into the places of those with the same number.
    pub(crate) fn put(self, params: Vec<Option<Primitive>>) -> M {
        let mut uses = vec![0; params.len()];
        for place in &self.places {
            uses[place.number] += 1;
        }
        let places = self.places.into_iter().peekable();
        self.module.map(&mut Put { places, params, uses })
    }
}

struct Take<'a> {
    list: &'a ParameterList,
    path: Vec<String>,
    given: Option<&'a mut GradientsParams>,
    /// Fills places whose parameter is out.
    placeholder: Option<Primitive>,
    places: Vec<Place>,
    params: Vec<Option<Primitive>>,
    grads: Vec<Option<Primitive>>,
    error: Option<Error>,
}

impl ModuleMapper for Take<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(number) = self.list.number(param.id) else {
            if param.is_require_grad() && param.shape().num_elements() > 0 {
                let change = format!("`{}` is new, or requires a gradient now", self.path.join("."));
                self.error.get_or_insert(Error::ModuleChanged { change });
            }
            return param;
        };
        let parameter = &self.list.parameters[number];
        let (id, value, mapper) = param.consume();
        if value.dims()[..] != parameter.shape[..] {
            let (path, old, new) = (&parameter.path, &parameter.shape, value.dims());
            let change = format!("the shape of `{path}` was {old:?} and is {new:?}");
            self.error.get_or_insert(Error::ModuleChanged { change });
            return Param::from_mapped_value(id, value, mapper);
        }
        let context = Context::of(&value);
        let (kept, value) = (value.clone(), value.without_autodiff());
        let taken = match self.list.primitive(value, number) {
            Ok(taken) => taken,
            Err(refused) => {
                self.error.get_or_insert(refused);
                return Param::from_mapped_value(id, kept, mapper);
            }
        };
        let placeholder = self.placeholder(&taken);
        drop(kept);
        // A tied parameter is taken once.
        self.params[number].get_or_insert(taken);
        self.places.push(Place { id, number, context });
        if let Some(grad) = self.given.as_mut().and_then(|grads| grads.remove::<D>(id)) {
            match self.list.grad(grad, number) {
                Ok(grad) => self.grads[number] = Some(grad),
                Err(refused) => {
                    self.error.get_or_insert(refused);
                }
            }
        }
        Param::from_mapped_value(id, placeholder, mapper)
    }
}

impl Take<'_> {
    /// A tensor of one element, on the device of the parameters.
    fn placeholder<const D: usize>(&mut self, taken: &Primitive) -> Tensor<D> {
        let make = || primitive(Tensor::<1>::empty([1], &self.list.device)).unwrap_or_else(|| taken.clone());
        tensor(self.placeholder.get_or_insert_with(make).clone())
    }
}

struct Put {
    places: Peekable<IntoIter<Place>>,
    params: Vec<Option<Primitive>>,
    /// The places that wait for each parameter.
    uses: Vec<usize>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(Place { number, context, .. }) = self.places.next_if(|place| place.id == param.id) else {
            return param;
        };
        self.uses[number] -= 1;
        let last = self.uses[number] == 0;
        let value = if last { self.params[number].take() } else { self.params[number].clone() };
        let (id, placeholder, mapper) = param.consume();
        let value = value.map_or(placeholder, |value| context.restore(tensor(value), id));
        Param::from_mapped_value(id, value, mapper)
    }
}

impl Context {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        Self {
            is_autodiff: tensor.is_autodiff(),
            requires_grad: tensor.is_require_grad(),
            is_distributed: tensor.is_distributed(),
            checkpointing: tensor.gradient_checkpointing_strategy(),
        }
    }

    fn restore<const D: usize>(self, tensor: Tensor<D>, id: ParamId) -> Tensor<D> {
        if !self.is_autodiff {
            return tensor;
        }
        let mut tensor = Tensor::from_inner(tensor);
        if let Some(strategy) = self.checkpointing {
            tensor = tensor.with_gradient_checkpointing_strategy(strategy);
        }
        if self.requires_grad {
            tensor = tensor.require_grad();
        }
        if self.is_distributed { tensor.set_distributed(id) } else { tensor }
    }
}

struct TakeGrads<'a> {
    list: &'a ParameterList,
    given: &'a mut GradientsParams,
    found: Vec<Option<Primitive>>,
    error: Option<Error>,
}

impl ModuleVisitor for TakeGrads<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(number) = self.list.number(param.id) else { return };
        let Some(grad) = self.given.remove::<D>(param.id) else { return };
        match self.list.grad(grad, number) {
            Ok(grad) => self.found[number] = Some(grad),
            Err(refused) => {
                self.error.get_or_insert(refused);
            }
        }
    }
}
