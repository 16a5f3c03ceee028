//! Debian's packages: installed by `apt-get`, or unpacked below the target folder without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repository;
use crate::test::root_prefix;

/// Installs packages, as root or with a sudo that asks no password.
pub(crate) fn install(packages: &[&str]) -> Result<(), String> {
    let Some(prefix) = root_prefix() else {
        return Err("Installing it needs root, or sudo without a password.".to_string());
    };
    let apt_get = |arguments: &[&str]| {
        let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
        let status = Command::new(words[0]).args(&words[1..]).status();
        status.is_ok_and(|status| status.success())
    };
    // One unreachable source among several fails the update; the packages may be there all the same.
    if !apt_get(&["update"]) {
        eprintln!("xtask: apt-get update failed; trying with the package lists as they are.");
    }
    if !apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat()) {
        return Err("apt-get could not install it (its reason stands above).".to_string());
    }
    Ok(())
}

/// The folder of an unpacked package. A package is downloaded once.
pub(crate) fn unpacked(package: &str) -> Result<PathBuf, String> {
    unpack(package, |folder| download(package, folder))
}

/// As [`unpacked`], of one upstream version, from suites that the system itself may not use. Leaves its lists as they are.
pub(crate) fn unpacked_from(suites: &[&str], package: &str, version: &str) -> Result<PathBuf, String> {
    unpack(package, |folder| {
        let config = Suites::new(folder, suites)?;
        succeeds(config.apt("apt-get").args(["-q", "update"])).ok();
        let output = config.apt("apt-cache").args(["madison", package]).output();
        let versions = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let found = newest(&versions, version)
            .ok_or_else(|| format!("Debian's {} have no {package} {version}", suites.join(", ")))?;
        succeeds(config.apt("apt-get").args(["-q", "download", &format!("{package}={found}")]).current_dir(folder))?;
        fs::remove_dir_all(folder.join("apt")).ok();
        Ok(())
    })
}

/// The first package of an upstream version in the output of `apt-cache madison`: `name | version | source`.
fn newest<'a>(madison: &'a str, version: &str) -> Option<&'a str> {
    let mut versions = madison.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim()));
    versions.find(|found| found.strip_prefix(version).is_some_and(|rest| rest.starts_with(['+', '-', '~'])))
}

/// A configuration of apt with suites and lists of its own.
struct Suites(PathBuf);

impl Suites {
    fn new(folder: &Path, suites: &[&str]) -> Result<Self, String> {
        const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let mirror = mirror().ok_or("apt names no mirror of Debian")?;
        let sources: Vec<_> =
            suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        let (apt, file) = (folder.join("apt"), folder.join("apt.conf"));
        let at = apt.display();
        let settings = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"{at}/none\";\n\
             Dir::Etc::preferencesparts \"{at}/none\";\nDir::State::lists \"{at}/lists\";\n\
             Dir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"root\";\n"
        );
        let written = fs::create_dir_all(apt.join("lists/partial"))
            .and_then(|()| fs::create_dir_all(apt.join("cache/archives/partial")))
            .and_then(|()| fs::create_dir_all(apt.join("none")))
            .and_then(|()| fs::write(apt.join("sources.list"), sources.concat()))
            .and_then(|()| fs::write(&file, settings));
        written.map_err(|error| format!("{}: {error}", apt.display()))?;
        Ok(Self(file))
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.0);
        command
    }
}

/// The mirror that the system's packages come from.
fn mirror() -> Option<String> {
    let arguments = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let output = Command::new("apt-get").args(arguments).output().ok()?;
    let mirrors = String::from_utf8_lossy(&output.stdout).into_owned();
    mirrors.lines().find(|mirror| !mirror.contains("security")).map(str::to_owned)
}

fn unpack(package: &str, download: impl Fn(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let folder = repository().join("target/debian");
    let whole = folder.join(package);
    if whole.is_dir() {
        return Ok(whole);
    }
    let part = folder.join(format!("{package}.part"));
    fs::remove_dir_all(&part).ok();
    fs::create_dir_all(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    println!("xtask: downloading Debian's package {package} to {}; nothing is installed.", folder.display());
    download(&part)?;
    let archive = entry(&part, |path| path.extension().is_some_and(|found| found == "deb"))
        .ok_or_else(|| format!("apt-get left no archive of {package}"))?;
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

pub(crate) fn succeeds(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(error) => Err(format!("cannot start {program}: {error}")),
    }
}

/// The first entry of a folder that is wanted.
pub(crate) fn entry(folder: &Path, is_wanted: impl Fn(&PathBuf) -> bool) -> Option<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).find(is_wanted)
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
    fn packages_are_found_by_their_upstream_version() {
        let madison = " rust-src | 1.95.1-1 | http://mirror\n rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror\n";
        assert_eq!(newest(madison, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(newest(madison, "1.95"), None);
    }

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
