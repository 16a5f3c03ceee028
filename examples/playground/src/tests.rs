use examples_common::functions::Function;
use examples_common::read::read;
use wgpu_optim::{Gpu, RuleConfig, Schedule, SharedPipelines};

use crate::cloud::{self, CpuCloud, GpuCloud};
use crate::descent::{Descent, Formula};
use crate::entry::Entry;
use crate::field::{self, COLOURS};
use crate::network::{Settings, Training, drawn, from_files};
use crate::race::Racer;
use crate::{registry, schedules};

fn entry(rule: &str) -> Entry {
    Entry::read(&format!(r#"{{"rule": {rule}}}"#)).expect("an entry")
}

fn raced(function: &'static Function, entry: Entry, start: [f32; 2], steps: u32) -> Racer {
    let mut racer = Racer::new(function, entry, start).expect("a racer");
    (0..steps).for_each(|_| racer.step().expect("a step"));
    racer
}

#[test]
fn gradients_and_curvatures_are_those_of_the_values() {
    for function in field::functions() {
        for point in function.points(&field::grid(function, 9)) {
            let at = |i: usize, by: f32| {
                let mut moved = point;
                moved[i] += by;
                moved
            };
            let by = 1e-2_f32;
            for i in 0..2 {
                let [left, right] = [at(i, -by), at(i, by)].map(|point| f64::from((function.value)(point)));
                let slope = f64::from((function.gradient)(point)[i]);
                let found = (right - left) / (2.0 * f64::from(by));
                let tolerance = 0.02 * (1.0 + slope.abs() + left.abs() + right.abs());
                let close = function.name == "rastrigin" || (found - slope).abs() <= tolerance;
                assert!(close, "{} at {point:?}: {found} and {slope}", function.name);
                let [left, right] = [at(i, -by), at(i, by)].map(|point| f64::from((function.gradient)(point)[i]));
                let bend = f64::from((function.curvature)(point)[i]);
                let found = (right - left) / (2.0 * f64::from(by));
                assert!(
                    (found - bend).abs() <= 0.02 * (1.0 + bend.abs()),
                    "{} at {point:?}: {found}, {bend}",
                    function.name
                );
            }
        }
        for &minimum in function.minima {
            assert!((function.gradient)(minimum).iter().all(|slope| slope.abs() < 2e-3), "{}", function.name);
            assert!((function.value)(minimum) <= function.target, "{}", function.name);
        }
        assert!(field::attractors(function).iter().all(|attractor| attractor.colour < COLOURS), "{}", function.name);
    }
    assert!(field::function("bowls").expect_err("unknown").to_string().contains("rosenbrock"));
}

#[test]
fn a_race_counts_the_steps_to_the_target() {
    let bowl = field::function("bowl").expect("known");
    let adam = raced(bowl, entry(r#"{"name": "adam", "lr": 0.1}"#), bowl.start, 400);
    let arrival = adam.arrival().expect("at the target");
    assert!(arrival > 10 && adam.value() <= bowl.target, "{arrival}");
    let before = raced(bowl, entry(r#"{"name": "adam", "lr": 0.1}"#), bowl.start, arrival as u32 - 1);
    assert_eq!(before.arrival(), None);
    assert_eq!(before.path(), &adam.path()[..before.path().len()]);
}

#[test]
fn what_diverges_stops_and_says_so() {
    let racer =
        raced(field::function("rosenbrock").expect("known"), entry(r#"{"name": "sgd", "lr": 1.0}"#), [-1.0, 2.0], 50);
    assert!(racer.diverged() && racer.steps() < 50 && racer.arrival().is_none());
    let formula = Formula::read("x^2").expect("a formula");
    let mut descent = Descent::new(formula, entry(r#"{"name": "sgd", "lr": 1.5}"#), 1.0).expect("a descent");
    (0..100).for_each(|_| descent.step().expect("a step"));
    assert!(descent.diverged() && descent.path().len() < 100);
    assert_eq!(descent.path()[..3], [1.0, -2.0, 4.0]);
}

#[test]
fn momentum_leaves_the_saddle_before_sgd() {
    let saddle = field::function("saddle").expect("known");
    let steps = |rule| raced(saddle, entry(rule), [1.0, 1e-4], 300).arrival().expect("it leaves");
    let [sgd, momentum] =
        [r#"{"name": "sgd", "lr": 0.05}"#, r#"{"name": "sgd", "lr": 0.05, "momentum": 0.9}"#].map(steps);
    assert!(2 * momentum < sgd, "{momentum} and {sgd}");
}

#[test]
fn sam_does_not_stay_in_the_sharp_minimum() {
    let wells = field::function("wells").expect("known");
    let away = |point: [f32; 2], minimum: [f32; 2]| (point[0] - minimum[0]).hypot(point[1] - minimum[1]);
    let end = |sam: &str, start| {
        let json = format!(r#"{{"rule": {{"name": "sgd", "lr": 0.05}}, "sam": {sam}}}"#);
        *raced(wells, Entry::read(&json).expect("an entry"), start, 1_000).path().last().expect("a point")
    };
    let [sharp, flat] = [wells.minima[0], wells.minima[1]];
    assert!(away(end("null", [-1.4, 0.9]), sharp) < 0.1);
    assert!(away(end(r#"{"rho": 0.4}"#, [-1.4, 0.9]), sharp) > 0.4);
    assert!(away(end(r#"{"rho": 0.4}"#, [-1.2, 1.2]), flat) < 0.1);
}

#[test]
fn formulas_are_read_with_their_derivatives() {
    for (text, slope) in [
        ("x^4 - 3*x^3 + 2", (|x| 4.0 * x * x * x - 9.0 * x * x) as fn(f64) -> f64),
        ("x^2 + 4*sin(3*x)", |x| 2.0 * x + 12.0 * (3.0 * x).cos()),
        ("3*x", |_| 3.0),
        ("ln(1 + x^2)", |x| 2.0 * x / (1.0 + x * x)),
    ] {
        let formula = Formula::read(text).expect(text);
        for x in [-1.5, 0.3, 2.0] {
            assert!((formula.slope(x) - slope(x)).abs() < 1e-9, "{text} at {x}: {}", formula.slope(x));
        }
    }
    for (text, part) in [("x^", "no formula"), ("x + y", "[x, y]"), ("3", "variables []"), ("", "no formula")] {
        let error = Formula::read(text).err().expect(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn every_rule_has_a_form_and_its_defaults_are_read_back() {
    let forms = registry::rules().expect("forms");
    assert_eq!(forms.iter().map(|form| &*form.name).collect::<Vec<_>>(), RuleConfig::NAMES);
    for form in &forms {
        let mut rule = serde_json::Map::from_iter([("name".to_owned(), form.name.clone().into())]);
        rule.extend(form.fields.iter().map(|field| (field.name.clone(), field.default.clone())));
        let rule: RuleConfig = serde_json::from_value(rule.into()).expect(&form.name);
        rule.builder().build_cpu(&wgpu_optim::Layout::flat(2).expect("a layout")).expect(&form.name);
        for field in form.fields.iter().filter(|field| field.default.is_string()) {
            let infinite = ["inf", "-inf", "nan"].contains(&field.default.as_str().unwrap_or_default());
            let default = field.default.as_str().unwrap_or_default().to_owned();
            assert!(infinite || field.choices.contains(&default), "{} {field:?}", form.name);
        }
    }
}

#[test]
fn every_rule_steps_a_point() {
    let beale = field::function("beale").expect("known");
    for name in RuleConfig::NAMES {
        let racer = raced(beale, entry(&format!(r#"{{"name": "{name}"}}"#)), beale.start, 20);
        assert!(racer.steps() == 20 || racer.steps() > 0 && racer.diverged(), "{name}");
    }
}

#[test]
fn every_schedule_has_a_form_and_a_curve() {
    let forms = schedules::forms().expect("forms");
    let names: Vec<_> = forms.iter().map(|form| &*form.name).collect();
    let written: Vec<_> = Schedule::NAMES.iter().copied().filter(|name| *name != "lambda").collect();
    assert_eq!(names, written);
    for schedule in schedules::examples() {
        let json = serde_json::to_string(&schedule).expect("written");
        let curve = schedules::curve(&json, schedules::STEPS).expect("a curve");
        assert_eq!(curve.len() as u64, schedules::STEPS, "{json}");
        assert!(curve.iter().any(|lr| *lr != curve[0]), "{json}");
    }
    let ended = schedules::curve(r#"{"name": "one_cycle", "max_lr": 0.1, "total_steps": 20}"#, 50).expect("a curve");
    assert!(ended.len() < 50);
    assert!(schedules::curve(r#"{"name": "cosine", "lr": 0.1, "T_max": 0}"#, 5).is_err());
}

#[test]
fn both_clouds_have_the_same_points() {
    let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
    let shared = SharedPipelines::new(&gpu.device);
    for (name, rule) in [("himmelblau", "adam"), ("wells", "lion"), ("bowl", "lamb"), ("beale", "sophia")] {
        let function = field::function(name).expect("known");
        let rule = entry(&format!(r#"{{"name": "{rule}", "lr": 0.01}}"#));
        let mut device = GpuCloud::new(&gpu, &shared, function, rule.clone(), 40).expect("a cloud");
        let mut host = CpuCloud::new(function, rule, 40).expect("a cloud");
        device.step(25).expect("steps");
        (0..25).for_each(|_| host.step().expect("a step"));
        let points: Vec<f32> = read(&gpu, &device.points).expect("read");
        assert_eq!(device.len(), host.points().len() / 2);
        for (ours, theirs) in points.iter().zip(host.points()) {
            assert!((ours - theirs).abs() <= 2e-3 * (1.0 + theirs.abs()), "{name}: {ours} and {theirs}");
        }
        assert_ne!(host.points(), host.starts());
    }
}

#[test]
fn clouds_take_rules_whose_points_are_independent() {
    let side = |json: &str| cloud::side(&Entry::read(json).expect("an entry"), 64);
    assert_eq!(side(r#"{"rule": {"name": "adam"}}"#).expect("independent"), 64);
    assert_eq!(side(r#"{"rule": {"name": "lamb"}}"#).expect("a tensor each"), cloud::FEW);
    assert!(side(r#"{"rule": {"name": "prodigy"}}"#).expect_err("one sum").to_string().contains("prodigy"));
    assert!(side(r#"{"rule": {"name": "sgd"}, "sam": {"rho": 0.1}}"#).is_err());
}

#[test]
fn points_have_the_colour_of_the_minimum_next_to_them() {
    let function = field::function("himmelblau").expect("known");
    let attractors = field::attractors(function);
    for (minimum, colour) in function.minima.iter().zip(0..) {
        assert_eq!(field::colour(function, &attractors, minimum.map(|element| element + 0.1)), colour);
    }
    assert_eq!(field::colour(function, &attractors, [f32::NAN, 0.0]), COLOURS);
    assert_eq!(field::colour(function, &attractors, [1e9, 0.0]), COLOURS);
}

fn settings(text: &str) -> Settings {
    Settings::read(text).expect("settings")
}

const ADAMW: &str = r#"{"optimizer": "adamw", "lr": 0.004, "clip": 1.0, "precision": "f32"}"#;

#[test]
fn the_network_learns_the_drawn_digits() {
    let mut training = Training::new(None, drawn(), 64, &settings(ADAMW)).expect("a network");
    let crate::network::Parameters::Here(first) = training.parameters() else { panic!("on the CPU") };
    assert!(training.evaluate(&first).accuracy() < 40.0);
    for _ in 0..8 * training.steps_per_epoch() {
        training.step().expect("a step");
    }
    let points = training.points().expect("numbers");
    assert_eq!(points.len(), 8 * training.steps_per_epoch());
    assert!(points.iter().all(|point| point.clip_coef <= 1.0 && point.grad_norm.is_some()));
    let crate::network::Parameters::Here(last) = training.parameters() else { panic!("on the CPU") };
    let accuracy = training.evaluate(&last).accuracy();
    assert!(accuracy >= 95.0, "{accuracy}");
    let (image, label) = training.example(3);
    let image = image.to_vec();
    let answer = training.answer(&last, &image).expect("an answer");
    assert!((answer.iter().sum::<f32>() - 1.0).abs() < 1e-5 && answer.len() == 10);
    let best = answer.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("ten").0;
    assert_eq!(best, usize::from(label));
    assert!(training.answer(&last, &image[1..]).is_err());
}

#[test]
fn settings_change_while_the_network_trains() {
    let mut training = Training::new(None, drawn(), 32, &settings(ADAMW)).expect("a network");
    (0..20).for_each(|_| training.step().expect("a step"));
    let crate::network::Parameters::Here(before) = training.parameters() else { panic!("on the CPU") };
    for precision in mlp_mnist::precision::names() {
        let json = format!(
            r#"{{"optimizer": "lion", "lr": 0.0004, "precision": "{precision}", "schedule": {{"name": "exponential", "lr": 0.0004, "gamma": 0.9}}}}"#
        );
        training.configure(&settings(&json), &before).expect(precision);
        let crate::network::Parameters::Here(after) = training.parameters() else { panic!("on the CPU") };
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() <= 0.01 * a.abs() + 1e-6), "{precision}");
        training.step().expect(precision);
    }
    for wrong in [ADAMW.replace("f32", "f8"), ADAMW.replace("adamw", "adamx"), ADAMW.replace("0.004", "-1.0")] {
        assert!(training.configure(&settings(&wrong), &before).is_err(), "{wrong}");
    }
    assert!(Settings::read(r#"{"rule": 1}"#).is_err());
}

#[test]
fn without_clipping_a_huge_rate_explodes_and_with_it_the_network_learns() {
    let run = |clip: &str| {
        let json = format!(r#"{{"optimizer": "sgd", "lr": 100.0, "clip": {clip}, "precision": "f32"}}"#);
        let mut training = Training::new(None, drawn(), 64, &settings(&json)).expect("a network");
        (0..60).for_each(|_| training.step().expect("a step"));
        training.points().expect("numbers")
    };
    let [free, clipped] = ["null", "0.003"].map(run);
    let largest = |points: &[crate::network::Point]| {
        points.iter().map(|point| point.loss.unwrap_or(f64::INFINITY)).fold(0.0, f64::max)
    };
    assert!(largest(&free) > 100.0 * largest(&clipped), "{} and {}", largest(&free), largest(&clipped));
    assert!(clipped.iter().all(|point| point.clip_coef < 1.0));
    assert!(largest(&clipped[50..]) < 0.7 * clipped[0].loss.expect("finite"), "{:?}", clipped.last());
}

#[test]
fn other_files_are_refused() {
    let error = from_files([&[0, 0, 8, 3], &[], &[], &[]]).expect_err("cut").to_string();
    assert!(error.contains("the training images"), "{error}");
}
