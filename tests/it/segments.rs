//! Sums over tensors and states of tensors, in a rule from outside the crate.

use std::borrow::Cow;

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{Trainer, device};
use wgpu_optim::rule::{Elements, ReduceBy, Reduction, RuleSpec, StepScalars, TensorState, Terms};
use wgpu_optim::{GroupOptions, Layout, Optimizer, Rule, TensorInfo};

/// Parameters grow by 1; the state becomes the tensor's sum of parameters, of what was kept of the tensor and of -1, and what is
/// kept now: 5 before the first step, later 2·itself + t + lr + the sum of gradients. Small integers, so that all is exact.
#[derive(Debug, Clone)]
struct Sums {
    by: ReduceBy,
}

impl Rule for Sums {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("sums", 16.0).with_states(["sum"]).with_hyperparameters([("two", 2.0)])
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        "
        fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums {
            return SegmentSums(old.param + step.tensor_state.kept, grad, vec4<f32>(1.0), vec4<f32>(-2.0));
        }
        fn update_tensor_state(
            old: TensorState, sums: SegmentSums, lr: f32, hyper: Hyper, bias_correction: vec4<f32>, t: u32, is_first: bool,
        ) -> TensorState {
            return TensorState(hyper.two * old.kept + f32(t) + lr + sums.grads);
        }
        fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
            let sum = step.sums.params + step.sums.ones + step.sums.minus_twos;
            return Element(old.param + 1.0, sum + step.tensor_state.kept);
        }"
        .into()
    }
    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let [params, _, ones, minus_twos] = step.sums;
        elements.each(|param, _, [_]| (param + 1.0, [params + ones + minus_twos + step.tensor_state[0]]));
    }
}

impl Reduction for Sums {
    fn sums(&self) -> Vec<&'static str> {
        vec!["params", "grads", "ones", "minus_twos"]
    }
    fn by(&self) -> ReduceBy {
        self.by
    }
    fn terms(&self, elements: Terms<'_>, step: &StepScalars) {
        elements.each(|param, grad, [_]| [param + step.tensor_state[0], grad, 1.0, -2.0]);
    }
    fn tensor_state(&self) -> Option<&dyn TensorState> {
        Some(self)
    }
}

impl TensorState for Sums {
    fn initial_tensor_state(&self) -> Vec<(&'static str, f32)> {
        vec![("kept", 5.0)]
    }
    fn update_tensor_state(&self, state: &mut [f32; 4], sums: [f32; 4], lr: f32, _: [f32; 4], t: u32, _: bool) {
        state[0] = 2.0 * state[0] + t as f32 + lr + sums[1];
    }
}

/// Packed, the fourth begins with the last element of a block.
const SIZES: [usize; 6] = [3, 0, 8188, 9000, 1, 66];

/// Parameters and gradients from -1 to 1; the last tensor is frozen.
fn value(e: usize) -> f32 {
    (e % 3) as f32 - 1.0
}

#[test]
fn sums_and_states_reach_the_elements_of_their_segment_alone() {
    for packed in [true, false] {
        for by in [ReduceBy::Tensor, ReduceBy::All] {
            let builder = SIZES.iter().enumerate().fold(Layout::builder(), |b, (i, &n)| b.tensor(format!("{i}"), &[n]));
            let builder = builder.group("frozen");
            let layout = if packed { builder.packed() } else { builder }.build().unwrap();
            let optimizer = Optimizer::builder(Sums { by }).group("frozen", GroupOptions::default().frozen());
            let params: Vec<f32> = (0..layout.len()).map(value).collect();
            let grads = params.clone();
            let mut trainer = Trainer::new(device::gpu(), optimizer.clone(), &layout, &params);
            let mut reference = optimizer.build_cpu(&layout).unwrap();
            let mut reference_params = params.clone();

            // Tensors of each segment.
            let size = if by == ReduceBy::All { SIZES.len() } else { 1 };
            let mut expected = params.clone();
            let mut sums = vec![0.0; layout.len()];
            let mut kept = vec![5.0; SIZES.len() / size];
            for t in 1..=3 {
                for (segment, tensors) in layout.tensors().chunks(size).enumerate() {
                    let elements: Vec<usize> =
                        tensors.iter().filter(|tensor| tensor.group().is_none()).flat_map(TensorInfo::range).collect();
                    let sum_params: f32 = elements.iter().map(|&e| expected[e] + kept[segment] - 1.0).sum();
                    let sum_grads: f32 = elements.iter().map(|&e| grads[e]).sum();
                    // A tensor without an active element keeps its state.
                    if !elements.is_empty() {
                        kept[segment] = 2.0 * kept[segment] + t as f32 + 16.0 + sum_grads;
                    }
                    for e in elements {
                        expected[e] += 1.0;
                        sums[e] = sum_params + kept[segment];
                    }
                }
                trainer.step(&grads);
                reference.step(&mut reference_params, &grads).unwrap();
                let (got, got_sums) = (trainer.params(), trainer.state("sum"));
                for (got, expected) in [
                    (&got[..], &expected),
                    (&got_sums, &sums),
                    (&reference_params, &expected),
                    (reference.state("sum").unwrap().as_f32().unwrap(), &sums),
                ] {
                    let wrong = got.iter().zip(expected).position(|(got, expected)| got != expected);
                    assert_eq!(wrong, None, "{by:?}, packed {packed}, step {t}");
                }
                let tensors = device::download_slice(device::gpu(), trainer.optimizer.tensor_states().unwrap());
                assert!(tensors.chunks(4).map(|row| row[0]).eq(kept.iter().copied()), "{tensors:?} for {kept:?}");
                assert!(reference.tensor_states().map(|row| row[0]).eq(kept.iter().copied()));
            }
        }
    }
}

/// One element, the last of its chunk; and more segments than a workgroup has lanes.
#[test]
fn tensors_of_one_item_and_of_many_are_summed_whole() {
    for len in [1, 257 * 8192 + 5] {
        let layout = Layout::flat(len).unwrap();
        let optimizer = Optimizer::builder(Sums { by: ReduceBy::Tensor });
        let (mut params, grads) = (vec![1.0; len], vec![0.0; len]);
        let mut trainer = Trainer::new(device::gpu(), optimizer.clone(), &layout, &params);
        trainer.step(&grads);
        let mut reference = optimizer.build_cpu(&layout).unwrap();
        reference.step(&mut params, &grads).unwrap();
        // Each parameter adds 1, the old state, 5, and 1 - 2, below 2^24; the tensor adds its new state.
        let expected = (5 * len) as f32 + (2.0 * 5.0 + 1.0 + 16.0);
        for got in [trainer.state("sum"), reference.state("sum").unwrap().as_f32().unwrap().to_vec()] {
            assert!(got.iter().all(|&sum| sum == expected), "{} instead of {expected}", got[0]);
        }
    }
}

/// Both engines add in the same order, also where tensors and frozen elements begin within a row of 32, a tile of 256 or a block:
/// every sum is rounded alike, as there are no products in them.
#[test]
fn sums_have_the_same_bits_on_both_engines() {
    let layout = SIZES.iter().enumerate().fold(Layout::builder(), |b, (i, &n)| b.tensor(format!("{i}"), &[n]));
    let layout = layout.range(3003..3020, "frozen").range(9000..9300, "frozen").packed().build().unwrap();
    for (seed, by) in (0..4).flat_map(|seed| [(seed, ReduceBy::Tensor), (seed, ReduceBy::All)]) {
        let optimizer = Optimizer::builder(Sums { by }).group("frozen", GroupOptions::default().frozen());
        let (mut params, grads) = (random(seed, layout.len()), random(seed + 10, layout.len()));
        let mut trainer = Trainer::new(device::gpu(), optimizer.clone(), &layout, &params);
        let mut reference = optimizer.build_cpu(&layout).unwrap();
        trainer.step(&grads);
        reference.step(&mut params, &grads).unwrap();
        let what = format!("{by:?}, seed {seed}");
        assert_same_bits(&trainer.state("sum"), reference.state("sum").unwrap().as_f32().unwrap(), &what);
        let tensors = device::download_slice(device::gpu(), trainer.optimizer.tensor_states().unwrap());
        assert_same_bits(&tensors, &reference.tensor_states().flatten().collect::<Vec<_>>(), &what);
    }
}
