//! A fit on the CPU engine.

use rayon::prelude::*;
use wgpu_optim::CpuRemap;

use crate::Result;
use crate::fit::{Fit, Plan, Point};
use crate::growth::Growth;
use crate::picture::Picture;
use crate::reference::{backward, forward, loss, project};
use crate::splats::{COLUMNS, Splat};

pub(crate) fn fit(plan: &Plan, report: impl Fn(u32, Point)) -> Result<Fit> {
    let layout = plan.layout()?;
    let mut optimizer = plan.optimizer().build_cpu(&layout)?;
    let target = plan.target.colours();
    let mut params = plan.splats().as_flattened().to_vec();
    let mut live = params.len() / COLUMNS;
    params.resize(layout.len(), 0.0);
    let mut grads = vec![0.0; layout.len()];
    let mut scores = vec![0.0; plan.capacity];
    let none = vec![-1; plan.capacity];
    let mut errors = vec![[0.0; 3]; target.len()];
    let mut fit = Fit { points: Vec::new(), frames: Vec::new() };
    for step in 0..=plan.steps {
        let splats: &[Splat] = bytemuck::cast_slice(&params[..COLUMNS * live]);
        let shapes = project(splats, plan.size());
        forward(&shapes, &target, plan.target.width, &mut errors);
        let point = Point { squares: loss(&errors), splats: live as u32 };
        fit.points.push(point);
        if plan.reports(step) {
            report(step, point);
        }
        if plan.frames.binary_search(&step).is_ok() {
            fit.frames.push(picture(plan.target, &target, &errors));
        }
        if step == plan.steps {
            break;
        }
        let rows = grads.par_chunks_exact_mut(COLUMNS).zip(&mut scores).zip(splats).zip(&shapes);
        rows.for_each(|(((grads, score), splat), shape)| {
            let (of_splat, of_pixels) = backward(splat, shape, &errors, plan.target.width);
            grads.copy_from_slice(&of_splat);
            *score += of_pixels;
        });
        optimizer.step(&mut params, &grads)?;
        if plan.grows_after(step + 1) {
            let splats: &[Splat] = bytemuck::cast_slice(&params[..COLUMNS * live]);
            let growth = Growth::new(splats, &scores[..live], plan.capacity);
            let states = if plan.forgets_states { &none } else { &growth.state_sources };
            optimizer.remap(&mut params, &CpuRemap::new(&growth.sources).with_state_sources(states))?;
            let splats: &mut [Splat] = bytemuck::cast_slice_mut(&mut params[..COLUMNS * plan.capacity]);
            growth.divide(splats);
            live = growth.live as usize;
            optimizer.set_live_rows(growth.live)?;
            scores.fill(0.0);
        }
    }
    Ok(fit)
}

/// The sum of the splats, rounded to 8 bits.
fn picture(size: &Picture, target: &[[f32; 3]], errors: &[[f32; 3]]) -> Picture {
    let channel = |value: f32| (0.5 + 255.0 * value.clamp(0.0, 1.0)) as u8;
    let pixels = target.iter().zip(errors).map(|(target, error)| [0, 1, 2].map(|c| channel(target[c] + error[c])));
    Picture { pixels: pixels.collect(), ..*size }
}
