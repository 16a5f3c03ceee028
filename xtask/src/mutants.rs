//! `cargo xtask mutants`: is there a place in the shaders that can be broken without any test noticing?
//!
//! The tests are built once, from a copy of the repository under `target/mutants`. Each breakage is written into the
//! built binary. Its modules run one after the other until a test fails. Then the shader in it is mended again.
//!
//! All of it takes hours. What was noticed is written down, so that `--resume` takes an interrupted run up, and subsets
//! (`--shader`, `--test`) add up to a whole.

mod binary;
mod check;
mod excuse;
mod journal;
mod operators;
mod report;
mod stage;
mod tree;
mod wgsl;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use crate::repository;
use check::{baseline, check_all};
use excuse::{Excuse, excuses, line_of};
use journal::Journal;
use operators::{Breakage, breakages};
use report::{Outcome, Report};
use stage::{Stage, Workbench};
use wgsl::Shader;

/// Validates every composed shader without a device: what fails here is no WGSL and proves nothing about the other
/// tests.
const VALIDATION: &str = "shaders";

/// Modules whose tests of a rule have the rule's name. These tests run before all others of a rule's shader.
const RULES: [&str; 3] = ["rules", "tensor_norms", "golden"];

/// The modules that run first for a shader. A shader belongs to the first row with a prefix of its path below `shaders/`.
const MODULES: [(&[&str], &[&str]); 30] = [
    (&["kernels/remap"], &["remap"]),
    (&["kernels/project"], &["projections"]),
    (&["kernels/tensor_steps", "device/own_step", "device/stub/own_step"], &["missing_gradients"]),
    (&["rows", "kernels/row_", "device/active_rows", "device/column_lr", "device/row_", "rules/adam/row"], &["rows"]),
    (&["kernels/loss_scale"], &["grad_scaler"]),
    (&["storage/f16"], &["f16", "precision"]),
    (&["storage/i16", "storage/master", "storage/split", "device/stored_bf16", "device/stub/stored"], &["precision"]),
    (&["random"], &["precision", "projections"]),
    (&["storage/scaled", "storage/dynamic", "storage/companded"], &["quantized_device", "eight_bit"]),
    (&["device/update_blocks"], &["eight_bit"]),
    (&["rules/adafactor", "kernels/factor_", "factors", "device/factored_variance"], &["adafactor"]),
    (&["rules/prodigy"], &["prodigy"]),
    (&["rules/sophia", "rules/schedule_free"], &["rules", "auxiliary"]),
    (&["rules/lamb", "rules/lars", "rules/novograd", "rules/stable_adamw"], &["tensor_norms"]),
    (&["rules/", "rule/"], &["rules"]),
    (&["storage/bf16"], &["bf16"]),
    (&["transform/average", "transform/lookahead", "device/stub/average", "device/stub/lookahead"], &["averages"]),
    (&["kernels/accumulate"], &["accumulate"]),
    (
        &["kernels/sam_", "kernels/perturb", "transform/sam", "kernels/restore_params", "device/stub/param_scale"],
        &["sam", "dropped"],
    ),
    (
        &["transform/clip_", "device/stub/clip_", "kernels/percentile", "device/stub/percentile"],
        &["clip", "metrics", "metrics_layouts"],
    ),
    (&["kernels/segment_", "segments", "device/segment_values"], &["segments", "tensor_norms", "clip"]),
    (&["kernels/part_sums", "device/workgroup_sum", "tile"], &["segments", "tensor_norms", "metrics"]),
    (&["kernels/metric", "device/stub/metric"], &["metrics", "metrics_layouts"]),
    (
        &[
            "kernels/global_norm",
            "kernels/tile_norm",
            "device/tile_total",
            "kernels/scaled_sum",
            "kernels/norm_order",
            "power_of_two",
        ],
        &["norm", "clip", "extremes"],
    ),
    (&["device/workgroup_scaled_sum"], &["norm", "clip"]),
    (&["kernels/decide", "kernels/control", "kernels/bias_correction"], &["step", "skip", "clip"]),
    (&["kernels/auxiliary_update"], &["auxiliary"]),
    (&["device/group_lookup/", "device/step_uniforms/by_group"], &["group_schedules", "step"]),
    (&["device/copy_if"], &["snapshot", "dropped"]),
    (&["kernels/update", "storage/f32", "device/"], &["step", "buffers"]),
];

/// The modules that run next: those that notice most for their time. All others follow by name, unit tests last.
const FIRST: [&str; 9] = ["step", "clip", "skip", "auxiliary", "custom_rule", "buffers", "norm", "rules", "golden"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only shaders whose path contains NAME, e.g. `lion` or `rule/`; with `:LINE` behind it, only that line; may be
    /// given several times
    #[arg(long, value_name = "NAME")]
    shader: Vec<Place>,
    /// Only this module of the tests besides the validation of the shaders; may be given several times
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// The examples' own shaders too, checked by the tests in the examples
    #[arg(long)]
    examples: bool,
    /// Take the word of earlier runs for what was noticed, as long as the shader is the same; tests that have changed
    /// since are not asked again
    #[arg(long)]
    resume: bool,
    /// Print the breakages and run nothing
    #[arg(long)]
    list: bool,
    /// Breakages checked at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
}

/// What `--shader` chooses.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    /// Part of a shader's path.
    name: String,
    line: Option<usize>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, line) = match text.split_once(':') {
            Some((name, line)) => (name, Some(line.parse().map_err(|_| format!("the line is not a number: {line}"))?)),
            None => (text, None),
        };
        Ok(Self { name: name.to_string(), line })
    }
}

/// A breakage, where it is, and who could notice it.
#[derive(Clone)]
struct Mutant {
    /// Relative to the repository, with forward slashes.
    file: String,
    line: usize,
    breakage: Breakage,
    source: String,
    /// Why no test notices it, if the shader says so.
    excuse: Option<Excuse>,
    stages: Vec<Stage>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    let folder = repository().join("target/mutants");
    let bench = Workbench { tree: folder.join("tree"), target: folder.join("target") };
    // Only what is copied now is read from here on, so that editing can go on during a run.
    tree::synchronise(&repository(), &bench.tree)?;
    let mutants = find_mutants(&bench.tree, options)?;
    if mutants.is_empty() {
        return Err("no shader has a place to break; see `cargo xtask mutants --help` on --shader".to_string());
    }
    let mut report = Report::new();
    let mut to_check = Vec::new();
    for mutant in mutants {
        match mutant.excuse.clone() {
            Some(excuse) => report.add(mutant, Outcome::Excused(excuse)),
            None => to_check.push(mutant),
        }
    }
    if options.list {
        for mutant in to_check {
            report.add(mutant, Outcome::NotRun);
        }
        print!("{}\n{}", report.table(), report.summary());
        return Ok(ExitCode::SUCCESS);
    }

    let journal = Journal::open(&folder.join("noticed.txt"))?;
    let is_known = |mutant: &Mutant| options.resume && journal.how(mutant).is_some();
    let (known, to_check): (Vec<_>, Vec<_>) = to_check.into_iter().partition(is_known);
    for mutant in known {
        let how = journal.how(&mutant).unwrap_or_default().to_string();
        report.add(mutant, Outcome::Noticed(how));
    }

    let built = baseline(&bench, &to_check, options.jobs)?;
    check_all(&bench, &to_check, &built, options.jobs, &mut report, &journal)?;
    // Had the disk filled up or the driver died, every later breakage would look noticed.
    if let Err(error) = baseline(&bench, &to_check, options.jobs) {
        journal.forget()?;
        return Err(error);
    }

    let path = folder.join("report.txt");
    let text = format!("{}\n{}", report.table(), report.summary());
    fs::write(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print!("\n{text}");
    Ok(if report.unnoticed().next().is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn find_mutants(tree: &Path, options: &Options) -> Result<Vec<Mutant>, String> {
    let folders = if options.examples { &["shaders", "examples"][..] } else { &["shaders"] };
    let files = folders.iter().flat_map(|folder| tree::files_below(&tree.join(folder)));
    let mut mutants = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|it| it == "wgsl")) {
        let relative = path.strip_prefix(tree).unwrap_or(&path);
        let file = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        let places: Vec<_> = options.shader.iter().filter(|place| file.contains(&place.name)).collect();
        if !options.shader.is_empty() && places.is_empty() {
            continue;
        }
        let source = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let found = mutants_of(&file, &source).map_err(|error| format!("{file}:{error}"))?;
        let is_chosen = |mutant: &Mutant| places.iter().any(|place| place.line.is_none_or(|line| line == mutant.line));
        mutants.extend(found.into_iter().filter(|mutant| places.is_empty() || is_chosen(mutant)));
    }
    for mutant in &mut mutants {
        mutant.stages = stages(tree, &mutant.file, &options.test);
    }
    Ok(mutants)
}

/// The breakages of one shader, excused where it says so. An error begins with the number of a line.
fn mutants_of(file: &str, source: &str) -> Result<Vec<Mutant>, String> {
    let shader = Shader::parse(source);
    let excuses = excuses(&shader)?;
    let with_lines = |breakage: Breakage| (line_of(source, breakage.span.start), breakage);
    let all: Vec<_> = breakages(&shader).into_iter().map(with_lines).collect();
    for excuse in &excuses {
        if !all.iter().any(|(line, breakage)| excuse.covers(source, *line, breakage)) {
            return Err(format!("{}: no breakage fits the scope of this excuse: {}", excuse.line, excuse.reason));
        }
    }
    let mutants = all.into_iter().map(|(line, breakage)| {
        let excuse = excuses.iter().find(|excuse| excuse.covers(source, line, &breakage));
        let (file, source, excuse) = (file.to_string(), source.to_string(), excuse.cloned());
        Mutant { file, line, breakage, source, excuse, stages: Vec::new() }
    });
    Ok(mutants.collect())
}

/// The modules of the tests that could notice a breakage in a shader, the validation of the library's shaders first.
fn stages(tree: &Path, file: &str, chosen: &[String]) -> Vec<Stage> {
    if let Some(example) = file.strip_prefix("examples/").and_then(|path| path.split('/').next()) {
        return vec![Stage::Example(example.to_string())];
    }
    let sources = fs::read_dir(tree.join("tests/it")).into_iter().flatten().flatten().map(|entry| entry.path());
    let names = sources.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let names = names.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string()));
    let mut names: Vec<_> = names.filter(|name| name != "main").collect();
    let order: Vec<_> = [VALIDATION].iter().chain(modules_of(file)).chain(&FIRST).collect();
    let rank = |name: &String| order.iter().position(|first| **first == name).unwrap_or(order.len());
    names.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    let is_chosen = |name: &String| chosen.is_empty() || name == VALIDATION || chosen.contains(name);
    let tests = names.into_iter().filter(is_chosen).map(Stage::Test);
    tests.chain(chosen.is_empty().then_some(Stage::Lib)).collect()
}

/// The row of [`MODULES`] for a shader.
fn row_of(file: &str) -> Option<usize> {
    let path = file.strip_prefix("shaders/")?;
    MODULES.iter().position(|(prefixes, _)| prefixes.iter().any(|prefix| path.starts_with(prefix)))
}

/// The modules that run first for a shader.
fn modules_of(file: &str) -> &'static [&'static str] {
    row_of(file).map_or(&[], |row| MODULES[row].1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_place_is_a_part_of_a_path_with_or_without_a_line() {
        let place = |name: &str, line| Ok(Place { name: name.to_string(), line });
        assert_eq!("rule/".parse(), place("rule/", None));
        assert_eq!("lion.wgsl:12".parse(), place("lion.wgsl", Some(12)));
        assert_eq!("lion:x".parse::<Place>(), Err("the line is not a number: x".to_string()));
    }

    #[test]
    fn breakages_carry_the_excuses_of_their_lines() {
        let source = "fn f() {\n a = b; // equivalent(delete): b is a\n f(); // undetected: a race\n c = d;\n}";
        let mutants = mutants_of("a.wgsl", source).expect("three");
        let excuse = |mutant: &Mutant| (mutant.line, mutant.excuse.as_ref().map(Excuse::to_string));
        let excuses: Vec<_> = mutants.iter().map(excuse).collect();
        let text = |text: &str| Some(text.to_string());
        assert_eq!(excuses, [(2, text("equivalent: b is a")), (3, text("undetected here: a race")), (4, None)]);
    }

    #[test]
    fn every_module_with_a_rank_exists() {
        let mapped = MODULES.iter().flat_map(|(_, modules)| *modules);
        for module in [VALIDATION].iter().chain(&RULES).chain(&FIRST).chain(mapped) {
            let path = repository().join("tests/it").join(module).with_extension("rs");
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }

    #[test]
    fn every_shader_has_modules_and_every_prefix_shaders() {
        let mut used: HashSet<&str> = HashSet::new();
        let files = tree::files_below(&repository().join("shaders"));
        for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "wgsl")) {
            let file = path.strip_prefix(repository()).expect("a file below it").to_str().expect("UTF-8");
            let file = file.replace('\\', "/");
            let row = row_of(&file).unwrap_or_else(|| panic!("{file} has no row in MODULES"));
            used.extend(MODULES[row].0.iter().copied().filter(|prefix| file["shaders/".len()..].starts_with(prefix)));
        }
        for prefix in MODULES.iter().flat_map(|(prefixes, _)| *prefixes) {
            assert!(used.contains(prefix), "no shader belongs to {prefix}");
        }
    }

    #[test]
    fn a_shaders_own_modules_run_after_the_validation_and_before_all_others() {
        let first = |file: &str| stages(&repository(), file, &[])[..3].iter().map(Stage::to_string).collect::<Vec<_>>();
        let path = |name: &str| format!("tests/it/{name}.rs");
        assert_eq!(first("shaders/storage/bf16.wgsl"), ["shaders", "bf16", "step"].map(path));
        assert_eq!(first("shaders/kernels/global_norm.wgsl"), ["shaders", "norm", "clip"].map(path));
        assert_eq!(stages(&repository(), "shaders/factors.wgsl", &[]).last(), Some(&Stage::Lib));
    }

    #[test]
    fn an_excuse_for_nothing_is_an_error() {
        for verdict in ["equivalent", "undetected"] {
            let source = format!("fn f() {{\n a = b; // {verdict}(sign): why\n}}");
            let error = mutants_of("a.wgsl", &source).err().expect("refused");
            assert!(error.starts_with("2: "), "{error}");
        }
    }
}
