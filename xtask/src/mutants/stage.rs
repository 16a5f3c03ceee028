//! One step of the check of a broken shader: a test binary, built and run until its first failing test.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{TEST_FEATURES, cargo};

/// A test target of the package.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Lib,
    Test(String),
    Example(String),
}

impl Stage {
    fn selector(&self) -> Vec<&str> {
        match self {
            Self::Lib => vec!["--lib"],
            Self::Test(name) => vec!["--test", name],
            Self::Example(name) => vec!["--example", name],
        }
    }

    /// What cargo's JSON messages say of its target.
    fn marks(&self) -> [String; 2] {
        let (kind, name) = match self {
            Self::Lib => ("lib", ""),
            Self::Test(name) => ("test", name.as_str()),
            Self::Example(name) => ("example", name.as_str()),
        };
        let name = if name.is_empty() { String::new() } else { format!(r#""name":"{name}""#) };
        [format!(r#""kind":["{kind}"]"#), name]
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lib => formatter.write_str("unit tests"),
            Self::Test(name) => write!(formatter, "tests/{name}.rs"),
            Self::Example(name) => write!(formatter, "examples/{name}"),
        }
    }
}

/// How a test binary ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Ending {
    Passed,
    /// The first test that failed, or how the process ended without naming one.
    Failed(String),
    TimedOut,
    /// Somebody else ended it, which says nothing about the tests.
    Killed,
}

/// A copy of the repository with a build folder of its own.
pub(crate) struct Workbench {
    pub(crate) tree: PathBuf,
    pub(crate) target: PathBuf,
}

impl Workbench {
    /// Builds a stage apart from running it: a failing build is never mistaken for a failing test, and its time does
    /// not count. Returns the executable.
    pub(crate) fn build(&self, stage: &Stage) -> Result<PathBuf, String> {
        let mut command = cargo();
        command.args(["test", "--no-run", "--message-format", "json-render-diagnostics"]).args(TEST_FEATURES);
        command.args(stage.selector()).current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        // Nobody looks at backtraces here.
        command.env("CARGO_PROFILE_DEV_DEBUG", "none").stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("{stage} does not build"));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        executable(&messages, stage).ok_or(format!("cargo names no executable for {stage}"))
    }

    /// Runs the tests whose names contain `filter`.
    pub(crate) fn run(&self, executable: &Path, filter: &str, limit: Duration) -> Result<Ending, String> {
        let mut command = Command::new(executable);
        command.arg(filter);
        command.current_dir(&self.tree).env("CARGO_MANIFEST_DIR", &self.tree).env("RUST_BACKTRACE", "0");
        watch(&mut command, limit)
    }
}

/// Runs a test binary until its first failing test, its end, or the limit, whichever comes first.
///
/// The binary itself is started, not `cargo test`: it has no children, so that killing it leaves nothing behind, and it
/// stays in the terminal's process group, so that Ctrl-C ends it together with this program.
fn watch(command: &mut Command, limit: Duration) -> Result<Ending, String> {
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // Another worker's new process holds the file that was written a moment ago, until it has started.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(format!("cannot start {}: {error}", command.get_program().display())),
        }
    };
    let lines = lines_of(&mut child);
    let ending = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(test) = failed_test(&line) {
                    break Ending::Failed(test.to_string());
                }
            }
            Err(RecvTimeoutError::Timeout) => break Ending::TimedOut,
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|error| format!("cannot wait for a test: {error}"))?;
                return Ok(match status {
                    _ if status.success() => Ending::Passed,
                    _ if is_killed(status) => Ending::Killed,
                    _ => Ending::Failed(format!("the process: {status}")),
                });
            }
        }
    };
    // An error says that it has ended by itself meanwhile.
    child.kill().ok();
    child.wait().map_err(|error| format!("cannot wait for a test: {error}"))?;
    Ok(ending)
}

/// Whether a signal from outside ended it: hang-up, interrupt, kill (also for want of memory), terminate.
fn is_killed(status: ExitStatus) -> bool {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status)
        .is_some_and(|signal| [1, 2, 9, 15].contains(&signal));
    #[cfg(not(unix))]
    return false;
}

fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        thread::spawn(move || {
            let lines = BufReader::new(stdout).split(b'\n').map_while(Result::ok);
            for line in lines {
                // Nobody listens any more once a test has failed.
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

fn failed_test(line: &str) -> Option<&str> {
    line.trim_end().strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// The path in `"executable":"…"` of cargo's JSON message on a stage.
fn executable(messages: &str, stage: &Stage) -> Option<PathBuf> {
    let marks = stage.marks();
    let mut of_stage = messages.lines().filter(|line| marks.iter().all(|mark| line.contains(mark)));
    let path = of_stage.find_map(|line| line.split_once(r#""executable":""#)?.1.split_once('"'));
    path.map(|(path, _)| PathBuf::from(path.replace(r"\\", r"\")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_cargos_messages() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"kind":["lib"],"name":"rules"},"executable":null}
            {"reason":"compiler-artifact","target":{"kind":["lib"],"name":"wgpu_optim"},"executable":"/t/wgpu_optim-1"}
            {"reason":"compiler-artifact","target":{"kind":["test"],"name":"shaders"},"executable":"/t/shaders-1"}
            {"reason":"compiler-artifact","target":{"kind":["test"],"name":"rules"},"executable":"C:\\t\\rules-1"}
            {"reason":"build-finished"}"#;
        let of = |stage| executable(messages, &stage);
        assert_eq!(of(Stage::Test("rules".into())), Some(PathBuf::from(r"C:\t\rules-1")));
        assert_eq!(of(Stage::Test("shaders".into())), Some(PathBuf::from("/t/shaders-1")));
        assert_eq!(of(Stage::Lib), Some(PathBuf::from("/t/wgpu_optim-1")));
        assert_eq!(of(Stage::Example("rules".into())), None);
    }

    #[cfg(unix)]
    fn watched(script: &str, limit: Duration) -> (Ending, Duration) {
        let begin = Instant::now();
        let ending = watch(Command::new("sh").args(["-c", script]), limit).expect("a shell");
        (ending, begin.elapsed())
    }

    #[cfg(unix)]
    #[test]
    fn the_first_failing_test_ends_the_run() {
        let (ending, elapsed) =
            watched("echo 'test a ... ok'; echo 'test b::c ... FAILED'; exec sleep 60", Duration::from_secs(60));
        assert_eq!(ending, Ending::Failed("b::c".into()));
        assert!(elapsed < Duration::from_secs(30));
    }

    #[cfg(unix)]
    #[test]
    fn a_hanging_test_is_ended_at_its_limit() {
        let (ending, elapsed) = watched("exec sleep 60", Duration::from_millis(50));
        assert_eq!(ending, Ending::TimedOut);
        assert!(elapsed < Duration::from_secs(30));
    }

    #[cfg(unix)]
    #[test]
    fn passing_crashing_and_being_killed_are_told_apart() {
        let limit = Duration::from_secs(60);
        assert_eq!(watched("echo 'test a ... ok'", limit).0, Ending::Passed);
        assert!(matches!(watched("kill -6 $$", limit).0, Ending::Failed(how) if how.contains("signal")));
        assert_eq!(watched("kill -15 $$", limit).0, Ending::Killed);
        assert!(
            matches!(watched("echo 'test result: FAILED. 1 failed'; exit 101", limit).0, Ending::Failed(how) if how.contains("101"))
        );
    }
}
