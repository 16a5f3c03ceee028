//! The repository's chores: `cargo xtask test`, `fuzz`, `mutants`, `gallery`, `deny`, `api`, `card`, `playground`,
//! `browser`, `mpi` and `burn`.

mod api;
mod browser;
mod burn;
mod card;
mod chromium;
mod debian;
mod deny;
mod fuzz;
mod gallery;
mod mpi;
mod mutants;
mod test;
mod validation;
mod vulkan;
mod wasm;
mod web;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of the wgpu-optim repository")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Set up what the tests need (a Vulkan driver), then run every test
    Test(test::Options),
    /// Compare random programs on both engines; `cargo xtask fuzz --help` lists the options
    #[command(disable_help_flag = true)]
    Fuzz {
        /// Passed on to the fuzzer, e.g. `--seed 7 --cases 500 --minutes 5`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break the shaders one place at a time and report what no test noticed
    Mutants(mutants::Options),
    /// Check licenses, sources, duplicates and advisories of all dependencies; installs cargo-deny where it is missing
    Deny,
    /// Draw the pictures of the READMEs anew
    Gallery,
    /// List the public surface in docs/api.txt
    Api {
        /// Fail if the listing in the tree differs, and write nothing
        #[arg(long)]
        check: bool,
    },
    /// Measure a graphics card on a machine without Rust
    #[command(subcommand)]
    Card(card::Card),
    /// Build the playground for browsers in target/playground
    Playground(web::Options),
    /// Run the tests in Chromium; installs what is missing
    Browser(browser::Options),
    /// Lint adapters/mpi and run its tests on 1 to 4 ranks; installs what is missing
    Mpi(mpi::Options),
    /// Lint and test adapters/burn, with burn's fusion and without
    Burn(burn::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Fuzz { arguments } => fuzz::run(&arguments),
        Chore::Mutants(options) => mutants::run(&options),
        Chore::Deny => deny::run(),
        Chore::Gallery => gallery::run(),
        Chore::Api { check } => api::run(check),
        Chore::Card(card) => card::run(&card),
        Chore::Playground(options) => web::run(&options),
        Chore::Browser(options) => browser::run(&options),
        Chore::Mpi(options) => mpi::run(&options),
        Chore::Burn(options) => burn::run(&options),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}

/// Features of the library under test: all that add code, and no further backend, which would build wgpu again.
const TEST_FEATURES: &str = "wgpu-optim/serde,wgpu-optim/tensorboard";

/// The folder of the workspace, wherever the command was called from.
fn repository() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The cargo that runs this program, so that a toolchain chosen with `cargo +name` is kept.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
