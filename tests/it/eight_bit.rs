//! Moments in 8 bits: both engines, every format, beside small tensors in f32.

use crate::common::numbers::random;
use crate::common::{block_on, device, rule};
use crate::precision::{Both, grads_of, groups};
use wgpu_optim::{Clip, Dtype, Ema, Layout, Lookahead, Optimizer, OptimizerBuilder, Precision, Rounding};

const SEED: u32 = 7;

/// Every 8-bit format of moments, with a name. Tensors below 1,000 elements stay in f32.
fn formats() -> Vec<(&'static str, Precision)> {
    let stochastic = Rounding::Stochastic { seed: SEED };
    let formats = [
        ("dynamic", Precision::default().with_moments(Dtype::Dynamic8)),
        ("companded", Precision::default().with_moments(Dtype::Companded8)),
        ("split, dynamic", Precision::bf16_8bit()),
        (
            "split, companded, stochastic",
            Precision::bf16_split().with_moments(Dtype::Companded8).with_rounding(stochastic),
        ),
        ("bf16, dynamic, stochastic", Precision::bf16_stochastic_8bit(SEED)),
        ("f16 with a master, companded", Precision::f16_master().with_moments(Dtype::Companded8)),
    ];
    formats.map(|(name, precision)| (name, precision.with_min_8bit_len(1_000))).to_vec()
}

/// Large and small tensors of odd lengths, some frozen; the last block is not full.
fn layout() -> Layout {
    let layout = Layout::builder().aligned(256).tensor("a", &[37, 31]).tensor("frozen", &[1_100]).group("frozen");
    let layout =
        layout.tensor("small", &[7]).tensor("b", &[3, 1_025]).tensor("c", &[1]).tensor("d", &[999]).group("slow");
    layout.tensor("e", &[9_001]).tensor("f", &[1_000]).group("slow").build().unwrap()
}

impl Both<'_> {
    /// The checkpoint of each engine.
    fn files(&self) -> [Vec<u8>; 2] {
        let (mut on_device, mut on_cpu) = (Vec::new(), Vec::new());
        let saved = self.optimizer.save_to(&mut on_device, Some((&self.buffer).into()));
        block_on(self.gpu, saved);
        self.on_cpu.save_to(&mut on_cpu, Some(self.params.as_slice())).unwrap();
        [on_device, on_cpu]
    }

    /// Compares parameters and every part of the states.
    fn assert_same_files(&self, what: &str) {
        let [on_device, on_cpu] = self.files();
        if on_device == on_cpu {
            return;
        }
        let [on_device, on_cpu] =
            [&on_device, &on_cpu].map(|file| safetensors::SafeTensors::deserialize(file).unwrap());
        for (name, tensor) in on_cpu.iter() {
            let (got, expected) = (on_device.tensor(name).unwrap(), tensor.data());
            let first = got.data().iter().zip(expected).position(|(got, expected)| got != expected);
            assert_eq!(first, None, "{what}: first byte of {name} that differs");
        }
        panic!("{what}: the headers differ");
    }
}

fn rules() -> Vec<(&'static str, OptimizerBuilder)> {
    let momentum = Optimizer::builder(wgpu_optim::Sgd::default().with_momentum(0.9).with_lr(0.1));
    vec![
        ("momentum", momentum.clone()),
        ("momentum, clipped", momentum.clone().clip(Clip::global_norm(1.0))),
        ("lion", rule("lion")),
        ("adamw", rule("adamw")),
        ("lookahead and average", momentum.lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.9))),
    ]
}

#[test]
fn both_engines_have_the_same_bits_in_every_format() {
    for (name, builder) in rules() {
        for (format, precision) in formats() {
            let (layout, what) = (layout(), format!("{name}, {format}"));
            let mut both =
                Both::new(device::gpu(), &groups(builder.clone()), &precision, &layout, &random(1, layout.len()));
            let before = both.params.clone();
            both.assert_same_files(&format!("{what}, new"));
            for step in 0..4 {
                both.step(&grads_of(&precision, 10 + step, layout.len()));
                both.assert_same_files(&format!("{what}, step {step}"));
            }
            let moved = before.to_f32().iter().zip(both.params.to_f32()).filter(|(a, b)| **a != *b).count();
            assert!(moved > layout.len() / 4, "{what}: {moved} parameters moved");
        }
    }
}
