//! Prodigy's estimate of the distance, on device and CPU engine.

use crate::common::{Trainer, assert_same_decision, device};
use wgpu_optim::{CpuOptimizer, GroupOptions, Layout, NonFinite, Optimizer, Prodigy};

const START: [f32; 5] = [1.0, -2.0, 0.5, 3.0, 0.0];
const GRADS: [f32; 5] = [0.5, -0.25, 1.0, 2.0, -1.0];

struct Both {
    trainer: Trainer<'static>,
    reference: CpuOptimizer,
    reference_params: Vec<f32>,
}

impl Both {
    /// The last two elements are a tensor of their own, with a learning rate of 0.
    fn new(rule: Prodigy) -> Self {
        let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[2]).group("idle").packed().build().unwrap();
        let builder = Optimizer::builder(rule).group("idle", GroupOptions::default().with_lr_scale(0.0));
        let builder = builder.on_nonfinite(NonFinite::Propagate);
        let reference = builder.clone().build_cpu(&layout).unwrap();
        Self {
            trainer: Trainer::new(device::gpu(), builder, &layout, &START),
            reference,
            reference_params: START.to_vec(),
        }
    }

    fn step(&mut self, grads: [f32; 5]) {
        let decision = self.reference.step(&mut self.reference_params, &grads).unwrap();
        assert_same_decision(&self.trainer.step(&grads), &decision);
    }

    /// On both engines.
    fn params(&self) -> [Vec<f32>; 2] {
        [self.trainer.params()[..START.len()].to_vec(), self.reference_params.clone()]
    }

    fn state(&self, name: &str) -> [Vec<f32>; 2] {
        [
            self.trainer.state(name)[..START.len()].to_vec(),
            self.reference.state(name).unwrap().as_f32().unwrap().to_vec(),
        ]
    }

    /// `d`, `d_max`, `d_numerator` and the `d` before.
    fn estimates(&self) -> [Vec<f32>; 2] {
        let on_device = device::download_slice(device::gpu(), self.trainer.optimizer.tensor_states().unwrap());
        [on_device, self.reference.tensor_states().flatten().collect()]
    }
}

fn rule() -> Prodigy {
    Prodigy::default().with_d0(0.125).with_beta3(Some(0.5)).with_weight_decay(0.25)
}

#[test]
fn gradients_of_zero_move_nothing_and_start_the_distance() {
    let mut both = Both::new(rule());
    both.step([0.0; 5]);
    assert_eq!(both.params(), [START.to_vec(), START.to_vec()]);
    assert_eq!(both.state("p0"), [START.to_vec(), START.to_vec()]);
    assert_eq!(both.estimates(), [[0.125, 0.125, 0.0, 0.125]; 2].map(|row| row.to_vec()));
    both.step(GRADS);
    assert!(both.params().iter().all(|params| (0..3).all(|e| params[e] != START[e])));
}

#[test]
fn a_learning_rate_of_zero_leaves_elements_out() {
    for rule in [rule(), rule().with_safeguard_warmup(true)] {
        let (mut both, mut without) = (Both::new(rule.clone()), Both::new(rule));
        let [a, b, c, ..] = GRADS;
        for _ in 0..3 {
            both.step(GRADS);
            without.step([a, b, c, 0.0, 0.0]);
        }
        assert!(both.params().iter().all(|params| params[3..] == START[3..]));
        for state in ["exp_avg", "exp_avg_sq", "s"] {
            assert!(both.state(state).iter().all(|state| state[3..] == [0.0; 2]), "{state}");
        }
        assert!(both.state("p0").iter().all(|p0| p0[3..] == START[3..]));
        assert_eq!(both.estimates(), without.estimates());
    }
}

#[test]
fn the_estimate_grows_and_does_not_fall() {
    let mut both = Both::new(rule());
    let mut before = 0.125;
    for step in 1..=6 {
        both.step(GRADS);
        for row in both.estimates() {
            assert!(row[0] == row[1] && row[0] >= before, "step {step}: {row:?} after {before}");
        }
        before = both.estimates()[0][0];
    }
    assert!(before > 0.25, "{before}");
    // Back towards where it began.
    both.step(GRADS.map(|grad| -grad));
    for row in both.estimates() {
        assert_eq!([row[0], row[1], row[3]], [before; 3]);
    }
}

#[test]
fn a_nan_stops_the_estimate_and_stays_in_its_element() {
    let mut both = Both::new(rule());
    both.step(GRADS);
    both.step(GRADS);
    let reached = both.estimates().map(|row| row[0]);
    let mut grads = GRADS;
    grads[1] = f32::NAN;
    both.step(grads);
    both.step(GRADS);
    assert_eq!(both.estimates().map(|row| row[0]), reached);
    for params in both.params() {
        assert!(params[1].is_nan() && [0, 2, 3, 4].iter().all(|&e| params[e].is_finite()), "{params:?}");
    }
}
