//! The bars that a card should meet, and what it meets.

use std::fmt::Write;

use examples_common::rates::count;
use serde_json::Value;

use super::compared::{Case, Side, cases};
use super::steps;
use crate::linux::read::{number, text};
use crate::linux::results::{Results, Row};

/// Smaller steps fit into caches, or do not fill a card.
const LARGE: f64 = (64 << 20) as f64;

struct Bar {
    name: &'static str,
    limit: Limit,
    /// Each measurement, and its case.
    measured: Vec<(f64, String)>,
}

enum Limit {
    Least(f64),
    Most(f64),
}

impl Bar {
    fn line(&self) -> String {
        let by_value = |a: &&(f64, String), b: &&(f64, String)| a.0.total_cmp(&b.0);
        let measured = self.measured.iter().filter(|(value, _)| value.is_finite());
        let (sign, limit, worst) = match self.limit {
            Limit::Least(limit) => ("≥", limit, measured.min_by(by_value)),
            Limit::Most(limit) => ("≤", limit, measured.max_by(by_value)),
        };
        let (value, verdict) = match worst {
            None => ("-".to_owned(), "not measured"),
            Some((value, case)) => {
                let met = if sign == "≥" { *value >= limit } else { *value <= limit };
                (format!("{value:.3} ({case})"), if met { "met" } else { "**not met**" })
            }
        };
        format!("| {} {sign} {limit:.2} | {value} | {verdict} |\n", self.name)
    }
}

/// The worst measurement of AdamW against each bar.
pub(super) fn section(results: &Results) -> String {
    let rows: Vec<_> = steps(results).filter(|row| text(row, "rule") == "adamw").collect();
    let cases = cases(results);
    let bars = [
        Bar { name: "streaming rate, 64 Mi and more", limit: Limit::Least(0.95), measured: streaming(&rows, false) },
        Bar {
            name: "streaming rate, clipped, 64 Mi and more",
            limit: Limit::Least(0.92),
            measured: streaming(&rows, true),
        },
        Bar { name: "time / torch fused on CUDA", limit: Limit::Most(1.0), measured: beside_torch(&cases, false) },
        Bar {
            name: "time / torch fused on CUDA, clipped",
            limit: Limit::Most(0.8),
            measured: beside_torch(&cases, true),
        },
        Bar { name: "rate at the largest size / at 64 Mi", limit: Limit::Least(0.95), measured: growth(&rows) },
        Bar { name: "time with 10,000 groups / with one", limit: Limit::Most(1.03), measured: groups(&rows) },
    ];
    let mut section =
        "## Bars\n\nAdamW; the worst case of each. The streaming rate is a share of the streaming kernel's. \
                       Beside torch, device times count with one tensor, wall times with many.\n\n\
                       | bar | measured | |\n|---|---|---|\n"
            .to_owned();
    for bar in &bars {
        let _ = write!(section, "{}", bar.line());
    }
    section
}

fn clipped(row: &Row) -> bool {
    row.get("clip").and_then(Value::as_bool).unwrap_or_default()
}

fn size(row: &Row) -> String {
    count(number(row, "elements") as usize)
}

/// Rows with one tensor, and no groups beside the default one.
fn whole<'a>(rows: &'a [&'a Row], clip: bool) -> impl Iterator<Item = &'a Row> {
    let plain = move |row: &&Row| number(row, "tensors") == 1.0 && groups_of(row) <= 1.0 && clipped(row) == clip;
    rows.iter().copied().filter(plain).filter(|row| number(row, "elements") >= LARGE)
}

fn groups_of(row: &Row) -> f64 {
    number(row, "groups").max(0.0)
}

fn streaming(rows: &[&Row], clip: bool) -> Vec<(f64, String)> {
    whole(rows, clip).map(|row| (number(row, "ceiling_ratio"), size(row))).collect()
}

fn growth(rows: &[&Row]) -> Vec<(f64, String)> {
    let rate = |row: &Row| number(row, "bytes_per_second");
    let ratio = |clip| {
        let base = whole(rows, clip).find(|row| number(row, "elements") == LARGE)?;
        let largest = whole(rows, clip).max_by(|a, b| number(a, "elements").total_cmp(&number(b, "elements")))?;
        let larger = number(largest, "elements") > LARGE;
        larger.then(|| (rate(largest) / rate(base), labelled(size(largest), clip)))
    };
    [false, true].into_iter().filter_map(ratio).collect()
}

/// Steps with 10,000 groups, each beside the one with the same tensors and at most one group.
fn groups(rows: &[&Row]) -> Vec<(f64, String)> {
    let same = |a: &Row, b: &Row| {
        let equal = |key| number(a, key) == number(b, key);
        equal("elements") && equal("tensors") && clipped(a) == clipped(b)
    };
    let ratio = |row: &&Row| {
        let one = rows.iter().filter(|one| groups_of(one) <= 1.0 && same(one, row));
        let one = one.max_by(|a, b| groups_of(a).total_cmp(&groups_of(b)))?;
        let ratio = number(row, "seconds_median") / number(one, "seconds_median");
        Some((ratio, labelled(size(row), clipped(row))))
    };
    rows.iter().filter(|row| number(row, "groups") == 10_000.0).filter_map(ratio).collect()
}

fn beside_torch(cases: &[Case<'_>], clip: bool) -> Vec<(f64, String)> {
    let ratio = |case: &Case<'_>| {
        let ours = case.ours()?;
        let fused = |side: &&Side<'_>| side.engine.starts_with("torch") && side.engine.ends_with("fused");
        // Torch on the CPU has no device time.
        let torch = case.sides.iter().find(fused).filter(|torch| torch.device.is_some())?;
        let size = count(case.elements as usize);
        if case.tensors == 1 {
            // Gaps of the host would flatter ours.
            return torch.queued.then_some((ours.device? / torch.device?, size));
        }
        Some((ours.wall? / torch.wall?, format!("{size} in {} tensors", case.tensors)))
    };
    cases.iter().filter(|case| case.clip == clip).filter_map(ratio).collect()
}

fn labelled(size: String, clip: bool) -> String {
    if clip { format!("{size}, clipped") } else { size }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::linux::report::tests::results;

    fn step(mebi: u64, clip: bool, ratio: f64, rate: f64) -> (&'static str, Value) {
        let row = json!({"rule": "adamw", "elements": mebi << 20, "tensors": 1, "groups": 0, "clip": clip,
            "ceiling_ratio": ratio, "bytes_per_second": rate});
        ("steps", row)
    }

    fn dealt(groups: u64, seconds: f64) -> (&'static str, Value) {
        let row = json!({"rule": "adamw", "elements": 16 << 20, "tensors": 10_000, "groups": groups, "clip": false,
            "ceiling_ratio": 0.5, "seconds_median": seconds});
        ("steps", row)
    }

    fn beside(engine: &str, tensors: u64, device: f64, wall: f64, queued: bool) -> (&'static str, Value) {
        let row = json!({"engine": engine, "elements": 16 << 20, "tensors": tensors, "clip": false, "queued": queued,
            "clock": "device", "seconds_median": device, "wall_seconds_median": wall});
        ("compare", row)
    }

    fn assert_lines(rows: Vec<(&'static str, Value)>, lines: &[&str]) {
        let section = section(&results(rows));
        for line in lines {
            assert!(section.contains(line), "{line} is missing: {section}");
        }
    }

    #[test]
    fn nothing_measured_meets_no_bar() {
        let section = section(&Results::default());
        assert_eq!(section.matches("| - | not measured |").count(), 6, "{section}");
    }

    #[test]
    fn the_worst_large_size_counts() {
        let rows = vec![
            step(16, false, 0.5, 9.0),
            step(64, false, 0.97, 10.0),
            step(256, false, 0.96, 9.4),
            step(64, true, 0.95, 10.0),
            step(256, true, 0.91, 10.0),
        ];
        let lines = [
            "64 Mi and more ≥ 0.95 | 0.960 (256 Mi) | met |",
            "clipped, 64 Mi and more ≥ 0.92 | 0.910 (256 Mi) | **not met** |",
            "at 64 Mi ≥ 0.95 | 0.940 (256 Mi) | **not met** |",
        ];
        assert_lines(rows, &lines);
        assert_lines(vec![step(64, false, 0.97, 10.0)], &["at 64 Mi ≥ 0.95 | - | not measured |"]);
    }

    #[test]
    fn groups_are_compared_with_one_group() {
        let met = "with one ≤ 1.03 | 1.020 (16 Mi) | met |";
        assert_lines(vec![dealt(0, 9.0), dealt(1, 1.0), dealt(10_000, 1.02)], &[met]);
        assert_lines(vec![dealt(1, 1.0)], &["with one ≤ 1.03 | - | not measured |"]);
    }

    #[test]
    fn wall_times_count_with_many_tensors() {
        let (ours, torch) = ("wgpu-optim (gpu)", "torch 2 fused");
        let many = vec![beside(ours, 10_000, 9.0, 3.0, true), beside(torch, 10_000, 1.0, 2.0, false)];
        assert_lines(many, &["CUDA ≤ 1.00 | 1.500 (16 Mi in 10000 tensors) | **not met** |"]);
        let one = |queued| vec![beside(ours, 1, 1.0, 9.0, true), beside(torch, 1, 1.0, 2.0, queued)];
        assert_lines(one(true), &["CUDA ≤ 1.00 | 1.000 (16 Mi) | met |", "clipped ≤ 0.80 | - | not measured |"]);
        assert_lines(one(false), &["CUDA ≤ 1.00 | - | not measured |"]);
    }
}
