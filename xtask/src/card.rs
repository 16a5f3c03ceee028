//! `cargo xtask card pack`: a folder that measures a graphics card on a machine without Rust and without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};

use crate::test::EXAMPLE_FEATURES;
use crate::{TEST_FEATURES, cargo, repository};

/// Programs of the kit; each is a package of its own.
const PROGRAMS: [&str; 5] = ["card", "throughput", "replay", "mlp_mnist", "landscape"];
/// Files that programs of the kit read: path, and extension of the files below it.
const READ: [(&str, &str); 4] =
    [("src", "rs"), ("shaders", "wgsl"), ("tests/golden", "safetensors"), ("tests/golden", "json")];
/// Bytes of a kit at most.
const MOST: u64 = 60 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Card {
    /// Build all programs and put them into a folder, with run.sh
    Pack(Pack),
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// A folder that does not exist yet, or an older kit
    dir: PathBuf,
    /// Profile of the test binary; `dev` reuses what `cargo xtask test` built
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    tests: String,
}

pub(crate) fn run(card: &Card) -> Result<ExitCode, String> {
    let Card::Pack(Pack { dir, tests }) = card;
    let is_kit = dir.join("run.sh").exists() && dir.join("version").exists();
    if dir.exists() && !is_kit && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{} is not empty and no kit; name another folder", dir.display()));
    }
    let programs = build(&["build", "--release"], &PROGRAMS.map(|program| ["--package", program]).concat())?;
    // The arguments of `cargo xtask test`: with other features, cargo would build wgpu anew.
    let suite = ["--workspace", "--test", "it", "--features", TEST_FEATURES, "--features", EXAMPLE_FEATURES];
    let suite = build(&["test", "--no-run", "--profile", tests], &suite)?;
    if is_kit {
        fs::remove_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    }
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
    let mut needed = (0, 0);
    for name in PROGRAMS.iter().chain(&["it"]) {
        let named = |path: &&PathBuf| path.file_name().is_some_and(|file| file == *name);
        let built = if *name == "it" { suite.first() } else { programs.iter().find(named) };
        let built = built.ok_or_else(|| format!("cargo names no executable for {name}"))?;
        let packed = bin.join(name);
        program("strip", &["-o", &path(&packed), &path(built)])?;
        needed = needed.max(glibc(&program("objdump", &["-T", &path(&packed)])?));
    }
    // The largest by far; run.sh unpacks it.
    program("gzip", &["-9", "--force", &path(&bin.join("it"))])?;
    let root = repository();
    for (folder, extension) in READ {
        copy_all(&root.join(folder), &dir.join("repository").join(folder), extension)?;
    }
    copy_all(&root.join("benches/compare"), &dir.join("compare"), "py")?;
    copy(&root.join("benches/card/run.sh"), &dir.join("run.sh"))?;
    if let Some(loader) = loader() {
        copy(&loader, &dir.join("lib/libvulkan.so.1"))?;
    }
    write(&dir.join("glibc"), &format!("{}.{}\n", needed.0, needed.1))?;
    write(&dir.join("version"), &version(tests))?;
    let bytes = size(dir);
    println!("{}: {:.1} MiB; needs glibc {}.{}", dir.display(), bytes as f64 / f64::from(1 << 20), needed.0, needed.1);
    if bytes > MOST {
        return Err(format!("the kit has {bytes} bytes, {MOST} are allowed"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs cargo, and returns the executables it names.
fn build(command: &[&str], arguments: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut cargo = cargo();
    cargo.args(command).arg("--locked").args(arguments).args(["--message-format", "json-render-diagnostics"]);
    cargo.current_dir(repository()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {}: {}", command.join(" "), output.status));
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// The executables in cargo's messages.
fn executables(messages: &str) -> Vec<PathBuf> {
    let after = messages.lines().filter_map(|line| line.split_once("\"executable\":\""));
    after.filter_map(|(_, rest)| Some(rest.split_once('"')?.0.into())).collect()
}

/// The output of a program of the binutils.
fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(arguments).output();
    let output = output.map_err(|error| format!("cannot start {name}: {error}; install binutils and gzip"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The newest version of glibc in a table of symbols.
fn glibc(symbols: &str) -> (u32, u32) {
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max().unwrap_or_default()
}

/// Commit, version of the compiler, and profile of the tests.
fn version(tests: &str) -> String {
    let first = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(repository()).output().ok();
        let text = output.filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
    };
    let commit = first("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    format!("commit {commit}, {}, tests in profile {tests}\n", first("rustc", &["--version"]))
}

/// This machine's Vulkan loader, for machines without one.
fn loader() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"].map(Path::new);
    folders.iter().map(|folder| folder.join("libvulkan.so.1")).find(|path| path.exists())
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Copies a file, and makes its folder.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let folder = to.parent().unwrap_or(to);
    let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(from, to));
    copied.map(drop).map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

/// Copies all files below a folder with that extension.
fn copy_all(from: &Path, to: &Path, extension: &str) -> Result<(), String> {
    let entries = fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))?;
    for entry in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = entry.file_name() else { continue };
        if entry.is_dir() {
            copy_all(&entry, &to.join(name), extension)?;
        } else if entry.extension().is_some_and(|found| found == extension) {
            copy(&entry, &to.join(name))?;
        }
    }
    Ok(())
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => size(&path),
        path => fs::metadata(path).map_or(0, |file| file.len()),
    };
    entries.map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_glibc_counts() {
        let symbols = "  DF *UND*  0 (GLIBC_2.9) a\n  0 (GLIBC_2.34) b\n  0 (GLIBC_2.2.5) c\n  0 (GCC_3.0) d\n";
        assert_eq!(glibc(symbols), (2, 34));
    }

    #[test]
    fn executables_are_read_from_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/card\",\"fresh\":true}\n";
        assert_eq!(executables(messages), [PathBuf::from("/t/release/card")]);
    }

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("xtask-card-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("letter.txt"), "mine").expect("written");
        let card = Card::Pack(Pack { dir: folder.clone(), tests: "dev".to_owned() });
        let error = run(&card).expect_err("no kit");
        assert!(error.contains("is not empty and no kit"), "{error}");
        fs::remove_dir_all(&folder).ok();
    }

    /// Programs find what they read at run time only if it is packed.
    #[test]
    fn every_file_that_is_read_is_there() {
        let to = std::env::temp_dir().join(format!("xtask-card-read-{}", std::process::id()));
        for (folder, extension) in READ {
            copy_all(&repository().join(folder), &to.join(folder), extension).expect(folder);
            assert!(size(&to.join(folder)) > 0, "{folder} has no file *.{extension}");
        }
        fs::remove_dir_all(&to).ok();
    }
}
