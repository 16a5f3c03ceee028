//! The driver with kits made of shell scripts: stages, limits, resumption, full disks, interruption.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const CARD: &str = env!("CARGO_BIN_EXE_card");

/// A kit whose programs are scripts, and a folder for its results.
struct Fake {
    folder: tempfile::TempDir,
}

const DESCRIBE: &str = r#"{"adapter": "a card", "driver": "a driver", "backend": "Vulkan", "software": false,
    "subgroup_min_size": 32, "subgroup_max_size": 32, "limits": {"max_buffer_size": 7}, "features": ["SUBGROUP"]}"#;
const ROWS: &str = r#"[{"adapter": "a card", "driver": "a driver", "engine": "gpu", "rule": "adamw", "clip": true,
    "elements": 65536, "tensors": 1, "seconds_median": 0.001, "wall_seconds_median": 0.002, "bytes_per_second": 2e9,
    "ceiling_ratio": 0.9, "stream_bytes_per_second": 3e9, "copy_bytes_per_second": 4e9, "record_microseconds": 5.0,
    "first_step_seconds": 0.25}]"#;

impl Fake {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().expect("a folder") };
        for folder in ["kit/bin", "kit/compare", "kit/repository/tests/golden"] {
            fs::create_dir_all(fake.path(folder)).expect("a folder");
        }
        fs::write(fake.path("kit/version"), "kit 1\n").expect("written");
        fs::write(fake.path("describe.json"), DESCRIBE).expect("written");
        fs::write(fake.path("rows.json"), ROWS).expect("written");
        fake.throughput("", "");
        fake.program(
            "it",
            "case \"$*\" in *--list*) printf 'skip::a: test\\nskip::b: test\\nhouse::c: test\\n'; exit;; esac\n\
             for name; do case $name in *::*) echo \"test $name ... ok\";; esac; done",
        );
        fake.program("mlp_mnist", "echo 'epoch 1/2: train loss 0.5, test accuracy 97.00 %, 2.0 s, 30000 examples/s'");
        fake.program(
            "landscape",
            "while [ \"$1\" != --out ]; do shift; done; mkdir -p $2; echo '# Races' > $2/races.md",
        );
        fake.program("replay", "exit 1");
        fake.program("python", "echo 'no torch: none here' >&2; exit 1");
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("kit/bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A measuring program that writes rows between two parts. Each may name files of the folder.
    fn throughput(&self, first: &str, last: &str) {
        let data = self.folder.path().display();
        let script = format!(
            "cd {data}\ncase \"$*\" in --describe) exec cat describe.json;; esac\n\
             {first}\nwhile [ \"$1\" != --json ]; do shift; done\ncp rows.json \"$2\"\n{last}"
        );
        self.program("throughput", &script);
    }

    fn words(&self, more: &[&str]) -> Vec<String> {
        let [kit, out, python] = ["kit", "out", "kit/bin/python"].map(|name| self.path(name).display().to_string());
        let words = ["--quick", "--kit", &kit, "--python", &python, &out];
        words.iter().chain(more).map(ToString::to_string).collect()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(CARD);
        command.args(self.words(more)).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Whether the driver succeeded.
    fn run(&self, more: &[&str]) -> bool {
        self.command(more).output().expect("the driver").status.success()
    }

    /// Status, and reason, of a task.
    fn outcome(&self, stage: &str, task: &str) -> (String, String) {
        let outcome = self.find(stage, task).unwrap_or_else(|| panic!("no {stage}: {task}"));
        let text = |key: &str| outcome[key].as_str().expect("a text").to_owned();
        (text("status"), text("reason"))
    }

    fn status(&self, stage: &str, task: &str) -> String {
        self.outcome(stage, task).0
    }

    fn find(&self, stage: &str, task: &str) -> Option<Value> {
        let results: Value = serde_json::from_str(&self.read("results.json")).expect("JSON");
        let outcomes = results["outcomes"].as_array().expect("a list");
        outcomes.iter().find(|outcome| outcome["stage"] == stage && outcome["task"] == task).cloned()
    }

    fn rows(&self, stage: &str, task: &str) -> usize {
        self.find(stage, task).and_then(|outcome| outcome["rows"].as_array().map(Vec::len)).unwrap_or_default()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("out").join(name)).expect(name)
    }
}

fn only(stages: &str) -> [&str; 2] {
    ["--only", stages]
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[test]
fn a_failed_stage_stops_no_other() {
    let fake = Fake::new();
    // The vectors are missing, and so is torch.
    assert!(!fake.run(&[]));
    assert_eq!(fake.status("vectors", "adamw/clip_schedule"), "failed");
    assert_eq!(fake.outcome("compare", "python"), ("left_out".to_owned(), "no torch: none here".to_owned()));
    for (stage, task) in [("adapter", "describe"), ("tests", "skip"), ("steps", "64Ki"), ("landscape", "2304 points")] {
        assert_eq!(fake.status(stage, task), "done", "{stage}: {task}");
    }
    let report = fake.read("report.md");
    let words =
        ["# a card", "adamw.safetensors", "no torch", "- ok: 3", "| drawn digits | 1/2 | 2.0 | 30000", "2.0 (0.90)"];
    for words in words {
        assert!(report.contains(words), "{words} is missing: {report}");
    }
    assert!(fake.read("steps.csv").lines().count() > 3);
    assert!(fake.read("rules.svg").contains("adamw, clipped"));
    assert!(fake.read("log.txt").contains("== training: drawn digits\nepoch 1/2"));
    let files: Vec<_> = fs::read_dir(fake.path("out")).expect("a folder").flatten().collect();
    assert!(files.len() <= 8, "{files:?}");
    let plain = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
    assert!(files.iter().all(|file| file.file_name().to_str().is_some_and(plain)), "{files:?}");
}

#[test]
fn what_the_machine_lacks_fails_nothing() {
    let fake = Fake::new();
    assert!(fake.run(&only("adapter,compare")));
    fs::remove_file(fake.path("kit/bin/python")).expect("removed");
    assert!(fake.run(&only("compare")));
    let (status, reason) = fake.outcome("compare", "python");
    assert!(status == "left_out" && reason.contains("No such file"), "{reason}");
}

#[test]
fn without_an_adapter_every_stage_has_its_reason() {
    let fake = Fake::new();
    fake.program("throughput", "echo 'Error: no adapter' >&2; exit 1");
    let output = fake.command(&only("adapter,steps,training")).env("VK_DRIVER_FILES", "/gone.json").output();
    assert!(!output.expect("the driver").status.success());
    let (status, reason) = fake.outcome("adapter", "describe");
    assert_eq!(status, "failed");
    assert!(reason.starts_with("exit code 1: Error: no adapter; missing: "), "{reason}");
    assert!(reason.contains("a driver manifest at the paths in VK_DRIVER_FILES"), "{reason}");
    assert!(fake.outcome("steps", "64Ki").1.contains("no adapter"));
    assert_eq!(fake.status("training", "drawn digits"), "done");
    assert!(fake.read("report.md").starts_with("# No adapter"));
}

#[test]
fn a_second_run_measures_only_what_is_open() {
    let fake = Fake::new();
    fake.program("mlp_mnist", "exit 1");
    assert!(!fake.run(&only("adapter,training")));
    let before = fake.find("adapter", "describe");
    // The done tasks would fail now.
    fake.program("throughput", "exit 1");
    fake.program("mlp_mnist", "echo 'epoch 1/2: train loss 0.5, 2.0 s, 30000 examples/s'");
    assert!(fake.run(&only("adapter,training")));
    assert_eq!(fake.find("adapter", "describe"), before);
}

#[test]
fn tests_that_crash_are_named_and_run_again_alone() {
    let fake = Fake::new();
    let list = "case \"$*\" in *--list*) printf 'skip::a: test\\nskip::b: test\\nskip::c: test\\n'; exit;; esac\n";
    fake.program("it", &format!("{list}echo 'test skip::a ... ok'; printf 'test skip::b ... '; kill -SEGV $$"));
    assert!(!fake.run(&only("tests")));
    let (_, reason) = fake.outcome("tests", "skip");
    assert!(reason.starts_with("killed by signal 11"), "{reason}");
    let report = fake.read("report.md");
    assert!(report.contains("- crashed: 1: skip::b") && report.contains("- not run: 1: skip::c"), "{report}");
    let passes = "for name; do case $name in *::a) exit 1;; *::*) echo \"test $name ... ok\";; esac; done";
    fake.program("it", &format!("{list}{passes}"));
    assert!(fake.run(&only("tests")), "what has passed is not run again");
    assert!(fake.read("report.md").contains("- ok: 3"));
}

#[test]
fn a_program_is_killed_at_its_limit_with_all_that_it_started() {
    let fake = Fake::new();
    let late = fake.path("late");
    let epoch = "echo 'epoch 1/2: train loss 0.5, 2.0 s, 30000 examples/s'";
    fake.program("mlp_mnist", &format!("{epoch}\n(sleep 5; touch {}) & sleep 60", late.display()));
    let start = Instant::now();
    assert!(!fake.run(&["--only", "training", "--minutes", "0.15"]));
    assert!(start.elapsed() < Duration::from_secs(10));
    let (status, reason) = fake.outcome("training", "drawn digits");
    assert_eq!((&*status, &*reason), ("timed_out", "stopped after 1 s"));
    assert_eq!(fake.rows("training", "drawn digits"), 1, "what was printed before counts");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!late.exists(), "the second process lives on");
}

#[test]
fn time_that_is_left_goes_to_what_ran_out() {
    let fake = Fake::new();
    fake.program("mlp_mnist", "sleep 7; echo 'epoch 1/2: train loss 0.5, 2.0 s, 30000 examples/s'");
    // A fifth of each limit: 5 of 25 seconds, and up to 15 in the second try.
    let output = fake.command(&["--only", "training", "--minutes", "1.8"]).output().expect("the driver");
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("training: drawn digits: out of time, "), "{stdout}");
}

#[test]
fn without_time_nothing_is_done() {
    let fake = Fake::new();
    assert!(!fake.run(&["--only", "adapter", "--minutes", "0"]));
    assert_eq!(fake.status("adapter", "describe"), "not_run");
    assert!(fake.read("report.md").contains("| describe, ceilings not run: no time was left"));
    assert!(fake.run(&only("adapter")));
}

#[test]
fn a_later_try_keeps_the_rows_of_an_earlier_one() {
    let fake = Fake::new();
    fake.throughput("[ -e once ] && exit 1; touch once", "sleep 60");
    assert!(!fake.run(&["--only", "steps", "--minutes", "0.4"]));
    // The second try, in the time that was left, failed at once.
    assert_eq!(fake.status("steps", "64Ki"), "failed");
    assert_eq!(fake.rows("steps", "64Ki"), 1);
    assert!(!fake.run(&["--only", "steps", "--minutes", "0"]));
    assert_eq!(fake.status("steps", "64Ki"), "not_run");
    assert_eq!(fake.rows("steps", "64Ki"), 1);
}

#[test]
fn a_task_ended_between_its_programs_keeps_its_rows() {
    let fake = Fake::new();
    // After the first program, less than a second is left.
    fake.throughput("[ -e once ] && exit 1; touch once", "sleep 0.3");
    assert!(!fake.run(&["--only", "first_step", "--minutes", "0.4"]));
    assert_eq!(fake.rows("first_step", "driver cache"), 1);
}

const TORCH: &str = r#"{ echo '{"kind": "cpu", "torch": "2"}'; exit; }"#;
const COMPARED: &str = r#"while [ "$1" != --json ]; do shift; done; echo '[{"engine": "wgpu-optim (gpu)"}]' > "$2""#;

#[test]
fn torch_found_at_the_second_look_is_compared() {
    let fake = Fake::new();
    let data = fake.folder.path().display();
    let look = format!("[ -e {data}/once ] && {TORCH}; touch {data}/once; sleep 60");
    fake.program("python", &format!("case $1 in -c) {look};; esac; {COMPARED}"));
    let output = fake.command(&["--only", "compare", "--minutes", "0.4"]).output().expect("the driver");
    let stdout = text(&output.stdout);
    assert!(output.status.success() && stdout.contains("compare: python: out of time"), "{stdout}");
    assert_eq!(fake.rows("compare", "65536:1"), 1);
}

#[test]
fn a_look_for_torch_that_hangs_leaves_time_and_fails_the_run() {
    let fake = Fake::new();
    fake.program("python", "sleep 60");
    let start = Instant::now();
    assert!(!fake.run(&["--only", "compare,training", "--minutes", "0.4"]));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?} of 24 s", start.elapsed());
    assert_eq!(fake.status("compare", "65536:1"), "not_run");
    assert_eq!(fake.status("training", "drawn digits"), "done");
}

#[test]
fn results_of_another_card_are_left_alone() {
    let fake = Fake::new();
    assert!(fake.run(&only("training")), "the card is described at every start");
    for (known, other) in [("a card", "another card"), ("a driver", "a newer driver")] {
        fs::write(fake.path("describe.json"), DESCRIBE.replace(known, other)).expect("written");
        let before = fake.read("results.json");
        let output = fake.command(&only("adapter")).output().expect("the driver");
        let stderr = text(&output.stderr);
        assert!(
            !output.status.success() && stderr.contains(other) && stderr.contains("name another folder"),
            "{stderr}"
        );
        assert_eq!(fake.read("results.json"), before);
    }
}

#[test]
fn a_list_of_tests_that_hangs_is_stopped() {
    let fake = Fake::new();
    fake.program("it", "sleep 60");
    let start = Instant::now();
    assert!(!fake.run(&["--only", "tests", "--minutes", "0.3"]));
    assert_eq!(fake.status("tests", "list"), "timed_out");
    let others = Instant::now();
    fake.run(&only("adapter"));
    assert!(others.elapsed() < Duration::from_secs(1), "other stages list no tests");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_failure_after_the_last_test_is_a_note() {
    let fake = Fake::new();
    fake.program(
        "it",
        "case \"$*\" in *--list*) printf 'skip::a: test\\n'; exit;; esac; echo \"test skip::a ... ok\"; exit 7",
    );
    assert!(fake.run(&only("tests")));
    let (status, reason) = fake.outcome("tests", "skip");
    assert!(status == "done" && reason.contains("exit code 7"), "{status}: {reason}");
    assert!(fake.read("report.md").contains("done: after the last test: exit code 7"));
    let before = fake.find("tests", "skip");
    assert!(fake.run(&only("tests")));
    assert_eq!(fake.find("tests", "skip"), before, "nothing is left to run");
}

#[test]
fn a_folder_has_one_run_at_a_time() {
    let fake = Fake::new();
    fake.program("mlp_mnist", &format!("touch {}; sleep 60", fake.path("begun").display()));
    let mut first = fake.command(&only("training")).spawn().expect("the driver");
    assert!(until(|| fake.path("begun").exists()), "the program began");
    let second = fake.command(&only("adapter")).output().expect("the driver");
    first.kill().expect("killed");
    first.wait().expect("ended");
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("another run writes"), "{}", text(&second.stderr));
}

#[test]
fn the_log_of_an_earlier_run_is_kept() {
    let fake = Fake::new();
    assert!(fake.run(&only("training")));
    let first = fake.read("log.txt");
    assert!(first.contains("== training"));
    assert!(fake.run(&only("landscape")));
    let second = fake.read("log.txt");
    assert!(second.starts_with(&first) && second.contains("== landscape"), "{second}");
}

#[test]
fn without_a_folder_for_temporary_files_shared_memory_serves() {
    let fake = Fake::new();
    let output = fake.command(&only("adapter")).env("TMPDIR", "/gone").output().expect("the driver");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_link_to_the_kit_starts_it() {
    let fake = Fake::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("run.sh");
    fs::copy(script, fake.path("kit/run.sh")).expect("copied");
    fs::write(fake.path("kit/glibc"), "2.1\n").expect("written");
    fake.program("card", "echo \"$@\"");
    let link = fake.path("link");
    std::os::unix::fs::symlink("kit/run.sh", &link).expect("a link");
    let output = Command::new(&link).arg("out").output().expect("a shell");
    let said = text(&output.stdout);
    assert!(said.starts_with("--kit ") && said.ends_with("/kit out\n"), "{said}{}", text(&output.stderr));
}

#[test]
fn on_a_full_disk_the_report_comes_on_stdout() {
    let fake = Fake::new();
    assert!(fake.run(&only("adapter")));
    let before = fake.read("results.json");
    // A limit on the length of files ends each write as a full disk does.
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, CARD]).args(fake.words(&only("training")));
    let Output { status, stdout, stderr } = shell.output().expect("a shell");
    assert!(!status.success());
    let (stdout, stderr) = (text(&stdout), text(&stderr));
    assert!(stderr.contains("cannot be written"), "{stderr}");
    assert!(stdout.contains("# a card") && stdout.contains("| drawn digits | 1/2"), "{stdout}");
    assert_eq!(fake.read("results.json"), before, "the old results are whole");
}

#[test]
fn an_interrupted_run_leaves_no_process_and_is_resumed() {
    let fake = Fake::new();
    let pid = fake.path("pid");
    // A process of the program's own, as throughput below Python.
    fake.program("mlp_mnist", &format!("sleep 60 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display()));
    let mut driver = fake.command(&only("adapter,training")).spawn().expect("the driver");
    assert!(until(|| pid.exists()), "the program began");
    driver.kill().expect("killed");
    driver.wait().expect("ended");
    let process = Path::new("/proc").join(fs::read_to_string(&pid).expect("a number").trim());
    assert!(until(|| !process.exists()), "the program ended with the driver");
    assert_eq!(fake.status("adapter", "describe"), "done");
    assert!(fake.find("training", "drawn digits").is_none());
    fake.program("mlp_mnist", "echo 'epoch 1/2: train loss 0.5, 2.0 s, 30000 examples/s'");
    assert!(fake.run(&only("adapter,training")));
}

#[test]
fn results_of_another_kit_are_left_alone() {
    let fake = Fake::new();
    assert!(fake.run(&only("adapter")));
    fs::write(fake.path("kit/version"), "kit 2\n").expect("written");
    let before = fake.read("results.json");
    let output = fake.command(&only("adapter")).output().expect("the driver");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("name another folder"), "{}", text(&output.stderr));
    assert_eq!(fake.read("results.json"), before);
}

#[test]
fn endless_output_is_cut() {
    let fake = Fake::new();
    // 64 MiB on each.
    let lines = "yes 'a line of the output' | head -c 67108864";
    let memory = fake.path("memory");
    // The parent of the guard is the driver.
    let driver = "driver=$(sed -n 's/^PPid:[^0-9]*//p' /proc/$PPID/status)";
    let state = format!("cp /proc/$driver/status {}", memory.display());
    fake.program("mlp_mnist", &format!("{driver}; {lines}; {lines} >&2; {state}; exit 1"));
    assert!(!fake.run(&only("training")));
    let status = fs::read_to_string(memory).expect("the state of the driver");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 48 << 10, "{kib} KiB");
    assert!(fake.read("log.txt").contains("a line of the output"));
}

/// Waits for a condition, for ten seconds.
fn until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    condition()
}
