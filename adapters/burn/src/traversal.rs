//! Parameters out of a module that is owned, and back. While they are out, no place of the module shares their memory.

use std::any::Any;
use std::vec::IntoIter;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, GradientCheckpointingStrategy, Tensor};

use crate::Error;
use crate::parameters::{ParameterList, Tensors, Walk};
use crate::tensors::{Primitive, primitive, tensor};

/// A module without its parameters, and these.
pub(crate) struct Taken<M> {
    module: M,
    /// One entry per float tensor of the module, in the order of its traversal: the number of the parameter that was taken.
    places: Vec<Option<usize>>,
    /// By number of the parameter.
    contexts: Vec<Option<Context>>,
    pub(crate) tensors: Tensors,
}

/// Properties of burn's tensor beside its numbers.
#[derive(Clone, Copy, PartialEq)]
struct Context {
    is_autodiff: bool,
    requires_grad: bool,
    is_distributed: bool,
    checkpointing: Option<GradientCheckpointingStrategy>,
}

/// Takes the parameters of the list, and their gradients out of `grads`.
pub(crate) fn take<M: Module>(list: &ParameterList, module: M, grads: Option<&mut GradientsParams>) -> Taken<M> {
    let contexts = vec![None; list.parameters.len()];
    let mut take = Take { walk: Walk::new(list, grads), placeholder: None, places: Vec::new(), contexts };
    let module = module.map(&mut take);
    let Take { walk, places, contexts, .. } = take;
    Taken { module, places, contexts, tensors: walk.tensors }
}

impl<M: Module> Taken<M> {
    /// Puts parameters into the places of those with the same number.
    pub(crate) fn put(self, params: Vec<Option<Primitive>>) -> M {
        let mut uses = vec![0; params.len()];
        for &number in self.places.iter().flatten() {
            uses[number] += 1;
        }
        let tied = params.iter().map(|_| None).collect();
        let (places, contexts) = (self.places.into_iter(), self.contexts);
        self.module.map(&mut Put { places, contexts, params, uses, tied })
    }
}

struct Take<'a> {
    walk: Walk<'a>,
    /// Fills places whose parameter is out.
    placeholder: Option<Primitive>,
    places: Vec<Option<usize>>,
    contexts: Vec<Option<Context>>,
}

impl ModuleMapper for Take<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.walk.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.walk.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let number = self.walk.find(&param).unwrap_or_else(|refused| {
            self.walk.refuse(refused);
            None
        });
        let Some(number) = number else {
            self.places.push(None);
            return param;
        };
        let (id, value, mapper) = param.consume();
        let (place, left) = match self.take_value(&value, number) {
            Ok(placeholder) => (Some(number), placeholder),
            Err(refused) => {
                self.walk.refuse(refused);
                (None, value)
            }
        };
        self.places.push(place);
        Param::from_mapped_value(id, left, mapper)
    }
}

impl Take<'_> {
    /// Takes a tied parameter at its first place. Returns a placeholder.
    fn take_value<const D: usize>(&mut self, value: &Tensor<D>, number: usize) -> Result<Tensor<D>, Error> {
        let changed = |change| Err(Error::ModuleChanged { change: format!("`{}` {change}", self.walk.path.join(".")) });
        if matches!(value.dtype(), DType::QFloat(_)) {
            return changed("is quantized now");
        }
        let context = Context::of(value);
        let taken = self.walk.list.primitive(value.clone().without_autodiff(), number)?;
        if let (Some(first), Some(known)) = (&self.walk.tensors.params[number], self.contexts[number])
            && (first.dtype, known) != (taken.dtype, context)
        {
            return changed("is tied, and differs from its first place in `requires_grad`, autodiff or element type");
        }
        let placeholder = self.placeholder(&taken);
        self.contexts[number].get_or_insert(context);
        self.walk.tensors.params[number].get_or_insert(taken);
        Ok(placeholder)
    }

    /// A tensor of one element, on the device of the parameters.
    fn placeholder<const D: usize>(&mut self, taken: &Primitive) -> Tensor<D> {
        let make = || primitive(Tensor::<1>::empty([1], &self.walk.list.device)).unwrap_or_else(|| taken.clone());
        tensor(self.placeholder.get_or_insert_with(make).clone())
    }
}

struct Put {
    places: IntoIter<Option<usize>>,
    contexts: Vec<Option<Context>>,
    params: Vec<Option<Primitive>>,
    /// The number of places of each parameter.
    uses: Vec<usize>,
    /// The tensor of each tied parameter: one leaf of autodiff at all its places, so that its gradient is their sum.
    tied: Vec<Option<Box<dyn Any>>>,
}

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(number) = self.places.next().flatten() else { return param };
        let Some(value) = self.parameter(number, param.id) else { return param };
        let (id, _, mapper) = param.consume();
        Param::from_mapped_value(id, value, mapper)
    }
}

impl Put {
    fn parameter<const D: usize>(&mut self, number: usize, id: ParamId) -> Option<Tensor<D>> {
        if let Some(tied) = &self.tied[number] {
            return tied.downcast_ref().cloned();
        }
        let value: Tensor<D> = self.contexts[number]?.restore(tensor(self.params[number].take()?), id);
        if self.uses[number] > 1 {
            self.tied[number] = Some(Box::new(value.clone()));
        }
        Some(value)
    }
}

impl Context {
    fn of<const D: usize>(tensor: &Tensor<D>) -> Self {
        let is_autodiff = tensor.is_autodiff();
        Self {
            is_autodiff,
            requires_grad: tensor.is_require_grad(),
            // burn panics without autodiff.
            is_distributed: is_autodiff && tensor.is_distributed(),
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
