//! A copy of the repository to break, so that nobody's working tree is ever touched.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Brings `tree` up to date with the repository's tracked files and those that git does not ignore.
///
/// Only files that differ are written, and as new: cargo rebuilds what depends on them and nothing else, and a shader
/// that an interrupted run left broken is mended.
pub(crate) fn synchronise(repository: &Path, tree: &Path) -> Result<(), String> {
    let files = listed(repository)?;
    for file in &files {
        let (from, to) = (repository.join(file), tree.join(file));
        let content = fs::read(&from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
        if fs::read(&to).is_ok_and(|old| old == content) {
            continue;
        }
        let written = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&to, content));
        written.map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    }
    // A test that was renamed must not run twice.
    let listed: HashSet<_> = files.iter().map(|file| tree.join(file)).collect();
    for stale in files_below(tree).into_iter().filter(|file| !listed.contains(file)) {
        fs::remove_file(&stale).map_err(|error| format!("cannot remove {}: {error}", stale.display()))?;
    }
    Ok(())
}

fn listed(repository: &Path) -> Result<Vec<PathBuf>, String> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(repository);
    let output =
        command.output().map_err(|error| format!("cannot start git, which lists the files to copy: {error}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names =
        String::from_utf8(output.stdout).map_err(|error| format!("git lists a name that is not UTF-8: {error}"))?;
    let paths = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // A tracked file that was deleted is still listed.
    Ok(paths.filter(|path| repository.join(path).is_file()).collect())
}

/// Every file in a folder and the folders in it, in the order of their paths.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-tree-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a writable folder for temporary files");
            Self(path)
        }

        fn write(&self, file: &str, content: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().expect("files lie in folders")).expect("a new folder");
            fs::write(path, content).expect("a new file");
        }

        fn read(&self, file: &str) -> Option<String> {
            fs::read_to_string(self.0.join(file)).ok()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn the_copy_follows_the_repository_and_rewrites_only_what_differs() {
        let (repository, tree) = (Folder::new("repository"), Folder::new("copy"));
        let git = Command::new("git").args(["init", "--quiet"]).current_dir(&repository.0).status().expect("git");
        assert!(git.success());
        repository.write(".gitignore", "/target\n");
        repository.write("shaders/a.wgsl", "a");
        repository.write("src/lib.rs", "lib");
        repository.write("target/big", "ignored");
        synchronise(&repository.0, &tree.0).expect("a copy");
        assert_eq!(tree.read("shaders/a.wgsl").as_deref(), Some("a"));
        assert_eq!(tree.read("target/big"), None);

        let written = || fs::metadata(tree.0.join("src/lib.rs")).and_then(|data| data.modified()).expect("a time");
        let before = written();
        tree.write("shaders/a.wgsl", "broken");
        tree.write("tests/old.rs", "renamed since");
        synchronise(&repository.0, &tree.0).expect("a copy");
        assert_eq!(tree.read("shaders/a.wgsl").as_deref(), Some("a"));
        assert_eq!(tree.read("tests/old.rs"), None);
        assert_eq!(written(), before);
        assert_eq!(repository.read("shaders/a.wgsl").as_deref(), Some("a"));
    }
}
