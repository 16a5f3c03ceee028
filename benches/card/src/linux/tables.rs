//! Rows as CSV.

use serde_json::Value;

use super::Result;
use super::read::{number, text};
use super::results::{Results, Row};

const STEPS: &[&str] = &[
    "stage",
    "engine",
    "on",
    "driver",
    "rule",
    "clip",
    "elements",
    "tensors",
    "groups",
    "cache",
    "clock",
    "queued",
    "bytes_per_step",
    "seconds_median",
    "seconds_min",
    "wall_seconds_median",
    "bytes_per_second",
    "stream_bytes_per_second",
    "copy_bytes_per_second",
    "ceiling_ratio",
    "record_microseconds",
    "first_step_seconds",
];

const VARIANTS: &[&str] = &[
    "adapter",
    "parameters",
    "kernel",
    "workgroup",
    "elements",
    "loads",
    "side",
    "sums",
    "seconds_median",
    "bytes_per_second",
    "ceiling_ratio",
];

/// File names, rows and columns.
pub(crate) fn all(results: &Results) -> [(&'static str, Vec<Row>, &'static [&'static str]); 2] {
    let steps = ["adapter", "first_step", "steps", "compare"].into_iter().flat_map(|stage| {
        let measured = results.rows(stage).filter(|row| row.contains_key("seconds_median"));
        measured.map(move |row| {
            let mut row = row.clone();
            let on = [text(&row, "by"), text(&row, "adapter")].concat();
            let rate = rate(&row);
            row.insert("stage".to_owned(), stage.into());
            row.insert("on".to_owned(), on.into());
            row.insert("bytes_per_second".to_owned(), rate.into());
            row
        })
    });
    let variants = results.rows("variants").cloned();
    [("steps.csv", steps.collect(), STEPS), ("variants.csv", variants.collect(), VARIANTS)]
}

/// Bytes per second. Rows of other optimizers have the bytes of a step.
pub(crate) fn rate(row: &Row) -> f64 {
    let own = number(row, "bytes_per_second");
    if own.is_nan() { number(row, "bytes_per_step") / number(row, "seconds_median") } else { own }
}

/// The columns of the rows; a missing value is empty.
pub(crate) fn csv(rows: &[Row], columns: &[&str]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(columns.iter().map(|column| match row.get(*column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_named_and_missing_values_are_empty() {
        let row = json!({"rule": "adamw, fused", "clip": true, "seconds": 1.5, "record": null});
        let rows = [row.as_object().expect("an object").clone()];
        let text = csv(&rows, &["rule", "record", "clip", "tensors", "seconds"]).expect("text");
        assert_eq!(text, "rule,record,clip,tensors,seconds\n\"adamw, fused\",,true,,1.5\n");
    }

    #[test]
    fn other_optimizers_count_their_own_bytes() {
        let row = json!({"clip": false, "elements": 1_000, "bytes_per_step": 16_000, "seconds_median": 2.0});
        assert_eq!(rate(row.as_object().expect("an object")), 8_000.0);
    }
}
