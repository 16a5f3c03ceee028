//! A run: real training and real exchanges, with a clock that is simulated.

use std::error::Error;
use std::thread::{self, ScopedJoinHandle};

use mlp_mnist::cpu::Network;
use mlp_mnist::data::Data;
use mlp_mnist::engine::Score;
use mlp_mnist::model::Model;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::distributed::{Communicator, Counted, DiLoCo, DistributedError, ThreadCommunicator};
use wgpu_optim::{AdamW, CpuOptimizer, Optimizer};

use crate::Args;
use crate::worker::Machine;

/// Images of a worker's step.
const BATCH: usize = 4;
/// Evaluations of a run.
const POINTS: u64 = 25;

pub struct Run {
    pub every: u64,
    /// Mean share of the workers in a mean.
    pub present: f64,
    pub points: Vec<Point>,
}

/// The common parameters after an exchange.
pub struct Point {
    pub score: Score,
    /// Sent by a worker so far, on average.
    pub bytes: f64,
    pub hours: f64,
}

struct Worker<'a> {
    machine: Machine,
    network: Network<'a>,
    optimizer: CpuOptimizer,
    diloco: DiLoCo,
    params: Vec<f32>,
    grads: Vec<f32>,
    random: StdRng,
    /// It was left out of the last exchange.
    is_behind: bool,
    bytes_sent: u64,
}

impl Worker<'_> {
    /// Trains up to an exchange and makes it; after one that it missed, it waits for the others' state.
    fn run(&mut self, every: u64, data: &Data, ranks: ThreadCommunicator) -> Result<(), DistributedError> {
        let mut ranks = Counted::new(ranks);
        if self.is_behind {
            self.diloco.rejoin();
        } else {
            for _ in 0..every {
                let images = &self.machine.images;
                let batch: [usize; BATCH] = std::array::from_fn(|_| images[self.random.random_range(0..images.len())]);
                self.network.gather(&data.train, batch.into_iter());
                self.network.forward(&self.params);
                self.network.cross_entropy();
                self.network.backward(&self.params, &mut self.grads);
                self.optimizer.step(&mut self.params, &self.grads)?;
                self.diloco.count_step()?;
            }
        }
        self.diloco.synchronize(&mut self.params, &mut ranks)?;
        self.is_behind = false;
        // Reports and the length of the state do not grow with the network.
        self.bytes_sent += ranks.bytes_sent().saturating_sub(40 * (ranks.size() as u64 - 1));
        Ok(())
    }
}

/// `scale`: parameters of the network whose bytes are counted, per parameter of this one.
pub fn simulate(args: &Args, every: u64, scale: f64, model: &Model, data: &Data) -> Result<Run, Box<dyn Error>> {
    let start = model.initial_parameters(args.seed);
    let worker = |number: usize| -> Result<Worker<'_>, wgpu_optim::Error> {
        Ok(Worker {
            machine: Machine::draw(args.seed, number, &data.train),
            network: Network::new(model),
            optimizer: Optimizer::builder(AdamW::default().with_lr(2e-3)).build_cpu(&model.layout)?,
            diloco: DiLoCo::builder(every).build(&model.layout, &start)?,
            grads: vec![0.0; start.len()],
            params: start.clone(),
            random: StdRng::seed_from_u64(args.seed.wrapping_add(number as u64)),
            is_behind: false,
            bytes_sent: 0,
        })
    };
    let mut workers = (0..args.workers).map(worker).collect::<Result<Vec<_>, _>>()?;
    // Both halves of an exchange: all but its own share of 4 bytes per parameter.
    let bytes = 8.0 * args.parameters;
    let mut times: Vec<f64> = workers.iter().map(|worker| worker.machine.seconds(every, bytes)).collect();
    times.sort_by(f64::total_cmp);
    let limit = args.patience * times.get(times.len() / 2).copied().unwrap_or_default();

    let exchanges = args.steps / every;
    let mut network = Network::new(model);
    let mut losses = StdRng::seed_from_u64(args.seed ^ every);
    let (mut points, mut present, mut seconds, mut global) = (Vec::new(), 0, 0.0, start);
    for exchange in 0..exchanges {
        let mut on_time = Vec::new();
        let mut slowest = 0.0f64;
        for worker in &mut workers {
            let time = worker.machine.seconds(every, bytes);
            let is_lost = losses.random::<f64>() < worker.machine.loss;
            slowest = slowest.max(if is_lost { limit } else { time.min(limit) });
            if is_lost || time > limit {
                worker.is_behind = true;
            } else {
                on_time.push(worker);
            }
        }
        let up_to_date = on_time.iter().filter(|worker| !worker.is_behind).count();
        present += up_to_date;
        seconds += slowest;
        if up_to_date == 0 {
            return Err("no worker is left that is up to date; raise --workers or --patience".into());
        }
        let group = ThreadCommunicator::group(on_time.len());
        let results: Vec<_> = thread::scope(|scope| {
            let mut threads = Vec::with_capacity(group.len());
            for (worker, ranks) in on_time.iter_mut().zip(group) {
                threads.push(scope.spawn(move || worker.run(every, data, ranks)));
            }
            let join = |thread: ScopedJoinHandle<'_, _>| thread.join().map_err(|_| "a worker's thread ended early");
            threads.into_iter().map(join).collect()
        });
        for result in results {
            result??;
        }
        if let Some(worker) = on_time.first() {
            worker.diloco.global_params(&mut global)?;
        }
        if (exchange + 1) * POINTS / exchanges > exchange * POINTS / exchanges {
            network.gather(&data.test, 0..data.test.len());
            network.forward(&global);
            let sent: u64 = workers.iter().map(|worker| worker.bytes_sent).sum();
            let bytes = scale * sent as f64 / workers.len() as f64;
            points.push(Point { score: network.cross_entropy(), bytes, hours: seconds / 3600.0 });
        }
    }
    let present = present as f64 / (exchanges.max(1) * workers.len() as u64) as f64;
    Ok(Run { every, present, points })
}
