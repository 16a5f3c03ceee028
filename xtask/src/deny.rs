//! `cargo xtask deny`: licenses, sources, duplicates and advisories of all dependencies, by cargo-deny and deny.toml.

use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::cargo;
use crate::test::{exit_code, status_of};

/// Checks that need no network beside the registry.
const LOCAL: [&str; 3] = ["bans", "licenses", "sources"];

/// Fails where a check fails. An advisory database that is out of reach is reported, and fails nothing.
pub(crate) fn run() -> Result<ExitCode, String> {
    install()?;
    let checked = status_of(deny(&LOCAL))?;
    if !checked.success() {
        return Ok(exit_code(checked));
    }
    let mut fetch = cargo();
    fetch.args(["deny", "--locked", "--workspace", "--all-features", "fetch", "db"]);
    if !status_of(fetch)?.success() {
        eprintln!(
            "xtask: NOT checked: advisories. The database of RustSec cannot be fetched (the reason stands above). \
             Checked: {}.",
            LOCAL.join(", ")
        );
        return Ok(ExitCode::SUCCESS);
    }
    status_of(deny(&["advisories"])).map(exit_code)
}

/// Licenses and sources of the dependencies of an adapter, by the deny.toml beside its manifest or above it. Versions that
/// frameworks have twice are theirs.
pub(crate) fn adapter(manifest: &str) -> Result<ExitStatus, String> {
    install()?;
    let mut command = cargo();
    command.args(["deny", "--locked", "--workspace", "--all-features", "--manifest-path", manifest]);
    command.args(["check", "licenses", "sources"]);
    status_of(command)
}

fn deny(checks: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["deny", "--locked", "--workspace", "--all-features", "check"]).args(checks);
    command
}

fn install() -> Result<(), String> {
    let mut version = cargo();
    version.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if status_of(version)?.success() {
        return Ok(());
    }
    println!("xtask: installing cargo-deny, which takes minutes.");
    let mut install = cargo();
    // Unoptimized: it builds in half of the time, and runs once.
    install.args(["install", "--locked", "--debug", "cargo-deny"]);
    match status_of(install)? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo install cargo-deny: {status}")),
    }
}
