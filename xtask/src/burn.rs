//! `cargo xtask burn`: licenses and sources of dependencies, lints, tests and documentation of `adapters/burn`, with burn's fusion and without.

use std::process::ExitCode;

use clap::Args;

use crate::test::{exit_code, provide_vulkan, status_of};
use crate::{cargo, deny};

const MANIFEST: &str = "adapters/burn/Cargo.toml";

/// Packages and features of each run. The examples have burn's default, fusion.
const RUNS: [Run; 3] = [
    Run { selection: &["--workspace"], is_tested: true },
    Run {
        selection: &["--package", "wgpu-optim-burn", "--no-default-features", "--features", "safetensors"],
        is_tested: true,
    },
    // burn's SPIR-V kernels crash software drivers.
    Run { selection: &["--package", "wgpu-optim-burn", "--features", "vulkan,webgpu"], is_tested: false },
];

struct Run {
    selection: &'static [&'static str],
    is_tested: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Passed on to the tests, e.g. `sharing::`
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// Returns what the first command returned that failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let dependencies = deny::adapter(MANIFEST)?;
    if !dependencies.success() {
        return Ok(exit_code(dependencies));
    }
    provide_vulkan();
    let test_args: Vec<&str> = options.test_args.iter().map(String::as_str).collect();
    for Run { selection, is_tested } in RUNS {
        let lints: (&[&str], &[&str]) = (&["clippy", "--all-targets"], &["-D", "warnings"]);
        let tests: (&[&str], &[&str]) = (&["test"], &test_args);
        // Release: burn is slow to build, so it is built once.
        for (command, arguments) in [lints, tests].into_iter().take(if is_tested { 2 } else { 1 }) {
            let mut run = cargo();
            run.args(command).args(["--locked", "--release", "--manifest-path", MANIFEST]);
            run.args(selection).arg("--").args(arguments);
            let status = status_of(run)?;
            if !status.success() {
                return Ok(exit_code(status));
            }
        }
    }
    let mut docs = cargo();
    docs.args(["doc", "--locked", "--release", "--no-deps", "--package", "wgpu-optim-burn"]);
    docs.args(["--manifest-path", MANIFEST]).env("RUSTDOCFLAGS", "-D warnings");
    status_of(docs).map(exit_code)
}
