//! Clones, tied parameters and views keep what they had.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::prelude::*;
use wgpu_optim_burn::FusedOptimizer;
use wgpu_optim_burn::wgpu_optim::{AdamW, Ema, Sgd};

use crate::common::{Classifier, Pair, builder, device, fused, numbers, param, setup, values};

#[test]
fn a_clone_and_a_valid_model_stay_as_they_were() {
    let mut model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    for step in 0..3 {
        let (clone, valid, before) = (model.clone(), model.valid(), values(&model));
        let grads = model.grads(step);
        model = optimizer.step(0.01, model, grads).expect("a step");
        assert_eq!(values(&clone), before, "the clone");
        assert_eq!(values(&valid), before, "the valid model");
        assert_ne!(values(&model), before, "the model");
    }
}

/// Otherwise each step would move the parameters to new memory.
#[test]
fn parameters_that_nothing_shares_stay_in_their_memory() {
    let mut model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let mut places = Vec::new();
    for step in 0..4 {
        let grads = model.grads(step);
        model = optimizer.step(0.01, model, grads).expect("a step");
        places.push(place(&model.second.weight));
    }
    assert!(places.windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
}

/// Identity of the memory behind a parameter.
fn place<const D: usize>(param: &Param<Tensor<D>>) -> String {
    use burn::backend::wgpu::Wgpu;
    let tensor = param.base().without_autodiff().try_into_primitive::<Wgpu>().expect("a wgpu tensor");
    #[cfg(feature = "fusion")]
    let tensor = {
        let client = tensor.client.clone();
        client.resolve_tensor_float::<burn::backend::wgpu::CubeBackend>(tensor)
    };
    format!("{:?}", tensor.handle)
}

#[derive(Module, Debug)]
struct Tied {
    first: Linear,
    second: Linear,
}

impl Tied {
    fn new(first: Linear) -> Self {
        Self { second: first.clone(), first }
    }

    fn grads(&self) -> GradientsParams {
        let x = Tensor::<2>::ones([2, 6], &device());
        GradientsParams::from_grads(self.second.forward(self.first.forward(x)).sum().backward(), self)
    }
}

/// One layer, used twice.
#[derive(Module, Debug)]
struct Twice {
    layer: Linear,
}

impl Twice {
    fn new(layer: &Linear) -> Self {
        Self { layer: layer.clone().fork(&device()) }
    }

    fn grads(&self) -> GradientsParams {
        let x = Tensor::<2>::ones([2, 6], &device());
        GradientsParams::from_grads(self.layer.forward(self.layer.forward(x)).sum().backward(), self)
    }
}

/// Their gradient is the sum over both places, in every step.
#[test]
fn tied_parameters_stay_tied() {
    let layer = LinearConfig::new(6, 6).with_bias(false).init(&device());
    let (mut model, mut twice) = (Tied::new(layer.clone()), Twice::new(&layer));
    drop(layer);
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    let mut other = fused(Sgd::default()).build(&twice, setup()).expect("built");
    for step in 0..4 {
        if step == 2 {
            let refused = optimizer.step(0.1, model, GradientsParams::new()).expect_err("no gradient");
            model = refused.module;
        }
        let grads = model.grads();
        model = optimizer.step(0.1, model, grads).expect("a step");
        let grads = twice.grads();
        twice = other.step(0.1, twice, grads).expect("a step");
        let expected = numbers(twice.layer.weight.val());
        assert_eq!(numbers(model.first.weight.val()), expected, "step {step}");
        assert_eq!(numbers(model.second.weight.val()), expected, "step {step}");
        assert_eq!(place(&model.first.weight), place(&model.second.weight));
    }
}

/// burn's `fork` makes two leaves of a tied parameter.
#[test]
fn a_fork_is_tied_again() {
    let layer = LinearConfig::new(6, 6).with_bias(false).init(&device());
    let (mut model, mut twice) = (Tied::new(layer.clone()).fork(&device()), Twice::new(&layer));
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    let mut other = fused(Sgd::default()).build(&twice, setup()).expect("built");
    model = optimizer.tie(model).expect("tied");
    let grads = model.grads();
    model = optimizer.step(0.1, model, grads).expect("a step");
    let grads = twice.grads();
    twice = other.step(0.1, twice, grads).expect("a step");
    assert_eq!(numbers(model.second.weight.val()), numbers(twice.layer.weight.val()));
}

/// Also in a module without gradients.
#[test]
fn an_average_reaches_all_places_of_a_tied_parameter() {
    let mut model = Tied::new(LinearConfig::new(6, 6).with_bias(false).init(&device()));
    let settings = builder(Sgd::default()).average(Ema::new(0.5));
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    for _ in 0..2 {
        let grads = model.grads();
        model = optimizer.step(0.1, model, grads).expect("a step");
    }
    let trained = numbers(model.first.weight.val());
    let valid = optimizer.eval(model.valid()).expect("the average");
    assert_ne!(numbers(valid.first.weight.val()), trained);
    assert_eq!(numbers(valid.first.weight.val()), numbers(valid.second.weight.val()));
    assert_eq!(numbers(model.second.weight.val()), trained, "the module that was not given");
}

/// A target network: a clone in the same module, with the ids of the network that is trained.
#[test]
fn a_frozen_clone_in_the_module_stays_as_it_was() {
    for target_is_first in [false, true] {
        let layer = LinearConfig::new(6, 6).with_bias(false).init(&device());
        let before = numbers(layer.weight.val());
        let frozen = layer.clone().no_grad();
        let mut model =
            if target_is_first { Tied { first: frozen, second: layer } } else { Tied { first: layer, second: frozen } };
        let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
        for _ in 0..2 {
            let grads = model.grads();
            model = optimizer.step(0.1, model, grads).expect("a step");
        }
        let (target, online) =
            if target_is_first { (&model.first, &model.second) } else { (&model.second, &model.first) };
        assert_eq!(numbers(target.weight.val()), before);
        assert_ne!(numbers(online.weight.val()), before);
        assert!(!target.weight.is_require_grad() && online.weight.is_require_grad());
    }
}

/// Its memory is read as a gradient and written as a parameter.
#[test]
fn a_parameter_may_be_its_own_gradient() {
    let mut model = LinearConfig::new(6, 6).with_bias(false).init(&device());
    let before = numbers(model.weight.val());
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    for _ in 0..2 {
        let mut grads = GradientsParams::new();
        grads.register(model.weight.id, model.weight.val().inner());
        model = optimizer.step(0.5, model, grads).expect("a step");
    }
    let expected: Vec<f32> = before.iter().map(|p| p / 4.0).collect();
    assert_eq!(numbers(model.weight.val()), expected);
}

/// burn draws parameters when they are first read.
#[test]
fn parameters_that_were_never_read() {
    let mut model = LinearConfig::new(6, 6).init(&device());
    let clone = model.clone();
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    let before = values(&clone);
    let x = Tensor::<2>::ones([2, 6], &device());
    let grads = GradientsParams::from_grads(model.forward(x).sum().backward(), &model);
    model = optimizer.step(0.5, model, grads).expect("a step");
    assert_eq!(values(&clone), before);
    assert_ne!(values(&model), before);
}

/// Two parameters that enter as a sum have one gradient in one buffer.
#[test]
fn two_parameters_may_share_a_gradient() {
    let mut model = Pair { a: param(70, 1.0), b: param(70, 2.0) };
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    for _ in 0..2 {
        let loss = (model.a.val() + model.b.val()).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.25, model, grads).expect("a step");
    }
    assert_eq!(values(&model), [vec![0.5; 70], vec![1.5; 70]]);
}

/// Transposed: neither parameter nor gradient is contiguous.
#[test]
fn tensors_that_are_not_contiguous_are_copied() {
    let data = Tensor::<2>::from_data([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &device());
    let mut model = Views { weight: Param::from_tensor(data.transpose()) };
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    for _ in 0..2 {
        let scale = Tensor::<2>::from_data([[1.0f32, 2.0, 3.0], [10.0, 20.0, 30.0]], &device());
        let loss = (model.weight.val().transpose() * scale).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.5, model, grads).expect("a step");
    }
    assert_eq!(values(&model), [vec![0.0, -6.0, 0.0, -15.0, 0.0, -24.0]]);
}

#[derive(Module, Debug)]
struct Views {
    weight: Param<Tensor<2>>,
}
