//! The network and its training on a device.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::prelude::*;
use burn::tensor::DType;
use clap::Parser;

use crate::args::Args;
use crate::session::{self, Gpu, Session};
use crate::train::{History, Plan, Saving, train};

/// burn's seed is one for all threads: tests that draw take turns.
static GPU: Mutex<Option<Gpu>> = Mutex::new(None);

fn gpu() -> (MutexGuard<'static, Option<Gpu>>, Gpu) {
    let mut turn = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = turn.get_or_insert_with(|| session::gpu().expect("a device, a software driver at least")).clone();
    (turn, gpu)
}

/// A network that learns within seconds.
const SMALL: [&str; 18] = [
    "--layers",
    "2",
    "--heads",
    "2",
    "--width",
    "16",
    "--context",
    "16",
    "--batch-size",
    "4",
    "--dropout",
    "0.2",
    "--warmup",
    "2",
    "--length",
    "8",
    "--clip",
    "0.5",
];

fn args(flags: &[&str]) -> Args {
    let args = Args::try_parse_from(["gpt"].iter().chain(&SMALL).chain(flags)).expect("well formed");
    args.validate().expect("valid");
    args
}

/// Trains as the program does.
fn run(gpu: &Gpu, args: &Args) -> History {
    let session = Session::open(args, gpu.clone()).expect("opened");
    let model = session.model(args).expect("made");
    let mut trainer = session.fused(args, &model).expect("made");
    let (done, model) = match &args.resume {
        Some(path) => trainer.load(path, model).expect("loaded"),
        None => (0, model),
    };
    let saving = Saving { path: args.save.clone(), ..Saving::default() };
    train(&session, &Plan::new(args, done), &mut trainer, model, &saving).expect("trained").0
}

fn path_flag<'a>(flag: &'a str, path: &'a Path) -> [&'a str; 2] {
    [flag, path.to_str().expect("plain characters")]
}

#[test]
fn a_later_token_changes_no_earlier_logit() {
    let (_turn, gpu) = gpu();
    let session = Session::open(&args(&[]), gpu.clone()).expect("opened");
    let model = session.model(&args(&[])).expect("made").valid();
    let device = gpu.device.clone().inner();
    let logits = |tokens: [i32; 16]| -> Vec<f32> {
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens.to_vec(), [1, 16]), &device);
        model.forward(tokens).into_data().iter::<f32>().collect()
    };
    let vocabulary = session.text.vocabulary.len();
    let mut tokens = [3; 16];
    let before = logits(tokens);
    tokens[10] = 7;
    let after = logits(tokens);
    let (early, late) = (10 * vocabulary, 11 * vocabulary);
    assert_eq!(before[..early], after[..early]);
    assert_ne!(before[early..late], after[early..late], "its own logits");
    assert_ne!(before[late..], after[late..], "attention passes it on");
}

#[test]
fn steps_reduce_the_loss() {
    let (_turn, gpu) = gpu();
    let rules: [&[&str]; 4] = [
        &[],
        &["--accumulate", "2"],
        &["--optimizer", "lion", "--lr", "0.003"],
        &["--optimizer", "schedule_free_adamw"],
    ];
    for flags in rules {
        let flags = [flags, &["--steps", "60", "--evaluate-every", "30"]].concat();
        let history = run(&gpu, &args(&flags));
        let mean = |losses: &[(u64, f64)]| losses.iter().map(|(_, loss)| loss).sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&history.losses[..5]), mean(&history.losses[55..]));
        assert!(last < 0.85 * first, "{flags:?}: {first} to {last}");
        assert_eq!(history.losses.len(), 60);
        let [(30, half), (60, end)] = history.validation[..] else { panic!("{:?}", history.validation) };
        assert!(end < half, "{flags:?}: {half} to {end}");
        assert!(history.reports.iter().all(|report| report.grad_norm.is_some_and(f64::is_finite)));
    }
}

#[test]
fn a_network_in_f32_trains_with_states_of_every_format() {
    let (_turn, gpu) = gpu();
    // 4,160 weights of the embedding: enough for codes of 8 bits, and no multiple of their blocks.
    for precision in ["f32", "bf16-states", "8bit-states"] {
        let history = run(&gpu, &args(&["--width", "64", "--steps", "20", "--precision", precision]));
        let (first, last) = (history.losses[0].1, history.losses[19].1);
        assert!(last < 0.9 * first, "{precision}: {first} to {last}");
    }
}

#[test]
fn a_format_that_burn_cannot_compute_in_is_refused() {
    let (_turn, gpu) = gpu();
    let args = args(&["--precision", "split"]);
    let session = Session::open(&args, gpu.clone()).expect("opened");
    if gpu.device.supports_dtype(DType::BF16) {
        assert!(session.model(&args).is_ok());
        return;
    }
    let message = session.model(&args).expect_err("no bf16").to_string();
    assert!(message.contains("--precision split") && message.contains("give f32, bf16-states"), "{message}");
}

#[test]
fn a_resumed_run_ends_with_the_bits_of_one_that_was_not_interrupted() {
    let (_turn, gpu) = gpu();
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, half, rest] = ["whole", "half", "rest"].map(|name| folder.path().join(name));
    for flags in [&[] as &[&str], &["--accumulate", "2", "--precision", "bf16-states"]] {
        let steps = |save: &Path, more: &[&str]| {
            let flags =
                [flags, &["--steps", "24", "--evaluate-every", "12"], &path_flag("--save", save), more].concat();
            run(&gpu, &args(&flags))
        };
        let losses = steps(&whole, &[]).losses;
        // The same run, and the file it saves at the twelfth step.
        let first = run_until(&gpu, &args(&[flags, &["--steps", "24", "--evaluate-every", "12"]].concat()), &half, 12);
        assert_eq!(first.losses, losses[..12], "{flags:?}");
        let second = steps(&rest, &path_flag("--resume", &half));
        assert_eq!(second.losses, losses[12..], "{flags:?}: dropout and windows included");
        let read = |path: &Path| std::fs::read(path).expect("saved");
        assert!(read(&whole) == read(&rest), "{flags:?}: the files differ");
    }
}

/// The first steps of a run, as an interruption ends it.
fn run_until(gpu: &Gpu, args: &Args, save: &Path, steps: u64) -> History {
    let session = Session::open(args, gpu.clone()).expect("opened");
    let model = session.model(args).expect("made");
    let mut trainer = session.fused(args, &model).expect("made");
    let mut plan = Plan::new(args, 0);
    plan.total = steps;
    let saving = Saving { path: Some(save.to_owned()), ..Saving::default() };
    train(&session, &plan, &mut trainer, model, &saving).expect("trained").0
}

#[test]
fn an_interrupted_run_saves_after_the_present_step() {
    let (_turn, gpu) = gpu();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run");
    let args = args(&["--steps", "9"]);
    let session = Session::open(&args, gpu).expect("opened");
    let model = session.model(&args).expect("made");
    let mut trainer = session.fused(&args, &model).expect("made");
    let saving = Saving { path: Some(path.clone()), interrupted: Arc::new(true.into()) };
    let history = train(&session, &Plan::new(&args, 0), &mut trainer, model, &saving).expect("trained").0;
    assert_eq!((history.losses.len(), history.validation.len()), (1, 1));
    let model = session.model(&args).expect("made");
    let mut trainer = session.fused(&args, &model).expect("made");
    assert_eq!(trainer.load(&path, model).expect("loaded").0, 1);
}

#[test]
fn burn_takes_the_same_steps() {
    let (_turn, gpu) = gpu();
    for flags in [&[] as &[&str], &["--accumulate", "2"]] {
        let args = args(&[flags, &["--compare", "burn", "--steps", "20"]].concat());
        let session = Session::open(&args, gpu.clone()).expect("opened");
        let plan = Plan::new(&args, 0);
        let model = session.model(&args).expect("made");
        let mut fused = session.fused(&args, &model).expect("made");
        let fused = train(&session, &plan, &mut fused, model, &Saving::default()).expect("trained").0;
        let mut burn = Session::burn_adamw(&args).expect("made");
        let model = session.model(&args).expect("made");
        let burn = train(&session, &plan, &mut burn, model, &Saving::default()).expect("trained").0;
        for ((step, a), (_, b)) in fused.losses.iter().zip(&burn.losses) {
            assert!((a - b).abs() <= 1e-5 * b, "{flags:?}, step {step}: {a} and {b}");
        }
        assert_eq!((fused.optimizer_ms.len(), burn.optimizer_ms.len()), (1, 1), "{flags:?}");
    }
}
