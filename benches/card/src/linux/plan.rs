//! The stages, and the tasks of each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::Args;
use super::child::Invocation;
use super::kit::Kit;
use super::read::Reads;
use super::results::Results;
use super::{compare, suite, vectors};

pub(crate) const ADAPTER: &str = "adapter";
/// In the order of the runs.
pub(crate) const STAGES: [&str; 9] =
    [ADAPTER, "steps", "compare", "variants", "first_step", "vectors", "training", "landscape", suite::STAGE];
/// Limits of the stages in seconds: of a run of [`MINUTES`], which they fill, and of a quick run.
const LIMITS: [(u32, u32); STAGES.len()] =
    [(30, 30), (170, 40), (120, 60), (50, 40), (25, 25), (25, 20), (25, 20), (35, 20), (60, 60)];

/// Limits add up to this.
pub(crate) const MINUTES: f64 = 9.0;

/// The rules to measure.
const RULES: &str = "adamw,sgd,sgd_momentum,lion,adam_amsgrad,lamb,adafactor";
/// The rules of a quick run, and the first ones at the largest size.
const FEW: &str = "adamw,lamb";

type More = Box<dyn Fn(&Results) -> Vec<Task>>;

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// Limit of all its tasks.
    pub(crate) limit: Duration,
    pub(crate) tasks: Vec<Task>,
    /// Tasks that are known only after the others.
    pub(crate) more: Option<More>,
    /// Programs at a time; measurements have one.
    pub(crate) together: usize,
}

pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) limit: Duration,
    /// The programs to run, one after the other.
    pub(crate) prepare: Box<dyn Fn(&Results) -> Prepared + Send + Sync>,
    pub(crate) reads: Reads,
}

pub(crate) enum Prepared {
    Run(Vec<Invocation>),
    /// Needs something optional that the machine lacks.
    LeftOut(String),
    /// Needs a task that is open.
    NotRun(String),
    Failed(String),
}

impl Task {
    /// `limit` is in seconds, of a run of [`MINUTES`].
    pub(crate) fn new(
        name: impl Into<String>,
        limit: u32,
        reads: Reads,
        prepare: impl Fn(&Results) -> Prepared + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), limit: Duration::from_secs(limit.into()), prepare: Box::new(prepare), reads }
    }

    pub(crate) fn of(name: impl Into<String>, limit: u32, reads: Reads, invocations: Vec<Invocation>) -> Self {
        Self::new(name, limit, reads, move |_| Prepared::Run(invocations.clone()))
    }
}

/// All stages, in the order of their runs. `work` is a folder for temporary files.
pub(crate) fn stages(kit: &Kit, args: &Args, work: &Path) -> Vec<Stage> {
    let quick = args.quick;
    let programs = Programs { kit, work, seconds: if quick { "0.05" } else { "0.4" } };
    let rules = if quick { FEW } else { RULES };
    let sizes: &[&str] = if quick { &["64Ki", "256Ki"] } else { &["64Mi", "16Mi", "256Mi", "1Mi"] };
    let (middle, tensors, most) = if quick { ("64Ki", "200", "200") } else { ("16Mi", "200,10000", "10000") };

    let describe = Invocation::new(kit.program("throughput"), ["--describe"]);
    let adapter = vec![
        Task::of("describe", 20, Reads::Object, vec![describe]),
        programs.steps("ceilings", 20, &["--rules", "adamw", "--sizes", sizes[0], "--clip", "off"]),
    ];
    let size = |size: &&str| programs.steps(size, 60, &["--rules", rules, "--sizes", size, "--clip", "both"]);
    let mut steps: Vec<_> = sizes.iter().map(size).collect();
    if !quick {
        // Second: no other task stands for it.
        steps.insert(1, programs.steps("max", 60, &["--rules", FEW, "--sizes", "max", "--clip", "both"]));
    }
    let many = ["--sizes", middle, "--clip", "both", "--tensors"];
    steps.push(programs.steps("tensors", 60, &[&["--rules", rules], &many[..], &[tensors]].concat()));
    let groups = format!("0,{most}");
    steps.push(programs.steps(
        "groups",
        30,
        &[&["--rules", "adamw"], &many[..], &[most, "--groups", &groups]].concat(),
    ));
    if !quick {
        // Last: a cut costs the least. Rows of the rules before the cut count.
        let rest: Vec<_> = RULES.split(',').filter(|rule| !FEW.split(',').any(|few| few == *rule)).collect();
        steps.push(programs.steps(
            "max, other rules",
            60,
            &["--rules", &rest.join(","), "--sizes", "max", "--clip", "both"],
        ));
    }
    let variants = if quick { &["64Ki"][..] } else { &["64Mi", "1Mi"] };
    let variants = variants.iter().map(|size| programs.variants(size)).collect();
    let tasks = [
        adapter,
        steps,
        compare::tasks(kit, args, work),
        variants,
        vec![programs.first_steps(if quick { "64Ki" } else { "1Mi" })],
        vectors::tasks(kit, work, quick),
        vec![programs.training(args)],
        vec![programs.landscape(quick)],
        vec![suite::list(kit)],
    ];
    let stage = |((name, (full, small)), tasks): ((_, (u32, u32)), _)| Stage {
        name,
        limit: scaled(Duration::from_secs(if quick { small } else { full }.into()), args),
        tasks: limited(tasks, args),
        more: None,
        together: 1,
    };
    let mut stages: Vec<_> = STAGES.into_iter().zip(LIMITS).zip(tasks).map(stage).collect();
    let tests = stages.last_mut().expect("the tests");
    let (kit, args) = (kit.clone(), args.clone());
    tests.more = Some(Box::new(move |results| limited(suite::tasks(&kit, quick, results), &args)));
    // Tests measure nothing. Half of the cores leave some to the driver's own threads.
    tests.together = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    stages
}

/// Another limit of the whole run divides alike.
fn scaled(limit: Duration, args: &Args) -> Duration {
    limit.mul_f64(args.minutes / MINUTES)
}

fn limited(mut tasks: Vec<Task>, args: &Args) -> Vec<Task> {
    for task in &mut tasks {
        task.limit = scaled(task.limit, args);
    }
    tasks
}

struct Programs<'a> {
    kit: &'a Kit,
    work: &'a Path,
    /// For each case.
    seconds: &'a str,
}

impl Programs<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn throughput(&self, arguments: &[&str], seconds: &str) -> (Invocation, PathBuf) {
        let rows = self.file("rows.json");
        let to = rows.display().to_string();
        let all = [&["--engine", "gpu", "--seconds", seconds, "--json", &to], arguments].concat();
        (Invocation::new(self.kit.program("throughput"), all), rows)
    }

    fn steps(&self, name: &str, limit: u32, arguments: &[&str]) -> Task {
        let (invocation, rows) = self.throughput(arguments, self.seconds);
        Task::of(name, limit, Reads::Rows(rows), vec![invocation])
    }

    fn variants(&self, size: &str) -> Task {
        // Many kernels share this time.
        let seconds = if self.seconds == "0.4" { "6" } else { "0.5" };
        let (invocation, rows) = self.throughput(&["--variants", size], seconds);
        Task::of(size, 40, Reads::Rows(rows), vec![invocation])
    }

    /// Time to the first step with an empty cache of the driver, with a filled one, and without any. One case per process:
    /// a second one would find kernels of the first.
    fn first_steps(&self, size: &str) -> Task {
        let (invocation, rows) = self.throughput(&["--rules", "adamw", "--clip", "on", "--sizes", size], "0");
        let folder = self.file("driver_cache").display().to_string();
        let kept = invocation
            .clone()
            .with("MESA_SHADER_CACHE_DIR", &*folder)
            .with("XDG_CACHE_HOME", &*folder)
            .with("__GL_SHADER_DISK_CACHE_PATH", &*folder);
        let none = invocation.with("MESA_SHADER_CACHE_DISABLE", "true").with("__GL_SHADER_DISK_CACHE", "0");
        let caches = ["empty", "filled", "none"].map(|cache| ("cache", cache)).to_vec();
        Task::of("driver cache", 25, Reads::Labelled(rows, caches), vec![kept.clone(), kept, none])
    }

    fn training(&self, args: &Args) -> Task {
        let data = args.mnist.as_ref().map(|folder| folder.display().to_string());
        let mut words = vec!["--device", "gpu", "--epochs", "2"];
        words.extend(data.iter().flat_map(|folder| ["--data", folder]));
        if args.quick {
            words.extend(["--max-steps", "60"]);
        }
        let name = if data.is_some() { "MNIST" } else { "drawn digits" };
        Task::of(name, 25, Reads::Epochs, vec![Invocation::new(self.kit.program("mlp_mnist"), words)])
    }

    fn landscape(&self, quick: bool) -> Task {
        let folder = self.file("landscape");
        let out = folder.display().to_string();
        let (points, steps) = if quick { ("2304", "50") } else { ("16384", "1000") };
        let words = ["--device", "gpu", "--function", "rosenbrock,himmelblau", "--points", points, "--steps", steps];
        let words = [&words[..], &["--rules", "sgd,sgd_momentum,adam,adamw,lion", "--out", &out]].concat();
        let invocation = Invocation::new(self.kit.program("landscape"), words);
        Task::of(format!("{points} points"), 35, Reads::Markdown(folder.join("races.md")), vec![invocation])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[test]
    fn limits_of_stages_are_the_whole_time() {
        let full: u32 = LIMITS.iter().map(|limit| limit.0).sum();
        let small: u32 = LIMITS.iter().map(|limit| limit.1).sum();
        assert_eq!(f64::from(full), MINUTES * 60.0);
        assert!(small <= full);
    }

    #[test]
    fn every_rule_is_measured_at_the_largest_size() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("version"), "kit 1").expect("written");
        let args = Args::parse_from(["run.sh", "--kit", &folder.path().display().to_string(), "out"]);
        let kit = Kit::open(&args.kit).expect("a kit");
        let stages = stages(&kit, &args, folder.path());
        let rules = stages[1].tasks.iter().filter_map(|task| {
            let Prepared::Run(programs) = (task.prepare)(&Results::default()) else { return None };
            let after = |name| programs[0].arguments.iter().skip_while(|word| *word != name).nth(1).cloned();
            after("--sizes").filter(|size| size == "max").and_then(|_| after("--rules"))
        });
        let rules: Vec<_> = rules.collect();
        assert_eq!(rules, [FEW, "sgd,sgd_momentum,lion,adam_amsgrad,adafactor"]);
        assert_eq!(rules.join(",").split(',').count(), RULES.split(',').count());
    }
}
