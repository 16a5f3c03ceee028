//! Programs with a time limit.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_current_process_group, kill_process_group};

/// First argument of this program where it guards another.
pub(crate) const GUARD: &str = "guard";

/// Pause between two looks at a running program.
const PAUSE: Duration = Duration::from_millis(10);
/// Time for the rest of the output after the end of a program.
const DRAIN: Duration = Duration::from_secs(1);
/// Bytes of the outputs that are kept at most.
const STDOUT: usize = 4 << 20;
const STDERR: usize = 64 << 10;
/// Exit code of a guard whose program was killed by a signal, less the signal.
const SIGNALLED: i32 = 128;

/// A program, its arguments and additions to the environment.
#[derive(Debug, Clone)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Invocation {
    pub(crate) fn new<'a>(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let arguments = arguments.into_iter().map(ToOwned::to_owned).collect();
        Self { program: program.into(), arguments, variables: Vec::new() }
    }

    pub(crate) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Ending {
    Succeeded,
    /// Not started, a nonzero exit code, or a signal.
    Failed(String),
    TimedOut,
}

#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) ending: Ending,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) seconds: f64,
}

/// Runs a program in a process group of its own, and kills the group at the limit.
pub(crate) fn run(invocation: &Invocation, limit: Duration) -> Finished {
    let start = Instant::now();
    let failed = |reason: String| Finished {
        ending: Ending::Failed(reason),
        stdout: String::new(),
        stderr: String::new(),
        seconds: start.elapsed().as_secs_f64(),
    };
    let program = invocation.program.display();
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return failed(format!("cannot find this program: {error}")),
    };
    let mut command = Command::new(own);
    command.arg(GUARD).arg(&invocation.program).args(&invocation.arguments).envs(invocation.variables.iter().cloned());
    // The end of the output is the reason of a failure.
    command.env("RUST_BACKTRACE", "0");
    // The guard sees the end of this program as the end of its input.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot start {program}: {error}")),
    };
    let outputs = [collect(child.stdout.take(), STDOUT), collect(child.stderr.take(), STDERR)];
    let ending = match wait(&mut child, start + limit) {
        Ok(Some(status)) if status.success() => Ending::Succeeded,
        Ok(Some(status)) => Ending::Failed(describe(status)),
        Ok(None) => Ending::TimedOut,
        Err(error) => Ending::Failed(format!("cannot wait for {program}: {error}")),
    };
    // A program may leave others behind, whatever its own ending.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let drained = Instant::now() + DRAIN;
    let _ = wait(&mut child, drained);
    let [stdout, stderr] = outputs.map(|(text, reader)| {
        while !reader.is_finished() && Instant::now() < drained {
            thread::sleep(PAUSE);
        }
        String::from_utf8_lossy(&text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    });
    Finished { ending, stdout, stderr, seconds: start.elapsed().as_secs_f64() }
}

/// Runs a program in the group that this process leads, and kills the group when the driver ends. Returns the exit code.
pub(crate) fn guard(mut words: impl Iterator<Item = OsString>) -> u8 {
    thread::spawn(|| {
        // The driver writes nothing: the end of the input is its own.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = kill_current_process_group(Signal::KILL);
    });
    let program = words.next().unwrap_or_default();
    match Command::new(&program).args(words).stdin(Stdio::null()).status() {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| SIGNALLED + signal));
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
        }
        Err(error) => {
            eprintln!("error: cannot start {}: {error}", program.display());
            127
        }
    }
}

/// The status, or none at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

type Text = Arc<Mutex<Vec<u8>>>;

/// Reads until the end, and keeps the last bytes: `most / 2` to `most`.
fn collect(pipe: Option<impl Read + Send + 'static>, most: usize) -> (Text, JoinHandle<()>) {
    let text = Text::default();
    let shared = text.clone();
    let reader = thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut block = [0; 8192];
        while let Ok(len @ 1..) = pipe.read(&mut block) {
            let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
            // Half of it goes at once, so that most blocks move nothing.
            if text.len() + len > most {
                let old = text.len() - most / 2;
                text.drain(..old);
            }
            text.extend_from_slice(&block[..len]);
        }
    });
    (text, reader)
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ 129..=192) => format!("killed by signal {}", code - SIGNALLED),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}
