//! Runs the tests on the unbroken copy, then on each breakage.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::binary::{Binary, fit};
use super::journal::Journal;
use super::report::{Outcome, Report, place};
use super::stage::{Ending, Stage, Workbench};
use super::{Mutant, RULES, VALIDATION};

/// The executable of a stage.
pub(crate) struct Executable {
    path: PathBuf,
    tests: Vec<String>,
    /// The time it may take when something is broken.
    limit: Duration,
}

pub(crate) type Built = HashMap<Stage, Executable>;

/// Runs every stage unbroken: breakages prove something only where all of them pass.
pub(crate) fn baseline(bench: &Workbench, mutants: &[Mutant], jobs: u8) -> Result<Built, String> {
    let mut built = HashMap::new();
    for stage in mutants.iter().flat_map(|mutant| &mutant.stages) {
        if built.contains_key(stage) {
            continue;
        }
        let path = bench.build(stage)?;
        let tests = bench.tests(stage, &path)?;
        let begin = Instant::now();
        match bench.run(&path, &tests, Duration::from_secs(1_800))? {
            Ending::Passed => println!("unbroken: {stage}, {:.1} s", begin.elapsed().as_secs_f64()),
            Ending::Failed(test) => {
                return Err(format!("{stage} fails without a breakage: {test}; see `cargo xtask test`"));
            }
            Ending::Killed => return Err(format!("{stage} was killed from outside")),
            Ending::TimedOut => return Err(format!("{stage} runs for more than half an hour without a breakage")),
        }
        let limit = begin.elapsed() * 3 * u32::from(jobs) + Duration::from_secs(30);
        built.insert(stage.clone(), Executable { path, tests, limit });
    }
    Ok(built)
}

/// Checks every breakage, `jobs` at a time.
pub(crate) fn check_all(
    bench: &Workbench,
    mutants: &[Mutant],
    built: &Built,
    jobs: u8,
    report: &mut Report,
    journal: &Journal,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for job in 1..=jobs {
            let (sender, next) = (sender.clone(), &next);
            let folder = bench.target.join(format!("broken-{job}"));
            scope.spawn(move || {
                let mut worker = Worker { bench, folder, binaries: HashMap::new(), built, noticed: HashMap::new() };
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let result = worker.check(mutant).map(|outcome| (mutant, outcome, begin.elapsed()));
                    if sender.send(result).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (done, result) in (1..).zip(results) {
            // An error ends this loop and drops the receiver, which ends the workers after their current breakage.
            let (mutant, outcome, elapsed) = result?;
            println!("[{done}/{}] {} {outcome}, {:.1} s", mutants.len(), place(mutant), elapsed.as_secs_f64());
            if let Outcome::Noticed(how) = &outcome {
                journal.add(mutant, how)?;
            }
            report.add(mutant.clone(), outcome);
        }
        Ok(())
    })
}

struct Worker<'a> {
    bench: &'a Workbench,
    /// Of its own binaries.
    folder: PathBuf,
    /// By the executable they are copies of: stages may share one.
    binaries: HashMap<&'a Path, Binary>,
    built: &'a Built,
    /// How many breakages of a shader a stage has noticed: it is the most likely to notice the next.
    noticed: HashMap<(&'a str, &'a Stage), usize>,
}

impl<'a> Worker<'a> {
    fn check(&mut self, mutant: &'a Mutant) -> Result<Outcome, String> {
        let is_validation = |stage: &Stage| *stage == Stage::Test(VALIDATION.to_string());
        let Some(broken) = fit(&mutant.breakage.apply(&mutant.source), mutant.source.len()) else {
            return Ok(Outcome::Undecided("too little indentation to make room for it".to_string()));
        };
        let mut stages: Vec<_> = mutant.stages.iter().collect();
        stages.sort_by_key(|stage| {
            let noticed = self.noticed.get(&(mutant.file.as_str(), *stage)).copied().unwrap_or(0);
            usize::MAX - noticed
        });
        let all = stages.into_iter().map(|stage| (stage, ""));
        // Runs a rule's own tests before all others but the validation.
        let name = mutant.file.strip_prefix("shaders/rules/").and_then(|name| name.strip_suffix(".wgsl"));
        let of_rules = |stage: &Stage| RULES.iter().any(|rules| *stage == Stage::Test((*rules).to_string()));
        let own = mutant.stages.iter().filter(|stage| of_rules(stage)).filter_map(|stage| Some((stage, name?)));
        let (validation, others): (Vec<_>, Vec<_>) = all.partition(|(stage, _)| is_validation(stage));
        let runs = validation.into_iter().chain(own).chain(others);
        let mut is_built_in = false;
        for (stage, filter) in runs {
            let Some(ending) = self.run(mutant, stage, filter, &broken)? else { continue };
            is_built_in = true;
            let how = match ending {
                Ending::Passed => continue,
                Ending::Killed => return Ok(Outcome::Undecided(format!("{stage} was killed from outside"))),
                Ending::Failed(_) if is_validation(stage) => return Ok(Outcome::Invalid),
                Ending::Failed(test) => format!("{stage}: {test}"),
                Ending::TimedOut => format!("{stage}: no end in time"),
            };
            *self.noticed.entry((&mutant.file, stage)).or_default() += 1;
            return Ok(Outcome::Noticed(how));
        }
        if is_built_in { Ok(Outcome::Survived) } else { Err(format!("no test binary contains {}", mutant.file)) }
    }

    /// Runs the tests of a stage whose names contain `filter`, with the breakage in their binary. `None` where there are
    /// none, or where the binary lacks the shader.
    fn run(&mut self, mutant: &Mutant, stage: &'a Stage, filter: &str, broken: &str) -> Result<Option<Ending>, String> {
        let Some(Executable { path, tests, limit }) = self.built.get(stage) else {
            return Err(format!("{stage} was not built"));
        };
        let tests: Vec<_> = tests.iter().filter(|test| test.contains(filter)).collect();
        if tests.is_empty() {
            return Ok(None);
        }
        let binary = match self.binaries.entry(path) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Binary::copy(path, &self.folder)?),
        };
        if !binary.write(&mutant.file, &mutant.source, broken)? {
            return Ok(None);
        }
        let ending = self.bench.run(&binary.path, tests, *limit);
        binary.write(&mutant.file, &mutant.source, &mutant.source)?;
        ending.map(Some)
    }
}
