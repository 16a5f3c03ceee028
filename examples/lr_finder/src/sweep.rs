//! The range test, and the way back.

use wgpu_optim::Error;
use wgpu_optim::schedule::{LrCurve, RangeTest};

use crate::Result;
use mlp_mnist::engine::{Batches, Engine};
use mlp_mnist::setup::AnyEngine;

/// The curve of an engine that stands afterwards where it stood before; of the training examples in their order, again and again.
pub(crate) fn sweep(engine: &mut AnyEngine<'_>, test: &RangeTest, batches: Batches) -> Result<LrCurve> {
    match engine {
        AnyEngine::Cpu(engine) => {
            let snapshot = engine.optimizer.snapshot(engine.parameters.as_slice())?;
            let curve = losses(&mut **engine, test, batches, |engine, lr| engine.optimizer.set_lr(lr));
            engine.optimizer.restore(engine.parameters.as_mut(), &snapshot)?;
            curve
        }
        AnyEngine::Gpu(engine) => {
            let mut encoder = engine.encoder();
            let snapshot = engine.optimizer.snapshot(&mut encoder, &engine.parameters)?;
            engine.gpu.queue.submit([encoder.finish()]);
            let curve = losses(&mut **engine, test, batches, |engine, lr| engine.optimizer.set_lr(lr));
            let mut encoder = engine.encoder();
            engine.optimizer.restore(&mut encoder, &engine.parameters, &snapshot)?;
            engine.gpu.queue.submit([encoder.finish()]);
            curve
        }
    }
}

/// Trains one batch at each rate; its loss is that before the step.
fn losses<E: Engine>(
    engine: &mut E,
    test: &RangeTest,
    batches: Batches,
    set_lr: impl Fn(&mut E, f64) -> std::result::Result<(), Error>,
) -> Result<LrCurve> {
    engine.begin_epoch(&(0..batches.len as u32).collect::<Vec<_>>());
    let mut numbers = (0..batches.count()).cycle();
    test.sweep(|lr| {
        set_lr(engine, lr)?;
        engine.step(numbers.next().unwrap_or_default(), true)?;
        let report = engine.reports(true)?.pop().ok_or("a step has reported nothing")?;
        Ok(report.score.loss())
    })
}
