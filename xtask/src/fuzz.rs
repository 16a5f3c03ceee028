//! `cargo xtask fuzz`: a Vulkan driver first, then random programs on both engines.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cargo;
use crate::test::{exit_code, provide_vulkan, status_of};

/// Returns what the fuzzer returned.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode, String> {
    provide_vulkan();
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--package", "fuzz", "--"]).args(arguments);
    status_of(command).map(exit_code)
}
