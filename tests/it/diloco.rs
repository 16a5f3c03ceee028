//! `DiLoCo`: its vectors, groups that change, files, and what it sends.

use std::thread;
use std::time::Duration;

use serde::Deserialize;
use wgpu_optim::checkpoint::{CheckpointError, LoadOptions};
use wgpu_optim::distributed::{
    CommunicationError, Communicator, Counted, DiLoCo, DiLoCoBuilder, DistributedError, Fragments, QuorumMember,
    ThreadCommunicator, ThreadQuorum,
};
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{AdamW, Clip, Dtype, Error, GroupOptions, Layout, Optimizer, Precision, RuleConfig, Sgd};

use crate::common::numbers::{assert_close, assert_same_bits, random};
use crate::common::{device, encoder, rule, storage};

const LONG: Duration = Duration::from_secs(60);

/// The results of a function on each rank.
fn on_ranks<T: Send>(size: usize, f: impl Fn(Counted<ThreadCommunicator>) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = |communicator| scope.spawn(|| f(Counted::new(communicator)));
        let threads: Vec<_> = ThreadCommunicator::group(size).into_iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn averaging() -> DiLoCoBuilder {
    DiLoCo::builder(1).outer(Optimizer::builder(Sgd::default().with_lr(1.0)))
}

#[derive(Deserialize)]
struct Torchft {
    updates: Vec<TorchftUpdates>,
    /// The parameter of each layer before each step, of each replica.
    failure_recovery: [[Vec<f32>; 2]; 2],
}

#[derive(Deserialize)]
struct TorchftUpdates {
    delay: u64,
    alpha: f32,
    replicas: [[Vec<f32>; 2]; 2],
}

fn torchft() -> Torchft {
    serde_json::from_str(include_str!("../golden/torchft_diloco.json")).unwrap()
}

/// The training of torchft's fixtures: two layers of one parameter, a gradient of 2, an exchange of each every 6 steps.
struct Replica {
    params: [f32; 2],
    history: [Vec<f32>; 2],
    diloco: DiLoCo,
}

impl Replica {
    fn new(delay: u64, alpha: f32) -> Self {
        let layout = Layout::builder().packed().tensor("first", &[1]).tensor("second", &[1]).build().unwrap();
        let outer = Optimizer::builder(Sgd::default().with_lr(2.0));
        let builder = DiLoCo::builder(6).outer(outer).fragments(Fragments::Count(2)).delay(delay).local_weight(alpha);
        let params = [1.0; 2];
        Self { params, history: params.map(|param| vec![param]), diloco: builder.build(&layout, &params).unwrap() }
    }

    fn step(&mut self, communicator: impl FnOnce() -> ThreadCommunicator) {
        self.params.iter_mut().for_each(|param| *param -= 2.0);
        self.diloco.count_step().unwrap();
        if self.diloco.is_due() {
            self.diloco.synchronize(&mut self.params, &mut communicator()).unwrap();
        }
        self.history.iter_mut().zip(self.params).for_each(|(history, param)| history.push(param));
    }
}

#[test]
fn fragments_delay_and_mixing_follow_torchft() {
    let updates = torchft().updates;
    assert_eq!(updates.len(), 6);
    for TorchftUpdates { delay, alpha, replicas } in updates {
        let quorum = ThreadQuorum::new(LONG);
        let members = [quorum.join(), quorum.join()];
        let train = |member: QuorumMember| {
            let mut replica = Replica::new(delay, alpha);
            while replica.history[0].len() < replicas[0][0].len() {
                replica.step(|| member.group());
            }
            replica.history
        };
        let histories = thread::scope(|scope| {
            members.map(|member| scope.spawn(|| train(member))).map(|thread| thread.join().unwrap())
        });
        assert_eq!(histories, replicas, "delay {delay}, alpha {alpha}");
    }
}

/// The second replica is lost after two exchanges, and begins anew. The first one makes no third exchange before it is back.
#[test]
fn a_replica_that_returns_follows_torchft() {
    let recovery = torchft().failure_recovery;
    let quorum = ThreadQuorum::new(LONG);
    let train = |member: &QuorumMember, len: usize| {
        let mut replica = Replica::new(0, 0.0);
        while replica.history[0].len() < len {
            replica.step(|| member.group());
        }
        replica.history
    };
    let [first, second] = [quorum.join(), quorum.join()];
    let histories = thread::scope(|scope| {
        let first = scope.spawn(|| train(&first, recovery[0][0].len()));
        let second = scope.spawn(|| {
            train(&second, 7);
            // At no moment is the first one alone.
            let anew = quorum.join();
            drop(second);
            train(&anew, recovery[1][0].len())
        });
        [first, second].map(|thread| thread.join().unwrap())
    });
    assert_eq!(histories, recovery);
}

#[derive(Deserialize)]
struct Case {
    outer: RuleConfig,
    start: Vec<f32>,
    /// By exchange and rank.
    moves: Vec<Vec<Vec<f32>>>,
    /// After each exchange.
    params: Vec<Vec<f64>>,
}

#[test]
fn outer_steps_follow_pytorch() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../golden/diloco.json")).unwrap();
    for (number, Case { outer, start, moves, params }) in cases.into_iter().enumerate() {
        let layout = Layout::builder().packed().tensor("p", &[start.len()]).build().unwrap();
        on_ranks(moves[0].len(), |mut communicator| {
            // The first case is the default.
            let builder = DiLoCo::builder(1);
            let builder = if number == 0 { builder } else { builder.outer(outer.clone().builder()) };
            let mut local = start.clone();
            let mut diloco = builder.build(&layout, &local).unwrap();
            for (moves, expected) in moves.iter().zip(&params) {
                local.iter_mut().zip(&moves[communicator.rank()]).for_each(|(param, moved)| *param += moved);
                diloco.count_step().unwrap();
                diloco.synchronize(&mut local, &mut communicator).unwrap();
                assert_close("parameters", &local, expected, 1e-5);
            }
        });
    }
}

/// A layout with padding, with groups of tensors.
fn layout() -> Layout {
    let layout = Layout::builder().tensor("a", &[30, 10]).group("x").tensor("b", &[7]).tensor("c", &[]).group("x");
    layout.tensor("d", &[500]).build().unwrap()
}

/// What a step adds to the parameters of a rank.
fn advance(params: &mut [f32], rank: usize, step: usize) {
    let moves = random((100 * rank + step) as u64, params.len());
    params.iter_mut().zip(moves).for_each(|(param, moved)| *param += 0.1 * moved);
}

#[test]
fn an_exchange_per_step_with_plain_sgd_averages_the_parameters() {
    let layout = layout();
    for fragments in [Fragments::One, Fragments::Count(3), Fragments::Groups] {
        let start = random(1, layout.len());
        on_ranks(3, |mut communicator| {
            let mut params = start.clone();
            let mut diloco = averaging().fragments(fragments).build(&layout, &params).unwrap();
            advance(&mut params, communicator.rank(), 0);
            diloco.count_step().unwrap();
            let own = params.clone();
            diloco.synchronize(&mut params, &mut communicator).unwrap();
            for tensor in layout.tensors() {
                let mean = |i| {
                    let of_rank = |rank| {
                        let mut params = start.clone();
                        advance(&mut params, rank, 0);
                        f64::from(params[i])
                    };
                    (0..3).map(of_rank).sum::<f64>() / 3.0
                };
                let means: Vec<f64> = tensor.range().map(mean).collect();
                assert_close(tensor.name(), &params[tensor.range()], &means, 1e-6);
            }
            // Padding stays.
            assert_same_bits(&params[307..320], &own[307..320], "padding");
            assert!(!diloco.is_due() && diloco.exchanges() > 0);
        });
    }
}

/// Bytes that a rank of four sends for one exchange of 1,000 parameters: as `all_reduce`, in the format's bytes.
#[test]
fn an_exchange_sends_two_numbers_per_parameter() {
    let layout = Layout::builder().packed().tensor("p", &[1024]).build().unwrap();
    // Per rank: the report, then three quarters there and three quarters back. Blocks have 256 codes and a scale.
    for (dtype, share) in
        [(Dtype::F32, 4 * 256), (Dtype::Bf16, 2 * 256), (Dtype::Dynamic8, 256 + 4), (Dtype::Companded8, 256 + 8 * 4)]
    {
        let sent = on_ranks(4, |mut communicator| {
            let mut params = vec![0.5; layout.len()];
            let mut diloco = averaging().wire_dtype(dtype).build(&layout, &params).unwrap();
            diloco.count_step().unwrap();
            diloco.synchronize(&mut params, &mut communicator).unwrap();
            communicator.bytes_sent()
        });
        assert_eq!(sent, [3 * 32 + 6 * share; 4], "{dtype:?}");
    }
}

/// What rounding takes from a difference is added to the next one: the sum of all means stays within one rounding of the
/// sum of the exact means. Without that, errors of 8-bit codes add up.
#[test]
fn compressed_means_add_up_to_the_exact_ones() {
    let layout = Layout::builder().packed().tensor("p", &[700]).build().unwrap();
    for dtype in [Dtype::Bf16, Dtype::Dynamic8, Dtype::Companded8] {
        let errors = on_ranks(3, |mut communicator| {
            let start = vec![0.0; layout.len()];
            let mut diloco = averaging().wire_dtype(dtype).build(&layout, &start).unwrap();
            let (mut params, mut exact) = (start.clone(), vec![0.0f64; layout.len()]);
            let mut first = 0.0;
            for exchange in 0..40 {
                // Equal moves at each exchange: rounding to the nearest errs in the same direction each time.
                advance(&mut params, communicator.rank(), 0);
                for rank in 0..3 {
                    let mut moved = start.clone();
                    advance(&mut moved, rank, 0);
                    exact.iter_mut().zip(moved).for_each(|(exact, moved)| *exact += f64::from(moved) / 3.0);
                }
                diloco.count_step().unwrap();
                diloco.synchronize(&mut params, &mut communicator).unwrap();
                let error = |(&param, &exact): (&f32, &f64)| (f64::from(param) - exact).abs();
                let largest = params.iter().zip(&exact).map(error).fold(0.0, f64::max);
                first = if exchange == 0 { largest } else { first };
                // Twice: the rounding of a difference, and that of its mean.
                assert!(largest <= 3.0 * first + 1e-5, "{dtype:?}: {largest} at exchange {exchange}, {first} at first");
            }
            first
        });
        assert!(errors.iter().all(|&error| error > 1e-5), "{dtype:?} rounds nothing: {errors:?}");
    }
}

/// Three members; one is late for an exchange and returns, one leaves.
#[test]
fn members_that_are_late_or_gone_are_left_out_of_the_mean() {
    let layout = Layout::builder().packed().tensor("p", &[4]).build().unwrap();
    let quorum = ThreadQuorum::new(Duration::from_millis(300));
    let members = [quorum.join(), quorum.join(), quorum.join()];
    let new = || averaging().build(&layout, &[0.0; 4]).unwrap();
    let exchange = |diloco: &mut DiLoCo, member: &QuorumMember, moved: f32| {
        let mut params = [0.0; 4];
        diloco.global_params(&mut params).unwrap();
        params = params.map(|param| param + moved);
        diloco.count_step().unwrap();
        diloco.synchronize(&mut params, &mut member.group()).unwrap();
        params[0]
    };
    let begin = std::sync::Barrier::new(3);
    let [first, leaves, late] = thread::scope(|scope| {
        let [a, b, c] = &members;
        let first = scope.spawn(|| {
            let mut diloco = new();
            begin.wait();
            // The last two exchanges have two members each.
            let params = [exchange(&mut diloco, a, 1.0), exchange(&mut diloco, a, 1.0), exchange(&mut diloco, a, 1.0)];
            begin.wait();
            [params.as_slice(), &[exchange(&mut diloco, a, 1.0), exchange(&mut diloco, a, 1.0)]].concat()
        });
        let leaves = scope.spawn(|| {
            let mut diloco = new();
            begin.wait();
            let params = [exchange(&mut diloco, b, 2.0), exchange(&mut diloco, b, 2.0), exchange(&mut diloco, b, 2.0)];
            begin.wait();
            params.to_vec()
        });
        let late = scope.spawn(|| {
            let mut diloco = new();
            begin.wait();
            let first = exchange(&mut diloco, c, 6.0);
            // The others make two exchanges without this one.
            begin.wait();
            let (joined, steps) = (exchange(&mut diloco, c, 600.0), diloco.steps());
            assert_eq!(steps, 4);
            vec![first, joined, exchange(&mut diloco, c, 6.0)]
        });
        [first, leaves, late].map(|thread| thread.join().unwrap())
    });
    assert_eq!(leaves, [3.0, 4.5, 6.0]);
    assert_eq!(late, [3.0, 7.0, 10.5]);
    assert_eq!(first, [3.0, 4.5, 6.0, 7.0, 10.5]);
}

/// The group loses a rank within an exchange. Nothing has changed then, and the rest repeat the call.
#[test]
fn an_exchange_that_fails_can_be_repeated() {
    let layout = layout();
    let start = random(1, layout.len());
    let train = |rank: usize, groups: Vec<ThreadCommunicator>| {
        let mut params = start.clone();
        let mut diloco = DiLoCo::builder(1).wire_dtype(Dtype::Dynamic8).build(&layout, &params).unwrap();
        advance(&mut params, rank, 0);
        diloco.count_step().unwrap();
        let before = params.clone();
        let mut failed = 0;
        for mut group in groups {
            let size = group.size();
            let result = diloco.synchronize(&mut params, &mut group);
            if size == 3 {
                let lost =
                    matches!(result, Err(DistributedError::Communication(CommunicationError::RankLost { rank: 2 })));
                assert!(lost, "{result:?}");
                assert_same_bits(&params, &before, "parameters");
                assert!(matches!(diloco.count_step(), Err(DistributedError::Due { steps: 1 })));
                failed += 1;
            } else {
                result.unwrap();
            }
        }
        (params, failed)
    };
    let with_failure = thread::scope(|scope| {
        let mut broken = ThreadCommunicator::group(3);
        // Takes part in the reports, and leaves.
        let mut lost = broken.pop().unwrap();
        let report = [0, 1, 0, 0u64];
        scope.spawn(move || lost.all_gather(bytemuck::cast_slice(&report), &[32; 3], &mut [0; 96]));
        let groups = broken.into_iter().zip(ThreadCommunicator::group(2));
        let threads: Vec<_> = groups
            .enumerate()
            .map(|(rank, (broken, whole))| scope.spawn(move || train(rank, vec![broken, whole])))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let without = thread::scope(|scope| {
        let groups = ThreadCommunicator::group(2).into_iter().enumerate();
        let threads: Vec<_> = groups.map(|(rank, group)| scope.spawn(move || train(rank, vec![group]))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for ((params, failed), (expected, _)) in with_failure.iter().zip(&without) {
        assert_eq!(*failed, 1);
        assert_same_bits(params, expected, "parameters");
    }
}

#[test]
fn a_group_in_which_all_join_is_told() {
    let errors = on_ranks(2, |mut communicator| {
        let mut diloco = averaging().build(&Layout::flat(1).unwrap(), &[0.0]).unwrap();
        diloco.rejoin();
        assert!(diloco.is_due());
        diloco.synchronize(&mut [0.0], &mut communicator).unwrap_err()
    });
    assert!(errors.iter().all(|error| matches!(error, DistributedError::NoState)), "{errors:?}");
}

#[test]
fn ranks_that_count_other_steps_are_told() {
    let errors = on_ranks(2, |mut communicator| {
        let every = 1 + communicator.rank() as u64;
        let mut diloco = DiLoCo::builder(every).build(&Layout::flat(1).unwrap(), &[0.0]).unwrap();
        (0..every).for_each(|_| diloco.count_step().unwrap());
        diloco.synchronize(&mut [0.0], &mut communicator).unwrap_err()
    });
    let told =
        |error: &DistributedError| matches!(error, DistributedError::Disagreement { rank: 1, steps: 2, others: 1 });
    assert!(errors.iter().all(told), "{errors:?}");
}

/// Steps of the training that is saved.
const STEPS: usize = 13;

/// Saves after every step, between exchange and merge too, and continues each file.
#[test]
fn training_goes_on_from_every_file() {
    let layout = layout();
    let builder = DiLoCo::builder(4)
        .outer(Optimizer::builder(AdamW::default().with_lr(0.1)).clip(Clip::global_norm(1.0)))
        .fragments(Fragments::Count(2))
        .delay(1)
        .local_weight(0.25)
        .wire_dtype(Dtype::Companded8);
    let folder = tempfile::tempdir().unwrap();
    let path = |rank: usize, step: usize| folder.path().join(format!("{rank}_{step}.safetensors"));
    let train =
        |communicator: &mut Counted<ThreadCommunicator>, diloco: &mut DiLoCo, params: &mut Vec<f32>, step: usize| {
            advance(params, communicator.rank(), step);
            diloco.count_step().unwrap();
            diloco.synchronize(params, communicator).unwrap();
        };
    let straight = on_ranks(2, |mut communicator| {
        let mut params = random(1, layout.len());
        let mut diloco = builder.clone().build(&layout, &params).unwrap();
        let mut history = vec![params.clone()];
        for step in 0..STEPS {
            diloco.save(path(communicator.rank(), step)).unwrap();
            train(&mut communicator, &mut diloco, &mut params, step);
            history.push(params.clone());
        }
        history
    });
    for begin in 0..STEPS {
        on_ranks(2, |mut communicator| {
            let history = &straight[communicator.rank()];
            let mut params = history[begin].clone();
            let mut diloco = builder.clone().build(&layout, &vec![9.0; layout.len()]).unwrap();
            let loaded = diloco.load(path(communicator.rank(), begin), &LoadOptions::default()).unwrap();
            assert!(loaded.differences.is_empty());
            assert_eq!(diloco.steps(), begin as u64);
            for step in begin..STEPS {
                train(&mut communicator, &mut diloco, &mut params, step);
                assert_same_bits(&params, &history[step + 1], &format!("step {step} from {begin}"));
            }
        });
    }
}

#[test]
fn files_of_other_settings_and_damaged_ones_are_refused() {
    let layout = layout();
    let params = vec![0.5; layout.len()];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let build = |builder: DiLoCoBuilder| builder.build(&layout, &params).unwrap();
    build(DiLoCo::builder(4)).save(&path).unwrap();
    let options = LoadOptions::default();
    let load = |mut diloco: DiLoCo| {
        let result = diloco.load(&path, &options).map(drop);
        assert_eq!(diloco.steps(), 0);
        result
    };
    load(build(DiLoCo::builder(4))).unwrap();
    for other in [
        DiLoCo::builder(5),
        DiLoCo::builder(4).delay(1),
        DiLoCo::builder(4).local_weight(0.5),
        DiLoCo::builder(4).wire_dtype(Dtype::Bf16),
        DiLoCo::builder(4).fragments(Fragments::Count(2)),
        DiLoCo::builder(4).outer(rule("adamw")),
    ] {
        let error = load(build(other)).unwrap_err();
        assert!(matches!(error, CheckpointError::Mismatch { .. }), "{error:?}");
    }
    let renamed = Layout::builder().tensor("e", &[3]).build().unwrap();
    let error = load(DiLoCo::builder(4).build(&renamed, &vec![0.0; renamed.len()]).unwrap()).unwrap_err();
    assert!(matches!(error, CheckpointError::Tensors { .. }), "{error:?}");
    let other_shape = Layout::builder().tensor("a", &[10, 30]).build().unwrap();
    let error = load(DiLoCo::builder(4).build(&other_shape, &vec![0.0; other_shape.len()]).unwrap()).unwrap_err();
    assert!(matches!(error, CheckpointError::Shape { .. }), "{error:?}");

    let bytes = std::fs::read(&path).unwrap();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        load(build(DiLoCo::builder(4))).unwrap_err()
    };
    let error = damaged(&|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error:?}");
    let error = damaged(&|bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(error, CheckpointError::NotSafetensors { .. }), "{error:?}");
    let error = damaged(&|bytes| *bytes = safetensors_without_header());
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }), "{error:?}");
}

fn safetensors_without_header() -> Vec<u8> {
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![1], &[0]).unwrap();
    safetensors::serialize([("a", view)], None).unwrap()
}

#[test]
fn wrong_options_are_refused() {
    let layout = layout();
    let params = vec![0.0; layout.len()];
    let refused = |builder: DiLoCoBuilder| builder.build(&layout, &params).unwrap_err();
    for (name, builder) in [
        ("every", DiLoCo::builder(0)),
        ("delay", DiLoCo::builder(3).delay(3)),
        ("local_weight", DiLoCo::builder(3).local_weight(1.5)),
        ("local_weight", DiLoCo::builder(3).local_weight(f32::NAN)),
        ("fragments", DiLoCo::builder(3).fragments(Fragments::Count(0))),
        ("fragments", DiLoCo::builder(3).fragments(Fragments::Count(5))),
    ] {
        let error = refused(builder);
        assert!(matches!(error, Error::Hyperparameter { name: refused, .. } if refused == name), "{name}: {error:?}");
    }
    let error = refused(DiLoCo::builder(3).wire_dtype(Dtype::F16));
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let error = refused(DiLoCo::builder(3).outer(rule("sgd").precision(Precision::bf16_master())));
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let error = refused(DiLoCo::builder(3).outer(rule("sgd").group("x", GroupOptions::default())));
    assert!(matches!(error, Error::UnknownGroup { .. }), "{error:?}");
    let error = DiLoCo::builder(3).build(&layout, &params[1..]).unwrap_err();
    assert!(matches!(error, Error::LengthMismatch { .. }), "{error:?}");
}

/// Parameters on a device are read and written where an exchange is due, and have the bits of those on the host.
#[test]
fn parameters_on_a_device_follow_those_on_the_host() {
    let gpu = device::gpu();
    let layout = layout();
    let start = random(1, layout.len());
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let (params, grads) = (device::upload(gpu, &start), storage(gpu, layout.buffer_size(), usage));
    let mut on_device = device::build(gpu, rule("sgd"), &layout).unwrap();
    let mut on_host = rule("sgd").build_cpu(&layout).unwrap();
    let mut host_params = start.clone();
    let mut diloco = [(); 2].map(|()| DiLoCo::builder(2).fragments(Fragments::Groups).build(&layout, &start).unwrap());
    let [mut group, mut host_group] = [(); 2].map(|()| ThreadCommunicator::group(1).remove(0));
    for step in 0..5 {
        let of_step = random(50 + step, layout.len());
        gpu.queue.write_buffer(&grads, 0, bytemuck::cast_slice(&of_step));
        let mut encoder = encoder(gpu);
        on_device.step(&mut encoder, &params, &grads).unwrap();
        gpu.queue.submit([encoder.finish()]);
        on_host.step(&mut host_params, &of_step).unwrap();
        let [of_device, of_host] = &mut diloco;
        of_device.count_step().unwrap();
        of_host.count_step().unwrap();
        of_device.synchronize_device(&on_device, &params, &mut group).unwrap();
        of_host.synchronize(&mut host_params, &mut host_group).unwrap();
        let downloaded = device::download(gpu, &params);
        for tensor in layout.tensors() {
            assert_same_bits(&downloaded[tensor.range()], &host_params[tensor.range()], tensor.name());
        }
    }
    let halves = storage(gpu, layout.buffer_size_of(Dtype::Bf16), usage);
    let of_halves = device::build(gpu, rule("sgd").precision(Precision::bf16_master()), &layout).unwrap();
    diloco[0].count_step().unwrap();
    let error = diloco[0].synchronize_device(&of_halves, &halves, &mut group).unwrap_err();
    assert!(matches!(error, DistributedError::Optimizer(Error::DtypeMismatch { .. })), "{error:?}");
}

/// A fragment that was merged before the exchange of another one failed stays merged.
#[test]
fn a_failed_exchange_leaves_a_merge_on_the_device() {
    let (gpu, layout) = (device::gpu(), layout());
    let start = random(1, layout.len());
    let optimizer = device::build(gpu, rule("sgd"), &layout).unwrap();
    let build = || DiLoCo::builder(2).fragments(Fragments::Count(2)).delay(1).build(&layout, &start).unwrap();
    let [mut of_device, mut of_host] = [build(), build()];
    let mut host_params = random(2, layout.len());
    let params = device::upload(gpu, &host_params);
    for step in 1..=2 {
        // The second exchange is with a rank that has left.
        let [mut group, mut host_group] = [(); 2].map(|()| ThreadCommunicator::group(step).remove(0));
        of_device.count_step().unwrap();
        of_host.count_step().unwrap();
        let before = host_params.clone();
        let on_device = of_device.synchronize_device(&optimizer, &params, &mut group);
        let on_host = of_host.synchronize(&mut host_params, &mut host_group);
        assert_eq!((on_device.is_ok(), on_host.is_ok()), (step == 1, step == 1), "{on_device:?} {on_host:?}");
        assert_eq!(host_params != before, step == 2);
        let downloaded = device::download(gpu, &params);
        for tensor in layout.tensors() {
            assert_same_bits(&downloaded[tensor.range()], &host_params[tensor.range()], tensor.name());
        }
    }
}
