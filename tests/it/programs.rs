//! Random programs of steps and settings. Detours that a snapshot undoes, and calls that are dropped, change nothing.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::common::numbers::random;
use crate::common::{Trainer, cpu_bits, device, encoder};
use wgpu_optim::clip::Percentile;
use wgpu_optim::schedule::OneCycle;
use wgpu_optim::wgpu::CommandEncoder;
use wgpu_optim::{
    AdamW, CpuOptimizer, GroupOptions, Layout, Optimizer, OptimizerBuilder, Prodigy, Schedule, ScheduleFreeAdamW, Sgd,
    Sophia,
};

const LEN: usize = 70 * 3 + 9;

fn layout() -> Layout {
    Layout::builder().packed().tensor("a", &[70, 3]).tensor("b", &[9]).group("own").build().unwrap()
}

#[derive(Debug, Clone)]
enum Call {
    Step(u64),
    /// A step with a NaN.
    BadStep(u64),
    SetLr(f64),
    SetGradScale(f32),
    UpdateHessian(u64),
    /// To evaluation parameters and back.
    Evaluate,
    /// Calls between a snapshot and its restoration.
    Detour(Vec<Call>),
    /// A call in an encoder that is dropped: `eval`, `train`, or `snapshot`.
    Dropped(&'static str),
    /// Calls between a snapshot and its restoration in an encoder that is dropped: they last.
    DroppedRestore(Vec<Call>),
}

impl Call {
    /// The calls of the straight run.
    fn lasting(&self) -> Vec<&Call> {
        match self {
            Self::Detour(_) | Self::Dropped(_) => Vec::new(),
            Self::DroppedRestore(calls) => calls.iter().flat_map(Call::lasting).collect(),
            call => vec![call],
        }
    }
}

fn calls(rng: &mut StdRng, special: &[Call], count: usize, depth: u32) -> Vec<Call> {
    let call = |_| match rng.random_range(0..9) {
        0 => Call::BadStep(rng.next_u64() % 1_000),
        1 => Call::SetLr([1.0, 0.25, 0.01][rng.random_range(0..3)]),
        2 => Call::SetGradScale([1.0, 0.5, 4.0][rng.random_range(0..3)]),
        3 if depth < 2 => {
            let count = rng.random_range(1..4);
            Call::Detour(calls(rng, special, count, depth + 1))
        }
        4 => Call::Dropped("snapshot"),
        6 if depth < 2 => {
            let count = rng.random_range(1..4);
            Call::DroppedRestore(calls(rng, special, count, depth + 1))
        }
        5 if !special.is_empty() => special[rng.random_range(0..special.len())].clone(),
        _ => Call::Step(rng.next_u64() % 1_000),
    };
    (0..count).map(call).collect()
}

fn grads(call: &Call) -> Vec<f32> {
    match call {
        Call::BadStep(seed) => {
            let mut grads = random(*seed, LEN);
            grads[LEN / 2] = f32::NAN;
            grads
        }
        Call::Step(seed) | Call::UpdateHessian(seed) => random(*seed, LEN),
        _ => Vec::new(),
    }
}

struct OnDevice(Trainer<'static>);

impl OnDevice {
    fn new(builder: &OptimizerBuilder) -> Self {
        Self(Trainer::new(device::gpu(), builder.clone(), &layout(), &random(1, LEN)))
    }

    fn submit<T>(&mut self, record: impl FnOnce(&mut Trainer<'static>, &mut CommandEncoder) -> T) -> T {
        let mut recorded = encoder(self.0.gpu);
        let result = record(&mut self.0, &mut recorded);
        self.0.gpu.queue.submit([recorded.finish()]);
        result
    }

    fn make(&mut self, call: &Call) {
        match call {
            Call::Step(_) | Call::BadStep(_) => drop(self.0.step(&grads(call))),
            Call::SetLr(lr) => self.0.optimizer.set_lr(*lr).unwrap(),
            Call::SetGradScale(scale) => self.0.optimizer.set_grad_scale(*scale).unwrap(),
            Call::UpdateHessian(_) => self.submit(|trainer, recorded| {
                let estimate = device::upload(trainer.gpu, &grads(call));
                trainer.optimizer.update_hessian(recorded, &trainer.params, &estimate).unwrap();
            }),
            Call::Evaluate => {
                self.submit(|trainer, recorded| trainer.optimizer.eval(recorded, &trainer.params).unwrap());
                self.submit(|trainer, recorded| trainer.optimizer.train(recorded, &trainer.params).unwrap());
            }
            Call::Detour(calls) => {
                let snapshot =
                    self.submit(|trainer, recorded| trainer.optimizer.snapshot(recorded, &trainer.params).unwrap());
                for call in calls {
                    self.make(call);
                }
                self.submit(|trainer, recorded| {
                    trainer.optimizer.restore(recorded, &trainer.params, &snapshot).unwrap();
                });
            }
            Call::Dropped(name) => {
                let mut dropped = encoder(self.0.gpu);
                let Trainer { optimizer, params, .. } = &mut self.0;
                match *name {
                    "eval" => optimizer.eval(&mut dropped, &*params).unwrap(),
                    "train" => {
                        optimizer.eval(&mut dropped, &*params).unwrap();
                        optimizer.train(&mut dropped, &*params).unwrap();
                    }
                    _ => drop(optimizer.snapshot(&mut dropped, &*params).unwrap()),
                }
            }
            Call::DroppedRestore(calls) => {
                let snapshot =
                    self.submit(|trainer, recorded| trainer.optimizer.snapshot(recorded, &trainer.params).unwrap());
                for call in calls {
                    self.make(call);
                }
                let mut dropped = encoder(self.0.gpu);
                self.0.optimizer.restore(&mut dropped, &self.0.params, &snapshot).unwrap();
            }
        }
    }
}

struct OnCpu {
    optimizer: CpuOptimizer,
    params: Vec<f32>,
}

impl OnCpu {
    fn new(builder: &OptimizerBuilder) -> Self {
        Self { optimizer: builder.clone().build_cpu(&layout()).unwrap(), params: random(1, LEN) }
    }

    fn make(&mut self, call: &Call) {
        let Self { optimizer, params } = self;
        match call {
            Call::Step(_) | Call::BadStep(_) => drop(optimizer.step(params, &grads(call)).unwrap()),
            Call::SetLr(lr) => optimizer.set_lr(*lr).unwrap(),
            Call::SetGradScale(scale) => optimizer.set_grad_scale(*scale).unwrap(),
            Call::UpdateHessian(_) => optimizer.update_hessian(params, &grads(call)).unwrap(),
            Call::Evaluate => {
                optimizer.eval(&mut *params).unwrap();
                optimizer.train(&mut *params).unwrap();
            }
            Call::Detour(calls) => {
                let snapshot = optimizer.snapshot(&*params).unwrap();
                for call in calls {
                    self.make(call);
                }
                self.optimizer.restore(&mut self.params, &snapshot).unwrap();
            }
            Call::DroppedRestore(calls) => {
                for call in calls {
                    self.make(call);
                }
            }
            // The CPU engine records nothing.
            Call::Dropped(_) => {}
        }
    }
}

/// Runs random programs, and the same without what is undone.
fn undone_calls_leave_no_trace(name: &str, builder: &OptimizerBuilder, special: &[Call]) {
    for seed in 0..8 {
        let program = calls(&mut StdRng::seed_from_u64(seed), special, 12, 0);
        let (mut device, mut device_straight) = (OnDevice::new(builder), OnDevice::new(builder));
        let (mut cpu, mut cpu_straight) = (OnCpu::new(builder), OnCpu::new(builder));
        for (number, call) in program.iter().enumerate() {
            device.make(call);
            cpu.make(call);
            for call in call.lasting() {
                device_straight.make(call);
                cpu_straight.make(call);
            }
            let what = format!("{name}, seed {seed}, call {number} of {program:?}");
            assert!(device.0.bits() == device_straight.0.bits(), "on the device: {what}");
            let bits = [&cpu, &cpu_straight].map(|run| cpu_bits(&run.optimizer, &run.params));
            assert!(bits[0] == bits[1], "on the CPU: {what}");
            let lrs = [device.0.optimizer.lr(), device_straight.0.optimizer.lr(), cpu.optimizer.lr()];
            assert_eq!(lrs.map(Result::unwrap), [cpu_straight.optimizer.lr().unwrap(); 3], "{what}");
        }
    }
}

#[test]
fn one_cycle_with_momentum() {
    let builder = Optimizer::builder(Sgd::default()).schedule(OneCycle::new(1.0, 200));
    undone_calls_leave_no_trace("sgd", &builder, &[]);
}

#[test]
fn group_schedules_and_a_percentile() {
    let own = GroupOptions::default().with_schedule(Schedule::warmup_cosine(0.5, 3, 200));
    let builder = Optimizer::builder(AdamW::default())
        .schedule(Schedule::warmup_cosine(0.125, 2, 200))
        .clip(Percentile::new(50.0).with_window(5))
        .group("own", own);
    undone_calls_leave_no_trace("adamw", &builder, &[]);
}

#[test]
fn evaluation_parameters() {
    let special = [Call::Evaluate, Call::Dropped("eval"), Call::Dropped("train")];
    undone_calls_leave_no_trace("schedule_free_adamw", &Optimizer::builder(ScheduleFreeAdamW::default()), &special);
}

#[test]
fn estimates_of_the_hessian() {
    undone_calls_leave_no_trace("sophia", &Optimizer::builder(Sophia::default()), &[Call::UpdateHessian(7)]);
}

#[test]
fn tensor_states() {
    undone_calls_leave_no_trace("prodigy", &Optimizer::builder(Prodigy::default()), &[]);
}
