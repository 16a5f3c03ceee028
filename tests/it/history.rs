//! The statistics of the last steps, as if each had been asked for.

use crate::common::numbers::random;
use crate::common::{Trainer, device, encoder};
use wgpu_optim::history::{write_csv, write_json_lines};
use wgpu_optim::wgpu::CommandEncoder;
use wgpu_optim::{AdamW, Clip, Error, Layout, Optimizer, OptimizerBuilder, Schedule, Stats};

const LEN: usize = 33;

fn builders() -> [OptimizerBuilder; 2] {
    let single_pass = Optimizer::builder(AdamW::default()).schedule(Schedule::warmup_cosine(1e-2, 3, 10));
    [single_pass.clone(), single_pass.clip(Clip::global_norm(1.0))].map(|builder| builder.history(4))
}

/// The fourth has a gradient that is not finite.
fn grads(step: u64) -> Vec<f32> {
    let mut grads = random(step, LEN);
    if step == 3 {
        grads[17] = f32::NAN;
    }
    grads
}

/// Without the NaN that are equal to nothing.
fn comparable(mut stats: Stats) -> Stats {
    stats.grad_norm = stats.grad_norm.filter(|norm| !norm.is_nan());
    stats.clip_coef = if stats.clip_coef.is_nan() { -1.0 } else { stats.clip_coef };
    stats
}

fn ask(trainer: &Trainer<'_>) -> Vec<Stats> {
    trainer.history().steps.into_iter().map(comparable).collect()
}

#[test]
fn a_history_has_what_each_step_said() {
    let layout = Layout::flat(LEN).unwrap();
    for builder in builders() {
        let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; LEN]);
        let (mut cpu, mut params) = (builder.build_cpu(&layout).unwrap(), [1.0; LEN]);
        assert_eq!((ask(&trainer), cpu.history().unwrap().steps), (vec![], vec![]));
        let (mut on_device, mut on_host) = (Vec::new(), Vec::new());
        for step in 0..11 {
            on_device.push(comparable(trainer.step(&grads(step))));
            on_host.push(comparable(cpu.step(&mut params, &grads(step)).unwrap()));
            let last = on_device.len().saturating_sub(4);
            assert_eq!(ask(&trainer), on_device[last..]);
            assert_eq!(cpu.history().unwrap().steps.into_iter().map(comparable).collect::<Vec<_>>(), on_host[last..]);
        }
    }
}

/// A dropped encoder leaves a gap in the ring, where an older step stays; steps of one submission are each in it.
#[test]
fn dropped_steps_are_in_no_history() {
    let layout = Layout::flat(LEN).unwrap();
    for builder in builders() {
        let mut trainer = Trainer::new(device::gpu(), builder, &layout, &[1.0; LEN]);
        let first = comparable(trainer.step(&grads(0)));
        let step = |trainer: &mut Trainer<'_>, encoder: &mut CommandEncoder| {
            trainer.optimizer.step(encoder, &trainer.params, &trainer.grads).unwrap();
        };
        let mut dropped = encoder(trainer.gpu);
        step(&mut trainer, &mut dropped);
        drop(dropped);
        let mut submitted = encoder(trainer.gpu);
        step(&mut trainer, &mut submitted);
        step(&mut trainer, &mut submitted);
        trainer.gpu.queue.submit([submitted.finish()]);
        let history = ask(&trainer);
        assert_eq!(history[0], first);
        assert_eq!(history.iter().map(|stats| stats.step).collect::<Vec<_>>(), [1, 2, 3]);
        // The ring of four has come round: its gap holds the first step, which is none of the last four.
        for _ in 0..2 {
            trainer.step(&grads(0));
        }
        let mut dropped = encoder(trainer.gpu);
        step(&mut trainer, &mut dropped);
        drop(dropped);
        trainer.step(&grads(0));
        assert_eq!(ask(&trainer).iter().map(|stats| stats.step).collect::<Vec<_>>(), [4, 5, 6]);
    }
}

#[test]
fn a_history_is_written_as_csv_and_json_lines() {
    let layout = Layout::flat(LEN).unwrap();
    let [_, builder] = builders();
    let (mut cpu, mut params) = (builder.build_cpu(&layout).unwrap(), [1.0; LEN]);
    for step in 0..4 {
        cpu.step(&mut params, &grads(step)).unwrap();
    }
    let steps = cpu.history().unwrap().steps;
    let (mut csv, mut json) = (Vec::new(), Vec::new());
    write_csv(&steps, &mut csv).unwrap();
    write_json_lines(&steps, &mut json).unwrap();
    let (csv, json) = (String::from_utf8(csv).unwrap(), String::from_utf8(json).unwrap());
    let header = "step,skipped,consecutive_skipped,too_many_skips,lr,grad_norm,clip_coef,invalid_grad_scale,loss_scale,first_nonfinite,stopped,invalid_rows,missing_gradients,param_norm,update_norm,update_ratio,clipped_fraction,rule_metric,lost_updates";
    assert_eq!(csv.lines().next().unwrap(), header);
    assert_eq!((csv.lines().count(), json.lines().count()), (5, 4));
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let rows = rows.deserialize::<Stats>().map(|row| comparable(row.unwrap()));
    assert!(rows.eq(steps.iter().copied().map(comparable)));
    let rows = json.lines().map(|line| comparable(serde_json::from_str::<Stats>(line).unwrap()));
    assert!(rows.eq(steps.iter().copied().map(comparable)));
    for (line, stats) in json.lines().zip(&steps) {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["step"], stats.step);
        assert_eq!(row["first_nonfinite"].as_u64(), stats.first_nonfinite);
    }
    assert!(json.lines().nth(3).unwrap().contains("\"grad_norm\":\"nan\""));
}

#[test]
fn without_a_history_there_is_none_to_ask_for() {
    let layout = Layout::flat(LEN).unwrap();
    let builder = Optimizer::builder(AdamW::default());
    let optimizer = device::build(device::gpu(), builder.clone(), &layout).unwrap();
    let mut encoder = encoder(device::gpu());
    assert!(matches!(optimizer.history(&mut encoder), Err(Error::NoHistory)));
    assert!(matches!(builder.clone().build_cpu(&layout).unwrap().history(), Err(Error::NoHistory)));
}

/// Records are in the order of step numbers, which a given number breaks.
#[test]
fn a_history_begins_anew_after_given_steps() {
    let layout = Layout::flat(LEN).unwrap();
    for builder in builders() {
        for given in [0, 1, 1_000] {
            let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &[1.0; LEN]);
            let (mut cpu, mut params) = (builder.clone().build_cpu(&layout).unwrap(), [1.0; LEN]);
            for step in 0..2 {
                trainer.step(&grads(step));
                cpu.step(&mut params, &grads(step)).unwrap();
            }
            trainer.optimizer.set_applied_steps(given).unwrap();
            cpu.set_applied_steps(given).unwrap();
            assert_eq!((ask(&trainer), cpu.history().unwrap().steps), (vec![], vec![]));
            let last = [comparable(trainer.step(&grads(9)))];
            assert_eq!(last[0], comparable(cpu.step(&mut params, &grads(9)).unwrap()));
            assert_eq!((ask(&trainer), cpu.history().unwrap().steps.len()), (last.to_vec(), 1));
        }
    }
}
