//! `cargo xtask mutants`: is there a place in the shaders that can be broken without any test noticing?
//!
//! Everything happens in a copy of the repository under `target/mutants`. Each breakage is written into the copy's shader, the
//! tests that could notice it are built and run one binary at a time until one fails, and the shader is mended again.

mod excuse;
mod operators;
mod report;
mod stage;
mod tree;
mod wgsl;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::repository;
use excuse::{excuses, line_of};
use operators::{Breakage, breakages};
use report::{Outcome, Report};
use stage::{Ending, Stage, Workbench};
use wgsl::Shader;

/// Validates every composed shader without a device: what fails here is no WGSL and proves nothing about the other tests.
const VALIDATION: &str = "shaders";

/// The binaries that most often notice, first. All others follow in the order of their names, unit tests last.
const FIRST: [&str; 3] = ["rules", "norm", "steps"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only shaders whose path contains NAME, e.g. `lion` or `rule/`; with `:LINE` behind it, only that line
    #[arg(long)]
    shader: Option<String>,
    /// The examples' own shaders too, checked by the tests in the examples
    #[arg(long)]
    examples: bool,
    /// Print the breakages and run nothing
    #[arg(long)]
    list: bool,
    /// Breakages checked at a time, each in a copy and a build folder of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

/// A breakage and where it is.
#[derive(Clone)]
struct Mutant {
    /// Relative to the repository, with forward slashes.
    file: String,
    line: usize,
    breakage: Breakage,
    source: String,
    /// Why tests cannot notice it, if the shader says so.
    excuse: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let folder = repository().join("target/mutants");
    let benches: Vec<_> = (1..=options.jobs)
        .map(|job| folder.join(job.to_string()))
        .map(|folder| Workbench { tree: folder.join("tree"), target: folder.join("target") })
        .collect();
    // Only what is copied now is read from here on, so that editing can go on during a run.
    for bench in &benches {
        tree::synchronise(&repository(), &bench.tree)?;
    }
    let mutants = find_mutants(&benches[0].tree, options)?;
    if mutants.is_empty() {
        return Err("no shader has a place to break; see `cargo xtask mutants --help` on --shader".to_string());
    }
    let (excused, to_check): (Vec<_>, Vec<_>) = mutants.into_iter().partition(|mutant| mutant.excuse.is_some());
    let mut report = Report::new(excused);
    if options.list {
        for mutant in to_check {
            report.add(mutant, Outcome::NotRun);
        }
        print!("{}", report.table());
        return Ok(ExitCode::SUCCESS);
    }

    let limits = baseline(&benches[0], &to_check, options.jobs)?;
    check_all(&benches, &to_check, &limits, &mut report)?;
    // Had the disk filled up or the driver died, every later breakage would look noticed.
    baseline(&benches[0], &to_check, options.jobs)?;

    let path = folder.join("report.txt");
    fs::write(&path, report.table()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print!("\n{}\n{}", report.table(), report.summary());
    Ok(if report.survivors().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find_mutants(tree: &Path, options: &Options) -> Result<Vec<Mutant>, String> {
    let (name, only_line) = match options.shader.as_deref().map(|name| (name, name.rsplit_once(':'))) {
        Some((_, Some((name, line)))) => (
            name,
            Some(line.parse::<usize>().map_err(|_| format!("--shader {name}:{line}: the line is not a number"))?),
        ),
        Some((name, None)) => (name, None),
        None => ("", None),
    };
    let folders = if options.examples { &["shaders", "examples"][..] } else { &["shaders"] };
    let files = folders.iter().flat_map(|folder| tree::files_below(&tree.join(folder)));
    let mut mutants = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|it| it == "wgsl")) {
        let relative = path.strip_prefix(tree).unwrap_or(&path);
        let file = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        if !file.contains(name) {
            continue;
        }
        let source = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let shader = Shader::parse(&source);
        let excuses = excuses(&shader).map_err(|error| format!("{file}: {error}"))?;
        let all: Vec<_> =
            breakages(&shader).into_iter().map(|breakage| (line_of(&source, breakage.span.start), breakage)).collect();
        if let Some(idle) =
            excuses.iter().find(|excuse| !all.iter().any(|(line, breakage)| excuse.covers(&source, *line, breakage)))
        {
            return Err(format!("{file}:{}: no breakage fits the scope of the excuse \"{}\"", idle.line, idle.reason));
        }
        for (line, breakage) in all.into_iter().filter(|(line, _)| only_line.is_none_or(|only| only == *line)) {
            let excuse = excuses
                .iter()
                .find(|excuse| excuse.covers(&source, line, &breakage))
                .map(|excuse| excuse.reason.clone());
            mutants.push(Mutant { file: file.clone(), line, breakage, source: source.clone(), excuse });
        }
    }
    Ok(mutants)
}

/// The test binaries that could notice a breakage in a shader, the validation of the library's shaders first.
fn stages(tree: &Path, file: &str) -> Vec<Stage> {
    if let Some(example) = file.strip_prefix("examples/").and_then(|path| path.split('/').next()) {
        return vec![Stage::Example(example.to_string())];
    }
    let sources = fs::read_dir(tree.join("tests")).into_iter().flatten().flatten().map(|entry| entry.path());
    let names = sources.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let mut names: Vec<_> = names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect();
    let rank = |name: &String| match FIRST.iter().position(|first| first == name) {
        _ if name == VALIDATION => 0,
        Some(position) => position + 1,
        None => FIRST.len() + 1,
    };
    names.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    names.into_iter().map(Stage::Test).chain([Stage::Lib]).collect()
}

/// Runs every stage unbroken, and tells how long each may take when something is broken.
fn baseline(bench: &Workbench, mutants: &[Mutant], jobs: u8) -> Result<HashMap<Stage, Duration>, String> {
    let mut limits = HashMap::new();
    for mutant in mutants {
        for stage in stages(&bench.tree, &mutant.file) {
            if limits.contains_key(&stage) {
                continue;
            }
            let executable = bench.build(&stage, false)?;
            let begin = Instant::now();
            match bench.run(&executable, Duration::from_secs(1_800))? {
                Ending::Passed => println!("unbroken: {stage}, {:.1} s", begin.elapsed().as_secs_f64()),
                Ending::Failed(test) => {
                    return Err(format!("{stage} fails without a breakage: {test}; see `cargo xtask test`"));
                }
                Ending::TimedOut => {
                    return Err(format!("{stage} runs for more than half an hour without a breakage"));
                }
            }
            limits.insert(stage, begin.elapsed() * 3 * u32::from(jobs) + Duration::from_secs(30));
        }
    }
    Ok(limits)
}

fn check_all(
    benches: &[Workbench],
    mutants: &[Mutant],
    limits: &HashMap<Stage, Duration>,
    report: &mut Report,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for bench in benches {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut worker = Worker { bench, limits, noticed_by: HashMap::new() };
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let result = worker.check(mutant).map(|outcome| (mutant.clone(), outcome, begin.elapsed()));
                    if sender.send(result).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done = 0;
        for result in results {
            // An error ends this loop and drops the receiver, which ends the workers after their current breakage.
            let (mutant, outcome, elapsed) = result?;
            done += 1;
            println!("[{done}/{}] {} {outcome}, {:.1} s", mutants.len(), report::place(&mutant), elapsed.as_secs_f64());
            report.add(mutant, outcome);
        }
        Ok(())
    })
}

struct Worker<'a> {
    bench: &'a Workbench,
    limits: &'a HashMap<Stage, Duration>,
    /// How often a stage noticed a breakage of a shader: the same one is likely to notice the next.
    noticed_by: HashMap<(String, Stage), usize>,
}

impl Worker<'_> {
    fn check(&mut self, mutant: &Mutant) -> Result<Outcome, String> {
        let path = self.bench.tree.join(PathBuf::from(&mutant.file));
        let write =
            |text: &str| fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()));
        write(&mutant.breakage.apply(&mutant.source))?;
        let outcome = self.run_stages(mutant);
        write(&mutant.source)?;
        outcome
    }

    fn run_stages(&mut self, mutant: &Mutant) -> Result<Outcome, String> {
        let validation = Stage::Test(VALIDATION.to_string());
        let mut stages = stages(&self.bench.tree, &mutant.file);
        let times_noticed =
            |stage: &Stage| self.noticed_by.get(&(mutant.file.clone(), stage.clone())).copied().unwrap_or(0);
        stages.sort_by_key(|stage| (*stage != validation, usize::MAX - times_noticed(stage)));
        for stage in stages {
            let executable = self.bench.build(&stage, true)?;
            let limit = self.limits.get(&stage).copied().unwrap_or(Duration::from_secs(600));
            let how = match self.bench.run(&executable, limit)? {
                Ending::Passed => continue,
                Ending::Failed(_) if stage == validation => return Ok(Outcome::Invalid),
                Ending::Failed(test) => format!("{stage}: {test}"),
                Ending::TimedOut => format!("{stage}: no end within {} s", limit.as_secs()),
            };
            *self.noticed_by.entry((mutant.file.clone(), stage)).or_default() += 1;
            return Ok(Outcome::Noticed(how));
        }
        Ok(Outcome::Survived)
    }
}
