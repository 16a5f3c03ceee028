//! Clones, tied parameters and views keep what they had.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::prelude::*;
use wgpu_optim_burn::wgpu_optim::{AdamW, Sgd};

use crate::common::{Classifier, device, fused, numbers, setup, values};

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

#[test]
fn tied_parameters_stay_tied() {
    let first = LinearConfig::new(6, 6).with_bias(false).init(&device());
    let mut model = Tied { second: first.clone(), first };
    let mut optimizer = fused(Sgd::default()).build(&model, setup()).expect("built");
    for _ in 0..3 {
        let x = Tensor::<2>::ones([2, 6], &device());
        let loss = model.second.forward(model.first.forward(x)).sum();
        let before = numbers(model.first.weight.val());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        let grad = numbers(grads.get::<2>(model.first.weight.id).expect("a gradient"));
        model = optimizer.step(0.5, model, grads).expect("a step");
        let expected: Vec<f32> = before.iter().zip(&grad).map(|(p, g)| p - 0.5 * g).collect();
        assert_eq!(numbers(model.first.weight.val()), expected);
        assert_eq!(numbers(model.second.weight.val()), expected);
        assert_eq!(place(&model.first.weight), place(&model.second.weight));
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

#[derive(Module, Debug)]
struct Sum {
    a: Param<Tensor<1>>,
    b: Param<Tensor<1>>,
}

/// Two parameters that enter as a sum have one gradient in one buffer.
#[test]
fn two_parameters_may_share_a_gradient() {
    let param = |value: f32| Param::from_tensor(Tensor::<1>::full([70], value, &device()));
    let mut model = Sum { a: param(1.0), b: param(2.0) };
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
