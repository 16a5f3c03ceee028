//! The facts that textbooks tell of these functions, and both engines against an independent f64 reading of them.

use wgpu_optim::Gpu;

use crate::basins::Basins;
use crate::paths::Paths;
use crate::race::{Course, Entry, Record, race};
use crate::{Run, movie, table};
use examples_common::device::Device;
use examples_common::functions::{FUNCTIONS, Function};
use examples_common::rules::rules;
use examples_common::{files, picture};

fn function(name: &str) -> &'static Function {
    FUNCTIONS.iter().find(|function| function.name == name).expect(name)
}

fn entry(name: &str, lr: f64) -> Entry {
    let rules = rules(&[name.to_owned()]).expect(name);
    Entry::new(name, &rules[0].1, lr).expect(name)
}

fn engines() -> [Device; 2] {
    [Device::Cpu, Device::Gpu(pollster::block_on(Gpu::new()).expect("an adapter"))]
}

/// The records of rules with these learning rates from one point, once for each engine.
fn descend<const N: usize>(name: &str, start: &[f32], steps: u32, rules: [(&str, f64); N]) -> [[Record; N]; 2] {
    let course = Course { function: function(name), starts: start, few_starts: start, steps, frames: &[], path: true };
    let entries = rules.map(|(name, lr)| entry(name, lr));
    engines().map(|device| race(&device, &course, &entries).expect(name).try_into().expect("a record for each"))
}

fn end(record: &Record) -> [f32; 2] {
    *record.path.last().expect("a path")
}

fn near(a: f32, b: f64, tolerance: f64) -> bool {
    (f64::from(a) - b).abs() <= tolerance
}

/// x² from 5: too large a rate diverges, too small a one crawls.
#[test]
fn on_the_square_the_learning_rate_decides() {
    for [large, small, right] in descend("square", &[5.0], 1_000, [("sgd", 1.1), ("sgd", 0.001), ("sgd", 0.1)]) {
        let first: Vec<_> = large.path[..3].iter().map(|point| point[0]).collect();
        assert!(near(first[0], 5.0, 0.0) && near(first[1], -6.0, 1e-5) && near(first[2], 7.2, 1e-5), "{first:?}");
        assert!(!end(&large)[0].is_finite() && large.arrivals == [None], "{large:?}");
        assert!(near(end(&small)[0], 5.0 * 0.998_f64.powi(1_000), 1e-3) && near(end(&small)[0], 0.67, 0.01));
        assert!(near(right.path[50][0], 5.0 * 0.8_f64.powi(50), 1e-6) && near(right.path[50][0], 0.0, 1e-4));
        // 25 · 0.8²ᵗ is at most 0.01.
        assert_eq!(right.arrivals, [Some(18)]);
    }
}

#[test]
fn on_rosenbrock_adam_beats_momentum_which_beats_gradient_descent() {
    let rules = [("adam", 0.01), ("sgd_momentum", 1e-4), ("sgd", 5e-4)];
    for records in descend("rosenbrock", &[-1.0, 1.0], 5_000, rules) {
        let [adam, momentum, descent] = records.map(|record| rosenbrock(end(&record).map(f64::from)));
        assert!(adam < 0.1 * momentum && momentum < 0.7 * descent, "{adam}, {momentum}, {descent}");
        assert!(descent < 0.5, "{descent}");
    }
}

#[test]
fn momentum_and_adam_leave_the_saddle_sooner() {
    let rules = [("sgd", 0.01), ("sgd_momentum", 0.01), ("adam", 0.01)];
    for records in descend("saddle", &[0.01, 0.01], 400, rules) {
        let [descent, momentum, adam] = records.map(|record| record.arrivals[0].expect("it leaves"));
        // x² - y² is -1 where y = 0.01 · 1.02ᵗ is 1.
        assert_eq!(descent, 233);
        assert!(momentum < descent / 2 && adam < descent / 2, "{momentum}, {adam}");
    }
}

fn rosenbrock([x, y]: [f64; 2]) -> f64 {
    (1.0 - x).powi(2) + 100.0 * (y - x.powi(2)).powi(2)
}

/// The functions, in f64 and as they are printed.
fn oracle(name: &str, [x, y]: [f64; 2]) -> f64 {
    let wave = |x: f64| x.powi(2) + 10.0 - 10.0 * (2.0 * std::f64::consts::PI * x).cos();
    match name {
        "rosenbrock" => rosenbrock([x, y]),
        "beale" => (1..4).zip([1.5, 2.25, 2.625]).map(|(power, c)| (c - x + x * y.powi(power)).powi(2)).sum(),
        "himmelblau" => (x.powi(2) + y - 11.0).powi(2) + (x + y.powi(2) - 7.0).powi(2),
        "rastrigin" => wave(x) + wave(y),
        "saddle" => x.powi(2) - y.powi(2),
        "quartic" => x.powi(4) - 3.0 * x.powi(3) + 2.0,
        "square" => x.powi(2),
        _ => panic!("no {name}"),
    }
}

/// Values, gradients and curvatures against differences of the oracle.
#[test]
fn derivatives_are_those_of_the_formulas() {
    for function in &FUNCTIONS {
        for point in function.points(&function.starts(30)) {
            let at = |i: usize, by: f64| {
                let mut moved = point.map(f64::from);
                moved[i] += by;
                oracle(function.name, moved)
            };
            let value = at(0, 0.0);
            let scale = 1.0 + value.abs();
            assert!(near((function.value)(point), value, 1e-5 * scale), "{} at {point:?}", function.name);
            let (gradient, curvature) = ((function.gradient)(point), (function.curvature)(point));
            for i in 0..2 {
                let (step, wide) = (1e-5, 1e-3);
                let slope = (at(i, step) - at(i, -step)) / (2.0 * step);
                assert!(near(gradient[i], slope, 1e-4 * (scale + slope.abs())), "{} {gradient:?}", function.name);
                let bend = (at(i, wide) - 2.0 * value + at(i, -wide)) / (wide * wide);
                assert!(near(curvature[i], bend, 1e-3 * (scale + bend.abs())), "{} {curvature:?}", function.name);
            }
        }
        for &minimum in function.minima {
            assert!((function.gradient)(minimum).iter().all(|slope| slope.abs() < 1e-3), "{}", function.name);
            assert!((function.value)(minimum) <= function.target, "{}", function.name);
        }
    }
}

/// Elementwise, with estimates of the curvature, with a tensor per point, and with one over all.
#[test]
fn both_engines_run_the_same_race() {
    for function in &FUNCTIONS {
        let (starts, few_starts) = (function.starts(100), function.starts(9));
        let frames = [0, 3, 12];
        let course =
            Course { function, starts: &starts, few_starts: &few_starts, steps: 12, frames: &frames, path: true };
        let rules = [("adam", 1e-3), ("sophia", 1e-3), ("lamb", 1e-3), ("prodigy", 1.0)];
        let entries = rules.map(|(name, lr)| entry(name, lr));
        let [cpu, gpu] = engines().map(|device| race(&device, &course, &entries).expect("a race"));
        let points = |flat: &[f32]| flat.len() / function.dimensions;
        for ((entry, cpu), gpu) in entries.iter().zip(&cpu).zip(&gpu) {
            let raced = match entry.name.as_str() {
                "lamb" => points(&few_starts),
                "prodigy" => 1,
                _ => points(&starts),
            };
            assert_eq!([cpu.path.len(), cpu.frames.len(), cpu.arrivals.len()], [13, 3, raced], "{}", entry.name);
            assert_eq!((cpu.path[3], cpu.path[12]), (cpu.frames[1][0], cpu.frames[2][0]));
            assert_ne!(cpu.frames[1], cpu.frames[2], "{}", entry.name);
            assert_eq!(cpu.arrivals, gpu.arrivals, "{} on {}", entry.name, function.name);
            let all = |record: &Record| -> Vec<[f32; 2]> { [&record.path[..], &record.frames.concat()].concat() };
            let (cpu, gpu) = (all(cpu), all(gpu));
            assert_eq!(cpu.len(), gpu.len());
            for (a, b) in cpu.iter().flatten().zip(gpu.iter().flatten()) {
                assert!(near(*a, (*b).into(), 1e-4), "{} on {}: {a} and {b}", entry.name, function.name);
            }
        }
    }
}

#[test]
fn a_point_that_leaves_the_target_again_has_not_arrived() {
    // 5 → -5 → 5 at 1, and at 0.5 the minimum in one step.
    for [swinging, straight] in descend("square", &[5.0], 4, [("sgd", 1.0), ("sgd", 0.5)]) {
        assert_eq!((swinging.arrivals, straight.arrivals), (vec![None], vec![Some(1)]));
    }
    // At the minimum for one step, and past it.
    for [momentum] in descend("square", &[5.0], 4, [("sgd_momentum", 0.5)]) {
        assert_eq!((momentum.path[1], momentum.arrivals), ([0.0, 0.0], vec![None]));
    }
}

#[test]
fn every_rule_is_tuned_and_has_its_row() {
    let rules = rules(&["all".to_owned(), "sgd_momentum".to_owned()]).expect("rules");
    let square = function("square");
    let entries = table::tune(&Device::Cpu, square, &rules, 60).expect("tuned");
    let names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
    assert_eq!(names, rules.iter().map(|(name, _)| name).collect::<Vec<_>>());
    // Of the rates that are tried, 0.3 brings x nearest to 0 each step: by a factor of 0.4.
    assert_eq!(entries[0].lr, 0.3);
    let starts = square.starts(50);
    let course = Course { function: square, starts: &starts, few_starts: &starts, steps: 60, frames: &[], path: false };
    let records = race(&Device::Cpu, &course, &entries).expect("a race");
    let table = table::markdown(&course, &entries, &records);
    assert!(table.contains("| `sgd` | 0.3 | 51 | 100.0 |"), "{table}");
    assert!(names.iter().all(|name| table.contains(&format!("| `{name}` |"))), "{table}");
}

#[test]
fn weight_decay_is_left_out_and_the_rate_is_taken() {
    for (name, rule) in rules(&["all".to_owned()]).expect("rules") {
        let entry = Entry::new(&name, &rule, 0.125).expect("an entry");
        let spec = entry.rule.rule().spec();
        assert_eq!((spec.lr, spec.weight_decay), (0.125, 0.0), "{name}");
    }
}

#[test]
fn pictures_have_their_words_and_their_curves() {
    let folder = tempfile::tempdir().expect("a folder");
    let shown = ["lion", "sgd_momentum"].map(str::to_owned);
    let frames = [0, 40];
    let runs = ["himmelblau", "square"].map(|name| {
        let function = function(name);
        let starts = function.starts(64);
        let course = Course { function, starts: &starts, few_starts: &starts, steps: 40, frames: &frames, path: true };
        let entries = vec![entry("sgd_momentum", 0.003), entry("lion", 0.1)];
        let records = race(&Device::Cpu, &course, &entries).expect("a race");
        Run { function, entries, records }
    });
    picture::register_fonts().expect("fonts");
    let text = |[svg, png]: [std::path::PathBuf; 2]| {
        assert!(std::fs::read(&png).expect("a file").starts_with(b"\x89PNG"), "{png:?}");
        std::fs::read_to_string(&svg).expect("a file")
    };
    let paths = text(files::save(&Paths { runs: &runs, shown: &shown }, folder.path(), "paths").expect("drawn"));
    for words in ["himmelblau", "square", "step", "lion", "sgd_momentum", "start", "minimum"] {
        assert!(paths.contains(&format!("\n{words}\n")), "{words} is missing");
    }
    // In each panel and in the legend.
    for colour in ["#0072B2", "#D55E00"] {
        assert!(paths.matches(&format!("stroke=\"{colour}\"")).count() >= 3, "{colour}");
    }
    let basins = Basins { run: &runs[0], shown: &shown, steps: 40 };
    let basins = text(files::save(&basins, folder.path(), "basins").expect("drawn"));
    for words in ["lion, lr 0.1", "sgd_momentum, lr 0.003", "to (3.00, 2.00)", "to none in 40 steps"] {
        assert!(basins.contains(&format!("\n{words}\n")), "{words} is missing");
    }
    let film = movie::save(&runs[0], &shown, &frames, folder.path()).expect("drawn");
    assert!(std::fs::read(film).expect("a file").starts_with(b"GIF89a"));
}
