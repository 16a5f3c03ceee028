//! The same network from the same start with wgpu-optim and with burn's AdamW.

use crate::Result;
use crate::args::Args;
use crate::optimizer::Trainer;
use crate::plot::{self, Curve, Panel};
use crate::session::Session;
use crate::train::{History, Plan, Saving, train};

/// Steps over which losses are expected to agree: later, rounding has grown.
const FIRST: usize = 20;

/// Trains with both, and draws losses and times.
pub(crate) fn run(args: &Args, session: &Session) -> Result<()> {
    let plan = Plan::new(args, 0);
    let run = |name: &str, trainer: &mut dyn Trainer, model| {
        println!("training: {name}");
        Ok::<_, Box<dyn std::error::Error>>(train(session, &plan, trainer, model, &Saving::default())?.0)
    };
    let model = session.model(args)?;
    let fused = run("wgpu-optim", &mut session.fused(args, &model)?, model)?;
    let burn = run("burn", &mut Session::burn_adamw(args)?, session.model(args)?)?;

    println!("largest relative difference of losses over the first {FIRST} steps: {:.1e}", difference(&fused, &burn));
    for (name, history) in [("wgpu-optim", &fused), ("burn", &burn)] {
        let step = median(warm(&step_ms(history)));
        let optimizer = median(warm(&history.optimizer_ms));
        let loss = history.validation.last().map_or(f64::NAN, |(_, loss)| *loss);
        println!("{name}: {step:.1} ms per step, {optimizer:.2} of them the optimizer; validation loss {loss:.3}");
    }
    let path = args.plot_path();
    plot::save(&panels(&fused, &burn), 3, &path)?;
    println!("{}", path.display());
    Ok(())
}

fn difference(a: &History, b: &History) -> f64 {
    let pairs = a.losses.iter().zip(&b.losses).take(FIRST);
    pairs.map(|((_, a), (_, b))| ((a - b) / b).abs()).fold(0.0, f64::max)
}

/// Steps and the milliseconds of each.
fn step_ms(history: &History) -> Vec<(u64, f64)> {
    history.reports.iter().map(|report| (report.step, report.step_ms)).collect()
}

/// Kernels are compiled in the first steps: leaves out the first time if there are others.
fn warm(times: &[(u64, f64)]) -> &[(u64, f64)] {
    if times.len() > 1 { &times[1..] } else { times }
}

fn median(times: &[(u64, f64)]) -> f64 {
    let mut values: Vec<f64> = times.iter().map(|(_, ms)| *ms).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn points(times: &[(u64, f64)]) -> Vec<(f64, f64)> {
    times.iter().map(|&(step, ms)| (step as f64, ms)).collect()
}

fn panels(fused: &History, burn: &History) -> [Panel; 3] {
    let both = |points: fn(&History) -> Vec<(f64, f64)>| {
        let curve = |label, history| Curve { label, points: points(history) };
        vec![curve("burn", burn), curve("wgpu-optim", fused)]
    };
    let panel = |title, y_label, curves| Panel { title, y_label, logarithmic: false, curves };
    [
        panel("Training loss", "cross-entropy (nats per character)", both(|history| plot::smooth(&history.losses))),
        panel("Time of a training step", "milliseconds", both(|history| points(warm(&step_ms(history))))),
        panel("Time of the optimizer in it", "milliseconds", both(|history| points(warm(&history.optimizer_ms)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_of_the_first_steps() {
        let history = |loss: fn(u64) -> f64| History {
            losses: (1..=30).map(|step| (step, loss(step))).collect(),
            ..History::default()
        };
        let a = history(|step| if step == 3 { 2.02 } else { 2.0 });
        let b = history(|step| if step > 20 { 9.0 } else { 2.0 });
        assert!((difference(&a, &b) - 0.01).abs() < 1e-12);
        let times = [(20, 90.0), (40, 3.0), (60, 1.0), (80, 2.0)];
        assert!(median(warm(&times)).total_cmp(&2.0).is_eq() && median(&[]).is_nan());
        assert_eq!(warm(&times[..1]).len(), 1);
    }
}
