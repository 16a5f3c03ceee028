//! Runs the stages, and writes all tables after each task.

mod args;
mod child;
mod compare;
mod kit;
mod plan;
mod plots;
mod read;
mod report;
mod results;
mod suite;
mod tables;
mod vectors;
#[path = "../../../xtask/src/vulkan.rs"]
mod vulkan;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::TempDir;

use args::Args;
use child::{Ending, GUARD, guard};
use kit::Kit;
use plan::{Prepared, Stage, Task};
use read::Reads;
use results::{Card, Outcome, Results, Status, write};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// No program is started for less.
const SHORTEST: Duration = Duration::from_secs(1);
/// Limit of a second try, in limits of a task: a program that hangs leaves time to others.
const LONGER: u32 = 3;
/// Limit of the adapter's description, however short the run.
const DESCRIBED: Duration = Duration::from_secs(20);
/// Bytes of the temporary files.
const ROOM: usize = 16 << 20;

const LOG: &str = "log.txt";

pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == GUARD) {
        return ExitCode::from(guard(words));
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every task is done or needs something that the machine lacks, and every file is written.
fn run(args: &Args) -> Result<bool> {
    let kit = Kit::open(&args.kit)?;
    fs::create_dir_all(&args.out).map_err(|error| format!("{}: {error}", args.out.display()))?;
    let _lock = lock(&args.out)?;
    let results = Results::open(&args.out, &kit.version, args.quick)?;
    let work = work_folder(&[std::env::temp_dir(), "/dev/shm".into()])?;
    let log = fs::read_to_string(args.out.join(LOG)).unwrap_or_default();
    let mut session = Session { args, results, log, unwritten: None };
    let begin = Instant::now();
    // The last files need time, too.
    let deadline = begin + Duration::from_secs_f64(args.minutes * 60.0 * 0.99);
    let mut stages = plan::stages(&kit, args, work.path());
    session.describe(&stages[0], deadline)?;
    let asked = |stage: &Stage| args.only.is_empty() || args.only.iter().any(|name| name == stage.name);
    stages.retain(asked);
    for stage in &stages {
        let end = deadline.min(Instant::now() + stage.limit);
        session.stage(stage, end, 1, |_, status| status != Some(Status::Done));
    }
    // Time that is left goes to what ran out of its own, if it may suffice.
    for stage in &stages {
        let is_time_left =
            |task: &Task| deadline.saturating_duration_since(Instant::now()) > SHORTEST.max(task.limit / 2);
        session.stage(stage, deadline, LONGER, |task, status| {
            matches!(status, Some(Status::TimedOut | Status::NotRun)) && is_time_left(task)
        });
    }
    println!("{:.0} s in all; {}", begin.elapsed().as_secs_f64(), args.out.display());
    session.end()
}

/// Holds the folder until the file is closed.
fn lock(folder: &Path) -> Result<File> {
    let file = File::open(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(format!("another run writes into {}; wait for its end, or name another folder", folder.display())
                .into())
        }
        // Some file systems have no locks.
        _ => Ok(file),
    }
}

/// A folder for temporary files: the first with room, or else the first.
fn work_folder(parents: &[PathBuf]) -> Result<TempDir> {
    let mut folders: Vec<_> = parents.iter().map(tempfile::tempdir_in).collect();
    let has_room = |folder: &std::io::Result<TempDir>| {
        folder.as_ref().is_ok_and(|folder| {
            let probe = folder.path().join("room");
            let written = fs::write(&probe, vec![1; ROOM]).is_ok();
            fs::remove_file(probe).is_ok() && written
        })
    };
    let found = folders.iter().position(has_room).or_else(|| folders.iter().position(std::io::Result::is_ok));
    let folder = folders.swap_remove(found.unwrap_or_default());
    folder.map_err(|error| format!("no folder for temporary files: {error}; set TMPDIR").into())
}

struct Session<'a> {
    args: &'a Args,
    results: Results,
    log: String,
    /// The error of the last write, if it failed.
    unwritten: Option<String>,
}

impl Session<'_> {
    /// Describes the adapter, at every start.
    ///
    /// # Errors
    /// Results of another card.
    fn describe(&mut self, stage: &Stage, end: Instant) -> Result<()> {
        let task = &stage.tasks[0];
        let known = self.results.get(stage.name, &task.name).is_some_and(|known| known.status == Status::Done);
        let (outcome, log) = self.job(stage, task, DESCRIBED, end)();
        if let Some(row) = outcome.rows.first() {
            let text = |key| read::text(row, key).to_owned();
            self.results.is_of(&Card { adapter: text("adapter"), driver: text("driver") })?;
        }
        if !known {
            self.finish(outcome, &log);
        }
        Ok(())
    }

    /// Runs the tasks whose status asks for it, each within some of its limits and all until `end`.
    fn stage(&mut self, stage: &Stage, end: Instant, limits: u32, is_open: impl Fn(&Task, Option<Status>) -> bool) {
        self.tasks(stage, &stage.tasks, end, limits, &is_open);
        if let Some(more) = &stage.more {
            let more = more(&self.results);
            self.tasks(stage, &more, end, limits, &is_open);
        }
    }

    fn tasks(
        &mut self,
        stage: &Stage,
        tasks: &[Task],
        end: Instant,
        limits: u32,
        is_open: &impl Fn(&Task, Option<Status>) -> bool,
    ) {
        thread::scope(|scope| {
            let (sender, finished) = mpsc::channel();
            let (mut tasks, mut running) = (tasks.iter(), 0);
            loop {
                let status = |task: &Task| self.results.get(stage.name, &task.name).map(|known| known.status);
                let next = if running < stage.together { tasks.find(|task| is_open(task, status(task))) } else { None };
                if let Some(task) = next {
                    let (job, sender) = (self.job(stage, task, task.limit * limits, end), sender.clone());
                    scope.spawn(move || drop(sender.send(job())));
                    running += 1;
                } else if running > 0 {
                    running -= 1;
                    let (outcome, log) = finished.recv().expect("a running job sends its outcome");
                    self.finish(outcome, &log);
                } else {
                    break;
                }
            }
        });
    }

    /// Runs a task, and returns the outcome and the lines for the log.
    fn job<'a>(
        &self,
        stage: &Stage,
        task: &'a Task,
        limit: Duration,
        end: Instant,
    ) -> impl FnOnce() -> (Outcome, String) + Send + use<'a> {
        let known = self.results.get(stage.name, &task.name).cloned();
        let (stage, prepared) = (stage.name, (task.prepare)(&self.results));
        move || {
            let mut log = String::new();
            let outcome = run_task(stage, task, prepared, known.as_ref(), limit, end, &mut log);
            (outcome, log)
        }
    }

    fn finish(&mut self, outcome: Outcome, log: &str) {
        println!("{}: {}: {}", outcome.stage, outcome.task, summary(&outcome));
        self.log += log;
        let ran = outcome.status != Status::NotRun;
        self.results.put(outcome);
        if ran {
            self.write();
        }
    }

    fn write(&mut self) {
        let first = self.unwritten.is_none();
        self.unwritten = self.write_all().err().map(|error| error.to_string());
        if let (true, Some(reason)) = (first, &self.unwritten) {
            eprintln!("error: {reason}; measuring goes on, and the report comes on stdout");
        }
    }

    fn write_all(&mut self) -> Result<()> {
        let (out, results) = (&self.args.out, &self.results);
        write(&out.join(results::FILE), &serde_json::to_string_pretty(results)?)?;
        write(&out.join("report.md"), &report::markdown(results))?;
        for (file, rows, columns) in tables::all(results) {
            write(&out.join(file), &tables::csv(&rows, columns)?)?;
        }
        for (file, svg) in plots::all(results)? {
            write(&out.join(file), &svg)?;
        }
        write(&out.join(LOG), &self.log)
    }

    fn end(mut self) -> Result<bool> {
        self.write();
        if let Some(reason) = &self.unwritten {
            println!("{}", report::markdown(&self.results));
            return Err(reason.clone().into());
        }
        let complete = |outcome: &Outcome| matches!(outcome.status, Status::Done | Status::LeftOut);
        Ok(self.results.outcomes.iter().all(complete))
    }
}

fn run_task(
    stage: &str,
    task: &Task,
    prepared: Prepared,
    known: Option<&Outcome>,
    limit: Duration,
    end: Instant,
    log: &mut String,
) -> Outcome {
    let mut outcome = Outcome {
        stage: stage.to_owned(),
        task: task.name.clone(),
        status: Status::Done,
        reason: String::new(),
        seconds: 0.0,
        rows: Vec::new(),
    };
    let invocations = match prepared {
        Prepared::Run(invocations) => invocations,
        Prepared::LeftOut(reason) => return Outcome { status: Status::LeftOut, reason, ..outcome },
        Prepared::NotRun(reason) => return Outcome { status: Status::NotRun, reason, ..outcome },
        Prepared::Failed(reason) => return Outcome { status: Status::Failed, reason, ..outcome },
    };
    let mut left = limit;
    for (number, invocation) in invocations.iter().enumerate() {
        let limit = left.min(end.saturating_duration_since(Instant::now()));
        if limit < SHORTEST {
            return Outcome {
                status: Status::NotRun,
                reason: "no time was left; run again to go on".to_owned(),
                ..outcome
            };
        }
        task.reads.clear();
        let finished = child::run(invocation, limit);
        left = left.saturating_sub(Duration::from_secs_f64(finished.seconds));
        outcome.seconds += finished.seconds;
        let (stdout, stderr) = (read::tail(&finished.stdout), read::tail(&finished.stderr));
        let _ = write!(log, "== {stage}: {}\n{stdout}{stderr}\n", task.name);
        match task.reads.rows(&finished, number, known) {
            Ok(rows) => outcome.rows.extend(rows),
            Err(error) => (outcome.status, outcome.reason) = (Status::Failed, error),
        }
        match &finished.ending {
            Ending::Succeeded => {}
            Ending::TimedOut => {
                outcome.status = Status::TimedOut;
                outcome.reason = format!("stopped after {:.0} s", outcome.seconds);
            }
            Ending::Failed(_) if matches!(task.reads, Reads::Optional) => {
                outcome.status = Status::LeftOut;
                outcome.reason = read::last_words(&finished);
            }
            Ending::Failed(reason) => {
                outcome.status = Status::Failed;
                outcome.reason = format!("{reason}: {}", read::last_words(&finished));
            }
        }
        if matches!(task.reads, Reads::Tests(_)) && outcome.status != Status::Done && suite::all_passed(&outcome.rows) {
            // Another try would have no test to run.
            outcome.status = Status::Done;
            outcome.reason = format!("after the last test: {}", outcome.reason);
        }
        if outcome.status != Status::Done {
            break;
        }
    }
    if outcome.status == Status::Failed && stage == plan::ADAPTER {
        outcome.reason += &kit::missing_vulkan_parts();
    }
    outcome
}

fn summary(outcome: &Outcome) -> String {
    let seconds = format!("{:.1} s", outcome.seconds);
    match outcome.status {
        Status::Done if outcome.reason.is_empty() => seconds,
        status => format!("{}, {seconds}: {}", report::word(status), outcome.reason),
    }
}
