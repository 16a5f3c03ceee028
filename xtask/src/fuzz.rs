//! `cargo xtask fuzz`: random programs on both engines, random checkpoints, or random settings.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cargo;
use crate::test::{exit_code, provide_vulkan, status_of};

/// Returns what the fuzzer returned.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode, String> {
    let mut command = cargo();
    command.args(["run", "--locked", "--package", "fuzz"]);
    let on_cpu = ["checkpoint", "config", "--target=checkpoint", "--target=config"];
    // Debug builds find overflows.
    if !arguments.iter().any(|argument| on_cpu.iter().any(|target| argument == target)) {
        provide_vulkan();
        command.arg("--release");
    }
    command.arg("--").args(arguments);
    status_of(command).map(exit_code)
}
