//! A case on both engines, compared after each call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use wgpu_optim::half::bf16;
use wgpu_optim::wgpu::{
    Buffer, BufferDescriptor, BufferUsages, CommandEncoder, CommandEncoderDescriptor, MapMode, PollType,
};
use wgpu_optim::{
    BufferSlices, Clip, Dtype, Error, Gpu, GradScale, HostSlice, Layout, Optimizer, SharedPipelines, Snapshot, Stats,
};

use crate::case::{Call, Case, Gradients, Place};
use crate::numbers::{active, compare, gradients};
use crate::place::Placed;
use crate::records::compare_records;
use crate::reference::{Action, Kept, Reference};

/// Result of a case.
#[derive(Debug)]
pub enum Outcome {
    /// Both engines agree. Steps that were compared.
    Held(u64),
    /// Both engines refuse the configuration with this error.
    Refused(String),
    /// The engines differ, or one panics.
    Failed(String),
}

enum Stop {
    Refused(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(difference: String) -> Self {
        Self::Failed(difference)
    }
}

/// A call over parameters and gradients on the device.
type OverBuffers =
    for<'a> fn(&mut Optimizer, &mut CommandEncoder, BufferSlices<'a>, BufferSlices<'a>) -> Result<(), Error>;

const STEP: OverBuffers = |optimizer, encoder, params, grads| optimizer.step(encoder, params, grads);
const PERTURB: OverBuffers = |optimizer, encoder, params, grads| optimizer.perturb(encoder, params, grads);

/// A device with its compiled kernels.
pub struct Machine {
    gpu: Gpu,
    pipelines: SharedPipelines,
    /// Validation errors of wgpu.
    errors: Arc<Mutex<Vec<String>>>,
}

impl Machine {
    pub fn new() -> Result<Self, Error> {
        let gpu = pollster::block_on(Gpu::new())?;
        let errors = Arc::<Mutex<Vec<String>>>::default();
        let found = errors.clone();
        gpu.device.on_uncaptured_error(Arc::new(move |error| {
            found.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
        }));
        Ok(Self { pipelines: SharedPipelines::new(&gpu.device), gpu, errors })
    }

    pub fn describe(&self) -> String {
        self.gpu.describe()
    }

    /// Frees the compiled kernels.
    pub fn forget_kernels(&mut self) {
        self.pipelines = SharedPipelines::new(&self.gpu.device);
    }

    pub fn run(&mut self, case: &Case) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.steps(case))) {
            Ok(Ok(steps)) => Outcome::Held(steps),
            Ok(Err(Stop::Refused(error))) => Outcome::Refused(error),
            Ok(Err(Stop::Failed(difference))) => Outcome::Failed(difference),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                let outcome = Outcome::Failed(format!("panic: {text}"));
                // A panic inside of wgpu may leave its locks poisoned.
                if let Ok(fresh) = Self::new() {
                    *self = fresh;
                }
                outcome
            }
        }
    }

    fn steps(&self, case: &Case) -> Result<u64, Stop> {
        let mut run = Run::new(self, case)?;
        for (number, call) in case.calls.iter().enumerate() {
            let mut encoder = self.encoder();
            let at = |difference: String| format!("call {number}: {difference}");
            run.make(call, &mut encoder).map_err(at)?;
            self.gpu.queue.submit([encoder.finish()]);
            run.late.clear();
            run.compare().map_err(at)?;
            let errors = std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner));
            if !errors.is_empty() {
                return Err(Stop::Failed(at(errors.join("\n"))));
            }
        }
        Ok(run.steps)
    }

    fn encoder(&self) -> CommandEncoder {
        self.gpu.device.create_command_encoder(&CommandEncoderDescriptor::default())
    }
}

/// Both engines in the course of a case.
struct Run<'a> {
    machine: &'a Machine,
    case: &'a Case,
    layout: Layout,
    optimizer: Optimizer,
    params: Vec<Placed>,
    /// Number of the place of the parameters.
    at: usize,
    grads: Vec<Placed>,
    reference: Reference,
    /// With the gradient scale of then.
    snapshots: [Option<(Snapshot, Kept, f32)>; 3],
    grad_scale: f32,
    /// Encoders that are dropped after the submission of the present call.
    late: Vec<CommandEncoder>,
    /// Gradients of a step that the reference makes with the device's clip coefficient.
    waiting: Option<Vec<f32>>,
    steps: u64,
}

impl<'a> Run<'a> {
    fn new(machine: &'a Machine, case: &'a Case) -> Result<Self, Stop> {
        let refused = |error: String| Stop::Refused(error);
        let layout = case.layout().map_err(|error| refused(error.to_string()))?;
        let rule = case.rule().map_err(|error| refused(error.to_string()))?;
        let builder = case.builder(rule);
        let (on_cpu, dtype) = if case.has_rough_norm() {
            (builder.clone().clip(Clip::global_norm(f64::from(f32::MAX))), Dtype::F32)
        } else {
            (builder.clone(), case.grad_dtype)
        };
        let reference = Reference::new(on_cpu, &layout, dtype);
        let Gpu { device, queue, .. } = &machine.gpu;
        let (optimizer, reference) = match (builder.build_shared(&machine.pipelines, queue, &layout), reference) {
            (Ok(optimizer), Ok(reference)) => (optimizer, reference),
            (Err(error @ Error::DeviceLimit { .. }), _) => return Err(refused(error.to_string())),
            (Err(device), Err(cpu)) if device.to_string() == cpu.to_string() => {
                return Err(refused(cpu.to_string()));
            }
            (device, cpu) => {
                let text = |error: Option<Error>| error.map_or("no error".to_owned(), |error| error.to_string());
                let (device, cpu) = (text(device.err()), text(cpu.err()));
                return Err(Stop::Failed(format!("build: {device:?} on the device, {cpu:?} in the reference")));
            }
        };
        let place = |places: &[Place], dtype| {
            let places = if places.is_empty() { &[Place::Whole] } else { places };
            places.iter().map(|place| Placed::new(device, place, &layout, dtype)).collect::<Vec<_>>()
        };
        let (params, grads) = (place(&case.param_places, Dtype::F32), place(&case.grad_places, case.grad_dtype));
        let mut encoder = machine.encoder();
        params[0].write(device, &mut encoder, bytemuck::cast_slice(&reference.params));
        queue.submit([encoder.finish()]);
        Ok(Self {
            machine,
            case,
            layout,
            optimizer,
            params,
            at: 0,
            grads,
            reference,
            snapshots: [None, None, None],
            grad_scale: 1.0,
            late: Vec::new(),
            waiting: None,
            steps: 0,
        })
    }

    /// Makes a call on both engines.
    fn make(&mut self, call: &Call, encoder: &mut CommandEncoder) -> Result<(), String> {
        let device = &self.machine.gpu.device;
        match call {
            Call::Step(of) => return self.step(of, encoder),
            Call::Perturb(of) => {
                let mut grads = gradients(&self.layout, of);
                let on_device = self.on_device(of, &mut grads, encoder, PERTURB);
                if !self.is_refused_place(of.place, &on_device)? {
                    agree(on_device, self.reference.make(Action::Perturb(grads)))?;
                }
            }
            Call::UpdateHessian(of) => {
                let input = gradients(&self.layout, of);
                let place = self.case.grad_places.get(of.place).cloned().unwrap_or_default();
                let placed = Placed::new(device, &place, &self.layout, Dtype::F32);
                placed.write(device, encoder, bytemuck::cast_slice(&input));
                let Self { optimizer, params, at, .. } = self;
                let on_device =
                    params[*at].with(|params| placed.with(|input| optimizer.update_hessian(encoder, params, input)));
                if !self.is_refused_place(of.place, &on_device)? {
                    agree(on_device, self.reference.make(Action::UpdateHessian(input)))?;
                }
            }
            Call::SetLr(lr) => agree(self.optimizer.set_lr(*lr), self.reference.make(Action::SetLr(*lr)))?,
            Call::SetGradScale(scale) => {
                agree(self.optimizer.set_grad_scale(*scale), self.reference.make(Action::SetGradScale(*scale)))?;
                self.grad_scale = *scale;
            }
            Call::SetDeviceGradScale(scale) => {
                let buffer = device.create_buffer(&BufferDescriptor {
                    label: None,
                    size: 4,
                    usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                });
                self.machine.gpu.queue.write_buffer(&buffer, 0, bytemuck::bytes_of(scale));
                let on_device = self.optimizer.set_grad_scale(GradScale::Buffer(&buffer));
                agree(on_device, self.reference.make(Action::SetGradScale(*scale)))?;
                self.grad_scale = *scale;
            }
            Call::Move(to) => {
                let to = to % self.params.len();
                if to != self.at {
                    let bytes = bytemuck::cast_slice(&self.reference.params);
                    self.params[to].copy_from(device, encoder, &self.params[self.at], bytes);
                    self.at = to;
                }
            }
            Call::Prepare(place) => {
                let place = place % self.grads.len();
                let Self { optimizer, params, grads, at, .. } = self;
                let prepared = params[*at].with(|params| grads[place].with(|grads| optimizer.prepare(params, grads)));
                if !self.is_refused_place(place, &prepared)? {
                    agree(prepared, Ok(()))?;
                }
            }
            Call::Snapshot(number) => {
                let snapshot = self.params[self.at].with(|params| self.optimizer.snapshot(encoder, params));
                let reference = self.reference.snapshot();
                let (snapshot, reference) =
                    (snapshot.map_err(|e| e.to_string())?, reference.map_err(|e| e.to_string())?);
                self.snapshots[number % 3] = Some((snapshot, reference, self.grad_scale));
            }
            Call::Restore(number) => {
                if let Some((snapshot, reference, grad_scale)) = &self.snapshots[number % 3] {
                    let params = &self.params[self.at];
                    let on_device = params.with(|params| self.optimizer.restore(encoder, params, snapshot));
                    agree(on_device, self.reference.restore(reference, self.case.replays))?;
                    self.grad_scale = *grad_scale;
                }
            }
            Call::Eval => {
                let on_device = self.params[self.at].with(|params| self.optimizer.eval(encoder, params));
                agree(on_device, self.reference.make(Action::Eval))?;
            }
            Call::Train => {
                let on_device = self.params[self.at].with(|params| self.optimizer.train(encoder, params));
                agree(on_device, self.reference.make(Action::Train))?;
            }
            Call::Resume => {
                self.optimizer.resume();
                agree(Ok(()), self.reference.make(Action::Resume))?;
            }
            Call::SetAppliedSteps(steps) => {
                agree(self.optimizer.set_applied_steps(*steps), self.reference.make(Action::SetAppliedSteps(*steps)))?;
            }
            Call::Together(calls) => calls.iter().try_for_each(|call| self.make(call, encoder))?,
            Call::Dropped(calls) => self.drop_calls(calls)?,
            Call::DroppedLate { dropped, then, submits_first } => {
                let mut late = self.machine.encoder();
                let taken = self.record_dropped(dropped, &mut late);
                then.iter().try_for_each(|call| self.make(call, encoder))?;
                let params = &self.params[self.at];
                for snapshot in taken.iter().flatten() {
                    agree(params.with(|params| self.optimizer.restore(encoder, params, snapshot)), Ok(()))?;
                }
                self.late.extend(submits_first.then_some(late));
            }
        }
        Ok(())
    }

    fn step(&mut self, of: &Gradients, encoder: &mut CommandEncoder) -> Result<(), String> {
        let mut grads = gradients(&self.layout, of);
        let on_device = self.on_device(of, &mut grads, encoder, STEP);
        if self.is_refused_place(of.place, &on_device)? {
            return Ok(());
        }
        self.steps += 1;
        if self.case.has_rough_norm() && on_device.is_ok() {
            self.waiting = Some(grads);
            return Ok(());
        }
        agree(on_device, self.reference.make(Action::Step(grads)))
    }

    /// Records a step or a perturbation, and rounds the gradients to their format.
    fn on_device(
        &mut self,
        of: &Gradients,
        grads: &mut [f32],
        encoder: &mut CommandEncoder,
        record: OverBuffers,
    ) -> Result<(), Error> {
        let device = &self.machine.gpu.device;
        let place = &self.grads[of.place % self.grads.len()];
        if self.case.grad_dtype == Dtype::Bf16 {
            let rounded: Vec<u16> = grads.iter().map(|&grad| bf16::from_f32(grad).to_bits()).collect();
            grads.iter_mut().zip(&rounded).for_each(|(grad, &bits)| *grad = bf16::from_bits(bits).to_f32());
            place.write(device, encoder, bytemuck::cast_slice(&rounded));
        } else {
            place.write(device, encoder, bytemuck::cast_slice(grads));
        }
        let params = &self.params[self.at];
        params.with(|params| place.with(|grads| record(&mut self.optimizer, encoder, params, grads)))
    }

    /// Records calls on the device alone. Returns the snapshots among them.
    fn record_dropped(&mut self, calls: &[Call], dropped: &mut CommandEncoder) -> [Option<Snapshot>; 3] {
        let mut taken = [None, None, None];
        for call in calls {
            let params = &self.params[self.at];
            // Whether a call is refused depends on those before it.
            let _result = match call {
                Call::Step(of) => {
                    let mut grads = gradients(&self.layout, of);
                    self.on_device(of, &mut grads, dropped, STEP)
                }
                Call::Perturb(of) => {
                    let mut grads = gradients(&self.layout, of);
                    self.on_device(of, &mut grads, dropped, PERTURB)
                }
                Call::Eval => params.with(|params| self.optimizer.eval(dropped, params)),
                Call::Train => params.with(|params| self.optimizer.train(dropped, params)),
                Call::Snapshot(number) => {
                    let snapshot = params.with(|params| self.optimizer.snapshot(dropped, params));
                    snapshot.map(|snapshot| taken[number % 3] = Some(snapshot))
                }
                Call::Restore(number) => {
                    let kept = self.snapshots[number % 3].as_ref().map(|(snapshot, ..)| snapshot);
                    let snapshot = taken[number % 3].as_ref().or(kept);
                    let restore = |snapshot| params.with(|params| self.optimizer.restore(dropped, params, snapshot));
                    snapshot.map_or(Ok(()), restore)
                }
                _ => Ok(()),
            };
        }
        taken
    }

    /// Records calls on the device alone, and drops them.
    fn drop_calls(&mut self, calls: &[Call]) -> Result<(), String> {
        let mut dropped = self.machine.encoder();
        let taken = self.record_dropped(calls, &mut dropped);
        if calls.len().is_multiple_of(2) {
            drop(dropped);
        } else {
            drop(dropped.finish());
        }
        for snapshot in taken.into_iter().flatten() {
            let mut encoder = self.machine.encoder();
            let restored = self.params[self.at].with(|params| self.optimizer.restore(&mut encoder, params, &snapshot));
            if !matches!(restored, Err(Error::SnapshotDropped)) {
                return Err(format!("a dropped snapshot was restored: {restored:?}"));
            }
        }
        Ok(())
    }

    /// Whether the device refuses where the buffers are cut. An error where nothing is cut is a fault.
    fn is_refused_place(&self, grads: usize, result: &Result<(), Error>) -> Result<bool, String> {
        let is_cut = |places: &[Place], number: usize| {
            let place = places.get(number % places.len().max(1));
            matches!(place, Some(Place::Cut { .. } | Place::Tensors { .. }))
        };
        match result {
            Err(error @ (Error::CutTensor { .. } | Error::MisalignedSlice { .. } | Error::Unsupported { .. })) => {
                let is_cut = is_cut(&self.case.param_places, self.at) || is_cut(&self.case.grad_places, grads);
                if is_cut { Ok(true) } else { Err(format!("refused without a cut: {error}")) }
            }
            _ => Ok(false),
        }
    }

    /// Compares everything that steps change.
    fn compare(&mut self) -> Result<(), String> {
        let mut encoder = self.machine.encoder();
        let mut copies: Vec<(Buffer, u64, u64)> = Vec::new();
        let place = &self.params[self.at];
        copies.extend(place.buffers().iter().map(|buffer| (buffer.clone(), 0, buffer.size())));
        let names: Vec<String> = self.optimizer.state_names().into_iter().map(str::to_owned).collect();
        let expected: Vec<String> = self.reference.optimizer.state_names().map(str::to_owned).collect();
        if names != expected {
            return Err(format!("states {names:?} on the device, {expected:?} in the reference"));
        }
        let mut counts = Vec::new();
        let (scalars, tensors) = (self.optimizer.scalar_states(), self.optimizer.tensor_states());
        let states = names.iter().map(|name| self.optimizer.state(name).unwrap_or_default());
        for slices in states.chain([scalars.into_iter().collect(), tensors.into_iter().collect()]) {
            copies.extend(slices.iter().map(|slice| (slice.buffer().clone(), slice.offset(), slice.size())));
            counts.push(slices.len());
        }
        let stats = self.optimizer.stats(&mut encoder);
        let history = self.optimizer.history(&mut encoder).ok();
        let mut contents = self.download(encoder, &copies)?.into_iter();
        let stats = pollster::block_on(stats).map_err(|error| error.to_string())?;
        let history = history.map(pollster::block_on).transpose().map_err(|error| error.to_string())?;

        if let Some(grads) = self.waiting.take() {
            self.step_with_the_devices_coefficient(grads, &stats)?;
        }
        let place = &self.params[self.at];
        let params: Vec<Vec<u8>> = contents.by_ref().take(place.buffers().len()).collect();
        let mut values = self.reference.params.clone();
        if let Some((buffer, byte)) = place.read(&params, &mut values) {
            return Err(format!("params: byte {byte} of buffer {buffer} outside of the slices has changed"));
        }
        self.compare_stats(&stats)?;
        compare("params", &values, &self.reference.params)?;
        if differs(&values, &self.reference.params) {
            agree(Ok(()), self.reference.make(Action::SetParams(values)))?;
        }
        for (number, count) in counts.into_iter().enumerate() {
            let bytes = contents.by_ref().take(count).flatten().collect::<Vec<u8>>();
            let values = bytemuck::pod_collect_to_vec::<u8, f32>(&bytes);
            self.compare_state(names.get(number).map(String::as_str), number == names.len(), &values)?;
        }
        let text = |lr: Result<f64, Error>| lr.map_or_else(|error| error.to_string(), |lr| lr.to_string());
        let lrs = (text(self.optimizer.lr()), text(self.reference.optimizer.lr()));
        if lrs.0 != lrs.1 {
            return Err(format!("lr: {} on the device, {} in the reference", lrs.0, lrs.1));
        }
        let Some(history) = history else { return Ok(()) };
        let expected = self.reference.optimizer.history().map_err(|error| error.to_string())?;
        if self.case.has_rough_norm() {
            return Ok(());
        }
        compare_records("history", &json(&history.steps), &json(&expected.steps))?;
        compare_records("history of groups", &json(&history.groups), &json(&expected.groups))
    }

    /// Compares a state of that name, the scalar states, or the tensor states. The reference goes on with the device's.
    fn compare_state(&mut self, name: Option<&str>, is_scalar: bool, values: &[f32]) -> Result<(), String> {
        let reference = &mut self.reference;
        let tensor_states: Vec<[f32; 4]> = reference.optimizer.tensor_states().collect();
        let expected = match name {
            Some(name) => reference.optimizer.state(name).and_then(HostSlice::as_f32).unwrap_or_default(),
            None if is_scalar => reference.optimizer.scalar_states(),
            None => bytemuck::cast_slice(&tensor_states),
        };
        let what = name.unwrap_or(if is_scalar { "scalar states" } else { "tensor states" });
        compare(what, values, expected)?;
        if !differs(values, expected) {
            return Ok(());
        }
        let values = values.to_vec();
        let action = match name {
            Some(name) => Action::SetState(name.to_owned(), values),
            None if is_scalar => Action::SetScalarStates(values),
            None => Action::SetTensorStates(bytemuck::cast_slice(&values).to_vec()),
        };
        agree(Ok(()), reference.make(action))
    }

    fn compare_stats(&self, stats: &Stats) -> Result<(), String> {
        let mut expected = self.reference.optimizer.stats();
        if self.case.has_rough_norm() {
            (expected.grad_norm, expected.clip_coef) = (stats.grad_norm, stats.clip_coef);
        }
        compare_records("stats", &json(stats), &json(&expected))
    }

    /// A step of the reference with gradients that the device's coefficient has clipped. Norm and coefficient are compared
    /// with their definition.
    fn step_with_the_devices_coefficient(&mut self, mut grads: Vec<f32>, stats: &Stats) -> Result<(), String> {
        let Some(Clip::GlobalNorm(clip)) = self.case.clip else { return Ok(()) };
        if stats.first_nonfinite.is_none() && !stats.stopped {
            let scale = f64::from(self.grad_scale);
            let active = active(self.case, &self.layout);
            let powers = grads.iter().zip(active).filter(|(_, active)| *active);
            let sum: f64 = powers.map(|(grad, _)| f64::from(grad.abs()).powf(clip.norm_type)).sum();
            let (norm, exact) = (stats.grad_norm.unwrap_or(f32::NAN), sum.powf(1.0 / clip.norm_type) / scale);
            // The bound of docs/conventions.md for global norms.
            if (f64::from(norm) - exact).abs() > 1e-6 * exact {
                return Err(format!("grad_norm: {norm:e} on the device for {exact:e}"));
            }
            let divisor = if clip.exact { norm } else { norm + 1e-6 };
            let coef = if divisor <= clip.max_norm as f32 { 1.0 } else { clip.max_norm as f32 / divisor };
            compare("clip_coef", &[stats.clip_coef], &[coef])?;
            for grad in &mut grads {
                *grad *= coef;
            }
        }
        agree(Ok(()), self.reference.make(Action::Step(grads)))
    }

    fn download(&self, mut encoder: CommandEncoder, copies: &[(Buffer, u64, u64)]) -> Result<Vec<Vec<u8>>, String> {
        let Gpu { device, queue, .. } = &self.machine.gpu;
        let size: u64 = copies.iter().map(|(.., size)| size).sum();
        let staging = device.create_buffer(&BufferDescriptor {
            label: None,
            size: size.max(4),
            usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut end = 0;
        for (buffer, offset, size) in copies {
            if *size > 0 {
                encoder.copy_buffer_to_buffer(buffer, *offset, &staging, end, *size);
            }
            end += size;
        }
        queue.submit([encoder.finish()]);
        staging.map_async(MapMode::Read, .., |_| {});
        device.poll(PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
        let mapped = staging.get_mapped_range(..).map_err(|error| error.to_string())?;
        let mut rest = &mapped[..];
        let parts = copies.iter().map(|(.., size)| {
            let (part, later) = rest.split_at(*size as usize);
            rest = later;
            part.to_vec()
        });
        Ok(parts.collect())
    }
}

/// Whether a bit differs.
fn differs(device: &[f32], reference: &[f32]) -> bool {
    device.iter().zip(reference).any(|(device, reference)| device.to_bits() != reference.to_bits())
}

fn json(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Both succeed, or both fail with the same words.
fn agree(device: Result<(), Error>, reference: Result<(), Error>) -> Result<(), String> {
    let text = |result: Result<(), Error>| result.map_or_else(|error| error.to_string(), |()| "no error".to_owned());
    let (device, reference) = (text(device), text(reference));
    if device == reference { Ok(()) } else { Err(format!("{device:?} on the device, {reference:?} in the reference")) }
}
