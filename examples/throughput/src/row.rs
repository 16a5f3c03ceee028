//! One line of the table, and one object of the JSON file.

use examples_common::rates::count;
use serde::Serialize;

use crate::case::Case;
use crate::measure::Times;

/// The keys are those of `--json`; a field that is skipped is in the table only.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) adapter: String,
    pub(crate) driver: String,
    /// `gpu` or `cpu`.
    pub(crate) engine: &'static str,
    pub(crate) rule: String,
    pub(crate) precision: &'static str,
    pub(crate) clip: bool,
    pub(crate) elements: usize,
    pub(crate) tensors: u32,
    pub(crate) groups: u32,
    pub(crate) bytes_per_step: u64,
    /// Of one step: by the device's timestamps where it has them, else by the clock on the wall.
    pub(crate) seconds_median: f64,
    pub(crate) seconds_min: f64,
    pub(crate) bytes_per_second: f64,
    /// Rate of the step as a share of the rate at which the same streams are read and written in place.
    pub(crate) ceiling_ratio: f64,
    /// Rate of the streaming kernel.
    pub(crate) stream_bytes_per_second: f64,
    /// Rate of a copy, reads and writes counted.
    pub(crate) copy_bytes_per_second: f64,
    /// Seconds of one step by the clock on the wall.
    pub(crate) wall_seconds_median: f64,
    /// The host's time to record one step; null on the CPU.
    pub(crate) record_microseconds: Option<f64>,
    /// From the builder to the end of the first step: compiled pipelines, states in memory.
    pub(crate) first_step_seconds: f64,
    #[serde(skip)]
    spread: f64,
    #[serde(skip)]
    state_bytes: u64,
}

/// The times of what one case compares.
pub(crate) struct Compared {
    pub(crate) step: Times,
    /// The streaming kernel over the same streams, in the form that was fastest.
    pub(crate) stream: Times,
    /// A copy of so many bytes, and its times.
    pub(crate) copy: (u64, Times),
    pub(crate) record_microseconds: Option<f64>,
    pub(crate) first_step_seconds: f64,
}

impl Row {
    pub(crate) fn new(
        case: &Case,
        engine: &'static str,
        (adapter, driver): (&str, &str),
        Compared { step, stream, copy: (copied, copy), record_microseconds, first_step_seconds }: Compared,
    ) -> Self {
        let bytes = case.bytes();
        let rate = bytes as f64 / step.median();
        let stream_rate = case.update_bytes() as f64 / stream.median();
        Self {
            adapter: adapter.to_owned(),
            driver: driver.to_owned(),
            engine,
            rule: case.name.clone(),
            precision: "f32",
            clip: case.clip,
            elements: case.elements,
            tensors: case.tensors,
            groups: case.groups,
            bytes_per_step: bytes,
            seconds_median: step.median(),
            seconds_min: step.min(),
            bytes_per_second: rate,
            ceiling_ratio: rate / stream_rate,
            stream_bytes_per_second: stream_rate,
            // Every byte is read once and written once.
            copy_bytes_per_second: 2.0 * copied as f64 / copy.median(),
            wall_seconds_median: crate::measure::quantile(&step.wall, 0.5),
            record_microseconds,
            first_step_seconds,
            spread: step.spread(),
            state_bytes: 4 * case.layout.len() as u64 * (case.streams() as u64 - 2),
        }
    }
}

/// The table's columns.
pub(crate) fn heading() -> String {
    format!(
        "{:20} {:>9} {:>7} {:>6} {:>5} {:>8} {:>9} {:>4} {:>9} {:>10} {:>8} {:>10} {:>8} {:>9}",
        "rule",
        "elements",
        "tensors",
        "groups",
        "clip",
        "states",
        "step",
        "±",
        "wall",
        "rate",
        "ceiling",
        "copy",
        "record",
        "first"
    )
}

/// A row for people; the units stand with the numbers.
pub(crate) fn line(row: &Row) -> String {
    format!(
        "{:20} {:>9} {:>7} {:>6} {:>5} {:>8} {:>9} {:>4} {:>9} {:>10} {:>8} {:>10} {:>8} {:>9}",
        row.rule,
        count(row.elements),
        row.tensors,
        row.groups,
        if row.clip { "clip" } else { "-" },
        format!("{:.0} MB", row.state_bytes as f64 / 1e6),
        seconds(row.seconds_median),
        format!("{:.0}%", row.spread * 100.0),
        seconds(row.wall_seconds_median),
        format!("{:.1} GB/s", row.bytes_per_second / 1e9),
        format!("{:.2}", row.ceiling_ratio),
        format!("{:.1} GB/s", row.copy_bytes_per_second / 1e9),
        row.record_microseconds.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1} µs")),
        seconds(row.first_step_seconds),
    )
}

fn seconds(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} µs", seconds * 1e6) } else { format!("{:.2} ms", seconds * 1e3) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn times(seconds: f64) -> Times {
        Times { wall: vec![seconds; 3], turns: Vec::new() }
    }

    pub(crate) fn row(elements: usize) -> Row {
        let rule = serde_json::from_str(r#"{"name": "adamw"}"#).expect("a rule");
        let case = Case::new("adamw", rule, elements, (1, 0, true)).expect("a layout");
        let copy = (65_536 * 4, times(1e-3));
        let (record_microseconds, first_step_seconds) = (Some(2.5), 0.25);
        let compared =
            Compared { step: times(4e-3), stream: times(3e-3), copy, record_microseconds, first_step_seconds };
        Row::new(&case, "gpu", ("a card", "a driver"), compared)
    }

    #[test]
    fn the_ratio_compares_rates() {
        let row = row(65_536);
        assert_eq!(row.bytes_per_step, 32 * 65_536);
        // 32 bytes in 4 ms beside 28 bytes in 3 ms.
        assert!((row.ceiling_ratio - (32.0 / 4.0) / (28.0 / 3.0)).abs() < 1e-12);
        assert!((row.copy_bytes_per_second - 2.0 * 65_536.0 * 4.0 / 1e-3).abs() < 1.0);
    }

    #[test]
    fn the_file_has_the_documented_keys() {
        let json = serde_json::to_value(row(65_536)).expect("serializable");
        let keys = [
            "adapter",
            "bytes_per_second",
            "bytes_per_step",
            "ceiling_ratio",
            "clip",
            "copy_bytes_per_second",
            "driver",
            "elements",
            "engine",
            "first_step_seconds",
            "groups",
            "precision",
            "record_microseconds",
            "rule",
            "seconds_median",
            "seconds_min",
            "stream_bytes_per_second",
            "tensors",
            "wall_seconds_median",
        ];
        assert_eq!(json.as_object().expect("an object").keys().collect::<Vec<_>>(), keys);
    }

    #[test]
    fn the_table_is_aligned_and_has_units() {
        let (heading, line) = (heading(), line(&row(65_536)));
        assert_eq!(heading.chars().count(), line.chars().count());
        for part in ["64 Ki", "clip", "4.00 ms", "0.86", "2.5 µs", "250.00 ms"] {
            assert!(line.contains(part), "{part} is missing: {line}");
        }
    }
}
