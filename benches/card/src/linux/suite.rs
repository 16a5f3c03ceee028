//! The test suite: a task per module, so that a crash ends no other module.

use std::collections::BTreeMap;

use super::child::{Ending, Finished, Invocation};
use super::kit::Kit;
use super::plan::{Prepared, Task};
use super::read::{Reads, text};
use super::results::{Outcome, Results, Row};

pub(crate) const STAGE: &str = "tests";
const LIST: &str = "list";
/// Modules of a quick run.
const QUICK: [&str; 5] = ["buffers", "bf16", "house", "objects", "skip"];

/// The task whose rows are the modules.
pub(crate) fn list(kit: &Kit) -> Task {
    let list = Invocation::new(kit.program("it"), ["--list", "--format", "terse"]);
    Task::of(LIST, 20, Reads::Modules, vec![list])
}

/// A row per module. Fails without tests.
pub(crate) fn listed(finished: &Finished) -> Result<Vec<Row>, String> {
    let modules = modules(&finished.stdout);
    if modules.is_empty() {
        return Err(format!("the test binary lists no tests: {}", super::read::last_words(finished)));
    }
    let row = |(module, tests): (String, Vec<String>)| {
        [("module".to_owned(), module.into()), ("tests".to_owned(), tests.into())].into_iter().collect()
    };
    Ok(modules.into_iter().map(row).collect())
}

/// A task per listed module.
pub(crate) fn tasks(kit: &Kit, quick: bool, results: &Results) -> Vec<Task> {
    let rows = results.get(STAGE, LIST).map(|list| &list.rows[..]).unwrap_or_default();
    let asked = rows.iter().filter(|row| !quick || QUICK.contains(&text(row, "module")));
    let names = |row: &Row| {
        let tests = row.get("tests").and_then(serde_json::Value::as_array).into_iter().flatten();
        tests.filter_map(|test| Some(test.as_str()?.to_owned())).collect()
    };
    asked.map(|row| task(kit, text(row, "module").to_owned(), names(row))).collect()
}

fn task(kit: &Kit, module: String, names: Vec<String>) -> Task {
    let (program, repository) = (kit.program("it"), kit.repository().display().to_string());
    let (own, all) = (module.clone(), names.clone());
    let prepare = move |results: &Results| {
        let passed = passed(results.get(STAGE, &own));
        let open = all.iter().map(String::as_str).filter(|name| !passed.contains(name));
        let words = ["--test-threads", "1", "--exact"].into_iter().chain(open);
        Prepared::Run(vec![Invocation::new(&program, words).with("CARGO_MANIFEST_DIR", &*repository)])
    };
    Task::new(module, 60, Reads::Tests(names), prepare)
}

/// Whether no test is open. A program may fail after its last test.
pub(crate) fn all_passed(rows: &[Row]) -> bool {
    !rows.is_empty() && rows.iter().all(|row| matches!(text(row, "result"), "ok" | "ignored"))
}

/// Test names by the module that contains them.
fn modules(list: &str) -> BTreeMap<String, Vec<String>> {
    let mut modules = BTreeMap::<_, Vec<_>>::new();
    for name in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        let module = name.split("::").next().unwrap_or(name);
        modules.entry(module.to_owned()).or_default().push(name.to_owned());
    }
    modules
}

fn passed(known: Option<&Outcome>) -> Vec<&str> {
    let rows = known.map(|known| &known.rows[..]).unwrap_or_default();
    rows.iter().filter(|row| text(row, "result") == "ok").map(|row| text(row, "test")).collect()
}

/// A row per test: `ok`, `failed`, `ignored`, `crashed` or `not run`.
pub(crate) fn rows(names: &[String], finished: &Finished, known: Option<&Outcome>) -> Vec<Row> {
    let results = results(&finished.stdout);
    let passed = passed(known);
    let row = |name: &String| {
        let result = match results.get(name.as_str()) {
            Some(Some(result)) => result,
            Some(None) if finished.ending == Ending::TimedOut => "stopped",
            Some(None) => "crashed",
            None if passed.contains(&name.as_str()) => "ok",
            None => "not run",
        };
        let mut row = Row::new();
        row.insert("test".to_owned(), name.as_str().into());
        row.insert("result".to_owned(), result.into());
        row
    };
    names.iter().map(row).collect()
}

/// The tests that began, and how each ended. Their own output may come before the result.
fn results(stdout: &str) -> BTreeMap<&str, Option<&'static str>> {
    let (mut results, mut running) = (BTreeMap::new(), None);
    for line in stdout.lines() {
        let begun = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "));
        let rest = match begun {
            Some((name, rest)) => {
                running = Some(name.trim_end_matches(" - should panic"));
                results.insert(name.trim_end_matches(" - should panic"), None);
                rest
            }
            None => line,
        };
        let result = match rest.trim() {
            "ok" => Some("ok"),
            "FAILED" => Some("failed"),
            rest if rest == "ignored" || rest.starts_with("ignored,") => Some("ignored"),
            _ => None,
        };
        if let (Some(name), Some(_)) = (running, result) {
            results.insert(name, result);
            running = None;
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::results::Status;

    fn finished(ending: Ending, stdout: &str) -> Finished {
        Finished { ending, stdout: stdout.to_owned(), stderr: String::new(), seconds: 1.0 }
    }

    fn outcomes(rows: &[Row]) -> Vec<&str> {
        rows.iter().map(|row| text(row, "result")).collect()
    }

    const OUTPUT: &str = "running 5 tests\ntest a::one ... ok\ntest a::two - should panic ... ok\n\
                          test a::three ... noise\nFAILED\ntest a::four ... ignored, slow\ntest a::five ... ";

    fn names() -> Vec<String> {
        ["one", "two", "three", "four", "five", "six"].iter().map(|name| format!("a::{name}")).collect()
    }

    #[test]
    fn every_test_has_a_result() {
        let rows = rows(&names(), &finished(Ending::Failed("killed by signal 11".to_owned()), OUTPUT), None);
        assert_eq!(outcomes(&rows), ["ok", "ok", "failed", "ignored", "crashed", "not run"]);
    }

    #[test]
    fn a_second_run_keeps_what_has_passed() {
        let first = rows(&names(), &finished(Ending::TimedOut, OUTPUT), None);
        assert_eq!(outcomes(&first)[4], "stopped");
        let known = Outcome {
            stage: "tests".to_owned(),
            task: "a".to_owned(),
            status: Status::TimedOut,
            reason: String::new(),
            seconds: 1.0,
            rows: first,
        };
        assert_eq!(passed(Some(&known)), ["a::one", "a::two"]);
        let rest = "test a::three ... ok\ntest a::five ... ok\ntest a::six ... ok\n";
        let second = rows(&names(), &finished(Ending::Succeeded, rest), Some(&known));
        assert_eq!(outcomes(&second), ["ok", "ok", "ok", "not run", "ok", "ok"]);
    }

    #[test]
    fn modules_are_those_of_the_list() {
        let modules = modules("golden::adamw: test\nrules::lion::a: test\nrules::b: test\nnot a test\n");
        assert_eq!(modules["rules"], ["rules::lion::a", "rules::b"]);
        assert_eq!(modules.len(), 2);
    }
}
