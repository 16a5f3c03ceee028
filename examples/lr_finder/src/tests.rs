//! Whole runs on both devices.

use std::fs;

use clap::Parser;
use wgpu_optim::schedule::LrCurve;

use crate::Args;
use crate::sweep::sweep;
use mlp_mnist::engine::Engine;
use mlp_mnist::setup::AnyEngine;

fn args(flags: &[&str]) -> Args {
    Args::try_parse_from(["lr_finder", "--hidden", "8"].iter().chain(flags)).expect("well formed")
}

/// Training loss after some steps from where the engine stands.
fn trained(engine: &mut dyn Engine) -> f64 {
    for batch in 0..3 {
        engine.step(batch, true).expect("a step");
    }
    engine.reports(true).expect("reports").last().expect("a report").score.loss()
}

#[test]
fn training_goes_on_as_if_there_had_been_no_test() {
    for (device, precision) in [("cpu", "f32"), ("gpu", "f32"), ("cpu", "split"), ("gpu", "f16"), ("cpu", "split-8bit")]
    {
        let args = args(&["--device", device, "--precision", precision]);
        let format = args.setup.format(precision).expect("known");
        let session = args.setup.open().expect("opened");
        let model = session.model(&format).expect("valid");
        let builder = args.setup.builder(&args.setup.choice(None)).expect("valid");
        let engine = || session.engine(&model, builder.clone(), &format).expect("made");
        let mut tested = engine();
        let test = serde_json::from_str(r#"{"num_iter": 20, "start_lr": 0.001}"#).expect("valid");
        let curve = sweep(&mut tested, &test, session.batches()).expect("a curve");
        assert!(curve.points[10].loss < curve.points[0].loss, "it trained");
        let mut untested = engine();
        let order: Vec<_> = (0..session.batches().len as u32).collect();
        untested.as_engine().begin_epoch(&order);
        assert_eq!(trained(tested.as_engine()), trained(untested.as_engine()), "{device}, {precision}");
        assert_eq!(matches!(tested, AnyEngine::Cpu(_)), device == "cpu");
    }
}

#[test]
fn a_run_writes_its_curve_and_draws_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("new");
    let flags = ["--device", "cpu", "--test", r#"{"start_lr": 1e-5, "num_iter": 30}"#, "--out"];
    crate::run(&args(&[&flags[..], &[out.to_str().expect("UTF-8")]].concat())).expect("run");
    let read = |file: &str| fs::read_to_string(out.join(file)).expect(file);
    let curve: LrCurve = serde_json::from_str(&read("lr_finder.json")).expect("a curve");
    assert_eq!((curve.num_iter, curve.points[0].lr), (30, 1e-5));
    let svg = read("lr_finder.svg");
    for words in
        ["range test with adamw", "learning rate", "cross-entropy (nats)", "valley", "steepest", "minimum / 10"]
    {
        assert!(svg.contains(words), "{words} is missing");
    }
}

#[test]
fn wrong_tests_are_refused() {
    for (test, found) in [("{", "--test: EOF"), (r#"{"end_lr": 0}"#, "end_lr is 0; allowed: above start_lr")] {
        let folder = tempfile::tempdir().expect("a folder");
        let flags = ["--device", "cpu", "--out", folder.path().to_str().expect("UTF-8"), "--test", test];
        let message = crate::run(&args(&flags)).expect_err(test).to_string();
        assert!(message.contains(found), "{test}: {message}");
    }
}
