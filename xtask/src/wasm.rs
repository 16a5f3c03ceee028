//! Packages for browsers: a compiler with a standard library for wasm32, then wasm-bindgen.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debian::{self, entry, succeeds};
use crate::{cargo, repository};

pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// The profile of the workspace that favors small files.
const PROFILE: &str = "web";
/// Suites of Debian that have newer compilers than its stable release.
const SUITES: [&str; 3] = ["trixie-backports", "testing", "unstable"];

/// A toolchain that compiles for [`TARGET`].
pub(crate) enum Toolchain {
    /// The one that runs this program.
    Own,
    /// A copy of it in this folder, with a standard library built from Debian's sources.
    Copy(PathBuf),
}

impl Toolchain {
    /// The own toolchain if it has the target or rustup installs it, a copy otherwise.
    pub(crate) fn provide() -> Result<Self, String> {
        if has_target(Path::new("rustc")) || add_target() {
            return Ok(Self::Own);
        }
        eprintln!("xtask: rustup installs no {TARGET} here; building its standard library from Debian's rust-src.");
        copy_with_std()
            .map(Self::Copy)
            .map_err(|reason| format!("no standard library for {TARGET}: {reason}. Run: rustup target add {TARGET}"))
    }

    /// A cargo command.
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Own => cargo(),
            Self::Copy(folder) => {
                let bin = folder.join("bin");
                let mut command = Command::new(bin.join("cargo"));
                let path = std::env::var_os("PATH").unwrap_or_default();
                let paths = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
                if let Ok(path) = std::env::join_paths(paths) {
                    command.env("PATH", path);
                }
                command.env("RUSTC", bin.join("rustc")).env_remove("CARGO");
                // Cargo does not notice another standard library.
                command.env("CARGO_TARGET_DIR", repository().join("target/wasm/build"));
                command
            }
        }
    }

    /// Builds libraries in one run of cargo, and returns their wasm files. Packages share what they build on.
    fn build(&self, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        let mut command = self.cargo();
        command.args(["build", "--locked", "--lib", "--target", TARGET, "--profile", PROFILE]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        command.args(["--message-format", "json-render-diagnostics"]).current_dir(repository());
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo build --target {TARGET} of {}: {}", packages.join(", "), output.status));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        let file = |package: &&str| {
            wasm_file(&messages, package)
                .ok_or_else(|| format!("cargo names no wasm file of {package}; its crate type is cdylib"))
        };
        packages.iter().map(file).collect()
    }

    /// Builds libraries, and writes `<package>.js` and `<package>_bg.wasm` of each to its folder.
    pub(crate) fn bundle(&self, packages: &[(&str, &Path)]) -> Result<(), String> {
        let names: Vec<&str> = packages.iter().map(|(package, _)| *package).collect();
        for (wasm, (package, folder)) in self.build(&names)?.iter().zip(packages) {
            let mut bindgen = cargo();
            bindgen.args(["run", "--quiet", "--locked", "--profile", "tool", "--package", "bindgen", "--"]);
            succeeds(bindgen.arg(wasm).arg(package).arg(folder).current_dir(repository()))?;
        }
        Ok(())
    }

    /// Builds a package's documentation for [`TARGET`]. Warnings are errors.
    pub(crate) fn document(&self, package: &str, features: &[&str]) -> Result<(), String> {
        let mut command = self.cargo();
        command.args(["doc", "--locked", "--no-deps", "--target", TARGET, "--profile", PROFILE, "--package", package]);
        command.args(["--no-default-features", "--features"]).arg(features.join(","));
        succeeds(command.env("RUSTDOCFLAGS", "-D warnings").current_dir(repository()))
    }
}

fn has_target(rustc: &Path) -> bool {
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let is_std = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libstd-"));
    let libraries = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    libraries.is_ok_and(|folder| entry(Path::new(&folder), is_std).is_some())
}

fn add_target() -> bool {
    println!("xtask: installing the target {TARGET} with rustup.");
    let status = Command::new("rustup").args(["target", "add", TARGET]).current_dir(repository()).status();
    status.is_ok_and(|status| status.success()) && has_target(Path::new("rustc"))
}

/// Builds the standard library once, in a copy of the toolchain: the toolchain itself stays as it is.
fn copy_with_std() -> Result<PathBuf, String> {
    let version = printed(Command::new("rustc").arg("--version").current_dir(repository()))?;
    let version = version.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let whole = repository().join("target/wasm").join(format!("toolchain-{version}"));
    if whole.is_dir() {
        return Ok(whole);
    }
    let sources =
        debian::unpacked_from(&SUITES, "rust-src", &version)?.join("usr/src").join(format!("rustc-{version}"));
    let part = whole.with_file_name(format!("toolchain-{version}.part"));
    fs::remove_dir_all(&part).ok();
    fs::create_dir_all(&part).map_err(|error| format!("{}: {error}", part.display()))?;
    let own = PathBuf::from(printed(Command::new("rustc").args(["--print", "sysroot"]).current_dir(repository()))?);
    // Links spare a gigabyte, where both lie in one file system.
    let copied = |mode| succeeds(Command::new("cp").arg(mode).arg(own.join(".")).arg(&part).stderr(Stdio::null()));
    copied("-al").or_else(|_| copied("-a"))?;
    let at = part.join("lib/rustlib/src");
    fs::remove_dir_all(&at).ok();
    fs::create_dir_all(&at).map_err(|error| format!("{}: {error}", at.display()))?;
    succeeds(Command::new("cp").arg("-r").arg(sources).arg(at.join("rust")))?;

    let seed = part.join("seed");
    let manifest = "[package]\nname = \"seed\"\nedition = \"2021\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    let written = fs::create_dir_all(seed.join("src"))
        .and_then(|()| fs::write(seed.join("Cargo.toml"), manifest))
        .and_then(|()| fs::write(seed.join("src/lib.rs"), ""));
    written.map_err(|error| format!("{}: {error}", seed.display()))?;
    let mut build = Toolchain::Copy(part.clone()).cargo();
    build.args(["build", "--release", "-Z", "build-std=std,panic_abort", "--target", TARGET, "--target-dir", "target"]);
    // The option is unstable. Bitcode is what link-time optimization reads.
    build.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-C embed-bitcode=yes");
    succeeds(build.current_dir(&seed))?;

    let libraries = part.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries).map_err(|error| format!("{}: {error}", libraries.display()))?;
    let built = seed.join("target").join(TARGET).join("release/deps");
    for file in fs::read_dir(&built).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if let (Some(name), true) = (file.file_name(), file.extension().is_some_and(|found| found == "rlib")) {
            fs::copy(&file, libraries.join(name)).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    fs::remove_dir_all(&seed).ok();
    fs::rename(&part, &whole).map_err(|error| format!("{}: {error}", whole.display()))?;
    Ok(whole)
}

/// The wasm file of a package in cargo's messages.
fn wasm_file(messages: &str, package: &str) -> Option<PathBuf> {
    let name = format!("{}.wasm", package.replace('-', "_"));
    let mut files = messages.split('"').map(PathBuf::from);
    files.find(|path| path.file_name().is_some_and(|file| *file == *name))
}

fn printed(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("cannot start {program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_own_wasm_file_is_found() {
        let messages = "{\"filenames\":[\"/t/deps/libother.rlib\"]}\n{\"filenames\":[\"/t/web/the_page.wasm\"]}\n";
        assert_eq!(wasm_file(messages, "the-page"), Some(PathBuf::from("/t/web/the_page.wasm")));
        assert_eq!(wasm_file(messages, "page"), None);
    }
}
