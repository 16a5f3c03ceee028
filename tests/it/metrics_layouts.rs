//! Norms that a history keeps, however the layout and the device cut the flat space.

use crate::common::numbers::random;
use crate::common::{Trainer, device, device_with};
use wgpu_optim::history::{GroupStats, History, HistoryOptions};
use wgpu_optim::{AdamW, Adan, Clip, Lamb, Layout, LayoutBuilder, Optimizer, OptimizerBuilder, Sgd};

/// The history of one step on both engines.
fn histories(builder: &OptimizerBuilder, layout: &Layout, params: &[f32], grads: &[f32]) -> [History; 2] {
    let builder = builder.clone().history(HistoryOptions::steps(1).with_norms_every(1).per_group());
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), layout, params);
    trainer.step(grads);
    let mut cpu = builder.build_cpu(layout).unwrap();
    cpu.step(&mut params.to_vec(), grads).unwrap();
    [trainer.history(), cpu.history().unwrap()]
}

/// Whatever the chunks, and the rows of the grids, the sums have the same bits. There are enough elements for a tail to get a
/// chunk of its own.
#[test]
fn norms_do_not_depend_on_chunks() {
    let tensor = |layout: LayoutBuilder, name: String| layout.tensor(&name, &[2 * 8192 + 11]).group(name);
    let layout = (0..21).map(|group| group.to_string()).fold(Layout::builder(), tensor).packed().build().unwrap();
    let [small, narrow] = [
        device_with(|limits| limits.max_storage_buffer_binding_size = 2 * 8192 * 4 + 512),
        // Two rows of eleven workgroups take the groups.
        device_with(|limits| limits.max_compute_workgroups_per_dimension = 16),
    ];
    for builder in [Optimizer::builder(Adan::default()), Optimizer::builder(Lamb::default())] {
        let builder = builder.history(HistoryOptions::steps(2).with_norms_every(1).per_group());
        let [whole, in_chunks, in_rows] = [device::gpu(), &small, &narrow].map(|gpu| {
            let mut trainer = Trainer::new(gpu, builder.clone(), &layout, &random(7, layout.len()));
            for step in 20..22 {
                trainer.step(&random(step, layout.len()));
            }
            trainer.history()
        });
        assert!(whole.groups.iter().all(|group| group.update_norm > 0.0) && whole.groups.len() == 42);
        assert_eq!(whole, in_chunks);
        assert_eq!(whole, in_rows);
    }
}

#[test]
fn groups_without_elements_have_norms_of_nothing() {
    let empty = Layout::builder().tensor("a", &[0]).group("first").build().unwrap();
    let in_part = Layout::builder().tensor("a", &[1]).group("first").tensor("b", &[0]).group("last").build().unwrap();
    for (layout, expected) in [
        (Layout::flat(0).unwrap(), &[(None, 0.0)][..]),
        (empty, &[(Some("first"), 0.0)]),
        (in_part, &[(Some("first"), 1.0), (Some("last"), 0.0)]),
    ] {
        let (params, grads) = (vec![1.0; layout.len()], vec![0.5; layout.len()]);
        for history in histories(&Optimizer::builder(AdamW::default()), &layout, &params, &grads) {
            assert_eq!(history.steps[0].param_norm, Some(expected[0].1));
            let norms = history.groups.iter().map(|group| (group.group.as_deref(), group.param_norm));
            assert_eq!(norms.collect::<Vec<_>>(), expected);
            for GroupStats { grad_norm, update_norm, update_ratio, clipped_fraction, .. } in
                history.groups.iter().filter(|group| group.param_norm == 0.0)
            {
                assert_eq!([grad_norm, update_norm, update_ratio, clipped_fraction], [&0.0; 4]);
            }
        }
    }
}

/// Each unit counts as a whole, by its own parameters.
#[test]
fn adaptive_clipping_clips_the_share_of_units_beyond_their_limit() {
    const UNITS: usize = 40;
    const LEN: usize = 301;
    let layout = Layout::builder().tensor("weight", &[UNITS, LEN]).packed().build().unwrap();
    let (params, mut grads) = (random(7, layout.len()), random(20, layout.len()));
    for (i, grad) in grads.iter_mut().enumerate() {
        *grad *= (i / LEN) as f32 / UNITS as f32;
    }
    let norm = |values: &[f32]| values.iter().map(|value| f64::from(value * value)).sum::<f64>().sqrt();
    let units = params.chunks(LEN).zip(grads.chunks(LEN));
    let clipped = units.filter(|(params, grads)| norm(grads) > 0.5 * norm(params)).count();
    assert!((10..30).contains(&clipped), "{clipped}: a share that says little");
    let agc = Optimizer::builder(Sgd::default()).clip(Clip::adaptive(0.5));
    for history in histories(&agc, &layout, &params, &grads) {
        assert_eq!(history.steps[0].clipped_fraction, Some((clipped as f64 / UNITS as f64) as f32));
    }
}

/// More segments than a workgroup has lanes, those of each group between those of the other.
#[test]
fn many_small_tensors_are_all_in_the_norms_of_their_groups() {
    const TENSORS: usize = 1_001;
    let mut layout = Layout::builder();
    for tensor in 0..TENSORS {
        layout = layout.tensor(tensor.to_string(), &[1]).group(["even", "odd"][tensor % 2]);
    }
    let layout = layout.packed().build().unwrap();
    let mut grads = random(20, TENSORS);
    // Gradients equal to the bound are not clipped.
    grads[..2].copy_from_slice(&[0.25, -0.25]);
    let sgd = Optimizer::builder(Sgd::default()).clip(Clip::value(0.25));
    for history in histories(&sgd, &layout, &[2.0; TENSORS], &grads) {
        assert_eq!(history.groups.len(), 2);
        for (first, group) in history.groups.iter().enumerate() {
            let own: Vec<f32> = grads.iter().skip(first).step_by(2).copied().collect();
            let clipped = own.iter().filter(|grad| grad.abs() > 0.25).count();
            assert_eq!(group.param_norm, ((4 * own.len()) as f64).sqrt() as f32);
            assert_eq!(group.clipped_fraction, (clipped as f64 / own.len() as f64) as f32);
        }
    }
}
