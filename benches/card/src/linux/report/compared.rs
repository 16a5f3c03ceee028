//! AdamW of other libraries beside ours.

use std::collections::BTreeMap;
use std::fmt::Write;

use examples_common::rates::count;
use serde_json::Value;

use super::gigabytes;
use crate::linux::read::{number, text};
use crate::linux::results::{Results, Row};
use crate::linux::tables::rate;

/// Sides that took the same step.
pub(super) struct Case<'a> {
    pub(super) elements: u64,
    pub(super) tensors: u64,
    pub(super) clip: bool,
    pub(super) sides: Vec<Side<'a>>,
}

/// One optimizer; times are medians over the rounds.
pub(super) struct Side<'a> {
    pub(super) engine: &'a str,
    by: &'a str,
    /// Seconds by the device's clock, if it has one.
    pub(super) device: Option<f64>,
    pub(super) wall: Option<f64>,
    /// Whether device times exclude gaps of the host.
    pub(super) queued: bool,
    rate: Option<f64>,
}

impl Case<'_> {
    pub(super) fn ours(&self) -> Option<&Side<'_>> {
        self.sides.iter().find(|side| side.engine.starts_with("wgpu-optim"))
    }
}

impl<'a> Side<'a> {
    fn new(engine: &'a str, rows: &[&'a Row]) -> Self {
        let with_clock = rows.iter().filter(|row| text(row, "clock") != "wall");
        Self {
            engine,
            by: rows.first().map_or("", |row| text(row, "by")),
            device: median(with_clock.map(|row| number(row, "seconds_median"))),
            wall: median(rows.iter().map(|row| number(row, "wall_seconds_median"))),
            queued: rows.iter().all(|row| row.get("queued").and_then(Value::as_bool) != Some(false)),
            rate: median(rows.iter().map(|row| rate(row))),
        }
    }
}

pub(super) fn cases(results: &Results) -> Vec<Case<'_>> {
    let mut cases = BTreeMap::<_, Vec<(&str, Vec<&Row>)>>::new();
    for row in results.rows("compare").filter(|row| row.contains_key("engine")) {
        let clip = row.get("clip").and_then(Value::as_bool).unwrap_or_default();
        let engines = cases.entry((number(row, "elements") as u64, number(row, "tensors") as u64, clip)).or_default();
        let engine = text(row, "engine");
        match engines.iter_mut().find(|known| known.0 == engine) {
            Some(known) => known.1.push(row),
            None => engines.push((engine, vec![row])),
        }
    }
    let cases = cases.into_iter().map(|((elements, tensors, clip), engines)| {
        let sides = engines.into_iter().map(|(engine, rows)| Side::new(engine, &rows)).collect();
        Case { elements, tensors, clip, sides }
    });
    cases.collect()
}

pub(super) fn section(results: &Results) -> String {
    let cases = cases(results);
    if cases.is_empty() {
        return String::new();
    }
    let installed = results.rows("compare").find(|row| row.contains_key("torch"));
    let installed = installed
        .into_iter()
        .flat_map(|row| ["python", "torch", "apex", "bitsandbytes"].map(|name| format!("{name} {}", text(row, name))));
    let mut section = "## Other optimizers\n\nAdamW by turns in one run. A ratio above 1 means that ours is faster. With \
                       many tensors the wall time counts. `≤`: device time with gaps of the host. GB/s counts the bytes \
                       of a fused step. "
        .to_owned();
    section += &installed.collect::<Vec<_>>().join(", ");
    section +=
        ".\n\n| parameters | tensors | engine | on | device ms | wall ms | GB/s | device / ours | wall / ours |\n";
    section += "|---|---|---|---|---|---|---|---|---|\n";
    for case in &cases {
        let (elements, tensors) = (count(case.elements as usize), case.tensors);
        let ours = case.ours();
        for side in &case.sides {
            let most = if side.queued { "" } else { "≤ " };
            let ratio = |of: fn(&Side<'_>) -> Option<f64>| Some(of(side)? / of(ours?)?);
            let _ = writeln!(
                section,
                "| {elements} | {tensors} | {}{} | {} | {} | {} | {} | {} | {} |",
                side.engine,
                if case.clip { ", clipped" } else { "" },
                side.by,
                cell(side.device, |seconds| format!("{most}{:.3}", seconds * 1e3)),
                cell(side.wall, |seconds| format!("{:.3}", seconds * 1e3)),
                cell(side.rate, gigabytes),
                cell(ratio(|side| side.device), |ratio| format!("{most}{ratio:.2}")),
                cell(ratio(|side| side.wall), |ratio| format!("{ratio:.2}")),
            );
        }
    }
    section
}

fn cell(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}

/// The median of the numbers; none without any.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    let (upper, lower) = (values.get(values.len() / 2)?, values.get(values.len().saturating_sub(1) / 2)?);
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::linux::report::tests::results;

    #[test]
    fn wall_times_stand_beside_wall_times() {
        let row = |engine, seconds: f64, wall: f64, more: Value| {
            let mut row = json!({"engine": engine, "by": "x", "elements": 1_000_000, "tensors": 10_000, "clip": false,
                "seconds_median": seconds, "wall_seconds_median": wall, "bytes_per_step": 28_000_000});
            row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            row
        };
        let section = section(&results(vec![
            ("compare", row("wgpu-optim (gpu)", 1e-3, 2e-3, json!({"clock": "device"}))),
            ("compare", row("foreach", 3e-3, 8e-3, json!({"clock": "device", "queued": false}))),
            ("compare", row("foreach", 5e-3, 8e-3, json!({"clock": "device", "queued": true}))),
            ("compare", row("8-bit", 1e-3, 4e-3, json!({"clock": "device", "bytes_per_step": 16_000_000}))),
            ("compare", row("burn", 3e-3, 3e-3, json!({"clock": "wall"}))),
        ]));
        for line in [
            "| foreach | x | ≤ 4.000 | 8.000 | 7.5 | ≤ 4.00 | 4.00 |",
            "| 8-bit | x | 1.000 | 4.000 | 16.0 | 1.00 | 2.00 |",
            "| burn | x | - | 3.000 | 9.3 | - | 1.50 |",
        ] {
            assert!(section.contains(line), "{line} is missing: {section}");
        }
    }

    #[test]
    fn medians_of_even_numbers_lie_between() {
        assert_eq!(median([4.0, f64::NAN, 1.0].into_iter()), Some(2.5));
        assert_eq!(median([4.0, 9.0, 1.0].into_iter()), Some(4.0));
        assert_eq!(median([f64::NAN].into_iter()), None);
    }
}
