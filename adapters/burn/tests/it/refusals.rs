//! Wrong inputs: typed errors, and the module as it was.

use burn::module::{Module, Param};
use burn::nn::LinearConfig;
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::DType;
use wgpu_optim_burn::wgpu_optim::wgpu::DeviceType;
use wgpu_optim_burn::wgpu_optim::{self, AdamW, GroupOptions, Sgd};
use wgpu_optim_burn::{Error, FusedOptimizer};

use crate::common::{Classifier, Pair, builder, device, fused, param, setup, values};

#[test]
fn a_module_without_trainable_parameters() {
    let model = Classifier::new().no_grad();
    let refused = fused(AdamW::default()).build(&model, setup()).expect_err("nothing to train");
    assert!(matches!(refused, Error::NoParameters), "{refused}");
}

#[test]
fn a_group_that_matches_nothing() {
    let model = Classifier::new();
    let builder = fused(AdamW::default()).group("*.scale", GroupOptions::default());
    let refused = builder.build(&model, setup()).expect_err("no such parameter").to_string();
    assert!(refused.contains("\"*.scale\"") && refused.contains("`first.weight`"), "{refused}");
}

#[test]
fn a_missing_gradient() {
    let model = Classifier::new();
    let before = values(&model);
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let mut grads = model.grads(0);
    grads.remove::<2>(model.second.weight.id).expect("a gradient");
    let refused = optimizer.step(0.1, model, grads).expect_err("a gradient is missing");
    assert!(matches!(refused.error, Error::Optimizer(wgpu_optim::Error::MissingGradient { .. })), "{refused}");
    assert!(refused.to_string().contains("second.weight"), "{refused}");
    assert_eq!(values(&refused.module), before);
    let grads = refused.module.grads(0);
    optimizer.step(0.1, refused.module, grads).expect("the next step");
}

#[test]
fn a_module_that_has_changed() {
    let model = Classifier::new();
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");

    let mut wider = model.clone();
    wider.last = LinearConfig::new(33, 7).init(&device());
    let before = values(&wider);
    let refused = optimizer.step(0.1, wider, GradientsParams::new()).expect_err("new parameters");
    assert!(refused.to_string().contains("`last.weight` is new"), "{refused}");
    assert_eq!(values(&refused.module), before);

    let mut reshaped = model.clone();
    let (id, weight, mapper) = reshaped.last.weight.consume();
    reshaped.last.weight = Param::from_mapped_value(id, weight.narrow(0, 0, 20).detach().require_grad(), mapper);
    let refused = optimizer.step(0.1, reshaped, GradientsParams::new()).expect_err("another shape");
    assert!(refused.to_string().contains("was [33, 5] and is [20, 5]"), "{refused}");

    let mut smaller = model.clone();
    smaller.last.bias = None;
    let refused = optimizer.step(0.1, smaller, GradientsParams::new()).expect_err("a parameter is gone");
    assert!(refused.to_string().contains("`last.bias` is gone"), "{refused}");

    let grads = model.grads(0);
    optimizer.step(0.1, model, grads).expect("the module it was built for");
}

/// One of two places has another shape now.
#[test]
fn a_tied_parameter_of_another_shape() {
    let a = param(6, 1.0);
    let model = Pair { b: a.clone(), a };
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let (id, value, mapper) = model.a.consume();
    let narrow = Param::from_mapped_value(id, value.narrow(0, 0, 2).detach().require_grad(), mapper);
    for model in [Pair { a: narrow.clone(), b: model.b.clone() }, Pair { a: model.b, b: narrow }] {
        let before = values(&model);
        let refused = optimizer.step(0.1, model, GradientsParams::new()).expect_err("another shape");
        assert!(matches!(refused.error, Error::ModuleChanged { .. }), "{refused}");
        assert_eq!(values(&refused.module), before);
    }
}

#[test]
fn a_tied_parameter_that_is_frozen_at_one_place() {
    let a = param(6, 1.0);
    let mut model = Pair { b: a.clone(), a };
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    model.b = model.b.no_grad();
    let refused = optimizer.step(0.1, model, GradientsParams::new()).expect_err("a frozen place");
    assert!(refused.to_string().contains("`b` is tied"), "{refused}");
    assert!(refused.module.a.is_require_grad() && !refused.module.b.is_require_grad());
}

#[test]
fn a_parameter_at_another_path() {
    let model = Pair { a: param(6, 1.0), b: param(6, 2.0) };
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let swapped = Pair { a: model.b, b: model.a };
    let refused = optimizer.step(0.1, swapped, GradientsParams::new()).expect_err("at another path");
    assert!(refused.to_string().contains("`a` was `b`"), "{refused}");
}

/// A file or a sum of the parameters that are left would lack the others.
#[test]
fn a_changed_module_is_neither_saved_nor_accumulated() {
    let model = Classifier::new();
    let settings = builder(AdamW::default()).accumulate_gradients();
    let mut optimizer = FusedOptimizer::builder(settings).build(&model, setup()).expect("built");
    let other = Classifier::new();
    let refused = optimizer.accumulate(&other, other.grads(0), 1.0).expect_err("other parameters");
    assert!(matches!(refused, Error::ModuleChanged { .. }), "{refused}");
    let mut smaller = model.clone();
    smaller.last.bias = None;
    let refused = optimizer.accumulate(&smaller, smaller.grads(0), 1.0).expect_err("a parameter is gone");
    assert!(refused.to_string().contains("`last.bias` is gone"), "{refused}");
    #[cfg(feature = "safetensors")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("optimizer.safetensors");
        let (id, weight, mapper) = model.last.weight.clone().consume();
        let mut transposed = model.clone();
        transposed.last.weight = Param::from_mapped_value(id, weight.transpose().detach().require_grad(), mapper);
        let refused = optimizer.save(&path, &transposed).expect_err("another shape");
        assert!(matches!(refused, Error::ModuleChanged { .. }), "{refused}");
        assert!(!path.exists());
    }
    optimizer.accumulate(&model, model.grads(0), 1.0).expect("the module it was built for");
}

#[test]
fn other_element_types() {
    let model = Classifier::new();
    let half = wgpu_optim::Precision::default().with_grads(wgpu_optim::Dtype::Bf16);
    let mut optimizer =
        FusedOptimizer::builder(builder(Sgd::default()).precision(half)).build(&model, setup()).expect("built");
    let before = values(&model);
    let grads = model.grads(0);
    let refused = optimizer.step(0.1, model, grads).expect_err("f32 gradients");
    let Error::Dtype { what: "a gradient", actual: DType::F32, .. } = &refused.error else { panic!("{refused}") };
    assert_eq!(values(&refused.module), before);
}

/// The same adapter under another name is another device of wgpu.
fn other_device() -> Device {
    let kind = match setup().adapter.get_info().device_type {
        DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu(0),
        DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu(0),
        DeviceType::VirtualGpu => DeviceKind::VirtualGpu(0),
        DeviceType::Cpu | DeviceType::Other => DeviceKind::Cpu,
    };
    Device::wgpu(kind).autodiff()
}

#[test]
fn a_module_on_another_device() {
    let model = LinearConfig::new(3, 4).init(&other_device());
    let refused = fused(AdamW::default()).build(&model, setup()).expect_err("another device");
    assert!(matches!(refused, Error::ForeignDevice { .. }), "{refused}");
    assert!(refused.to_string().contains("init_with_setup"), "{refused}");
}

#[test]
fn a_gradient_on_another_device_or_of_another_shape() {
    let mut model = LinearConfig::new(3, 4).init(&device());
    let mut optimizer = fused(AdamW::default()).build(&model, setup()).expect("built");
    let before = values(&model);
    let gradients = [
        (Tensor::<2>::ones([3, 4], &other_device().without_autodiff()), "lies on another device"),
        (Tensor::<2>::ones([4, 3], &device().without_autodiff()), "has shape [4, 3]; the parameter has [3, 4]"),
    ];
    for (gradient, expected) in gradients {
        let mut grads = GradientsParams::new();
        grads.register(model.weight.id, gradient);
        let refused = optimizer.step(0.1, model, grads).expect_err("a gradient of something else");
        assert!(refused.to_string().contains(expected), "{refused}");
        model = refused.module;
        assert_eq!(values(&model), before);
    }
}
