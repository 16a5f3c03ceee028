//! Runs the tests on the unbroken copy, then on each breakage.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::report::{Outcome, Report, place};
use super::stage::{Ending, Stage, Workbench};
use super::{Mutant, VALIDATION};

/// How long each stage may take when something is broken.
pub(crate) type Limits = HashMap<Stage, Duration>;

/// Runs every stage unbroken: breakages prove something only where all of them pass.
pub(crate) fn baseline(bench: &Workbench, mutants: &[Mutant], jobs: u8) -> Result<Limits, String> {
    let mut limits = HashMap::new();
    for stage in mutants.iter().flat_map(|mutant| &mutant.stages) {
        if limits.contains_key(stage) {
            continue;
        }
        let executables = bench.build(&[stage], false)?;
        let begin = Instant::now();
        match bench.run(&executables[0], Duration::from_secs(1_800))? {
            Ending::Passed => println!("unbroken: {stage}, {:.1} s", begin.elapsed().as_secs_f64()),
            Ending::Failed(test) => {
                return Err(format!("{stage} fails without a breakage: {test}; see `cargo xtask test`"));
            }
            Ending::Killed => return Err(format!("{stage} was killed from outside")),
            Ending::TimedOut => return Err(format!("{stage} runs for more than half an hour without a breakage")),
        }
        limits.insert(stage.clone(), begin.elapsed() * 3 * u32::from(jobs) + Duration::from_secs(30));
    }
    Ok(limits)
}

/// Checks every breakage, as many at a time as there are workbenches.
pub(crate) fn check_all(
    benches: &[Workbench],
    mutants: &[Mutant],
    limits: &Limits,
    report: &mut Report,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for bench in benches {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut worker = Worker { bench, limits, noticed: HashMap::new() };
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
            report.add(mutant.clone(), outcome);
        }
        Ok(())
    })
}

struct Worker<'a> {
    bench: &'a Workbench,
    limits: &'a Limits,
    /// How many breakages of a shader a stage has noticed: it is the most likely to notice the next.
    noticed: HashMap<(&'a str, &'a Stage), usize>,
}

impl<'a> Worker<'a> {
    fn check(&mut self, mutant: &'a Mutant) -> Result<Outcome, String> {
        let path = self.bench.tree.join(&mutant.file);
        let write =
            |text: &str| fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()));
        write(&mutant.breakage.apply(&mutant.source))?;
        let outcome = self.run_stages(mutant);
        write(&mutant.source)?;
        outcome
    }

    fn run_stages(&mut self, mutant: &'a Mutant) -> Result<Outcome, String> {
        let is_validation = |stage: &Stage| *stage == Stage::Test(VALIDATION.to_string());
        let mut stages: Vec<_> = mutant.stages.iter().collect();
        stages.sort_by_key(|stage| {
            let noticed = self.noticed.get(&(mutant.file.as_str(), *stage)).copied().unwrap_or(0);
            (!is_validation(stage), usize::MAX - noticed)
        });
        // The first two are needed nearly always, and link at the same time.
        let (likely, others) = stages.split_at(stages.len().min(2));
        for group in [likely].into_iter().chain(others.chunks(1)) {
            for (stage, executable) in group.iter().zip(self.bench.build(group, true)?) {
                let limit = self.limits.get(*stage).copied().unwrap_or(Duration::from_secs(600));
                let how = match self.bench.run(&executable, limit)? {
                    Ending::Passed => continue,
                    Ending::Killed => return Ok(Outcome::Undecided(format!("{stage} was killed from outside"))),
                    Ending::Failed(_) if is_validation(stage) => return Ok(Outcome::Invalid),
                    Ending::Failed(test) => format!("{stage}: {test}"),
                    Ending::TimedOut => format!("{stage}: no end within {} s", limit.as_secs()),
                };
                *self.noticed.entry((&mutant.file, stage)).or_default() += 1;
                return Ok(Outcome::Noticed(how));
            }
        }
        Ok(Outcome::Survived)
    }
}
