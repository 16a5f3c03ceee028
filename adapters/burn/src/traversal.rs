//! Parameters out of a module that is owned, and back. While they are out, no place of the module shares their memory.

use std::any::Any;
use std::iter::Peekable;
use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, Tensor};

use crate::parameters::{ParameterList, Tensors};
use crate::tensors::{Primitive, primitive, tensor};

/// A module without its parameters, and these.
pub(crate) struct Taken<M> {
    module: M,
    /// The parameters' places in the module, in the order of its traversal.
    places: Vec<Place>,
    pub(crate) tensors: Tensors,
}

/// A place of a parameter in the module. Tied parameters have several.
struct Place {
    id: ParamId,
    content: Content,
}

enum Content {
    /// The parameter of this number.
    Parameter(usize, Context),
    /// A tensor of its own: a frozen clone keeps the id of the parameter that is trained.
    Frozen(Primitive, Context),
    /// A tensor that was refused, and that the module still has.
    Refused,
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
    let (path, places) = (Vec::new(), Vec::new());
    let mut take =
        Take { list, path, given: grads, placeholder: None, places, tensors: list.empty(), frozen: Vec::new() };
    let module = module.map(&mut take);
    let Take { mut places, mut tensors, frozen, .. } = take;
    // A parameter without a place that requires gradients was frozen later.
    for (number, place) in frozen {
        if tensors.params[number].is_none() {
            places[place].content.become_parameter(number, &mut tensors);
        }
    }
    Taken { module, places, tensors }
}

impl<M: Module> Taken<M> {
    /// Puts parameters into the places of those with the same number.
    pub(crate) fn put(self, params: Vec<Option<Primitive>>) -> M {
        let mut uses = vec![0; params.len()];
        for place in &self.places {
            if let Content::Parameter(number, _) = place.content {
                uses[number] += 1;
            }
        }
        let tied = params.iter().map(|_| None).collect();
        let places = self.places.into_iter().peekable();
        self.module.map(&mut Put { places, params, uses, tied })
    }
}

impl Content {
    fn become_parameter(&mut self, number: usize, tensors: &mut Tensors) {
        *self = match std::mem::replace(self, Self::Refused) {
            Self::Frozen(value, context) => {
                tensors.params[number] = Some(value);
                Self::Parameter(number, context)
            }
            other => other,
        };
    }
}

struct Take<'a> {
    list: &'a ParameterList,
    path: Vec<String>,
    given: Option<&'a mut GradientsParams>,
    /// Fills places whose parameter is out.
    placeholder: Option<Primitive>,
    places: Vec<Place>,
    tensors: Tensors,
    /// Numbers of parameters at places that require no gradient, with the index of the place.
    frozen: Vec<(usize, usize)>,
}

impl ModuleMapper for Take<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let id = param.id;
        let number = match self.list.number(&param, &self.path) {
            Ok(Some(number)) => number,
            Ok(None) => return param,
            Err(refused) => {
                self.tensors.error.get_or_insert(refused);
                self.places.push(Place { id, content: Content::Refused });
                return param;
            }
        };
        let (id, value, mapper) = param.consume();
        let context = Context::of(&value);
        let (kept, value) = (value.clone(), value.without_autodiff());
        let taken = match self.list.primitive(value, number) {
            Ok(taken) => taken,
            Err(refused) => {
                self.tensors.error.get_or_insert(refused);
                self.places.push(Place { id, content: Content::Refused });
                return Param::from_mapped_value(id, kept, mapper);
            }
        };
        let placeholder = self.placeholder(&taken);
        drop(kept);
        let held = if context.requires_grad {
            // A tied parameter is taken once.
            self.tensors.params[number].get_or_insert(taken);
            Content::Parameter(number, context)
        } else {
            self.frozen.push((number, self.places.len()));
            Content::Frozen(taken, context)
        };
        self.places.push(Place { id, content: held });
        if let Some(given) = &mut self.given {
            self.list.take_grad::<D>(number, given, &mut self.tensors);
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
    /// The places of each parameter.
    uses: Vec<usize>,
    /// The tensor of each tied parameter: one leaf of autodiff at all its places, so that its gradient is their sum.
    tied: Vec<Option<Box<dyn Any>>>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(Place { content, .. }) = self.places.next_if(|place| place.id == param.id) else {
            return param;
        };
        let value = match content {
            Content::Parameter(number, context) => self.parameter(number, context, param.id),
            Content::Frozen(value, context) => Some(context.restore(tensor(value), param.id)),
            Content::Refused => None,
        };
        let Some(value) = value else { return param };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, value, mapper)
    }
}

impl Put {
    fn parameter<const D: usize>(&mut self, number: usize, context: Context, id: ParamId) -> Option<Tensor<D>> {
        if let Some(tied) = &self.tied[number] {
            return tied.downcast_ref().cloned();
        }
        let value: Tensor<D> = context.restore(tensor(self.params[number].take()?), id);
        if self.uses[number] > 1 {
            self.tied[number] = Some(Box::new(value.clone()));
        }
        Some(value)
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
