//! Measures a graphics card within a fixed time. See the README of this package.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> Result<(), &'static str> {
    Err("the kit runs on Linux; elsewhere run `throughput`, `replay` and the tests by cargo")
}
