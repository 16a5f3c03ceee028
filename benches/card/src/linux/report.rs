//! The results as Markdown, for `docs/performance.md`.

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
        stages(results),
        tests(results),
        vectors(results),
        rates(results),
        tensors(results),
        costs(results),
        compared(results),
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

/// What ran, and what did not.
fn stages(results: &Results) -> String {
    let mut section = "## Stages\n\n| stage | tasks done | seconds | not done |\n|---|---|---|---|\n".to_owned();
    for stage in STAGES {
        let outcomes: Vec<_> = results.stage(stage).collect();
        let done = outcomes.iter().filter(|outcome| outcome.status == Status::Done).count();
        let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
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
    let groups = row.get("groups").and_then(Value::as_u64).filter(|groups| *groups > 0);
    let groups = groups.map_or_else(String::new, |groups| format!(", {groups} groups"));
    format!("{name}{}{groups}", if clip { ", clipped" } else { "" })
}

/// Time to record a step, and time to the first one.
fn costs(results: &Results) -> String {
    let mut section = String::new();
    let smallest = steps(results).map(|row| number(row, "elements") as u64).min();
    let rows = steps(results).filter(|row| Some(number(row, "elements") as u64) == smallest);
    let lines: Vec<_> = rows
        .map(|row| {
            let [record, wall, device] =
                ["record_microseconds", "wall_seconds_median", "seconds_median"].map(|key| number(row, key));
            let label = labelled(text(row, "rule"), row);
            let tensors = number(row, "tensors");
            format!("| {label} | {tensors} | {record:.1} | {:.1} | {:.1} |\n", wall * 1e6, device * 1e6)
        })
        .collect();
    if !lines.is_empty() {
        let size = count(smallest.unwrap_or_default() as usize);
        let _ = write!(section, "## Cost of a small step\n\n{size} parameters, µs.\n\n");
        section += "| rule | tensors | recording | wall | device |\n|---|---|---|---|---|\n";
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

/// AdamW of other libraries beside ours.
fn compared(results: &Results) -> String {
    let mut cases = BTreeMap::<_, Vec<(&str, &str, Vec<f64>)>>::new();
    for row in results.rows("compare").filter(|row| row.contains_key("engine")) {
        let clip = row.get("clip").and_then(Value::as_bool).unwrap_or_default();
        let engines = cases.entry((number(row, "elements") as u64, number(row, "tensors") as u64, clip)).or_default();
        let (engine, by) = (text(row, "engine"), text(row, "by"));
        match engines.iter_mut().find(|known| known.0 == engine) {
            Some(known) => known.2.push(number(row, "seconds_median")),
            None => engines.push((engine, by, vec![number(row, "seconds_median")])),
        }
    }
    if cases.is_empty() {
        return String::new();
    }
    let installed = results.rows("compare").find(|row| row.contains_key("torch"));
    let installed = installed
        .into_iter()
        .flat_map(|row| ["python", "torch", "apex", "bitsandbytes"].map(|name| format!("{name} {}", text(row, name))));
    let mut section =
        "## Other optimizers\n\nAdamW by turns in one run. A time / ours above 1 means that ours is faster. "
            .to_owned();
    section += &installed.collect::<Vec<_>>().join(", ");
    section += ".\n\n| parameters | tensors | engine | on | ms | GB/s | time / ours |\n|---|---|---|---|---|---|---|\n";
    for ((elements, tensors, clip), engines) in cases {
        let times: Vec<_> = engines.iter().map(|(engine, by, times)| (engine, by, median(times))).collect();
        let ours = times.iter().find(|(engine, ..)| engine.starts_with("wgpu-optim")).map(|(.., seconds)| *seconds);
        for (engine, by, seconds) in times {
            let rate = gigabytes(f64::from(if clip { 32 } else { 28 }) * elements as f64 / seconds);
            let share = ours.map_or_else(|| "-".to_owned(), |ours| format!("{:.2}", seconds / ours));
            let _ = writeln!(
                section,
                "| {} | {tensors} | {engine}{} | {by} | {:.3} | {rate} | {share} |",
                count(elements as usize),
                if clip { ", clipped" } else { "" },
                seconds * 1e3
            );
        }
    }
    section
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len().is_multiple_of(2) { f64::midpoint(times[middle - 1], times[middle]) } else { times[middle] }
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
