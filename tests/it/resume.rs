//! Training resumed from a file: under every schedule, and with averages that the file lacks.

use std::io::Cursor;

use crate::checkpoint::{OnCpu, Training, assert_refused, grads, layout, saved};
use crate::common::{Trainer, rule};
use crate::schedules::golden;
use wgpu_optim::checkpoint::{Checkpoint, CheckpointError, LoadOptions};
use wgpu_optim::schedule::OneCycle;
use wgpu_optim::{Average, Ema, GroupOptions, Layout, Lookahead, OptimizerBuilder, Schedule, Swa};

/// Saves at every step, and resumes from each file in an optimizer that was built with another schedule.
#[test]
fn every_schedule_goes_on_from_every_step() {
    let layout = Layout::builder().tensor("a", &[3]).tensor("b", &[2]).build().unwrap();
    let mut kinds = std::collections::BTreeSet::new();
    for case in golden().schedules {
        let what = format!("{} {}", case.source, case.schedule);
        let schedule: Schedule = serde_json::from_value(case.schedule.clone()).unwrap();
        kinds.insert(case.schedule["name"].as_str().unwrap().to_owned());
        let mut straight = rule("adamw").schedule(schedule).build_cpu(&layout).unwrap();
        let mut params = grads(&layout, 1);
        let (mut files, mut expected) = (Vec::new(), Vec::new());
        for step in 0..case.rates.len() as u64 {
            let mut file = Vec::new();
            straight.save_to(&mut file, Some((&params).into())).unwrap();
            files.push(file);
            straight.step(&mut params, &grads(&layout, 10 + step)).unwrap();
            expected.push(params.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        }
        let other = if case.momenta.is_some() { OneCycle::new(0.5, 1_000).into() } else { Schedule::constant(0.7) };
        let builder = rule("adamw").schedule(other);
        for (saved, file) in files.iter().enumerate() {
            let mut resumed = builder.clone().build_cpu(&layout).unwrap();
            let mut params = vec![0.0; layout.len()];
            let mut checkpoint = Checkpoint::new(Cursor::new(file)).unwrap();
            let loaded =
                resumed.load_from(&mut checkpoint, Some((&mut params).into()), &LoadOptions::default()).unwrap();
            assert_eq!(loaded.differences, [], "{what}");
            for (step, expected) in expected.iter().enumerate().skip(saved) {
                resumed.step(&mut params, &grads(&layout, 10 + step as u64)).unwrap();
                let bits: Vec<u32> = params.iter().map(|value| value.to_bits()).collect();
                assert!(bits == *expected, "{what}: another step {step} after {saved}");
            }
        }
    }
    // No file holds a function.
    let mut all: Vec<&str> = Schedule::NAMES.iter().copied().filter(|&name| name != "lambda").collect();
    all.sort_unstable();
    assert!(kinds.iter().eq(all), "{kinds:?}");
}

/// What is added to an optimizer at a resume, its state, and the share of the new parameters in it one step later.
fn additions() -> [(OptimizerBuilder, &'static str, f32); 4] {
    let sgd = || rule("sgd").group("own", GroupOptions::default().with_lr_scale(0.5));
    [
        (sgd().average(Ema::new(0.5)), "average", 0.5),
        (sgd().average(Swa::new(2, 1)), "average", 1.0 / 3.0),
        (sgd().average(Swa::new(9, 1)), "average", 1.0),
        (sgd().lookahead(Lookahead::new(4, 0.5)), "slow", 0.5),
    ]
}

fn of_tensors(values: &[f32]) -> Vec<f32> {
    layout().tensors().iter().flat_map(|tensor| values[tensor.range()].to_vec()).collect()
}

fn begins_as_the_loaded_parameters<T: Training>() {
    // Without groups: no state of the file depends on them.
    let (_folder, path) = saved::<T>(&rule("sgd"), &layout());
    for (builder, state, share) in additions() {
        let mut resumed = T::new(&builder, &layout(), &grads(&layout(), 2));
        resumed.step(&grads(&layout(), 3));
        let loaded = resumed.load(&path, &LoadOptions::default()).unwrap();
        let settings: Vec<_> = loaded.differences.iter().map(|difference| &*difference.setting).collect();
        let added = if state == "slow" { "lookahead" } else { "average" };
        assert!(settings.contains(&added), "{settings:?}");
        let before = of_tensors(&resumed.params());
        assert_eq!(of_tensors(&resumed.state(state)), before, "{state}");
        // The fourth step, without what was added.
        let mut plain = OnCpu::new(
            &rule("sgd").group("own", GroupOptions::default().with_lr_scale(0.5)),
            &layout(),
            &grads(&layout(), 2),
        );
        let _ = plain.load(&path, &LoadOptions::default()).unwrap();
        plain.step(&grads(&layout(), 4));
        resumed.step(&grads(&layout(), 4));
        let after = of_tensors(&plain.params);
        for ((found, before), after) in of_tensors(&resumed.state(state)).iter().zip(before).zip(after) {
            let expected = before + share * (after - before);
            assert!((found - expected).abs() <= 1e-6, "{state}: {found} instead of {expected}");
        }
    }
}

#[test]
fn averages_and_lookahead_begin_as_the_loaded_parameters() {
    begins_as_the_loaded_parameters::<Trainer>();
    begins_as_the_loaded_parameters::<OnCpu>();
}

/// The states that a file has are loaded, whatever begins.
#[test]
fn lookahead_begins_beside_a_loaded_average() {
    let builder = || rule("sgd").average(Ema::new(0.9));
    let (_folder, path) = saved::<OnCpu>(&builder(), &layout());
    let mut straight = OnCpu::new(&builder(), &layout(), &grads(&layout(), 2));
    let _ = straight.load(&path, &LoadOptions::default()).unwrap();
    let both = builder().lookahead(Lookahead::new(2, 0.5));
    let mut resumed = OnCpu::new(&both, &layout(), &grads(&layout(), 2));
    assert_eq!(resumed.load(&path, &LoadOptions::default()).unwrap().differences.len(), 1);
    assert_eq!(resumed.state("average"), straight.state("average"));
    assert_eq!(of_tensors(&resumed.state("slow")), of_tensors(&straight.params));
    // Elements that were frozen have no average.
    let other = both.group("own", GroupOptions::default().frozen());
    assert_refused(&other, &layout(), &path, &LoadOptions::default(), |error| {
        matches!(error, CheckpointError::Mismatch { .. })
    });
}

/// During evaluation the training parameters are those that go on.
#[test]
fn lookahead_begins_as_the_training_parameters() {
    let (_folder, path) = saved::<OnCpu>(&rule("schedule_free_sgd"), &layout());
    let mut evaluating = OnCpu::new(&rule("schedule_free_sgd"), &layout(), &grads(&layout(), 2));
    let _ = evaluating.load(&path, &LoadOptions::default()).unwrap();
    evaluating.eval();
    evaluating.save(&path).unwrap();
    let builder = rule("schedule_free_sgd").lookahead(Lookahead::new(2, 0.5));
    let mut resumed = OnCpu::new(&builder, &layout(), &grads(&layout(), 2));
    let _ = resumed.load(&path, &LoadOptions::default()).unwrap();
    assert_ne!(of_tensors(&resumed.state("slow")), of_tensors(&resumed.params));
    resumed.train();
    assert_eq!(of_tensors(&resumed.state("slow")), of_tensors(&resumed.params));
}

#[test]
fn an_average_that_cannot_begin_is_refused() {
    let (_folder, path) = saved::<OnCpu>(&rule("sgd"), &layout());
    let refused = |average: Average, options: &LoadOptions, is_expected: &dyn Fn(&CheckpointError) -> bool| {
        assert_refused(&rule("sgd").average(average), &layout(), &path, options, is_expected)
    };
    let is_mismatch = |error: &CheckpointError| matches!(error, CheckpointError::Mismatch { .. });
    let message = refused(Ema::new(0.9).debiased().into(), &LoadOptions::default(), &is_mismatch);
    assert!(message.contains("not debiased"), "{message}");
    let is_settings = |error: &CheckpointError| matches!(error, CheckpointError::Settings(_));
    refused(Ema::new(0.9).into(), &LoadOptions::default().exact(), &is_settings);
    // Without the parameters there is nothing to begin with.
    let mut resumed = rule("sgd").average(Ema::new(0.9)).build_cpu(&layout()).unwrap();
    let error = resumed.load(&path, None, &LoadOptions::default()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Tensors { missing, .. } if missing.contains(&"states/average/a".to_owned())),
        "{error:?}"
    );
    assert!(error.to_string().contains("load the parameters too"), "{error}");
}
