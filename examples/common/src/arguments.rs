//! The command line of an example.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::outcome::exit_code;

/// Runs an example with the arguments of the command line.
pub fn run<A: Parser>(example: impl FnOnce(&A) -> Result<(), Box<dyn Error>>) -> ExitCode {
    match A::try_parse() {
        Ok(args) => exit_code(example(&args)),
        Err(message) => {
            // Help goes to stdout and is no failure; a wrong flag is.
            let failed = message.use_stderr();
            if message.print().is_err() || failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

/// Refuses a file in a folder that is not there.
///
/// # Errors
/// The folder, after the flag that named the file.
pub fn check_folder(flag: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        return Ok(());
    }
    Err(format!("{flag}: {} is not a folder; make it, or name another", folder.display()).into())
}
