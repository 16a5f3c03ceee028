//! Sharded optimizers have the bits of one that is not, for any number of ranks.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common::numbers::{assert_same_bits, random};
use crate::common::words::Words;
use crate::common::{device, finish, rule, storage};
use tempfile::tempdir;
use wgpu_optim::checkpoint::{CheckpointError, LoadOptions};
use wgpu_optim::clip::{Adaptive, GroupNorm, Percentile};
use wgpu_optim::distributed::{
    CommunicationError, Communicator, Counted, DistributedError, Sharded, ThreadCommunicator,
};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{
    AdamW, BufferSlices, Clip, CpuOptimizer, Dtype, Ema, Error, GradScaler, GroupOptions, HostSlice, Layout, Lookahead,
    NonFinite, Optimizer, OptimizerBuilder, Precision, Rounding, Rows, RuleConfig, Sam, Sgd, Stats,
};

const RANKS: [usize; 4] = [1, 2, 3, 4];

/// Five tiles and a part of one, in tensors that end within tiles. Of four ranks, two have a tile less.
fn layout() -> Layout {
    let layout = Layout::builder().aligned(256).tensor("a", &[90, 100]).tensor("bias", &[90]).group("no_decay");
    let layout = layout.tensor("frozen", &[3_000]).group("frozen").tensor("b", &[5, 4_000]).tensor("c", &[131, 77]);
    layout.build().unwrap()
}

fn groups(builder: OptimizerBuilder) -> OptimizerBuilder {
    let no_decay = GroupOptions::default().with_lr_scale(0.5).with_weight_decay(0.0);
    builder.group("no_decay", no_decay).group("frozen", GroupOptions::default().frozen())
}

/// Calls `f` on a thread for each rank.
fn on_ranks<T: Send>(ranks: usize, f: impl Fn(ThreadCommunicator) -> T + Sync) -> Vec<T> {
    let group = ThreadCommunicator::group(ranks).into_iter();
    let group: Vec<_> = group.map(|communicator| communicator.with_timeout(Duration::from_secs(300))).collect();
    thread::scope(|scope| {
        let threads: Vec<_> = group.into_iter().map(|communicator| scope.spawn(|| f(communicator))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// The gradients of a rank in a step.
fn grads_of(precision: &Precision, step: u64, rank: usize, len: usize) -> Words {
    Words::nearest(precision.grads, &random(100 * step + rank as u64, len))
}

/// The mean over the ranks, added up in their order.
fn mean_grads(precision: &Precision, step: u64, ranks: usize, len: usize) -> Words {
    let (mut mean, weight) = (vec![0.0; len], (ranks as f32).recip());
    for rank in 0..ranks {
        let grads = grads_of(precision, step, rank, len).to_f32();
        mean.iter_mut().zip(grads).for_each(|(mean, grad)| *mean += weight * grad);
    }
    Words::nearest(precision.grads, &mean)
}

/// The files that one optimizer and the ranks of a sharded one save after some steps.
fn files(builder: &OptimizerBuilder, precision: &Precision, ranks: usize, steps: u64) -> (Vec<u8>, Vec<u8>) {
    let (layout, folder) = (layout(), tempdir().unwrap());
    // Steps of shares decide, and have norms: so do these.
    let builder = groups(builder.clone()).precision(precision.clone()).on_nonfinite(NonFinite::Skip);
    let initial = Words::nearest(precision.params.dtype(), &random(1, layout.len()));
    let (mut params, mut whole) = (initial.clone(), builder.clone().build_cpu(&layout).unwrap());
    let mut expected = Vec::new();
    for step in 0..steps {
        let grads = mean_grads(precision, step, ranks, layout.len());
        expected.push(whole.step(params.as_mut(), grads.as_slice()).unwrap());
    }
    let [of_whole, of_ranks] = ["whole", "ranks"].map(|name| folder.path().join(name));
    whole.save(&of_whole, Some(params.as_slice())).unwrap();
    let of_each = on_ranks(ranks, |communicator| {
        let (rank, mut params) = (communicator.rank(), initial.clone());
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap().reproducible();
        for step in 0..steps {
            let mut grads = grads_of(precision, step, rank, layout.len());
            let stats = optimizer.step(params.as_mut(), grads.as_mut()).unwrap();
            assert_same_stats(&stats, &expected[step as usize]);
        }
        optimizer.save(&of_ranks, Some(params.as_slice())).unwrap();
        params
    });
    for of_rank in of_each {
        assert_eq!(of_rank, params, "{ranks} ranks");
    }
    (fs::read(of_ranks).unwrap(), fs::read(of_whole).unwrap())
}

fn assert_same_stats(found: &Stats, expected: &Stats) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

fn assert_same_files((found, expected): (Vec<u8>, Vec<u8>), what: &str) {
    if found == expected {
        return;
    }
    let [found, expected] = [&found, &expected].map(|file| safetensors::SafeTensors::deserialize(file).unwrap());
    for (name, tensor) in expected.iter() {
        let found = found.tensor(name).unwrap();
        let first = found.data().iter().zip(tensor.data()).position(|(found, expected)| found != expected);
        assert_eq!(first, None, "{what}: first byte of {name} that differs");
    }
    panic!("{what}: the headers differ");
}

/// Whether a rule has factored states.
fn is_factored(name: &str) -> bool {
    name == "adafactor"
}

#[test]
fn every_rule_has_the_same_bits_on_any_number_of_ranks() {
    for name in RuleConfig::NAMES.iter().filter(|name| !is_factored(name)) {
        for ranks in RANKS {
            let builder = rule(name).clip(Clip::global_norm(0.5));
            assert_same_files(files(&builder, &Precision::default(), ranks, 3), &format!("{name}, {ranks} ranks"));
        }
    }
}

#[test]
fn what_surrounds_rules_has_the_same_bits() {
    let (adamw, momentum) = (rule("adamw"), Optimizer::builder(Sgd::default().with_momentum(0.9)));
    let cases = [
        ("bare", momentum.clone()),
        ("group norm", adamw.clone().clip(GroupNorm::new(0.1))),
        ("adaptive", adamw.clone().clip(Adaptive::new(0.01))),
        ("value", adamw.clone().clip(Clip::value(0.01))),
        ("percentile", adamw.clone().clip(Percentile::new(10.0))),
        ("lookahead", momentum.clone().lookahead(Lookahead::new(2, 0.5))),
        ("average", adamw.clone().average(Ema::new(0.9))),
        ("history", adamw.clone().history(HistoryOptions::steps(4).with_norms_every(1).per_group())),
        ("grad scaler", adamw.grad_scaler(GradScaler::default())),
    ];
    for (name, builder) in cases {
        for ranks in [2, 3] {
            assert_same_files(files(&builder, &Precision::default(), ranks, 4), &format!("{name}, {ranks} ranks"));
        }
    }
}

#[test]
fn every_format_has_the_same_bits() {
    let stochastic = Rounding::Stochastic { seed: 7 };
    let formats = [
        ("bf16 with a master", Precision::bf16_master().with_grads(Dtype::Bf16)),
        ("f16 with a master", Precision::f16_master().with_grads(Dtype::F16)),
        ("split, 8 bits", Precision::bf16_8bit().with_min_8bit_len(1_000)),
        ("bf16, 8 bits, stochastic", Precision::bf16_stochastic_8bit(7).with_min_8bit_len(1_000)),
        ("groups of 32", Precision::bf16_split().with_moments(Dtype::Companded8).with_rounding(stochastic)),
        ("blocks alone", Precision::default().with_moments(Dtype::Dynamic8).with_min_8bit_len(0)),
    ];
    let builder = rule("adamw").clip(Clip::global_norm(0.5));
    for (name, precision) in formats {
        for ranks in RANKS {
            assert_same_files(files(&builder, &precision, ranks, 3), &format!("{name}, {ranks} ranks"));
        }
    }
}

/// One machine accumulates the gradients of the ranks, each with its weight.
#[test]
fn reproducible_training_is_that_of_one_machine() {
    let layout = layout();
    let builder = groups(rule("adamw")).clip(Clip::global_norm(0.5));
    for ranks in RANKS {
        let mut params = random(1, layout.len());
        let mut whole = builder.clone().accumulate_gradients().build_cpu(&layout).unwrap();
        for step in 0..4 {
            for rank in 0..ranks {
                let grads = grads_of(&Precision::default(), step, rank, layout.len()).to_f32();
                whole.accumulate(&grads, (ranks as f32).recip()).unwrap();
            }
            whole.step_accumulated(&mut params).unwrap();
        }
        let of_ranks = on_ranks(ranks, |communicator| {
            let (rank, mut params) = (communicator.rank(), random(1, layout.len()));
            let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap().reproducible();
            for step in 0..4 {
                let mut grads = grads_of(&Precision::default(), step, rank, layout.len()).to_f32();
                optimizer.step(&mut params, &mut grads).unwrap();
            }
            params
        });
        for of_rank in &of_ranks {
            assert_same_bits(of_rank, &params, &format!("{ranks} ranks"));
        }
    }
}

#[test]
fn steps_that_would_be_single_pass_have_its_bits() {
    let layout = layout();
    let builder = groups(Optimizer::builder(Sgd::default().with_momentum(0.9)));
    let (mut params, mut whole) = (random(1, layout.len()), builder.clone().build_cpu(&layout).unwrap());
    let grads = |step: u64| random(10 + step, layout.len());
    for step in 0..3 {
        assert_eq!(whole.step(&mut params, &grads(step)).unwrap().grad_norm, None);
    }
    let of_ranks = on_ranks(2, |communicator| {
        let mut params = random(1, layout.len());
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
        for step in 0..3 {
            optimizer.step(&mut params, &mut grads(step)).unwrap();
        }
        params
    });
    for of_rank in &of_ranks {
        assert_same_bits(of_rank, &params, "single pass");
    }
}

#[test]
fn accumulated_gradients_are_averaged() {
    let layout = layout();
    let builder = groups(rule("adamw")).clip(Clip::global_norm(0.5)).accumulate_gradients();
    let mut params = random(1, layout.len());
    // Sums of powers of two of multiples of 2^-8 are exact in any order.
    let grads = |step: u64, rank: usize, batch: u64| -> Vec<f32> {
        let values = random(1_000 * step + 10 * rank as u64 + batch, layout.len());
        values.into_iter().map(|value| (value * 256.0).round() / 256.0).collect()
    };
    let mut whole = builder.clone().build_cpu(&layout).unwrap();
    for step in 0..3 {
        for (rank, batch) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            whole.accumulate(&grads(step, rank, batch), 0.25).unwrap();
        }
        whole.step_accumulated(&mut params).unwrap();
    }
    let of_ranks = on_ranks(2, |communicator| {
        let (rank, mut params) = (communicator.rank(), random(1, layout.len()));
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
        for step in 0..3 {
            for batch in [0, 1] {
                optimizer.accumulate(&grads(step, rank, batch), 0.5).unwrap();
            }
            optimizer.step_accumulated(&mut params).unwrap();
        }
        params
    });
    for of_rank in &of_ranks {
        assert_same_bits(of_rank, &params, "accumulated");
    }
}

#[test]
fn perturbations_evaluation_and_the_way_back_reach_all_shares() {
    let layout = layout();
    let builder = groups(rule("adamw")).sam(Sam::adaptive(0.5, 0.01)).average(Ema::new(0.9));
    let precision = Precision::bf16_split();
    let builder = builder.precision(precision.clone());
    let initial = Words::nearest(Dtype::Bf16, &random(1, layout.len()));
    let mut whole = builder.clone().build_cpu(&layout).unwrap();
    let (mut params, mut expected) = (initial.clone(), Vec::new());
    for step in 0..3 {
        whole.perturb(params.as_mut(), mean_grads(&precision, 10 + step, 3, layout.len()).as_slice()).unwrap();
        expected.push(params.clone());
        whole.step(params.as_mut(), mean_grads(&precision, step, 3, layout.len()).as_slice()).unwrap();
        whole.eval(params.as_mut()).unwrap();
        expected.push(params.clone());
        whole.train(params.as_mut()).unwrap();
        expected.push(params.clone());
    }
    on_ranks(3, |communicator| {
        let (rank, mut params) = (communicator.rank(), initial.clone());
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap().reproducible();
        let mut seen = Vec::new();
        for step in 0..3 {
            let mut grads = grads_of(&precision, 10 + step, rank, layout.len());
            optimizer.perturb(params.as_mut(), grads.as_mut()).unwrap();
            seen.push(params.clone());
            let mut grads = grads_of(&precision, step, rank, layout.len());
            optimizer.step(params.as_mut(), grads.as_mut()).unwrap();
            optimizer.eval(params.as_mut()).unwrap();
            seen.push(params.clone());
            optimizer.train(params.as_mut()).unwrap();
            seen.push(params.clone());
        }
        assert!(seen == expected, "rank {rank}");
    });
}

/// A tensor that one rank lacks has a gradient of 0 there; one that all lack stays as it is.
#[test]
fn missing_gradients_are_those_of_all_ranks() {
    let layout = layout();
    let builder = groups(rule("adamw")).clip(Clip::global_norm(0.5)).missing_gradients();
    let values = random(3, layout.len());
    let zeros = vec![0.0; layout.len()];
    let of = |values: &'_ [f32], present: [bool; 5]| -> Vec<Option<Vec<f32>>> {
        let tensors = layout.tensors().iter().zip(present);
        tensors.map(|(tensor, is_present)| is_present.then(|| values[tensor.range()].to_vec())).collect()
    };
    let slices = |grads: &[Option<Vec<f32>>]| -> Vec<Option<Vec<f32>>> { grads.to_vec() };
    let step = |optimizer: &mut CpuOptimizer, params: &mut Vec<f32>, grads: &[Option<Vec<f32>>]| {
        let grads: Vec<Option<HostSlice<'_>>> = grads.iter().map(|grad| grad.as_ref().map(HostSlice::from)).collect();
        optimizer.step_with_missing(params, &grads).unwrap();
    };
    // Halves of the values on one rank, and nothing or zeros on the other.
    let (mut params, mut whole) = (random(1, layout.len()), builder.clone().build_cpu(&layout).unwrap());
    let halves: Vec<f32> = values.iter().map(|value| value / 2.0).collect();
    step(&mut whole, &mut params, &slices(&of(&halves, [true, true, true, false, true])));
    step(&mut whole, &mut params, &slices(&of(&halves, [true; 5])));
    let of_ranks = on_ranks(2, |communicator| {
        let (rank, mut params) = (communicator.rank(), random(1, layout.len()));
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
        let steps = [
            [[true, true, true, false, true], [false, true, true, false, false]],
            [[true; 5], [false, true, false, true, true]],
        ];
        for present in steps {
            let grads = of(if rank == 0 { &values } else { &zeros }, present[rank]);
            let grads: Vec<_> = grads.iter().map(|grad| grad.as_ref().map(HostSlice::from)).collect();
            optimizer.step_with_missing(&mut params, &grads).unwrap();
        }
        params
    });
    for of_rank in &of_ranks {
        assert_same_bits(of_rank, &params, "missing");
    }
}

#[test]
fn a_gradient_that_is_not_finite_on_one_rank_skips_the_step_on_all() {
    let layout = layout();
    let builder = groups(rule("adamw")).clip(Clip::global_norm(0.5));
    let tensors = layout.tensors();
    for bad in [5, tensors[3].range().start, tensors[4].range().end - 1] {
        let stats = on_ranks(3, |communicator| {
            let (rank, mut params) = (communicator.rank(), random(1, layout.len()));
            let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
            let mut grads = random(7 + rank as u64, layout.len());
            grads[bad] = if rank == 1 { f32::INFINITY } else { grads[bad] };
            let stats = optimizer.step(&mut params, &mut grads).unwrap();
            assert_same_bits(&params, &random(1, layout.len()), "params");
            stats
        });
        for stats in stats {
            assert_eq!((stats.step, stats.skipped, stats.first_nonfinite), (0, 1, Some(bad as u64)));
        }
    }
}

/// Every rank count continues the file of every other, and so does an optimizer without ranks.
#[test]
fn a_checkpoint_continues_on_another_number_of_ranks() {
    let (layout, folder) = (layout(), tempdir().unwrap());
    let precision = Precision::bf16_8bit().with_min_8bit_len(1_000);
    let builder = groups(rule("lamb")).precision(precision.clone());
    let initial = Words::nearest(Dtype::Bf16, &random(1, layout.len()));
    // Equal gradients on all ranks: sums over two or four of them are exact.
    let train = |ranks: usize, from: Option<&Path>, to: &Path, steps: std::ops::Range<u64>| {
        let mut of_ranks = on_ranks(ranks, |communicator| {
            let mut params = initial.clone();
            let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
            if let Some(from) = from {
                let _ = optimizer.load(from, Some(params.as_mut()), &LoadOptions::default()).unwrap();
            }
            for step in steps.clone() {
                let mut grads = grads_of(&precision, step, 0, layout.len());
                optimizer.step(params.as_mut(), grads.as_mut()).unwrap();
            }
            optimizer.save(to, Some(params.as_slice())).unwrap();
            params
        });
        of_ranks.pop().unwrap()
    };
    let path = |name: &str| folder.path().join(name);
    let expected = train(1, None, &path("whole"), 0..5);
    for (before, after) in [(1, 4), (4, 2), (2, 1)] {
        train(before, None, &path("half"), 0..3);
        let params = train(after, Some(&path("half")), &path("continued"), 3..5);
        assert!(params == expected, "{before} to {after} ranks");
        let [found, expected] = ["continued", "whole"].map(|name| fs::read(path(name)).unwrap());
        assert_same_files((found, expected), &format!("{before} to {after} ranks"));
    }
    let (mut params, mut alone) = (initial.clone(), builder.build_cpu(&layout).unwrap());
    let _ = alone.load(path("half"), Some(params.as_mut()), &LoadOptions::default()).unwrap();
    for step in 3..5 {
        alone.step(params.as_mut(), grads_of(&precision, step, 0, layout.len()).as_slice()).unwrap();
    }
    assert!(params == expected);
}

/// The step after loading has the mean of all ranks' accumulated gradients, on any number of ranks and without ranks.
#[test]
fn accumulated_gradients_are_saved_as_their_mean() {
    let (gpu, layout, folder) = (device::gpu(), layout(), tempdir().unwrap());
    let builder = groups(rule("adamw")).accumulate_gradients();
    let path = folder.path().join("accumulated");
    let grads = |rank: usize| vec![0.5 * (rank + 1) as f32; layout.len()];
    let initial = random(1, layout.len());
    let expected = on_ranks(2, |communicator| {
        let (mut params, rank) = (initial.clone(), communicator.rank());
        let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
        optimizer.accumulate(&grads(rank), 1.0).unwrap();
        optimizer.save(&path, Some((&params).into())).unwrap();
        optimizer.step_accumulated(&mut params).unwrap();
        params
    })
    .remove(0);
    for ranks in [1, 2, 4] {
        let of_ranks = on_ranks(ranks, |communicator| {
            let mut params = initial.clone();
            let mut optimizer = Sharded::build_cpu(builder.clone(), &layout, communicator).unwrap();
            let _ = optimizer.load(&path, Some((&mut params).into()), &LoadOptions::default()).unwrap();
            optimizer.step_accumulated(&mut params).unwrap();
            params
        });
        for of_rank in of_ranks {
            assert_same_bits(&of_rank, &expected, &format!("{ranks} ranks"));
        }
    }
    let (mut params, mut alone) = (initial.clone(), builder.clone().build_cpu(&layout).unwrap());
    let _ = alone.load(&path, Some((&mut params).into()), &LoadOptions::default()).unwrap();
    alone.step_accumulated(&mut params).unwrap();
    assert_same_bits(&params, &expected, "without ranks");
    let on_devices = on_ranks(2, |communicator| {
        let (params, rank) = (device::upload(gpu, &initial), communicator.rank());
        let built = Sharded::build_shared(builder.clone(), device::pipelines(), &gpu.queue, &layout, communicator);
        let mut optimizer = built.unwrap();
        let mut encoder = crate::common::encoder(gpu);
        optimizer.accumulate(&mut encoder, &device::upload(gpu, &grads(rank)), 1.0).unwrap();
        gpu.queue.submit([encoder.finish()]);
        let own = folder.path().join("device");
        optimizer.save(&own, Some((&params).into())).unwrap();
        let _ = optimizer.load(&own, Some((&params).into()), &LoadOptions::default()).unwrap();
        optimizer.step_accumulated(&params).unwrap();
        device::download(gpu, &params)
    });
    for of_rank in on_devices {
        assert_same_bits(&of_rank, &expected, "devices");
    }
}

/// Other ranks are told, none waits, and the group goes on.
#[test]
fn a_rank_that_cannot_save_or_load_is_an_error_on_all() {
    let (layout, folder) = (layout(), tempdir().unwrap());
    let path = folder.path().join("run");
    for failing in [0, 2] {
        let results = on_ranks(3, |communicator| {
            let rank = communicator.rank();
            let mut optimizer = Sharded::build_cpu(rule("adamw"), &layout, communicator).unwrap();
            let mut params = random(1, layout.len());
            optimizer.save(&path, Some((&params).into())).unwrap();
            let before = fs::read(&path).unwrap();
            let short = if rank == failing { &params[1..] } else { &params[..] };
            let saved = optimizer.save(&path, Some(short.into()));
            assert!(fs::read(&path).unwrap() == before);
            let own = if rank == failing { folder.path().join("none") } else { path.clone() };
            let loaded = optimizer.load(&own, Some((&mut params).into()), &LoadOptions::default());
            optimizer.step(&mut params, &mut random(2, layout.len())).unwrap();
            (saved, loaded)
        });
        for (rank, (saved, loaded)) in results.iter().enumerate() {
            let is_own = rank == failing;
            let own = matches!(saved, Err(DistributedError::Checkpoint(CheckpointError::Optimizer(_))));
            let told = matches!(saved, Err(DistributedError::NotSaved));
            assert!(if is_own { own } else { told }, "{saved:?}");
            let own = matches!(loaded, Err(DistributedError::Checkpoint(CheckpointError::Io { .. })));
            let told = matches!(loaded, Err(DistributedError::NotLoaded));
            assert!(if is_own { own } else { told }, "{loaded:?}");
        }
    }
}

#[test]
fn one_rank_that_cannot_write_is_an_error_on_all() {
    let (layout, folder) = (layout(), tempdir().unwrap());
    let results = on_ranks(3, |communicator| {
        let mut optimizer = Sharded::build_cpu(rule("adamw"), &layout, communicator).unwrap();
        let saved = optimizer.save(folder.path().join("none/run.safetensors"), None);
        let mut params = random(1, layout.len());
        // The ranks are still together.
        optimizer.step(&mut params, &mut random(2, layout.len())).unwrap();
        saved
    });
    assert!(matches!(results[0], Err(DistributedError::Checkpoint(CheckpointError::Io { .. }))), "{:?}", results[0]);
    assert!(results[1..].iter().all(|result| matches!(result, Err(DistributedError::NotSaved))));
}

#[test]
fn a_rank_that_leaves_is_named() {
    let layout = layout();
    let results = on_ranks(3, |communicator| {
        let rank = communicator.rank();
        let mut optimizer = Sharded::build_cpu(rule("adamw"), &layout, communicator).unwrap();
        let mut params = random(1, layout.len());
        optimizer.step(&mut params, &mut random(2, layout.len())).unwrap();
        if rank == 1 {
            return Ok(optimizer.optimizer().stats());
        }
        optimizer.step(&mut params, &mut random(2, layout.len()))
    });
    let lost = |result: &Result<Stats, DistributedError>| {
        matches!(result, Err(DistributedError::Communication(CommunicationError::RankLost { rank: 1 })))
    };
    assert!(lost(&results[0]) && results[1].is_ok() && lost(&results[2]), "{results:?}");
}

#[test]
fn what_cannot_be_sharded_is_refused() {
    let layout = Layout::builder().tensor("rows", &[100, 300]).build().unwrap();
    let build = |builder: OptimizerBuilder| {
        let communicator = ThreadCommunicator::group(1).remove(0);
        Sharded::build_cpu(builder, &layout, communicator).map(drop).unwrap_err().to_string()
    };
    assert!(build(rule("adafactor")).contains("factored"));
    assert!(build(rule("adam").rows(Rows::default())).contains("`rows`"));
    let optimizer = Sharded::build_cpu(rule("adamw"), &layout, ThreadCommunicator::group(1).remove(0)).unwrap();
    let folder = tempdir().unwrap();
    let saved = optimizer.optimizer().save(folder.path().join("share"), None);
    assert!(matches!(saved, Err(CheckpointError::Optimizer(Error::Unsupported { .. }))), "{saved:?}");
    let mut optimizer = optimizer;
    let refused = optimizer.step(&mut [0.0; 3], &mut [0.0; 3]);
    assert!(matches!(refused, Err(DistributedError::Optimizer(Error::LengthMismatch { .. }))), "{refused:?}");
}

/// Of an all-gather and a reduce-scatter each rank sends all but 1/N; sums of tiles are 16 bytes each.
#[test]
fn states_are_divided_and_bytes_are_as_the_formula_says() {
    let layout = Layout::flat(1 << 20).unwrap();
    for ranks in [2, 4] {
        let sent = on_ranks(ranks, |communicator| {
            let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
            let mut optimizer = Sharded::build_cpu(builder, &layout, Counted::new(communicator)).unwrap();
            assert_eq!(optimizer.share().len(), layout.len() / ranks);
            assert_eq!(optimizer.optimizer().state("exp_avg").unwrap().len(), layout.len() / ranks);
            optimizer.step(&mut vec![1.0; layout.len()], &mut vec![0.1; layout.len()]).unwrap();
            optimizer.communicator().bytes_sent()
        });
        let others = (ranks - 1) as f64 / ranks as f64;
        let formula = 2.0 * 4.0 * layout.len() as f64 * others;
        for sent in sent {
            assert!((sent as f64 / formula - 1.0).abs() < 0.01, "{sent} bytes, {formula} by the formula");
        }
    }
}

/// Parameters of an optimizer on the device, after steps with the mean gradients, and of each rank.
fn on_device(builder: &OptimizerBuilder, precision: &Precision, ranks: usize) {
    let (gpu, layout, folder) = (device::gpu(), layout(), tempdir().unwrap());
    let builder = groups(builder.clone()).precision(precision.clone()).on_nonfinite(NonFinite::Skip);
    let upload = |words: &Words| {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let buffer = storage(gpu, 4 * words.bits.len() as u64, usage);
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words.bits));
        buffer
    };
    let initial = Words::nearest(precision.params.dtype(), &random(1, layout.len()));
    let (params, mut whole) = (upload(&initial), device::build(gpu, builder.clone(), &layout).unwrap());
    let mut expected = Vec::new();
    for step in 0..3 {
        let mut encoder = crate::common::encoder(gpu);
        let grads = upload(&mean_grads(precision, step, ranks, layout.len()));
        whole.step(&mut encoder, &params, &grads).unwrap();
        expected.push(finish(gpu, &whole, encoder));
    }
    let [of_whole, of_ranks] = ["whole", "ranks"].map(|name| folder.path().join(name));
    whole.save(&of_whole, Some((&params).into())).unwrap();
    on_ranks(ranks, |communicator| {
        let (rank, params) = (communicator.rank(), upload(&initial));
        let built = Sharded::build_shared(builder.clone(), device::pipelines(), &gpu.queue, &layout, communicator);
        let mut optimizer = built.unwrap().reproducible();
        for step in 0..3 {
            let grads = upload(&grads_of(precision, step, rank, layout.len()));
            let stats = optimizer.step(&params, &grads).unwrap();
            assert_same_stats(&stats, &expected[step as usize]);
        }
        optimizer.save(&of_ranks, Some(BufferSlices::from(&params))).unwrap();
        // Continues from its own file.
        let _ = optimizer.load(&of_ranks, Some(BufferSlices::from(&params)), &LoadOptions::default()).unwrap();
        let again = folder.path().join("again");
        optimizer.save(&again, Some(BufferSlices::from(&params))).unwrap();
    });
    let read = |path: &Path| fs::read(path).unwrap();
    assert_same_files((read(&of_ranks), read(&of_whole)), &format!("{ranks} ranks"));
    assert_same_files((read(&folder.path().join("again")), read(&of_whole)), &format!("{ranks} ranks, loaded"));
}

#[test]
fn devices_have_the_bits_of_one_device() {
    let history = HistoryOptions::steps(4).with_norms_every(1).per_group();
    let cases = [
        ("momentum", Optimizer::builder(Sgd::default().with_momentum(0.9)), Precision::default()),
        ("sgd", rule("sgd"), Precision::default()),
        ("adamw, clipped", rule("adamw").clip(Clip::global_norm(0.5)).history(history), Precision::default()),
        ("lamb", rule("lamb"), Precision::bf16_master().with_grads(Dtype::Bf16)),
        ("adamw, group norm", rule("adamw").clip(GroupNorm::new(0.1)), Precision::default()),
        ("prodigy", rule("prodigy"), Precision::default()),
        ("8 bits", rule("lion"), Precision::bf16_8bit().with_min_8bit_len(1_000)),
        ("stochastic", rule("adamw"), Precision::bf16_stochastic(7)),
    ];
    for (name, builder, precision) in cases {
        for ranks in [2, 3, 7] {
            println!("{name}, {ranks} ranks");
            on_device(&builder, &precision, ranks);
        }
    }
}

#[test]
fn devices_accumulate_perturb_and_evaluate() {
    let (gpu, layout) = (device::gpu(), layout());
    let builder = groups(rule("adamw")).sam(Sam::new(0.05)).average(Ema::new(0.9)).accumulate_gradients();
    let upload = |values: &[f32]| device::upload(gpu, values);
    let grads = |seed: u64, rank: usize| -> Vec<f32> {
        let values = random(10 * seed + rank as u64, layout.len());
        values.into_iter().map(|value| (value * 256.0).round() / 256.0).collect()
    };
    let run = |ranks: usize| {
        on_ranks(ranks, |communicator| {
            let (rank, params) = (communicator.rank(), upload(&random(1, layout.len())));
            let mut seen = Vec::new();
            let mut optimizer =
                Sharded::build_shared(builder.clone(), device::pipelines(), &gpu.queue, &layout, communicator).unwrap();
            let of_rank = |seed| match ranks {
                1 => vec![(grads(seed, 0), 0.5), (grads(seed, 1), 0.5)],
                _ => vec![(grads(seed, rank), 1.0)],
            };
            for step in 0..2 {
                for (values, weight) in of_rank(step) {
                    let mut encoder = crate::common::encoder(gpu);
                    optimizer.accumulate(&mut encoder, &upload(&values), weight).unwrap();
                    gpu.queue.submit([encoder.finish()]);
                }
                optimizer.step_accumulated(&params).unwrap();
                seen.push(device::download(gpu, &params));
            }
            let mean: Vec<f32> = grads(5, 0).iter().zip(grads(5, 1)).map(|(a, b)| 0.5 * (a + b)).collect();
            let first = if ranks == 1 { mean } else { grads(5, rank) };
            optimizer.perturb(&params, &upload(&first)).unwrap();
            seen.push(device::download(gpu, &params));
            let mut encoder = crate::common::encoder(gpu);
            optimizer.train(&mut encoder, &params).unwrap();
            gpu.queue.submit([encoder.finish()]);
            optimizer.eval(&params).unwrap();
            seen.push(device::download(gpu, &params));
            seen
        })
    };
    let expected = run(1).remove(0);
    for of_rank in run(2) {
        for (step, (found, expected)) in of_rank.iter().zip(&expected).enumerate() {
            assert_same_bits(found, expected, &format!("call {step}"));
        }
    }
}
