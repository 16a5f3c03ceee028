//! A race on the CPU engine.

use rayon::prelude::*;

use crate::Result;
use crate::race::{Course, Entry, Record};
use examples_common::functions::Function;

/// A thread takes one rule after the other.
pub(crate) fn race(course: &Course, entries: &[Entry]) -> Result<Vec<Record>> {
    let run = |entry: &Entry| run(course, entry).map_err(|error| format!("{}: {error}", entry.name));
    Ok(entries.par_iter().map(run).collect::<std::result::Result<_, _>>()?)
}

fn run(course: &Course, entry: &Entry) -> Result<Record> {
    let Course { function, steps, .. } = *course;
    let mut optimizer = entry.rule.clone().builder().build_cpu(&entry.layout(course)?)?;
    let mut params = entry.starts(course).to_vec();
    let mut derivatives = vec![0.0; params.len()];
    let mut record = Record { path: Vec::new(), frames: Vec::new(), arrivals: Vec::new() };
    let mut stays = vec![0; params.len() / function.dimensions];
    let mut frames = course.frames.iter().peekable();
    for step in 0..=steps {
        if frames.next_if_eq(&&step).is_some() {
            record.frames.push(function.points(&params).collect());
        }
        if course.path {
            record.path.extend(function.points(&params[..function.dimensions]));
        }
        for (point, stay) in function.points(&params).zip(&mut stays) {
            *stay = if (function.value)(point) <= function.target { *stay + 1 } else { 0 };
        }
        if step == steps {
            break;
        }
        if entry.wants_curvature(step) {
            put(function, function.curvature, &params, &mut derivatives);
            optimizer.update_hessian(&mut params, &derivatives)?;
        }
        put(function, function.gradient, &params, &mut derivatives);
        optimizer.step(&mut params, &derivatives)?;
    }
    record.arrivals = stays.into_iter().map(|stay| course.arrival(stay)).collect();
    Ok(record)
}

/// A derivative at every point.
fn put(function: &Function, derivative: fn([f32; 2]) -> [f32; 2], points: &[f32], derivatives: &mut [f32]) {
    for (point, out) in function.points(points).zip(derivatives.chunks_exact_mut(function.dimensions)) {
        out.copy_from_slice(&derivative(point)[..function.dimensions]);
    }
}
