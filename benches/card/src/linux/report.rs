//! The results as Markdown, for `docs/performance.md`.

mod bars;
mod compared;

use std::collections::BTreeMap;
use std::fmt::Write;

use examples_common::rates::count;
use serde_json::Value;

use super::plan::STAGES;
use super::read::{number, text};
use super::results::{Outcome, Results, Row, Status};
use super::tables::rate;

pub(crate) fn word(status: Status) -> &'static str {
    match status {
        Status::Done => "done",
        Status::Failed => "failed",
        Status::TimedOut => "out of time",
        Status::LeftOut => "left out",
        Status::NotRun => "not run",
    }
}

/// The whole report. It is valid at any time: stages that have not run yet are listed as such.
pub(crate) fn markdown(results: &Results) -> String {
    let mut report = format!("# {}\n\n", title(results));
    let _ = writeln!(report, "Kit: {}.", results.kit);
    if results.quick {
        report += "\n**A quick run.** Small sizes fit into caches: these figures say nothing about the card.\n";
    }
    let sections = [
        adapter(results),
        bars::section(results),
        stages(results),
        tests(results),
        vectors(results),
        rates(results),
        tensors(results),
        costs(results),
        compared::section(results),
        variants(results),
        training(results),
        landscape(results),
    ];
    for section in sections.iter().filter(|section| !section.is_empty()) {
        report += "\n";
        report += section;
    }
    report
}

fn described(results: &Results) -> Option<&Row> {
    results.rows("adapter").find(|row| row.contains_key("limits"))
}

fn title(results: &Results) -> String {
    described(results).map_or_else(|| "No adapter".to_owned(), |row| text(row, "adapter").to_owned())
}

fn adapter(results: &Results) -> String {
    let Some(row) = described(results) else { return String::new() };
    let mut section = format!("Driver: {} ({}).", text(row, "driver"), text(row, "backend"));
    if row.get("software").and_then(Value::as_bool) == Some(true) {
        section += " **A software driver: the figures say nothing about a GPU.**";
    }
    section += "\n";
    if let Some(row) = results.rows("adapter").find(|row| row.contains_key("stream_bytes_per_second")) {
        let [stream, copy] =
            ["stream_bytes_per_second", "copy_bytes_per_second"].map(|key| gigabytes(number(row, key)));
        let elements = elements(row);
        let _ = writeln!(
            section,
            "Ceilings at {elements} parameters: streaming kernel {stream} GB/s, buffer copy {copy} GB/s."
        );
    }
    let limits = row.get("limits").and_then(Value::as_object);
    let limits = limits.into_iter().flatten().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
    let features = row.get("features").and_then(Value::as_array);
    let features = features.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    let sizes = ["subgroup_min_size", "subgroup_max_size"].map(|key| number(row, key));
    let _ = write!(
        section,
        "\n<details><summary>Limits and features</summary>\n\nSubgroups of {} to {}. Limits: {}.\n\nFeatures: {}.\n\n</details>\n",
        sizes[0],
        sizes[1],
        limits.join(", "),
        features.join(", ")
    );
    section
}

/// A row per stage: tasks done, seconds, reasons.
fn stages(results: &Results) -> String {
    let mut section = "## Stages\n\n| stage | tasks done | seconds | not done |\n|---|---|---|---|\n".to_owned();
    for stage in STAGES {
        let outcomes: Vec<_> = results.stage(stage).collect();
        let done = outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        // A sum of nothing is -0.0.
        let seconds = outcomes.iter().fold(0.0, |sum, outcome| sum + outcome.seconds);
        let open = if outcomes.is_empty() { "not run".to_owned() } else { open(&outcomes) };
        let _ = writeln!(section, "| {stage} | {done} of {} | {seconds:.1} | {open} |", outcomes.len());
    }
    section
}

/// Tasks that are not done, and notes; those with one reason share it.
fn open(outcomes: &[&Outcome]) -> String {
    let mut reasons = Vec::<(String, Vec<&str>)>::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.status != Status::Done || !outcome.reason.is_empty()) {
        let reason = outcome.reason.replace('|', "\\|").replace('\n', " ");
        let reason = format!("{}: {reason}", word(outcome.status));
        match reasons.iter_mut().find(|known| known.0 == reason) {
            Some((_, tasks)) => tasks.push(&outcome.task),
            None => reasons.push((reason, vec![&outcome.task])),
        }
    }
    let reasons = reasons.into_iter().map(|(reason, tasks)| format!("{} {reason}", tasks.join(", ")));
    reasons.collect::<Vec<_>>().join("; ")
}

fn tests(results: &Results) -> String {
    let mut counts = BTreeMap::<&str, Vec<&str>>::new();
    for row in results.rows("tests").filter(|row| row.contains_key("test")) {
        counts.entry(text(row, "result")).or_default().push(text(row, "test"));
    }
    if counts.is_empty() {
        return String::new();
    }
    let mut section = "## Tests\n\n".to_owned();
    for (result, tests) in counts {
        let names = if result == "ok" { String::new() } else { format!(": {}", tests.join(", ")) };
        let _ = writeln!(section, "- {result}: {}{names}", tests.len());
    }
    section
}

fn vectors(results: &Results) -> String {
    let distances: Vec<f64> = results.rows("vectors").map(|row| number(row, "distance")).collect();
    if distances.is_empty() {
        return String::new();
    }
    let largest = distances.iter().copied().fold(0.0, f64::max);
    format!(
        "Replayed vectors of other frameworks: {} within the bound; largest relative distance {largest:.1e}.\n",
        distances.len()
    )
}

fn steps(results: &Results) -> impl Iterator<Item = &Row> {
    results.rows("steps").filter(|row| row.contains_key("ceiling_ratio"))
}

/// Rule against size, for one tensor.
fn rates(results: &Results) -> String {
    let rows: Vec<_> = steps(results).filter(|row| number(row, "tensors") == 1.0).collect();
    let cell = |row: &&Row| format!("{} ({:.2})", gigabytes(rate(row)), number(row, "ceiling_ratio"));
    let table = crossed(&rows, "elements", cell);
    if table.is_empty() {
        return table;
    }
    format!("## Rates\n\nGB/s, and the share of the streaming kernel's rate in the same run.\n\n{table}")
}

fn tensors(results: &Results) -> String {
    let rows: Vec<_> = steps(results).filter(|row| number(row, "tensors") > 1.0).collect();
    let Some(first) = rows.first() else { return String::new() };
    let cell = |row: &&Row| format!("{} ({:.2})", gigabytes(rate(row)), number(row, "ceiling_ratio"));
    let table = crossed(&rows, "tensors", cell);
    format!("## Many tensors\n\n{} parameters; columns: tensors. Units as above.\n\n{table}", elements(first))
}

/// A table of rules and clipping against the values of a column.
fn crossed(rows: &[&Row], column: &str, cell: impl Fn(&&Row) -> String) -> String {
    let mut columns: Vec<u64> = rows.iter().map(|row| number(row, column) as u64).collect();
    columns.sort_unstable();
    columns.dedup();
    if columns.is_empty() {
        return String::new();
    }
    let mut lines = Vec::<(String, Vec<String>)>::new();
    for row in rows {
        let label = labelled(text(row, "rule"), row);
        let at = columns.iter().position(|value| *value == number(row, column) as u64).unwrap_or_default();
        let known = lines.iter().position(|(known, _)| *known == label);
        let line = known.unwrap_or(lines.len());
        if known.is_none() {
            lines.push((label, vec!["-".to_owned(); columns.len()]));
        }
        lines[line].1[at] = cell(row);
    }
    let heads: Vec<_> = columns.iter().map(|value| count(*value as usize)).collect();
    let mut table = format!("| rule | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for (label, cells) in lines {
        let _ = writeln!(table, "| {label} | {} |", cells.join(" | "));
    }
    table
}

fn labelled(name: &str, row: &Row) -> String {
    let clip = row.get("clip").and_then(Value::as_bool).unwrap_or_default();
    let groups = Some(number(row, "groups")).filter(|groups| *groups > 0.0);
    let groups = groups.map(|groups| format!(", groups: {groups}")).unwrap_or_default();
    format!("{name}{}{groups}", if clip { ", clipped" } else { "" })
}

/// The rows of the smallest size of each number of tensors.
fn small_steps(results: &Results) -> impl Iterator<Item = &Row> {
    let key = |row: &Row| ["tensors", "elements"].map(|key| number(row, key) as u64);
    let mut smallest = BTreeMap::<u64, u64>::new();
    for [tensors, elements] in steps(results).map(key) {
        let known = smallest.entry(tensors).or_insert(elements);
        *known = elements.min(*known);
    }
    let mut rows: Vec<_> = steps(results).filter(|row| smallest[&key(row)[0]] == key(row)[1]).collect();
    rows.sort_by_key(|row| key(row)[0]);
    rows.into_iter()
}

/// Time to record a step, and time to the first one.
fn costs(results: &Results) -> String {
    let mut section = String::new();
    let lines: Vec<_> = small_steps(results)
        .map(|row| {
            let [record, wall, device] =
                ["record_microseconds", "wall_seconds_median", "seconds_median"].map(|key| number(row, key));
            let label = labelled(text(row, "rule"), row);
            let (tensors, elements) = (number(row, "tensors"), elements(row));
            format!("| {label} | {tensors} | {elements} | {record:.1} | {:.1} | {:.1} |\n", wall * 1e6, device * 1e6)
        })
        .collect();
    if !lines.is_empty() {
        section += "## Cost of a step\n\nThe smallest size of each number of tensors, in µs.\n\n";
        section += "| rule | tensors | parameters | recording | wall | device |\n|---|---|---|---|---|---|\n";
        section += &lines.concat();
    }
    let lines: Vec<_> = results
        .rows("first_step")
        .map(|row| {
            let label = labelled(text(row, "rule"), row);
            format!("| {label} | {} | {:.0} |\n", text(row, "cache"), number(row, "first_step_seconds") * 1e3)
        })
        .collect();
    if !lines.is_empty() {
        section += "\n## Time to the first step\n\nFrom the builder to the end of the first step, compilation included, \
                    in ms, by the state of the driver's cache.\n\n| rule | cache | ms |\n|---|---|---|\n";
        section += &lines.concat();
    }
    section
}

/// Kernels of other shapes, the fastest first.
fn variants(results: &Results) -> String {
    let mut section = String::new();
    for outcome in results.stage("variants").filter(|outcome| !outcome.rows.is_empty()) {
        let size = count(number(&outcome.rows[0], "parameters") as usize);
        let _ = write!(section, "## Shapes of kernels, {size} parameters\n\n");
        section += "`loads`: quads loaded before the first store or sum. `side`: lanes that read side by side. `share`: of \
                    the streaming kernel's rate over the same streams.\n\n";
        section += "| kernel | workgroup | elements | loads | side | sums | µs | GB/s | share |\n";
        section += "|---|---|---|---|---|---|---|---|---|\n";
        let mut rows: Vec<_> = outcome.rows.iter().collect();
        rows.sort_by(|a, b| {
            let by_kernel = text(b, "kernel").cmp(text(a, "kernel"));
            by_kernel.then(number(a, "seconds_median").total_cmp(&number(b, "seconds_median")))
        });
        for row in rows {
            let [workgroup, elements, loads, side] = ["workgroup", "elements", "loads", "side"].map(|key| {
                let value = number(row, key);
                if value > 0.0 { value.to_string() } else { "-".to_owned() }
            });
            let sums = Some(text(row, "sums")).filter(|sums| !sums.is_empty()).unwrap_or("-");
            let _ = writeln!(
                section,
                "| {} | {workgroup} | {elements} | {loads} | {side} | {sums} | {:.1} | {} | {:.2} |",
                text(row, "kernel"),
                number(row, "seconds_median") * 1e6,
                gigabytes(rate(row)),
                number(row, "ceiling_ratio")
            );
        }
        section += "\n";
    }
    section
}

fn training(results: &Results) -> String {
    let mut lines = String::new();
    for outcome in results.stage("training") {
        for row in &outcome.rows {
            let [seconds, examples, accuracy] =
                ["seconds", "examples_per_second", "test_accuracy"].map(|key| number(row, key));
            let (data, epoch) = (&outcome.task, text(row, "epoch"));
            let _ = writeln!(lines, "| {data} | {epoch} | {seconds:.1} | {examples:.0} | {accuracy:.2} % |");
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "## Training\n\n`mlp_mnist`, 784-128-10, batch 64, adamw.\n\n\
         | data | epoch | seconds | examples per second | test accuracy |\n|---|---|---|---|---|\n{lines}"
    )
}

fn landscape(results: &Results) -> String {
    let mut section = String::new();
    for outcome in results.stage("landscape") {
        for row in &outcome.rows {
            let table = text(row, "markdown").trim_start_matches("# Races").trim().replace("\n## ", "\n### ");
            let table = table.strip_prefix("## ").map_or_else(|| table.clone(), |rest| format!("### {rest}"));
            let _ = writeln!(
                section,
                "## Landscape\n\n{}, {:.1} s with pictures.\n\n{table}",
                outcome.task,
                number(row, "seconds")
            );
        }
    }
    section
}

fn elements(row: &Row) -> String {
    count(number(row, "elements") as usize)
}

fn gigabytes(rate: f64) -> String {
    format!("{:.1}", rate / 1e9)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// Results with an outcome for each row.
    pub(crate) fn results(rows: Vec<(&'static str, Value)>) -> Results {
        let mut results = Results::default();
        for (at, (stage, row)) in rows.into_iter().enumerate() {
            results.put(Outcome {
                stage: stage.to_owned(),
                task: at.to_string(),
                status: Status::Done,
                reason: String::new(),
                seconds: 0.25,
                rows: row.as_object().cloned().into_iter().collect(),
            });
        }
        results
    }

    fn step(tensors: u64, groups: u64, mebi: u64, record: f64) -> (&'static str, Value) {
        let row = json!({"rule": "adamw", "elements": mebi << 20, "tensors": tensors, "groups": groups, "clip": true,
            "ceiling_ratio": 0.5, "record_microseconds": record, "bytes_per_second": 1e9 * record});
        ("steps", row)
    }

    #[test]
    fn each_number_of_tensors_has_a_cost() {
        let rows = vec![step(1, 0, 16, 1.0), step(1, 0, 1, 2.0), step(200, 0, 16, 3.0), step(10_000, 0, 16, 4.0)];
        let costs = costs(&results(rows));
        for (tensors, size, record) in [(1, "1 Mi", "2.0"), (200, "16 Mi", "3.0"), (10_000, "16 Mi", "4.0")] {
            let line = format!("| adamw, clipped | {tensors} | {size} | {record} |");
            assert!(costs.contains(&line), "{line} is missing: {costs}");
        }
        assert_eq!(costs.matches("adamw").count(), 3, "{costs}");
    }

    #[test]
    fn groups_have_lines_of_their_own() {
        let table = tensors(&results(vec![step(10_000, 0, 16, 3.0), step(10_000, 10_000, 16, 4.0)]));
        assert!(table.contains("| adamw, clipped | 3.0 (0.50) |"), "{table}");
        assert!(table.contains("| adamw, clipped, groups: 10000 | 4.0 (0.50) |"), "{table}");
    }

    #[test]
    fn empty_stages_take_no_time() {
        let report = stages(&results(vec![step(1, 0, 1, 1.0)]));
        assert!(report.contains("| steps | 1 of 1 | 0.2 |"), "{report}");
        assert!(report.contains("| compare | 0 of 0 | 0.0 | not run |"), "{report}");
    }
}
