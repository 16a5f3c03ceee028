//! Files of Debian's packages, unpacked below the target folder. Nothing is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository;
use crate::test::root_prefix;

/// The folder of an unpacked package. A package is downloaded once.
pub(crate) fn unpacked(package: &str) -> Result<PathBuf, String> {
    let folder = repository().join("target/debian");
    let whole = folder.join(package);
    if whole.is_dir() {
        return Ok(whole);
    }
    let part = folder.join(format!("{package}.part"));
    fs::remove_dir_all(&part).ok();
    fs::create_dir_all(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    println!("xtask: downloading Debian's package {package} to {}; nothing is installed.", folder.display());
    download(package, &part)?;
    let archive = entry_with(&part, "deb").ok_or_else(|| format!("apt-get left no archive of {package}"))?;
    succeeds(Command::new("dpkg").arg("-x").arg(&archive).arg(&part))?;
    fs::remove_file(&archive).ok();
    fs::rename(&part, &whole).map_err(|error| format!("{}: {error}", whole.display()))?;
    Ok(whole)
}

/// Lists of packages may be old or missing: a second try comes after an update.
fn download(package: &str, folder: &Path) -> Result<(), String> {
    let download = || succeeds(Command::new("apt-get").args(["-q", "download", package]).current_dir(folder));
    download().or_else(|error| {
        let prefix = root_prefix().ok_or(error)?;
        let words = [prefix, &["apt-get", "-q", "update"]].concat();
        succeeds(Command::new(words[0]).args(&words[1..])).ok();
        download()
    })
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("cannot start {program}: {error}")),
    }
}

fn entry_with(folder: &Path, extension: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.find(|path| path.extension().is_some_and(|found| found == extension))
}

/// The first file of a name in a folder or below it: folders of libraries differ between architectures.
pub(crate) fn find(folder: &Path, name: &str) -> Result<PathBuf, String> {
    fn below(folder: &Path, name: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
        let found = files.into_iter().find(|path| path.file_name().is_some_and(|file| file == name));
        found.or_else(|| folders.iter().find_map(|folder| below(folder, name)))
    }
    below(folder, name).ok_or_else(|| format!("{} has no file {name}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_at_any_depth() {
        let folder = std::env::temp_dir().join(format!("xtask-debian-{}", std::process::id()));
        fs::create_dir_all(folder.join("usr/lib/machine")).expect("a folder");
        fs::write(folder.join("usr/lib/machine/a.so"), "").expect("written");
        assert_eq!(find(&folder, "a.so"), Ok(folder.join("usr/lib/machine/a.so")));
        assert!(find(&folder, "b.so").is_err_and(|error| error.contains("b.so")));
        fs::remove_dir_all(&folder).ok();
    }
}
