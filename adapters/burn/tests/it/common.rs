use std::sync::OnceLock;

use burn::backend::wgpu::WgpuSetup;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::activation::gelu;
use wgpu_optim_burn::wgpu_optim::{OptimizerBuilder, Rule};
use wgpu_optim_burn::{FusedOptimizer, FusedOptimizerBuilder};

pub use wgpu_optim_burn::wgpu_optim;

/// burn makes one device per process.
pub fn device() -> Device {
    setup_of_process().0.clone().autodiff()
}

pub fn setup() -> &'static WgpuSetup {
    &setup_of_process().1
}

fn setup_of_process() -> &'static (Device, WgpuSetup) {
    static SETUP: OnceLock<(Device, WgpuSetup)> = OnceLock::new();
    SETUP.get_or_init(|| Device::wgpu_options().init_with_setup().expect("an adapter: install a Vulkan driver"))
}

pub fn builder(rule: impl Rule + 'static) -> OptimizerBuilder {
    wgpu_optim::Optimizer::builder(rule)
}

pub fn fused(rule: impl Rule + 'static) -> FusedOptimizerBuilder {
    FusedOptimizer::builder(builder(rule))
}

/// Weights, biases and a norm.
#[derive(Module, Debug)]
pub struct Classifier {
    pub first: Linear,
    pub norm: LayerNorm,
    pub second: Linear,
    pub last: Linear,
}

pub const INPUTS: usize = 12;
pub const CLASSES: usize = 5;
const BATCH: usize = 16;

impl Classifier {
    pub fn new() -> Self {
        Self::with_width(33)
    }

    pub fn with_width(width: usize) -> Self {
        let device = device();
        let mut number = 0;
        let mut linear = |inputs: usize, outputs: usize| {
            let linear = LinearConfig::new(inputs, outputs).init(&device);
            let scale = (inputs as f32).sqrt().recip();
            let mut values = |len: usize| {
                number += 1;
                (0..len).map(|i| scale * noise(number, i)).collect::<Vec<f32>>()
            };
            let weight = TensorData::new(values(inputs * outputs), [inputs, outputs]);
            let bias = TensorData::new(values(outputs), [outputs]);
            Linear {
                weight: linear.weight.map(|_| Tensor::from_data(weight, &device).require_grad()),
                bias: linear.bias.map(|old| old.map(|_| Tensor::from_data(bias, &device).require_grad())),
            }
        };
        Self {
            first: linear(INPUTS, width),
            norm: LayerNormConfig::new(width).init(&device),
            second: linear(width, width),
            last: linear(width, CLASSES),
        }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = gelu(self.norm.forward(self.first.forward(x)));
        self.last.forward(gelu(self.second.forward(x)))
    }

    pub fn loss(&self, step: usize) -> Tensor<1> {
        let device = device();
        let inputs: Vec<f32> = (0..BATCH * INPUTS).map(|i| noise(100 + step as u32 % 20, i)).collect();
        let classes = inputs.chunks(INPUTS).map(|x| usize::from(x[0] > 0.0) + 2 * usize::from(x[1] > x[2]));
        let classes: Vec<i32> = classes.map(|class| class as i32).collect();
        let inputs = Tensor::from_data(TensorData::new(inputs, [BATCH, INPUTS]), &device);
        let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [BATCH]), &device);
        CrossEntropyLossConfig::new().init(&device).forward(self.forward(inputs), classes)
    }

    pub fn grads(&self, step: usize) -> GradientsParams {
        GradientsParams::from_grads(self.loss(step).backward(), self)
    }
}

/// Two parameters.
#[derive(Module, Debug)]
pub struct Pair {
    pub a: Param<Tensor<1>>,
    pub b: Param<Tensor<1>>,
}

/// A parameter of equal elements.
pub fn param(len: usize, value: f32) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::full([len], value, &device()))
}

/// A number in -1..1.
pub fn noise(seed: u32, i: usize) -> f32 {
    let mut x = (i as u32).wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x85EB_CA6B);
    for shift in [16, 15, 16] {
        x = (x ^ (x >> shift)).wrapping_mul(0x7FEB_352D);
    }
    (x >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// The bits of all float parameters.
pub fn values(module: &impl Module) -> Vec<Vec<f32>> {
    #[derive(Default)]
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(numbers(param.base()));
        }
    }
    let mut visit = Values::default();
    module.visit(&mut visit);
    visit.0
}

pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// The largest difference, relative to the largest number of the tensor.
pub fn difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let of = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(f32::MIN_POSITIVE, |max, x| max.max(x.abs()));
        a.iter().zip(b).fold(0.0f32, |max, (a, b)| max.max((a - b).abs())) / largest
    };
    a.iter().zip(b).map(of).fold(0.0, f32::max)
}
