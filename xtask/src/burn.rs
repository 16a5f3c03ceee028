//! `cargo xtask burn`: lints, tests and documentation of `adapters/burn`, with burn's fusion and without.

use std::process::ExitCode;

use clap::Args;

use crate::cargo;
use crate::test::{exit_code, provide_vulkan, status_of};

/// Packages and features of each run. The examples have burn's default, fusion.
const RUNS: [&[&str]; 2] =
    [&["--workspace"], &["--package", "wgpu-optim-burn", "--no-default-features", "--features", "safetensors"]];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Passed on to the tests, e.g. `sharing::`
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// Returns what the first command returned that failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    provide_vulkan();
    let test_args: Vec<&str> = options.test_args.iter().map(String::as_str).collect();
    for packages in RUNS {
        let lints: (&[&str], &[&str]) = (&["clippy", "--all-targets"], &["-D", "warnings"]);
        // Release: burn is slow to build, so it is built once.
        for (command, arguments) in [lints, (&["test"], &test_args)] {
            let mut run = cargo();
            run.args(command).args(["--locked", "--release", "--manifest-path", "adapters/burn/Cargo.toml"]);
            run.args(packages).arg("--").args(arguments);
            let status = status_of(run)?;
            if !status.success() {
                return Ok(exit_code(status));
            }
        }
    }
    let mut docs = cargo();
    docs.args(["doc", "--locked", "--release", "--no-deps", "--package", "wgpu-optim-burn"]);
    docs.args(["--manifest-path", "adapters/burn/Cargo.toml"]).env("RUSTDOCFLAGS", "-D warnings");
    status_of(docs).map(exit_code)
}
