//! What was noticed, in a file, so that a long run can be taken up where it ended.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::Mutant;

pub(crate) struct Journal {
    path: PathBuf,
    /// Which test noticed, by the hash of the file's name and the broken shader.
    noticed: HashMap<u64, String>,
    /// Bytes of the file before this run.
    len: u64,
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        // An interrupted run may have left half a line.
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let entries = lines.filter_map(|(key, how)| Some((u64::from_str_radix(key, 16).ok()?, how.to_string())));
        Ok(Self { path: path.to_path_buf(), noticed: entries.collect(), len: text.len() as u64 })
    }

    pub(crate) fn how(&self, mutant: &Mutant) -> Option<&str> {
        self.noticed.get(&key(mutant)).map(String::as_str)
    }

    pub(crate) fn add(&self, mutant: &Mutant, how: &str) -> Result<(), String> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| writeln!(file, "{:016x} {how}", key(mutant)))
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }

    /// Takes back what this run has added.
    pub(crate) fn forget(&self) -> Result<(), String> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|file| file.set_len(self.len))
            .map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

fn key(mutant: &Mutant) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&mutant.file, mutant.breakage.apply(&mutant.source)).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::mutants_of;
    use super::*;

    #[test]
    fn a_breakage_is_known_until_its_shader_changes_or_the_run_proves_worthless() {
        let path = std::env::temp_dir().join(format!("xtask-journal-{}", std::process::id()));
        fs::remove_file(&path).ok();
        let mutants = mutants_of("a.wgsl", "fn f() {\n a = b;\n c = d;\n}").expect("two");
        let changed = mutants_of("a.wgsl", "fn f() {\n a = b;\n c = e;\n}").expect("two");
        let journal = Journal::open(&path).expect("none yet");
        assert_eq!(journal.how(&mutants[0]), None);
        journal.add(&mutants[0], "tests/it/step.rs: a").expect("a new file");

        let later = Journal::open(&path).expect("the file");
        assert_eq!(later.how(&mutants[0]), Some("tests/it/step.rs: a"));
        assert_eq!((later.how(&mutants[1]), later.how(&changed[0])), (None, None));
        later.add(&mutants[1], "tests/it/step.rs: b").expect("the file");
        later.forget().expect("the file");
        let last = Journal::open(&path).expect("the file");
        assert_eq!((last.how(&mutants[0]), last.how(&mutants[1])), (Some("tests/it/step.rs: a"), None));
        fs::remove_file(&path).ok();
    }
}
