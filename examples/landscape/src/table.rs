//! The race as a table, and the learning rates that make it fair.

use std::fmt::Write;

use wgpu_optim::RuleConfig;

use crate::Result;
use crate::race::{Course, Entry, Record, race};
use examples_common::device::Device;
use examples_common::functions::Function;

/// What every rule is tried with.
const LEARNING_RATES: [f64; 11] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Points that each rule is tried from.
const TRIED: usize = 64;

/// What every rule takes where there is no minimum to reach.
const WITHOUT_MINIMUM: [f64; 1] = [1e-2];

/// Each rule with the learning rate that brings the points to the target in the fewest steps.
pub(crate) fn tune(
    device: &Device,
    function: &Function,
    rules: &[(String, RuleConfig)],
    steps: u32,
) -> Result<Vec<Entry>> {
    let learning_rates = if function.minima.is_empty() { &WITHOUT_MINIMUM[..] } else { &LEARNING_RATES };
    let starts = function.starts(TRIED);
    let course = Course { function, starts: &starts, few_starts: &starts, steps, frames: &[], path: false };
    let tries = rules.iter().flat_map(|rule| learning_rates.iter().map(move |&lr| (rule, lr)));
    let entries = tries.map(|((name, rule), lr)| Entry::new(name, rule, lr)).collect::<Result<Vec<_>>>()?;
    let records = race(device, &course, &entries)?;
    let tried: Vec<_> = entries.into_iter().zip(records).collect();
    let best = |tried: &[(Entry, Record)]| {
        let best = tried.iter().min_by(|a, b| mean(&a.1, steps).total_cmp(&mean(&b.1, steps)));
        best.map(|(entry, _)| entry.clone())
    };
    Ok(tried.chunks(learning_rates.len()).filter_map(best).collect())
}

/// Mean number of steps to the target; a point that never arrives counts with all steps of the race.
fn mean(record: &Record, steps: u32) -> f64 {
    let taken = record.arrivals.iter().map(|arrival| f64::from(arrival.unwrap_or(steps)));
    taken.sum::<f64>() / record.arrivals.len() as f64
}

/// The table in Markdown, the fastest rule first.
pub(crate) fn markdown(course: &Course, entries: &[Entry], records: &[Record]) -> String {
    let Function { name, formula, target, .. } = course.function;
    let steps = course.steps;
    let mut order: Vec<_> = entries.iter().zip(records).collect();
    order.sort_by(|a, b| mean(a.1, steps).total_cmp(&mean(b.1, steps)));
    let mut table = format!(
        "## {name}: {formula}\n\nTarget: at most {target}, reached and kept within {steps} steps. The fastest rule on average stands first; points that do not arrive count as {steps} steps.\n\n"
    );
    table += "| rule | lr | points | arrive (%) | steps of those that arrive, median | of the first point |\n";
    table += "|---|---|---|---|---|---|\n";
    for (entry, record) in order {
        let mut taken: Vec<_> = record.arrivals.iter().flatten().collect();
        taken.sort_unstable();
        let share = 100.0 * taken.len() as f64 / record.arrivals.len() as f64;
        let steps = |steps: Option<&u32>| steps.map_or("–".to_owned(), ToString::to_string);
        let (median, first) = (steps(taken.get(taken.len() / 2).copied()), steps(record.arrivals[0].as_ref()));
        let Entry { name, lr, .. } = entry;
        let points = record.arrivals.len();
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{name}` | {lr} | {points} | {share:.1} | {median} | {first} |");
    }
    table
}
