//! One step of the check of a broken shader: tests of a binary, built and run until the first that fails.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::{TEST_FEATURES, cargo};

/// The test binary of the library.
const BINARY: &str = "it";

/// Tests that run together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Lib,
    /// A module of the binary in `tests/it`.
    Test(String),
    Example(String),
}

impl Stage {
    fn selector(&self) -> Vec<&str> {
        match self {
            Self::Lib => vec!["--package", "wgpu-optim", "--features", TEST_FEATURES, "--lib"],
            Self::Test(_) => vec!["--package", "wgpu-optim", "--features", TEST_FEATURES, "--test", BINARY],
            Self::Example(name) => vec!["--package", name, "--all-features", "--bin", name],
        }
    }

    /// Whether a test of the stage's binary is one of the stage.
    fn has(&self, test: &str) -> bool {
        match self {
            Self::Test(module) => test.split("::").next() == Some(module),
            Self::Lib | Self::Example(_) => true,
        }
    }

    /// What cargo's JSON messages say of its target.
    fn marks(&self) -> [String; 2] {
        let (kind, name) = match self {
            Self::Lib => ("lib", ""),
            Self::Test(_) => ("test", BINARY),
            Self::Example(name) => ("bin", name.as_str()),
        };
        let name = if name.is_empty() { String::new() } else { format!(r#""name":"{name}""#) };
        [format!(r#""kind":["{kind}"]"#), name]
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lib => formatter.write_str("unit tests"),
            Self::Test(name) => write!(formatter, "tests/it/{name}.rs"),
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
        command.args(["test", "--no-run", "--message-format", "json-render-diagnostics"]).args(stage.selector());
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        // Nobody looks at backtraces here.
        command.env("CARGO_PROFILE_DEV_DEBUG", "none").stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        if !output.status.success() {
            return Err(format!("{stage} does not build"));
        }
        let messages = String::from_utf8_lossy(&output.stdout);
        executable(&messages, stage).ok_or(format!("cargo names no executable for {stage}"))
    }

    /// The tests of a stage, by name.
    pub(crate) fn tests(&self, stage: &Stage, executable: &Path) -> Result<Vec<String>, String> {
        let output = Command::new(executable).arg("--list").current_dir(&self.tree).output();
        let output = output.map_err(|error| format!("cannot start {}: {error}", executable.display()))?;
        let tests = listed(&String::from_utf8_lossy(&output.stdout), stage);
        if tests.is_empty() { Err(format!("{stage} has no tests")) } else { Ok(tests) }
    }

    /// Runs the tests of these names.
    pub(crate) fn run<'a>(
        &self,
        executable: &Path,
        tests: impl IntoIterator<Item = &'a String>,
        limit: Duration,
    ) -> Result<Ending, String> {
        let mut command = Command::new(executable);
        command.arg("--exact").args(tests);
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

/// The tests of a stage in the list of its binary.
fn listed(list: &str, stage: &Stage) -> Vec<String> {
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    tests.filter(|test| stage.has(test)).map(str::to_string).collect()
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
            {"reason":"compiler-artifact","target":{"kind":["test"],"name":"it"},"executable":"C:\\t\\it-1"}
            {"reason":"compiler-artifact","target":{"kind":["bin"],"name":"replay"},"executable":"/t/replay-1"}
            {"reason":"build-finished"}"#;
        let of = |stage| executable(messages, &stage);
        assert_eq!(of(Stage::Test("rules".into())), Some(PathBuf::from(r"C:\t\it-1")));
        assert_eq!(of(Stage::Example("replay".into())), Some(PathBuf::from("/t/replay-1")));
        assert_eq!(of(Stage::Lib), Some(PathBuf::from("/t/wgpu_optim-1")));
        assert_eq!(of(Stage::Example("rules".into())), None);
    }

    #[test]
    fn a_stage_has_the_tests_of_its_module() {
        let list = "group_schedules::a: test\nschedules::b: test\nschedules::c::d: test\n\n3 tests, 0 benchmarks\n";
        let of = |stage| listed(list, &stage);
        assert_eq!(of(Stage::Test("schedules".into())), ["schedules::b", "schedules::c::d"]);
        assert_eq!(of(Stage::Lib).len(), 3);
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
