//! Training resumed from a file: under every schedule.

use std::io::Cursor;

use crate::checkpoint::grads;
use crate::common::rule;
use crate::schedules::golden;
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::schedule::OneCycle;
use wgpu_optim::{Layout, Schedule};

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
            straight.save_to(&mut file, Some(&params)).unwrap();
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
            let loaded = resumed.load_from(&mut checkpoint, Some(&mut params), &LoadOptions::default()).unwrap();
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
