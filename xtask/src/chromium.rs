//! Chromium, Node.js and npm, installed by apt where they are missing.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::debian;

/// Names of the browser's program in distributions.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// The program of Chromium or Chrome, from the variable `CHROMIUM`, the `PATH`, or Debian's package.
pub(crate) fn provide() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("CHROMIUM").map(PathBuf::from) {
        let missing = format!("CHROMIUM names {}, which is no file", path.display());
        return if path.is_file() { Ok(path) } else { Err(missing) };
    }
    let found = || PROGRAMS.iter().find_map(|program| on_path(program));
    if let Some(path) = found() {
        return Ok(path);
    }
    println!("xtask: missing: Chromium. Installing it with apt-get.");
    debian::install(&["chromium"])?;
    found().ok_or_else(|| "The package was installed, and brought no program chromium.".to_owned())
}

/// Installs Node.js and npm where they are missing.
pub(crate) fn provide_node() -> Result<(), String> {
    let missing = || ["node", "npm"].into_iter().find(|program| on_path(program).is_none());
    let Some(program) = missing() else { return Ok(()) };
    println!("xtask: missing: {program}. Installing nodejs and npm with apt-get.");
    debian::install(&["nodejs", "npm"])?;
    missing().map_or(Ok(()), |program| Err(format!("The packages were installed, and brought no program {program}.")))
}

/// The file of a program that starts.
fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let path = std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())?;
    let status = Command::new(&path).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(on_path("rustc").is_some_and(|path| path.ends_with("rustc")));
        assert_eq!(on_path("no-such-program"), None);
    }
}
