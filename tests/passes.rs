//! What some rules do between steps: Hessian estimates.

mod common;

use common::numbers::{assert_same_bits, random, ulps};
use common::oracle::{self, Oracle, SophiaOracle};
use common::{Trainer, device, encoder, finish};
use wgpu_optim::{Clip, Curvature, GroupOptions, Layout, Optimizer, Schedule, Sophia};

const LEN: usize = 4099;

/// Two estimates after a step: the running average is the oracle's to 4 ULP, frozen elements keep theirs, and neither
/// parameters nor momentum nor the count of steps know of it.
#[test]
fn an_estimate_of_the_hessian_changes_the_hessian_alone() {
    let gpu = device::gpu();
    let betas = (0.875, 0.9375);
    let cases = [
        (Curvature::SampledLabels { rho: 0.04, bs: 480.0 }, oracle::Curvature::G { rho: 0.04, bs: 480.0 }),
        (Curvature::Hutchinson { gamma: 0.01, eps: 1e-8 }, oracle::Curvature::H { gamma: 0.01, eps: 1e-8 }),
    ];
    for (curvature, expected) in cases {
        let layout = Layout::builder().tensor("p", &[LEN]).packed().range(100..103, "still").build().unwrap();
        let builder = Optimizer::builder(Sophia::default().with_betas(betas).with_curvature(curvature))
            .schedule(Schedule::warmup_cosine(0.5, 2, 9))
            .clip(Clip::global_norm(1.0))
            .group("still", GroupOptions::default().frozen());
        let mut params = random(1, LEN);
        let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &params);
        let mut twin = builder.build_cpu(&layout).unwrap();
        trainer.step(&random(2, LEN));
        twin.step(&mut params, &random(2, LEN)).unwrap();
        let (before, exp_avg, lr) = (trainer.params(), trainer.state("exp_avg"), trainer.optimizer.lr());
        let oracle = SophiaOracle { betas, curvature: expected };
        let mut states = vec![[0.0; 2]; LEN];
        for seed in [3, 4] {
            let estimate = random(seed, LEN);
            let buffer = device::upload(gpu, &estimate);
            let mut encoder = encoder(gpu);
            trainer.optimizer.update_hessian(&mut encoder, &gpu.queue, &trainer.params, &buffer).unwrap();
            let stats = finish(gpu, &trainer.optimizer, encoder);
            assert_eq!((stats.step, stats.skipped), (1, 0));
            twin.update_hessian(&mut params, &estimate).unwrap();
            let (got, of_twin) = (trainer.state("hessian"), twin.state("hessian").unwrap());
            for i in 0..LEN {
                let old = states[i][1];
                if !(100..103).contains(&i) {
                    oracle.update_hessian(estimate[i].into(), &mut states[i]);
                }
                let exact = states[i][1];
                let scale = exact.abs().max(old.abs());
                assert!(ulps(got[i], exact, scale) <= 4.0, "element {i}: {} for {exact}", got[i]);
                assert!(ulps(of_twin[i], exact, scale) <= 4.0, "element {i}, CPU: {} for {exact}", of_twin[i]);
            }
        }
        assert_same_bits(&trainer.params(), &before, "params");
        assert_same_bits(&trainer.state("exp_avg"), &exp_avg, "exp_avg");
        assert_eq!((trainer.optimizer.lr(), twin.lr(), twin.stats().step), (lr, lr, 1));
        assert!(states.iter().filter(|state| state[1] != 0.0).count() > LEN / 2);
    }
}
