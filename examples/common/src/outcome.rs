//! How an example ends.

use std::error::Error;
use std::process::ExitCode;

/// What to exit with; an error is said in one line on stderr.
pub fn exit_code(outcome: Result<(), Box<dyn Error>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
