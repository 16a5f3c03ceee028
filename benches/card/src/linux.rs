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
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use args::Args;
use child::{Ending, GUARD, guard};
use kit::Kit;
use plan::{Prepared, Stage, Task};
use read::Reads;
use results::{Outcome, Results, Status, write};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// No program is started for less.
const SHORTEST: Duration = Duration::from_secs(1);

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
    let results = Results::open(&args.out, &kit.version, args.quick)?;
    let work = tempfile::tempdir().map_err(|error| format!("no folder for temporary files: {error}; set TMPDIR"))?;
    let mut session = Session { args, results, log: String::new(), unwritten: None };
    let begin = Instant::now();
    // The last files need time, too.
    let deadline = begin + Duration::from_secs_f64(args.minutes * 60.0 * 0.99);
    let asked = |stage: &Stage| args.only.is_empty() || args.only.iter().any(|name| name == stage.name);
    let stages: Vec<_> = plan::stages(&kit, args, work.path()).into_iter().filter(asked).collect();
    for stage in &stages {
        let end = deadline.min(Instant::now() + stage.limit);
        session.stage(stage, end, |task| task.limit, |status| status != Some(Status::Done));
    }
    // Time that is left goes to what ran out of its own.
    for stage in &stages {
        let is_time_left = || deadline.saturating_duration_since(Instant::now()) > SHORTEST;
        let ran_out = |status| matches!(status, Some(Status::TimedOut | Status::NotRun)) && is_time_left();
        session.stage(stage, deadline, |_| Duration::MAX, ran_out);
    }
    println!("{:.0} s in all; {}", begin.elapsed().as_secs_f64(), args.out.display());
    session.end()
}

struct Session<'a> {
    args: &'a Args,
    results: Results,
    log: String,
    /// Why a file could not be written at the last try.
    unwritten: Option<String>,
}

impl Session<'_> {
    /// Runs the tasks whose status asks for it, each within its limit and all until `end`.
    fn stage(
        &mut self,
        stage: &Stage,
        end: Instant,
        limit: impl Fn(&Task) -> Duration,
        is_open: impl Fn(Option<Status>) -> bool,
    ) {
        for task in &stage.tasks {
            let known = self.results.get(stage.name, &task.name);
            if !is_open(known.map(|known| known.status)) {
                continue;
            }
            let outcome = self.task(stage, task, limit(task), end);
            println!("{}: {}: {}", stage.name, task.name, summary(&outcome));
            let ran = outcome.status != Status::NotRun;
            self.results.put(outcome);
            if ran {
                self.write();
            }
        }
    }

    fn task(&mut self, stage: &Stage, task: &Task, limit: Duration, end: Instant) -> Outcome {
        let known = self.results.get(stage.name, &task.name).cloned();
        let mut outcome = Outcome {
            stage: stage.name.to_owned(),
            task: task.name.clone(),
            status: Status::Done,
            reason: String::new(),
            seconds: 0.0,
            rows: Vec::new(),
        };
        let invocations = match (task.prepare)(&self.results) {
            Prepared::Run(invocations) => invocations,
            Prepared::LeftOut(reason) => return Outcome { status: Status::LeftOut, reason, ..outcome },
            Prepared::Failed(reason) => return Outcome { status: Status::Failed, reason, ..outcome },
        };
        let mut left = limit;
        for (number, invocation) in invocations.iter().enumerate() {
            let limit = left.min(end.saturating_duration_since(Instant::now()));
            if limit < SHORTEST {
                // An earlier try may have gone further.
                let reason = "no time was left; run again to go on".to_owned();
                let rows = known.map_or_else(Vec::new, |known| known.rows);
                return Outcome { status: Status::NotRun, reason, rows, ..outcome };
            }
            task.reads.clear();
            let finished = child::run(invocation, limit);
            left = left.saturating_sub(Duration::from_secs_f64(finished.seconds));
            outcome.seconds += finished.seconds;
            self.keep(stage, task, &finished);
            match task.reads.rows(&finished, number, known.as_ref()) {
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
            if outcome.status != Status::Done {
                break;
            }
        }
        if outcome.status == Status::Failed && stage.name == plan::ADAPTER {
            outcome.reason += &kit::what_vulkan_lacks();
        }
        outcome
    }

    fn keep(&mut self, stage: &Stage, task: &Task, finished: &child::Finished) {
        let (stdout, stderr) = (read::tail(&finished.stdout), read::tail(&finished.stderr));
        let _ = write!(self.log, "== {}: {}\n{stdout}{stderr}\n", stage.name, task.name);
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
        write(&out.join("log.txt"), &self.log)
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

fn summary(outcome: &Outcome) -> String {
    let seconds = format!("{:.1} s", outcome.seconds);
    match outcome.status {
        Status::Done => seconds,
        status => format!("{}, {seconds}: {}", report::word(status), outcome.reason),
    }
}
