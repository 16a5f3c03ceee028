//! `cargo xtask mpi`: licenses and sources of dependencies, lints and tests of `adapters/mpi`, with Open MPI and libclang where they are missing.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use clap::Args;

use crate::test::{exit_code, status_of};
use crate::vulkan::{Distribution, Machine};
use crate::{cargo, debian, deny};

const MANIFEST: &str = "adapters/mpi/Cargo.toml";
const PACKAGES: [&str; 3] = ["libopenmpi-dev", "openmpi-bin", "libclang-dev"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ranks that are killed at random points, one run each
    #[arg(long, default_value_t = 5)]
    kills: u32,
}

/// Returns what the first command returned that failed.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    provide()?;
    let dependencies = deny::adapter(MANIFEST)?;
    if !dependencies.success() {
        return Ok(exit_code(dependencies));
    }
    let workspace = ["--locked", "--workspace", "--manifest-path", MANIFEST];
    let mut lints = cargo();
    lints.arg("clippy").args(workspace).args(["--all-targets", "--", "-D", "warnings"]);
    let status = status_of(lints)?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let mut command = cargo();
    command.arg("test").args(workspace);
    command.args(["--", "--nocapture", "--test-threads=1"]).env("WGPU_OPTIM_MPI_KILLS", options.kills.to_string());
    status_of(command).map(exit_code)
}

/// Installs what the adapter needs, if it is missing.
fn provide() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(" and ");
    let by_hand = format!("On Debian: apt-get install {}", PACKAGES.join(" "));
    if Machine::this().distribution() != Distribution::Debian {
        return Err(format!("missing: {missing}. Install Open MPI or MPICH with its headers, and libclang. {by_hand}"));
    }
    println!("xtask: missing: {missing}. Installing {} with apt-get.", PACKAGES.join(", "));
    debian::install(&PACKAGES).map_err(|reason| format!("missing: {missing}. {reason} {by_hand}"))
}

fn missing() -> Vec<&'static str> {
    let runs = |program: &str| {
        let status = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let mut missing: Vec<_> = ["mpirun", "mpicc"].into_iter().filter(|program| !runs(program)).collect();
    if !has_libclang() {
        missing.push("libclang");
    }
    missing
}

/// True if bindgen will find libclang: by its variable, or where Debian and Fedora install it.
fn has_libclang() -> bool {
    let is_libclang = |folder: &Path| {
        let names = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.into_iter().any(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so")
        })
    };
    let llvm = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let llvm = llvm.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm")));
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    std::env::var_os("LIBCLANG_PATH").is_some()
        || usual.iter().any(|folder| is_libclang(Path::new(folder)))
        || llvm.into_iter().any(|folder| is_libclang(&folder.join("lib")))
}
