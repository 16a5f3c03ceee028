//! Tests on several ranks: each test starts `mpirun`, whose processes run one of the ignored tests below.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::distributed::{CommunicationError, Communicator, Counted, DiLoCo, ThreadCommunicator};
use wgpu_optim::{AdamW, Layout, Optimizer};
use wgpu_optim_mpi::MpiCommunicator;

/// How many ranks to kill; default 5.
const KILLS: &str = "WGPU_OPTIM_MPI_KILLS";
/// The folder that a test and its ranks share.
const FOLDER: &str = "WGPU_OPTIM_MPI_FOLDER";
/// The others must end so soon.
const LIMIT: Duration = Duration::from_secs(10);

fn mpirun(ranks: usize, test: &str, folder: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-np", &ranks.to_string()]);
    // Over TCP on the loopback device, as between machines.
    command.args(["--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "lo", "--mca", "pml", "ob1"]);
    command.arg(std::env::current_exe().unwrap()).args([
        "--exact",
        test,
        "--ignored",
        "--test-threads=1",
        "--nocapture",
    ]);
    command.env(FOLDER, folder).stdin(Stdio::null());
    command
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

fn run(ranks: usize, test: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = mpirun(ranks, test, folder.path()).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{ranks} ranks: {said}");
    assert_eq!(said.matches("1 passed").count(), ranks, "{said}");
}

/// The results of all calls, one after the other.
fn all_calls(mut communicator: impl Communicator) -> Vec<u8> {
    let (rank, size) = (communicator.rank(), communicator.size());
    let counts: Vec<usize> = [3, 0, 2, 5].iter().copied().cycle().take(size).collect();
    let all: usize = counts.iter().sum();
    let mut results = Vec::new();

    // Sums whose bits do not depend on the order.
    let mut values: Vec<f32> = (0..all).map(|i| (i + 10 * rank) as f32).collect();
    communicator.all_reduce(&mut values).unwrap();
    results.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
    // Sums in the order of the ranks.
    let values: Vec<f32> = (0..all).map(|i| [1e8, 1.0, -1e8, 3.0][rank] + i as f32).collect();
    let mut own = vec![0.0; counts[rank]];
    communicator.reduce_scatter(&values, &counts, &mut own).unwrap();
    results.extend(own.iter().flat_map(|value| value.to_ne_bytes()));

    let own: Vec<u8> = (0..counts[rank]).map(|i| (16 * rank + i) as u8).collect();
    let mut gathered = vec![0; all];
    communicator.all_gather(&own, &counts, &mut gathered).unwrap();
    results.extend(&gathered);
    for root in 0..size {
        let mut at_root = vec![0; if rank == root { all } else { 0 }];
        communicator.gather(root, &own, &counts, &mut at_root).unwrap();
        results.extend(at_root);
        let mut bytes = vec![rank as u8; 7];
        communicator.broadcast(root, &mut bytes).unwrap();
        results.extend(bytes);
    }
    let counts: Vec<usize> = (0..size).map(|other| rank + other).collect();
    let sent: Vec<u8> = (0..size).flat_map(|to| vec![(16 * rank + to) as u8; rank + to]).collect();
    let mut received = vec![0; sent.len()];
    communicator.all_to_all(&sent, &counts, &mut received, &counts).unwrap();
    results.extend(received);
    // Nothing at all.
    communicator.broadcast(0, &mut []).unwrap();
    communicator.all_reduce(&mut []).unwrap();
    communicator.all_gather(&[], &vec![0; size], &mut []).unwrap();
    communicator.gather(0, &[], &vec![0; size], &mut []).unwrap();
    communicator.all_to_all(&[], &vec![0; size], &mut [], &vec![0; size]).unwrap();
    communicator.barrier().unwrap();
    results
}

#[test]
fn calls_have_the_results_of_threads() {
    (1..=4).for_each(|ranks| run(ranks, "rank_makes_all_calls"));
}

#[test]
#[ignore = "a rank of `calls_have_the_results_of_threads`"]
fn rank_makes_all_calls() {
    let universe = mpi::initialize().unwrap();
    let communicator = MpiCommunicator::new(&universe.world());
    let (rank, size) = (communicator.rank(), communicator.size());
    let found = all_calls(communicator);
    let expected = thread::scope(|scope| {
        let spawn = |communicator| scope.spawn(|| all_calls(communicator));
        let threads: Vec<_> = ThreadCommunicator::group(size).into_iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).nth(rank)
    });
    assert_eq!(Some(found), expected);
}

#[test]
fn slices_that_do_not_fit_the_counts_are_refused() {
    run(2, "rank_passes_wrong_lengths");
}

#[test]
#[ignore = "a rank of `slices_that_do_not_fit_the_counts_are_refused`"]
fn rank_passes_wrong_lengths() {
    let universe = mpi::initialize().unwrap();
    let mut ranks = MpiCommunicator::new(&universe.world());
    let length = |call, what, expected, actual| Err(CommunicationError::Length { call, what, expected, actual });
    let root = |call| Err(CommunicationError::Root { call, root: 2, limit: 2 });
    assert_eq!(ranks.all_gather(&[0], &[1], &mut [0]), length("all_gather", "the list of counts", 2, 1));
    assert_eq!(ranks.all_gather(&[0], &[2, 2], &mut [0; 4]), length("all_gather", "own", 2, 1));
    assert_eq!(ranks.all_gather(&[0], &[1, 1], &mut [0; 3]), length("all_gather", "all", 2, 3));
    assert_eq!(ranks.reduce_scatter(&[0.0], &[1, 1], &mut [0.0]), length("reduce_scatter", "values", 2, 1));
    assert_eq!(ranks.reduce_scatter(&[0.0; 2], &[1, 1], &mut []), length("reduce_scatter", "own", 1, 0));
    assert_eq!(ranks.all_to_all(&[0], &[1, 1], &mut [], &[0, 0]), length("all_to_all", "sent", 2, 1));
    assert_eq!(ranks.all_to_all(&[], &[0, 0], &mut [0], &[0, 0]), length("all_to_all", "received", 0, 1));
    assert_eq!(ranks.gather(2, &[0], &[1, 1], &mut []), root("gather"));
    assert_eq!(ranks.broadcast(2, &mut [0]), root("broadcast"));
    // Nothing was sent: the ranks still agree.
    ranks.barrier().unwrap();
}

/// Bytes that the loopback device has sent.
fn loopback_bytes() -> u64 {
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    let loopback = devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).unwrap();
    loopback.split_whitespace().nth(8).unwrap().parse().unwrap()
}

#[test]
fn the_wire_carries_the_bytes_that_are_counted() {
    (2..=4).for_each(|ranks| run(ranks, "rank_sends_counted_bytes"));
}

/// Headers of TCP add a thousandth. Other programs may use the device at the same time: the best of three counts.
#[test]
#[ignore = "a rank of `the_wire_carries_the_bytes_that_are_counted`"]
fn rank_sends_counted_bytes() {
    const LEN: usize = 4 << 20;
    let universe = mpi::initialize().unwrap();
    let mut ranks = Counted::new(MpiCommunicator::new(&universe.world()));
    let (rank, size) = (ranks.rank(), ranks.size());
    let counts: Vec<usize> = (0..size).map(|other| LEN / size + usize::from(other < LEN % size)).collect();
    let byte_counts: Vec<usize> = counts.iter().map(|count| 4 * count).collect();
    let (mut values, mut own, mut all) = (vec![1.0f32; LEN], vec![0.0; counts[rank]], vec![0; 4 * LEN]);
    for call in ["all_reduce", "reduce_scatter", "all_gather"] {
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            ranks.barrier().unwrap();
            let before = (loopback_bytes(), ranks.bytes_sent());
            ranks.barrier().unwrap();
            match call {
                "all_reduce" => ranks.all_reduce(&mut values),
                "reduce_scatter" => ranks.reduce_scatter(&values, &counts, &mut own),
                _ => ranks.all_gather(&vec![1; byte_counts[rank]], &byte_counts, &mut all),
            }
            .unwrap();
            ranks.barrier().unwrap();
            let carried = loopback_bytes() - before.0;
            // All ranks send about as much.
            let counted = (ranks.bytes_sent() - before.1) * size as u64;
            best = best.min((carried as f64 / counted as f64 - 1.0).abs());
        }
        assert!(best <= 0.01, "{call} on {size} ranks: off by {best}");
        println!("{call} on {size} ranks: off by {best:.5}");
    }
}

fn diloco(layout: &Layout, params: &[f32]) -> DiLoCo {
    DiLoCo::builder(2).build(layout, params).unwrap()
}

fn layout() -> Layout {
    Layout::flat(100_000).unwrap()
}

#[test]
fn a_killed_rank_ends_the_others() {
    let kills = std::env::var(KILLS).map_or(5, |kills| kills.parse().unwrap());
    let mut random = StdRng::seed_from_u64(1);
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        let ranks = random.random_range(2..=4);
        let killed = random.random_range(0..ranks);
        let folder = tempfile::tempdir().unwrap();
        let mut command = mpirun(ranks, "rank_trains_without_end", folder.path());
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pids: Vec<u32> = (0..ranks).map(|rank| pid(folder.path(), rank)).collect();
        thread::sleep(Duration::from_millis(random.random_range(0..400)));
        let begin = Instant::now();
        assert!(Command::new("kill").args(["-KILL", &pids[killed].to_string()]).status().unwrap().success());
        let output = run.wait_with_output().unwrap();
        let time = begin.elapsed();
        slowest = slowest.max(time);
        let said = text(&output);
        assert!(!output.status.success() && time < LIMIT, "{time:?}: {said}");
        assert!(said.contains(&format!("rank {killed} ")) && said.contains("signal 9"), "{said}");
        while pids.iter().any(|pid| is_running(*pid)) {
            assert!(begin.elapsed() < LIMIT, "not all of the processes {pids:?} have ended");
            thread::sleep(Duration::from_millis(5));
        }
        // The last checkpoint continues.
        let layout = layout();
        let mut params = vec![0.0; layout.len()];
        let mut resumed = diloco(&layout, &params);
        let _ = resumed.load(folder.path().join("diloco.safetensors"), &LoadOptions::default()).unwrap();
        resumed.global_params(&mut params).unwrap();
        assert!(resumed.steps() > 0 && params.iter().all(|param| *param != 0.0), "kill {kill}");
    }
    println!("{kills} ranks killed; the others ended within {slowest:?}");
}

/// Whether a process is there, and no zombie that nobody has asked about.
fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// The process of a rank, which has saved a checkpoint by then.
fn pid(folder: &Path, rank: usize) -> u32 {
    let begin = Instant::now();
    loop {
        if let Some(pid) = fs::read_to_string(folder.join(rank.to_string())).ok().and_then(|pid| pid.parse().ok()) {
            return pid;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "rank {rank} does not start");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "a rank of `a_killed_rank_ends_the_others`"]
fn rank_trains_without_end() {
    let universe = mpi::initialize().unwrap();
    let mut ranks = MpiCommunicator::new(&universe.world());
    let (rank, layout, folder) = (ranks.rank(), layout(), folder());
    let mut params = vec![1.0; layout.len()];
    let mut optimizer = Optimizer::builder(AdamW::default()).build_cpu(&layout).unwrap();
    let mut diloco = diloco(&layout, &params);
    loop {
        optimizer.step(&mut params, &vec![rank as f32 - 1.5; layout.len()]).unwrap();
        diloco.count_step().unwrap();
        diloco.synchronize(&mut params, &mut ranks).unwrap();
        if rank == 0 {
            diloco.save(folder.join("diloco.safetensors")).unwrap();
        }
        if diloco.steps() == 2 {
            ranks.barrier().unwrap();
            fs::write(folder.join(rank.to_string()), std::process::id().to_string()).unwrap();
        }
    }
}
