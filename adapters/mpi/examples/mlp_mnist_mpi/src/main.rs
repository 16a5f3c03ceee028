//! Trains a network on digits that it draws, by the ranks of MPI: `mpirun -np 4 mlp_mnist_mpi --mode diloco`.

mod trainer;

use std::error::Error;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use mlp_mnist::cpu::Network;
use mlp_mnist::data::digits;
use mlp_mnist::engine::{Batches, Score};
use mlp_mnist::model::Model;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use trainer::Trainer;
use wgpu_optim::distributed::{Communicator, Counted};
use wgpu_optim_mpi::MpiCommunicator;

#[derive(Parser)]
struct Args {
    /// How the ranks train together
    #[arg(long, value_enum)]
    mode: Mode,
    /// Passes over the training images
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Images of a step of all ranks together
    #[arg(long, default_value_t = 128)]
    batch: usize,
    /// Learning rate of AdamW on each rank
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
    /// Steps from one exchange to the next, for `diloco`
    #[arg(long, default_value_t = 50)]
    every: u64,
    /// Seed of images, network and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Gradients of every step are averaged, states are divided among the ranks
    Zero1,
    /// Parameters are exchanged every few steps
    Diloco,
}

/// What each rank tells of its run: bytes sent, bytes of states, milliseconds.
type Figures = [u64; 3];

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let universe = mpi::initialize().ok_or("MPI cannot be initialized")?;
    let mut ranks = Counted::new(MpiCommunicator::new(&universe.world()));
    let (rank, size) = (ranks.rank(), ranks.size());
    if args.batch == 0 || args.batch % size != 0 {
        return Err(format!("--batch {} is no multiple of the {size} ranks", args.batch).into());
    }
    let data = digits::draw(args.seed);
    let model = Model::new(&[784, 128, 10])?;
    let mut params = model.initial_parameters(args.seed);
    let mut trainer = Trainer::new(&args, &model.layout, &params, &mut ranks)?;
    let mut network = Network::new(&model);
    let mut grads = vec![0.0; model.layout.len()];

    // Every rank has all images, and takes its part of each batch. The last batch of an epoch is left out if it is smaller.
    let (steps, own) = (data.train.len() / args.batch, args.batch / size);
    let begin = Instant::now();
    for epoch in 0..args.epochs {
        let mut order: Vec<usize> = (0..data.train.len()).collect();
        order.shuffle(&mut StdRng::seed_from_u64(args.seed.wrapping_add(1 + epoch as u64)));
        for batch in order.chunks_exact(args.batch).take(steps) {
            network.gather(&data.train, batch[rank * own..][..own].iter().copied());
            network.forward(&params);
            network.cross_entropy();
            network.backward(&params, &mut grads);
            trainer.step(&mut params, &mut grads)?;
        }
    }
    trainer.finish(&mut params)?;
    let state_bytes = trainer.state_bytes();
    drop(trainer);
    let figures: Figures = [ranks.bytes_sent(), state_bytes, begin.elapsed().as_millis() as u64];
    let all = gather(&mut ranks, figures)?;
    if rank == 0 {
        let batches = Batches { len: data.test.len(), size: 1_000 };
        let mut score = Score::default();
        for batch in 0..batches.count() {
            let first = batches.first(batch);
            network.gather(&data.test, first..first + batches.rows(batch));
            network.forward(&params);
            score.add(&network.cross_entropy());
        }
        let per_step = format!("{} steps of {} images", steps * args.epochs, args.batch);
        println!("{:?} on {size} ranks, {per_step}: accuracy {:.2} %", args.mode, score.accuracy());
        println!("rank  MiB sent  KiB of states  seconds");
        for (rank, [sent, states, millis]) in all.into_iter().enumerate() {
            let (sent, states, seconds) = (sent as f64 / 1_048_576.0, states as f64 / 1024.0, millis as f64 / 1e3);
            println!("{rank:4} {sent:9.2} {states:14.1} {seconds:8.1}");
        }
    }
    Ok(())
}

/// The figures of all ranks, on rank 0.
fn gather(ranks: &mut impl Communicator, own: Figures) -> Result<Vec<Figures>, Box<dyn Error>> {
    let own: Vec<u8> = own.iter().flat_map(|figure| figure.to_ne_bytes()).collect();
    let mut all = vec![0; if ranks.rank() == 0 { ranks.size() * own.len() } else { 0 }];
    ranks.gather(0, &own, &vec![own.len(); ranks.size()], &mut all)?;
    let figure = |bytes: &[u8]| bytes.try_into().map(u64::from_ne_bytes).unwrap_or_default();
    let of_rank = |bytes: &[u8]| [0, 8, 16].map(|start| figure(&bytes[start..start + 8]));
    Ok(all.chunks_exact(own.len()).map(of_rank).collect())
}
