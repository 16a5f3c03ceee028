//! The training loop, one for all devices.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::Result;
use mlp_mnist::engine::{Batches, Engine, Report, Score};
use wgpu_optim::Stats;

/// Steps from one report to the next.
const REPORT_EVERY: u64 = 10;

/// Length and order of the training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) batches: Batches,
    pub(crate) epochs: usize,
    /// At most this many steps, whatever the epochs.
    pub(crate) max_steps: Option<u64>,
    pub(crate) seed: u64,
    /// Steps of an earlier run, which this one resumes.
    pub(crate) done: u64,
}

/// The checkpoint of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saving {
    /// Written after each epoch and at the end.
    pub(crate) path: Option<PathBuf>,
    /// Ends the run after the present step.
    pub(crate) interrupted: Arc<AtomicBool>,
}

impl Saving {
    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn save(&self, engine: &dyn Engine) -> Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| engine.save(path))
    }
}

impl Plan {
    pub(crate) fn total_steps(&self) -> u64 {
        let all = self.epochs as u64 * self.batches.count() as u64;
        self.max_steps.map_or(all, |most| most.min(all))
    }

    /// The order of the training examples in one epoch.
    fn order(&self, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.batches.len as u32).collect();
        order.shuffle(&mut StdRng::seed_from_u64(self.seed.wrapping_add(1 + epoch as u64)));
        order
    }
}

/// The values of the curves.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) train: Vec<TrainPoint>,
    /// After each epoch: the step and the score over the test set.
    pub(crate) test: Vec<(u64, Score)>,
    /// Steps the optimizer refused for a gradient that was not finite.
    pub(crate) skipped: u64,
    /// With a loss scale: after each step.
    pub(crate) scales: Vec<ScalePoint>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ScalePoint {
    /// Steps done, this one included.
    pub(crate) step: u64,
    /// The loss scale after the step.
    pub(crate) scale: f64,
    /// Whether the step was skipped.
    pub(crate) is_skipped: bool,
}

/// The loss scale over the steps of an optimizer's history.
pub(crate) fn scales(steps: &[Stats]) -> Vec<ScalePoint> {
    let point = |stats: &Stats| {
        let step = stats.step + stats.skipped;
        Some(ScalePoint { step, scale: stats.loss_scale?.into(), is_skipped: stats.consecutive_skipped > 0 })
    };
    steps.iter().filter_map(point).collect()
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TrainPoint {
    /// Steps done, this one included.
    pub(crate) step: u64,
    /// Over the batches since the point before.
    pub(crate) score: Score,
    pub(crate) lr: f64,
    pub(crate) grad_norm: Option<f64>,
}

impl TrainPoint {
    fn new(report: &Report) -> Self {
        Self {
            step: report.stats.step + report.stats.skipped,
            score: report.score,
            lr: report.stats.lr.into(),
            grad_norm: report.stats.grad_norm.map(f64::from),
        }
    }
}

pub(crate) fn train(engine: &mut dyn Engine, plan: &Plan, saving: &Saving) -> Result<History> {
    let total = plan.total_steps();
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template("{bar:25} {pos}/{len} {msg}")?);
    let mut history = History::default();
    let mut step: u64 = plan.done;
    if step >= total {
        saving.save(engine)?;
        history.test.push((step, engine.evaluate()?));
    }
    let count = plan.batches.count();
    for epoch in step as usize / count..plan.epochs {
        if step >= total || (step > plan.done && saving.is_interrupted()) {
            break;
        }
        engine.begin_epoch(&plan.order(epoch));
        let start = Instant::now();
        let mut score = Score::default();
        for batch in step as usize % count..count {
            step += 1;
            let last = step == total || batch + 1 == count || saving.is_interrupted();
            engine.step(batch, last || step.is_multiple_of(REPORT_EVERY))?;
            for report in engine.reports(last)? {
                let point = TrainPoint::new(&report);
                score.add(&point.score);
                history.train.push(point);
                history.skipped = report.stats.skipped;
                bar.set_position(point.step);
                bar.set_message(progress(&point, score.examples as f64 / start.elapsed().as_secs_f64()));
            }
            if last {
                break;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        saving.save(engine)?;
        let test = engine.evaluate()?;
        history.test.push((step, test));
        bar.suspend(|| {
            println!(
                "epoch {}/{}: train loss {:.4}, train accuracy {:.2} %, \
                 test loss {:.4}, test accuracy {:.2} %, {:.1} s, {:.0} examples/s",
                epoch + 1,
                plan.epochs,
                score.loss(),
                score.accuracy(),
                test.loss(),
                test.accuracy(),
                seconds,
                score.examples as f64 / seconds,
            );
        });
    }
    bar.finish_and_clear();
    Ok(history)
}

fn progress(point: &TrainPoint, rate: f64) -> String {
    let norm = point.grad_norm.map_or_else(|| "not measured".to_owned(), |norm| format!("{norm:.3}"));
    let (loss, accuracy) = (point.score.loss(), point.score.accuracy());
    let lr = point.lr;
    format!("loss {loss:.4}, accuracy {accuracy:.1} %, lr {lr:.2e}, grad norm {norm}, {rate:.0} examples/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_takes_all_examples_in_an_order_of_its_own() {
        let plan = |seed| Plan { batches: Batches { len: 50, size: 8 }, epochs: 2, max_steps: None, seed, done: 0 };
        let orders = [plan(1).order(0), plan(1).order(1), plan(9).order(0)];
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<u32>>());
        }
        assert!(orders[0] != orders[1] && orders[0] != orders[2] && orders[1] != orders[2]);
        assert_eq!(orders[0], plan(1).order(0));
        assert_eq!(plan(1).total_steps(), 14);
    }
}
