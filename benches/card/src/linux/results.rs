//! Results, stored in `results.json`.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Result;

pub(crate) type Row = Map<String, Value>;

pub(crate) const FILE: &str = "results.json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Done,
    Failed,
    TimedOut,
    /// The machine lacks something optional.
    LeftOut,
    /// No time was left.
    NotRun,
}

/// The outcome of one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) stage: String,
    pub(crate) task: String,
    pub(crate) status: Status,
    /// Why it is not done, or a note; empty otherwise.
    pub(crate) reason: String,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
}

/// The measured card, as the adapter names itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) adapter: String,
    pub(crate) driver: String,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Version of the kit.
    pub(crate) kit: String,
    pub(crate) quick: bool,
    /// None until an adapter was found.
    pub(crate) card: Option<Card>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Results {
    /// The results of an interrupted run, or empty ones.
    ///
    /// # Errors
    /// A file that cannot be read, and results of another kit or of other sizes.
    pub(crate) fn open(folder: &Path, kit: &str, quick: bool) -> Result<Self> {
        let path = folder.join(FILE);
        let empty = Self { kit: kit.to_owned(), quick, card: None, outcomes: Vec::new() };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
            Err(error) => return Err(format!("{}: {error}", path.display()).into()),
        };
        let found: Self = serde_json::from_str(&text)
            .map_err(|error| format!("{}: {error}; name an empty folder", path.display()))?;
        if (found.kit.as_str(), found.quick) != (kit, quick) {
            let sizes = |quick| if quick { "quick" } else { "full" };
            return Err(format!(
                "{} holds {} results of kit {:?}; this is kit {kit:?}, {}; name another folder",
                path.display(),
                sizes(found.quick),
                found.kit,
                sizes(quick)
            )
            .into());
        }
        Ok(found)
    }

    /// Stores the card at the first time.
    ///
    /// # Errors
    /// Results of another card or driver.
    pub(crate) fn is_of(&mut self, card: &Card) -> Result<()> {
        let known = self.card.get_or_insert_with(|| card.clone());
        if known == card {
            return Ok(());
        }
        let name = |card: &Card| format!("{} ({})", card.adapter, card.driver);
        Err(format!("the results are of {}, this is {}; name another folder", name(known), name(card)).into())
    }

    pub(crate) fn get(&self, stage: &str, task: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.stage == stage && outcome.task == task)
    }

    /// Adds an outcome, or replaces that of an earlier try. A try that is not done keeps the earlier rows, if they are more.
    pub(crate) fn put(&mut self, mut outcome: Outcome) {
        let same = |known: &&mut Outcome| known.stage == outcome.stage && known.task == outcome.task;
        match self.outcomes.iter_mut().find(same) {
            Some(known) => {
                if outcome.status != Status::Done && known.rows.len() > outcome.rows.len() {
                    outcome.rows = std::mem::take(&mut known.rows);
                }
                *known = outcome;
            }
            None => self.outcomes.push(outcome),
        }
    }

    pub(crate) fn stage<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Outcome> {
        self.outcomes.iter().filter(move |outcome| outcome.stage == stage)
    }

    pub(crate) fn rows<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Row> {
        self.stage(stage).flat_map(|outcome| &outcome.rows)
    }
}

/// Writes beside the file and renames: a full disk leaves the old one whole.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        fs::rename(&part, path)
    });
    written.map_err(|error| {
        // A partial file would be one too many.
        let _ = fs::remove_file(&part);
        format!("{} cannot be written: {error}", path.display()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(task: &str, status: Status) -> Outcome {
        let reason = String::new();
        Outcome { stage: "steps".to_owned(), task: task.to_owned(), status, reason, seconds: 1.5, rows: vec![] }
    }

    #[test]
    fn results_survive_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = Results::open(folder.path(), "kit 1", true).expect("empty");
        results.put(outcome("1 Mi", Status::Failed));
        results.put(outcome("1 Mi", Status::Done));
        results.put(outcome("16 Mi", Status::TimedOut));
        write(&folder.path().join(FILE), &serde_json::to_string(&results).expect("JSON")).expect("written");
        let reopened = Results::open(folder.path(), "kit 1", true).expect("the same kit");
        assert_eq!(reopened, results);
        assert_eq!(reopened.outcomes.len(), 2);
    }

    #[test]
    fn results_of_another_kit_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let results = Results { kit: "kit 1".to_owned(), ..Results::default() };
        write(&folder.path().join(FILE), &serde_json::to_string(&results).expect("JSON")).expect("written");
        for (kit, quick) in [("kit 2", false), ("kit 1", true)] {
            let error = Results::open(folder.path(), kit, quick).expect_err("another kit").to_string();
            assert!(error.contains("kit 1") && error.contains("another folder"), "{error}");
        }
        fs::write(folder.path().join(FILE), "{").expect("written");
        assert!(Results::open(folder.path(), "kit 1", false).is_err(), "half a file");
    }

    #[test]
    fn a_full_disk_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        write(&path, "old").expect("written");
        std::os::unix::fs::symlink("/dev/full", path.with_extension("part")).expect("a link");
        let error = write(&path, "new").expect_err("no space").to_string();
        assert!(error.contains("No space left"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "old");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "no partial file");
    }
}
