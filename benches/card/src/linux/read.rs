//! Rows from what a program prints and writes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::child::{Ending, Finished};
use super::results::{Outcome, Row};
use super::{suite, vectors};

/// Bytes of a program's output that the log keeps.
const LOGGED: usize = 32 << 10;
/// Letters of an error.
const SHOWN: usize = 400;

/// Source of a task's rows.
pub(crate) enum Reads {
    /// One JSON object on stdout.
    Object,
    /// The same. A program that fails lacks something optional.
    Optional,
    /// A file with a JSON array of objects.
    Rows(PathBuf),
    /// The same after each program, with another column that tells them apart.
    Labelled(PathBuf, Vec<(&'static str, &'static str)>),
    /// The same from `compare.py`; without rows of ours it has failed, whatever it returns.
    Compared(PathBuf),
    /// The modules that libtest lists.
    Modules,
    /// The output of libtest for these tests.
    Tests(Vec<String>),
    /// Parameters after a replay.
    Vector(vectors::Case),
    /// The lines of `mlp_mnist`.
    Epochs,
    /// A file with Markdown.
    Markdown(PathBuf),
}

impl Reads {
    /// Removes the file of an earlier program.
    pub(crate) fn clear(&self) {
        if let Self::Rows(path) | Self::Labelled(path, _) | Self::Compared(path) | Self::Markdown(path) = self {
            let _ = fs::remove_file(path);
        }
    }

    /// The rows after the program of this number; after a failure or at the limit those written so far. `known` is the
    /// outcome of an earlier try.
    pub(crate) fn rows(&self, finished: &Finished, number: usize, known: Option<&Outcome>) -> Result<Vec<Row>, String> {
        let succeeded = finished.ending == Ending::Succeeded;
        match self {
            Self::Object | Self::Optional if succeeded => Ok(vec![parse(&finished.stdout)?]),
            Self::Rows(path) if path.exists() => array(path),
            Self::Compared(path) if path.exists() => {
                let rows = array(path)?;
                let ours = rows.iter().any(|row| text(row, "engine").starts_with("wgpu-optim"));
                if ours || !succeeded { Ok(rows) } else { Err(format!("ours is missing: {}", last_words(finished))) }
            }
            Self::Labelled(path, labels) if path.exists() => {
                let (column, label) = labels[number];
                let mut rows = array(path)?;
                for row in &mut rows {
                    row.insert(column.to_owned(), label.into());
                }
                Ok(rows)
            }
            Self::Modules if succeeded => suite::listed(finished),
            Self::Tests(names) => Ok(suite::rows(names, finished, known)),
            Self::Vector(case) if succeeded => case.row().map(|row| vec![row]),
            Self::Epochs => Ok(epochs(&finished.stdout)),
            Self::Markdown(path) if path.exists() => {
                let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let mut row = Row::new();
                row.insert("seconds".to_owned(), finished.seconds.into());
                row.insert("markdown".to_owned(), text.into());
                Ok(vec![row])
            }
            Self::Object | Self::Optional | Self::Modules | Self::Vector(_) => Ok(Vec::new()),
            Self::Rows(_) | Self::Labelled(..) | Self::Compared(_) | Self::Markdown(_) if !succeeded => Ok(Vec::new()),
            Self::Rows(path) | Self::Labelled(path, _) | Self::Compared(path) | Self::Markdown(path) => {
                Err(format!("{} was not written", path.display()))
            }
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))
}

fn array(path: &Path) -> Result<Vec<Row>, String> {
    parse(&fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// A row for each line `epoch 1/2: …, test accuracy 97.1 %, 2.5 s, 24439 examples/s`.
fn epochs(stdout: &str) -> Vec<Row> {
    let lines = stdout.lines().filter_map(|line| line.trim().strip_prefix("epoch "));
    let row = |line: &str| {
        let (epoch, rest) = line.split_once(": ")?;
        let mut row = Row::new();
        row.insert("epoch".to_owned(), epoch.into());
        for part in rest.split(", ") {
            let (name, number) = match part.strip_suffix(" examples/s").or(part.strip_suffix(" s")) {
                Some(number) if part.ends_with("/s") => ("examples_per_second", number),
                Some(number) => ("seconds", number),
                None => part.trim_end_matches(" %").rsplit_once(' ')?,
            };
            row.insert(name.replace(' ', "_"), number.parse::<f64>().ok()?.into());
        }
        Some(row)
    };
    lines.filter_map(row).collect()
}

/// The end of a text, from the start of a line where it is cut.
pub(crate) fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(LOGGED);
    let start = (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let text = &text[start..];
    if start == 0 { text } else { text.split_once('\n').map_or(text, |(_, rest)| rest) }
}

/// The last line on stderr, or else on stdout.
pub(crate) fn last_words(finished: &Finished) -> String {
    // The note about backtraces follows the message of a panic.
    let says = |line: &&str| !line.is_empty() && !line.starts_with("note: ");
    let last = |text: &str| text.lines().rev().map(str::trim).find(says).map(ToOwned::to_owned);
    let line = last(&finished.stderr).or(last(&finished.stdout)).unwrap_or_else(|| "no output".to_owned());
    line.chars().take(SHOWN).collect()
}

/// A number of a row; NaN where it has none.
pub(crate) fn number(row: &Row, key: &str) -> f64 {
    row.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// A text of a row; empty where it has none.
pub(crate) fn text<'a>(row: &'a Row, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(ending: Ending, stdout: &str, stderr: &str) -> Finished {
        Finished { ending, stdout: stdout.to_owned(), stderr: stderr.to_owned(), seconds: 2.0 }
    }

    #[test]
    fn epochs_are_read_with_their_numbers() {
        let line = "device: x\nepoch 2/5: train loss 0.0992, train accuracy 96.95 %, test loss 0.0888, \
                    test accuracy 97.38 %, 3.2 s, 18603 examples/s\ntest accuracy: 97.38 %\n";
        let rows = epochs(line);
        assert_eq!(rows.len(), 1);
        assert_eq!(text(&rows[0], "epoch"), "2/5");
        let numbers =
            ["train_loss", "test_accuracy", "seconds", "examples_per_second"].map(|key| number(&rows[0], key));
        assert_eq!(numbers, [0.0992, 97.38, 3.2, 18603.0]);
    }

    #[test]
    fn rows_written_before_a_failure_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let reads = Reads::Rows(folder.path().join("rows.json"));
        let killed = finished(Ending::TimedOut, "", "");
        assert_eq!(reads.rows(&killed, 0, None), Ok(Vec::new()));
        assert!(reads.rows(&finished(Ending::Succeeded, "", ""), 0, None).is_err(), "nothing was written");
        fs::write(folder.path().join("rows.json"), r#"[{"rule": "adamw"}]"#).expect("written");
        assert_eq!(reads.rows(&killed, 0, None).expect("rows").len(), 1);
        reads.clear();
        assert_eq!(reads.rows(&killed, 0, None), Ok(Vec::new()));
    }

    #[test]
    fn a_comparison_without_ours_has_failed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("compared.json");
        let done = finished(Ending::Succeeded, "", "without wgpu-optim (gpu): no adapter");
        fs::write(&path, r#"[{"engine": "torch 2 fused"}]"#).expect("written");
        let error = Reads::Compared(path.clone()).rows(&done, 0, None).expect_err("ours is missing");
        assert!(error.contains("no adapter"), "{error}");
        fs::write(&path, r#"[{"engine": "torch 2 fused"}, {"engine": "wgpu-optim (gpu)"}]"#).expect("written");
        assert_eq!(Reads::Compared(path).rows(&done, 0, None).map(|rows| rows.len()), Ok(2));
    }

    #[test]
    fn the_last_words_are_those_on_stderr() {
        let said = |stdout, stderr| last_words(&finished(Ending::TimedOut, stdout, stderr));
        assert_eq!(said("table\n", "warning\nerror: no adapter\n\n"), "error: no adapter");
        assert_eq!(said("table\n", ""), "table");
        assert_eq!(said("", "thread 'main' panicked:\nno room\nnote: run with `RUST_BACKTRACE=1`\n"), "no room");
        assert_eq!(said("", ""), "no output");
    }

    #[test]
    fn logs_are_cut_at_a_line() {
        let long = format!("{}\nlast ü\n", "ü".repeat(LOGGED));
        assert_eq!(tail(&long), "last ü\n");
        assert_eq!(tail("short"), "short");
    }
}
