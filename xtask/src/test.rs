//! `cargo xtask test`: a Vulkan driver first, then every test of the workspace.

use std::ffi::OsString;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Args, ValueEnum};

use crate::validation::Watch;
use crate::vulkan::{Distribution, Machine};
use crate::{TEST_FEATURES, cargo, debian, repository};

/// Features of the examples under test.
pub(crate) const EXAMPLE_FEATURES: &str = "mlp_mnist/plot,mlp_mnist/download";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run the tests of the binary `it` on this driver, fetched from Debian's packages; any other: set `VK_DRIVER_FILES`
    #[arg(long)]
    driver: Option<Driver>,
    /// Run the tests of the binary `it` under Vulkan's validation layers; any message fails the run
    #[arg(long)]
    validation: bool,
    /// Passed on to `cargo test`, e.g. `-- --test it rules:: -- --nocapture`
    #[arg(last = true)]
    cargo_test_args: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Driver {
    /// The software driver of Chromium
    Swiftshader,
}

/// Returns what `cargo test` returned.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let unmet = provide_vulkan();

    // `--no-fail-fast`: one run tells everything that is wrong.
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--features", TEST_FEATURES]);
    command.args(["--features", EXAMPLE_FEATURES]);
    if options.driver.is_some() || options.validation {
        command.args(["--test", "it"]);
    }
    command.args(&options.cargo_test_args);
    match options.driver {
        Some(Driver::Swiftshader) => select_swiftshader(&mut command)?,
        None => {}
    }
    let watch = if options.validation { Some(Watch::begin(&mut command)?) } else { None };
    let status = status_of(command)?;
    if let (Some(unmet), false) = (unmet, status.success()) {
        // Said before the tests already, but thousands of lines ago.
        eprintln!("{unmet}");
    }
    if let Some(watch) = watch {
        let instances = watch.end()?;
        println!("xtask: Vulkan's validation layer watched {instances} instances and reported no fault.");
    }
    Ok(exit_code(status))
}

/// Makes SwiftShader the only driver of a command.
fn select_swiftshader(command: &mut Command) -> Result<(), String> {
    let package = debian::unpacked("chromium-common").map_err(|reason| {
        format!(
            "{reason}. Where Debian's packages are not to be had, name the manifest in a folder of Chromium or Chrome: \
             VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json cargo xtask test -- --test it"
        )
    })?;
    let manifest = debian::find(&package, "vk_swiftshader_icd.json")?;
    println!("xtask: the driver is SwiftShader: {}", manifest.display());
    // By name, too: another driver must not stand in for it.
    command.env("VK_DRIVER_FILES", manifest).env("WGPU_ADAPTER_NAME", "SwiftShader").env("WGPU_BACKEND", "vulkan");
    Ok(())
}

/// Installs a driver where there is none and this can be done. What stays missing comes back as a message.
pub(crate) fn provide_vulkan() -> Option<String> {
    if !cfg!(target_os = "linux") {
        // macOS has Metal and Windows has Direct3D 12 (with WARP, its software adapter) out of the box.
        return None;
    }
    let machine = Machine::this();
    let found = machine.search();
    if found.complete() {
        return None;
    }
    let missing = found.missing();
    let distribution = machine.distribution();
    let remedy = match (found.variable, distribution) {
        (Some(variable), _) => {
            format!("No installed driver is used while {variable} is set: unset it, or name a driver's manifest in it.")
        }
        (None, Distribution::Debian) => match install_by_apt(&missing) {
            Ok(()) => return None,
            Err(reason) => format!("{reason} As root, run: {}", distribution.remedy()),
        },
        (None, _) => format!("Install: {}", distribution.remedy()),
    };
    let unmet = format!("xtask: missing: {missing}. {remedy}\nxtask: tests that need an adapter fail without one.");
    eprintln!("{unmet}");
    Some(unmet)
}

/// Returns why the driver is still missing, if it is.
fn install_by_apt(missing: &str) -> Result<(), String> {
    println!("xtask: missing: {missing}. Installing mesa-vulkan-drivers and libvulkan1 with apt-get.");
    debian::install(&["mesa-vulkan-drivers", "libvulkan1"])?;
    // Asked anew: the search must agree that the packages brought what was missing.
    if Machine::this().search().complete() {
        Ok(())
    } else {
        Err("Two packages were installed for it without effect.".to_string())
    }
}

/// What to put before a command that needs root: nothing for root itself, else sudo if it asks no password.
pub(crate) fn root_prefix() -> Option<&'static [&'static str]> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output().ok()?;
    sudo.status.success().then_some(&["sudo", "-n"])
}

/// Runs a command in the workspace.
pub(crate) fn status_of(mut command: Command) -> Result<ExitStatus, String> {
    command.current_dir(repository());
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Without any, Mesa writes two lines that look like errors for every device.
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    command.status().map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))
}

/// The child's own code; where a signal ended it, what a shell would return.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return ExitCode::from(128u8.wrapping_add(signal as u8));
    }
    // Windows codes are 32 bits wide: what does not fit must not become 0.
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn code_of(script: &str) -> ExitCode {
        exit_code(Command::new("sh").args(["-c", script]).status().expect("a shell"))
    }

    #[test]
    fn exit_codes_are_passed_on() {
        assert_eq!(code_of("exit 0"), ExitCode::SUCCESS);
        assert_eq!(code_of("exit 101"), ExitCode::from(101));
        assert_eq!(code_of("kill -9 $$"), ExitCode::from(137));
    }
}
