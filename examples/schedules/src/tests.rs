use clap::Parser;

use super::*;

fn run_with(options: &[&str]) -> (tempfile::TempDir, Result<[PathBuf; 2]>) {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("pictures").display().to_string();
    let args = Args::parse_from([&["schedules", "--out", &out], options].concat());
    let paths = run(&args);
    (folder, paths)
}

#[test]
fn every_schedule_is_in_the_grid() {
    let (_folder, paths) = run_with(&[]);
    let [svg, png] = paths.expect("pictures");
    let svg = fs::read_to_string(svg).expect("the SVG");
    for name in Schedule::NAMES.iter().chain(&["learning rate", "triangular2", "1-sqrt"]) {
        assert!(svg.lines().any(|line| line == *name), "{name} is missing");
    }
    assert!(fs::read(png).expect("the PNG").starts_with(b"\x89PNG"));
}

#[test]
fn one_is_drawn_from_json_or_a_file() {
    let json = r#"{"name": "cosine", "lr": 0.5, "T_max": 20}"#;
    let (folder, paths) = run_with(&["--json", json, "--steps", "20"]);
    let svg = fs::read(&paths.expect("pictures")[0]).expect("the SVG");
    assert!(String::from_utf8_lossy(&svg).contains("cosine(lr=0.5, T_max=20, eta_min=0.0)"));

    let file = folder.path().join("schedule.json");
    fs::write(&file, json).expect("written");
    let (_folder, paths) = run_with(&["--json", &file.display().to_string(), "--steps", "20"]);
    assert_eq!(fs::read(&paths.expect("pictures")[0]).expect("the SVG"), svg);
}

#[test]
fn what_cannot_be_drawn_is_said() {
    for (options, part) in [
        (&["--json", r#"{"name": "cosin"}"#][..], "cosin"),
        (&["--json", r#"{"name": "cosine", "lr": 0.1, "T_max": 0}"#], "T_max"),
        (&["--json", r#"{"name": "one_cycle", "max_lr": 0.5, "total_steps": 20}"#], "total_steps, which is 20"),
        (&["--json", "no_such_file.json"], "no_such_file.json"),
    ] {
        let error = run_with(options).1.expect_err("an error").to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(Args::try_parse_from(["schedules", "--steps", "5"]).is_err(), "--steps without --json");
}
