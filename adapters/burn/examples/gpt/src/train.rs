//! The training loop, one for both optimizers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::optim::GradientsParams;
use burn::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::args::Args;
use crate::batches::mix;
use crate::model::Gpt;
use crate::optimizer::Trainer;
use crate::session::Session;

/// Steps from one readback to the next. The device is not waited for in between.
pub(crate) const REPORT_EVERY: u64 = 20;

/// Batches of a validation.
const VALIDATION_BATCHES: usize = 8;

/// Length of the training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) total: u64,
    /// Steps of an earlier run, which this one resumes.
    pub(crate) done: u64,
    /// Backward passes per step.
    pub(crate) accumulate: usize,
    /// Steps from one evaluation to the next.
    pub(crate) evaluate_every: u64,
    /// True if the device is waited for around the optimizer's part of some steps.
    pub(crate) is_timed: bool,
}

impl Plan {
    /// A run after `done` steps of an earlier one.
    pub(crate) fn new(args: &Args, done: u64) -> Self {
        Self {
            total: args.steps,
            done,
            accumulate: args.accumulate,
            evaluate_every: args.evaluate_every(),
            is_timed: args.compare.is_some(),
        }
    }
}

/// The checkpoint of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saving {
    /// Written after each evaluation and at the end.
    pub(crate) path: Option<PathBuf>,
    /// Ends the run after the present step.
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// Numbers that were read back.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The training loss of each step, with the step's number from 1.
    pub(crate) losses: Vec<(u64, f64)>,
    pub(crate) reports: Vec<Report>,
    /// Steps done and the loss over the validation part.
    pub(crate) validation: Vec<(u64, f64)>,
    /// Steps done and the milliseconds of the optimizer in the last of them, where timed.
    pub(crate) optimizer_ms: Vec<(u64, f64)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Steps done.
    pub(crate) step: u64,
    /// The last step's norm before clipping.
    pub(crate) grad_norm: Option<f64>,
    pub(crate) tokens_per_second: f64,
    /// Milliseconds per step since the report before.
    pub(crate) step_ms: f64,
}

/// Trains, evaluates and speaks.
pub(crate) fn train(
    session: &Session,
    plan: &Plan,
    trainer: &mut dyn Trainer,
    mut model: Gpt,
    saving: &Saving,
) -> Result<(History, Gpt)> {
    let bar = ProgressBar::new(plan.total).with_style(ProgressStyle::with_template("{bar:25} {pos}/{len} {msg}")?);
    bar.set_position(plan.done);
    let mut history = History::default();
    let mut losses = Vec::new();
    let mut began = Instant::now();
    let tokens = plan.accumulate * session.batches.size * session.batches.context;
    if plan.done >= plan.total {
        model = evaluate(session, trainer, model, plan.done, Duration::ZERO, &mut history, &bar)?;
    }
    let mut spent = Duration::ZERO;
    for step in plan.done..plan.total {
        let is_timed = plan.is_timed && (step + 1).is_multiple_of(REPORT_EVERY);
        let (loss, next, seconds) = step_once(session, plan, trainer, model, step, is_timed)?;
        model = next;
        losses.push(loss);
        let done = step + 1;
        history.optimizer_ms.extend(seconds.map(|seconds| (done, seconds * 1e3)));
        let last = done == plan.total || saving.interrupted.load(Ordering::Relaxed);
        let is_evaluated = last || done.is_multiple_of(plan.evaluate_every);
        if is_evaluated || done.is_multiple_of(REPORT_EVERY) {
            let (report, read) = report(trainer, std::mem::take(&mut losses), done, tokens, began)?;
            spent += began.elapsed();
            bar.set_position(done);
            bar.set_message(progress(&report, read.iter().sum::<f64>() / read.len() as f64));
            let first = done - read.len() as u64 + 1;
            history.losses.extend((first..).zip(read));
            history.reports.push(report);
            began = Instant::now();
        }
        if is_evaluated {
            if let Some(path) = &saving.path {
                trainer.save(path, &model)?;
            }
            model = evaluate(session, trainer, model, done, spent, &mut history, &bar)?;
            began = Instant::now();
        }
        if last {
            break;
        }
    }
    bar.finish_and_clear();
    Ok((history, model))
}

/// Reads the losses of the steps since the report before, and the norm of the last. Waits for the device.
fn report(
    trainer: &mut dyn Trainer,
    losses: Vec<Tensor<1>>,
    done: u64,
    tokens_per_step: usize,
    began: Instant,
) -> Result<(Report, Vec<f64>)> {
    let losses: Vec<f64> = Tensor::cat(losses, 0).into_data().iter::<f64>().collect();
    let seconds = began.elapsed().as_secs_f64();
    let report = Report {
        step: done,
        grad_norm: trainer.grad_norm()?,
        tokens_per_second: (losses.len() * tokens_per_step) as f64 / seconds,
        step_ms: seconds * 1e3 / losses.len() as f64,
    };
    Ok((report, losses))
}

/// One optimizer step. Returns its loss, still on the device, and the optimizer's seconds if they are to be measured.
fn step_once(
    session: &Session,
    plan: &Plan,
    trainer: &mut dyn Trainer,
    model: Gpt,
    step: u64,
    is_timed: bool,
) -> Result<(Tensor<1>, Gpt, Option<f64>)> {
    let device = &session.gpu.device;
    let (mut sum, mut single): (Option<Tensor<1>>, _) = (None, None);
    for part in 0..plan.accumulate as u64 {
        let index = step * plan.accumulate as u64 + part;
        // Dropout draws from here: a resumed run draws the same.
        device.seed(mix(!session.batches.seed, index));
        let [inputs, targets] = session.batches.random(&session.text.train, index).on(device);
        let loss = model.loss(inputs, targets) / plan.accumulate as f64;
        let share = loss.clone().inner();
        sum = Some(match sum {
            Some(sum) => sum + share,
            None => share,
        });
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        if plan.accumulate > 1 {
            trainer.accumulate(&model, grads)?;
        } else {
            single = Some(grads);
        }
    }
    if is_timed {
        device.sync()?;
    }
    let start = Instant::now();
    let model = match single {
        Some(grads) => trainer.step(model, grads)?,
        None => trainer.step_accumulated(model)?,
    };
    if is_timed {
        device.sync()?;
    }
    let seconds = is_timed.then(|| start.elapsed().as_secs_f64());
    Ok((sum.ok_or("no batch")?, model, seconds))
}

/// The loss over the validation part, and a sample.
fn evaluate(
    session: &Session,
    trainer: &mut dyn Trainer,
    model: Gpt,
    step: u64,
    spent: Duration,
    history: &mut History,
    bar: &ProgressBar,
) -> Result<Gpt> {
    let model = trainer.eval(model)?;
    let valid = model.valid();
    let device = session.gpu.device.clone().inner();
    let loss = validation_loss(session, &valid, &device);
    let text = &session.text;
    let sample = session.speech.write(&valid, &text.vocabulary, session.batches.context, &device)?;
    // The parameters are the module's alone again.
    drop(valid);
    history.validation.push((step, loss));
    let train: Vec<f64> = history.losses.iter().rev().take(50).map(|(_, loss)| *loss).collect();
    let mean = train.iter().sum::<f64>() / train.len() as f64;
    // A finished run that is resumed has no steps.
    let train = if train.is_empty() { String::new() } else { format!("training loss {mean:.3}, ") };
    bar.suspend(|| {
        let seconds = spent.as_secs_f64();
        println!("step {step}: {train}validation loss {loss:.3}, {seconds:.0} s of training");
        if session.speech.length > 0 {
            println!("  {}", sample.replace('\n', "\n  "));
        }
    });
    trainer.train(model)
}

fn validation_loss(session: &Session, model: &Gpt, device: &Device) -> f64 {
    let batches = session.batches.spread(&session.text.validation, VALIDATION_BATCHES);
    let losses = batches.into_iter().map(|batch| {
        let [inputs, targets] = batch.on(device);
        model.loss(inputs, targets)
    });
    let losses: Vec<f64> = Tensor::cat(losses.collect(), 0).into_data().iter::<f64>().collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

fn progress(report: &Report, loss: f64) -> String {
    let norm = report.grad_norm.map_or_else(|| "not measured".to_owned(), |norm| format!("{norm:.2}"));
    format!("loss {loss:.3}, grad norm {norm}, {:.0} tokens/s", report.tokens_per_second)
}
