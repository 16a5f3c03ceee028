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
        let step = median(history.reports.iter().skip(1).map(|report| report.step_ms).collect());
        let optimizer = median(history.optimizer_ms.iter().skip(1).map(|(_, ms)| *ms).collect());
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn panels(fused: &History, burn: &History) -> [Panel; 3] {
    let both = |points: fn(&History) -> Vec<(f64, f64)>| {
        let curve = |label, history| Curve { label, points: points(history) };
        vec![curve("burn", burn), curve("wgpu-optim", fused)]
    };
    let panel = |title, y_label, curves| Panel { title, y_label, logarithmic: false, curves };
    [
        panel("Training loss", "cross-entropy (nats per character)", both(|history| plot::smooth(&history.losses))),
        panel(
            "Time of a training step",
            "milliseconds",
            // Kernels are compiled in the first steps.
            both(|history| history.reports.iter().skip(1).map(|report| (report.step as f64, report.step_ms)).collect()),
        ),
        panel(
            "Time of the optimizer in it",
            "milliseconds",
            both(|history| history.optimizer_ms.iter().skip(1).map(|&(step, ms)| (step as f64, ms)).collect()),
        ),
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
        assert!(median(vec![3.0, 1.0, 2.0]).total_cmp(&2.0).is_eq() && median(vec![]).is_nan());
    }
}
