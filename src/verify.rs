//! Compares a rule's WGSL with its Rust, over inputs that tell them apart.

use crate::cpu::CpuOptimizer;
use crate::{Error, Gpu, GroupOptions, HostSlice, HostSliceMut, Layout, Optimizer, OptimizerBuilder, Schedule};

/// Tensors of several tiles, tails of a quad and of a workgroup, matrices and vectors. All but the first decay.
const TENSORS: [&[usize]; 4] = [&[1_025], &[3, 3_001], &[1], &[3, 43, 2]];
const LEN: usize = 1_025 + 9_003 + 1 + 258;
/// Large enough that step and decay exceed the last digits of the parameters.
const LR: f64 = 0.5;
const WEIGHT_DECAY: f64 = 0.25;
const STEPS: u32 = 12;
/// Roundings of a few divisions and roots (2.5 and 4.5 ULP each in WGSL), relative to the largest of the old value, the new
/// one, and the difference.
const TOLERANCE: f32 = 64.0 * f32::EPSILON;
/// Intermediate results may be subnormal, and flushed to 0.
const FLUSHED: f32 = f32::MIN_POSITIVE * 1024.0;

/// A number from -1 to 1 determined by its arguments.
fn noise(step: u32, element: u32) -> f32 {
    let mut bits = element.wrapping_mul(0x9e37_79b9) ^ step.wrapping_mul(0x85eb_ca6b);
    for multiplier in [0x7feb_352d, 0x846c_a68b] {
        bits = (bits ^ (bits >> 16)).wrapping_mul(multiplier);
    }
    (bits >> 8) as f32 / 8_388_608.0 - 1.0
}

/// Neighboring gradients of every kind: random, constant, of alternating sign, rare, huge, tiny, subnormal, zero.
fn gradient(step: u32, element: u32) -> f32 {
    let random = noise(step + 1, element);
    let constant = noise(0, element);
    match element % 8 {
        0 => random,
        1 => constant,
        2 if step.is_multiple_of(2) => constant,
        2 => -constant,
        3 if (element / 8 + step).is_multiple_of(5) => random,
        4 => random * 1e15,
        5 => random * 1e-15,
        6 => random * 1e-39,
        _ => 0.0,
    }
}

impl OptimizerBuilder {
    /// Compares the WGSL and the Rust of the rule and of its auxiliary updates, for tests of rules of your own.
    ///
    /// Runs twelve steps on the device and on the CPU, each from the same parameters and states, over gradients that are
    /// random, zero, constant, of alternating sign, rare, 1e15, 1e-15 and subnormal. Results may differ by 64 ULP of the
    /// largest of old value, new value and difference. If one is not finite, neither may the other be. A device may flush
    /// subnormal numbers to 0.
    ///
    /// Learning rate (0.5) and weight decays (0 and 0.25) are its own; schedule, clipping, groups and history of the
    /// builder have no effect. Scalar state, tensor state and metric are not compared themselves. It waits for the device,
    /// which browsers do not allow.
    ///
    /// # Errors
    /// [`Error::RuleMismatch`] with the first difference, and those of [`OptimizerBuilder::build`].
    pub fn verify(&self, gpu: &Gpu) -> Result<(), Error> {
        let names = ["plain", "decayed", "slow", "last"];
        let mut layout = Layout::builder();
        for (name, shape) in names.into_iter().zip(TENSORS) {
            layout = layout.tensor(name, shape).group(if name == "plain" { "plain" } else { "decayed" });
        }
        let layout = layout.packed().build()?;
        let decayed = GroupOptions::default().with_weight_decay(WEIGHT_DECAY).with_lr_scale(0.75);
        let plain = GroupOptions::default().with_weight_decay(0.0);
        let builder = OptimizerBuilder::new(self.settings.rule.clone()).schedule(Schedule::constant(LR));
        let builder = &builder.group("decayed", decayed).group("plain", plain);
        let reference = || builder.clone().build_cpu(&layout);
        let references = [reference()?, reference()?];
        let optimizer = builder.clone().build(&gpu.device, &gpu.queue, &layout)?;
        // Parameters of both signs; a few are 0.
        let params: Vec<f32> =
            (0..LEN as u32).map(|i| if i % 97 == 0 { 0.0 } else { noise(STEPS + 1, i) * 2.0 }).collect();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let upload = |values: &[f32]| {
            crate::gpu::init_buffer(&gpu.device, "wgpu-optim verify", usage, bytemuck::cast_slice(values))
        };
        let (device_params, device_grads) = (upload(&params), upload(&params));
        let mut check = Check { builder, gpu, optimizer, references, params, device_params, device_grads };
        for step in 0..STEPS {
            check.step(step, None)?;
        }
        let auxiliary = builder.settings.rule.auxiliary_updates();
        for name in auxiliary.map_or(&[][..], |updates| updates.auxiliary_names()) {
            check.step(STEPS, Some(name))?;
        }
        Ok(())
    }
}

struct Check<'a> {
    builder: &'a OptimizerBuilder,
    gpu: &'a Gpu,
    optimizer: Optimizer,
    /// One that keeps subnormal numbers, and one that flushes them to 0.
    references: [CpuOptimizer; 2],
    params: Vec<f32>,
    device_params: wgpu::Buffer,
    device_grads: wgpu::Buffer,
}

impl Check<'_> {
    /// A step, or an auxiliary update, of both engines from the same parameters and states.
    fn step(&mut self, step: u32, auxiliary: Option<&'static str>) -> Result<(), Error> {
        let grads: Vec<f32> = (0..LEN as u32).map(|element| gradient(step, element)).collect();
        let old = streams(&self.references[0], &self.params);

        let Gpu { device, queue, .. } = self.gpu;
        queue.write_buffer(&self.device_grads, 0, bytemuck::cast_slice(&grads));
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let (params, input) = (&self.device_params, &self.device_grads);
        match auxiliary {
            Some(name) => self.optimizer.auxiliary_update(name, &mut encoder, params, input)?,
            None => self.optimizer.step(&mut encoder, params, input)?,
        }
        queue.submit([encoder.finish()]);

        let names: Vec<String> = self.references[0].state_names().map(str::to_owned).collect();
        let [kept, flushing] = &mut self.references;
        for state in &names {
            let values = flushing.state_mut(state).and_then(HostSliceMut::into_f32).unwrap_or_default();
            for value in values {
                *value = flushed(*value);
            }
        }
        let flush = |values: &[f32]| values.iter().copied().map(flushed).collect();
        let mut expected = Vec::new();
        for (reference, mut params, grads) in
            [(kept, self.params.clone(), grads.clone()), (flushing, flush(&self.params), flush(&grads))]
        {
            match auxiliary {
                Some(name) => reference.auxiliary_update(name, &mut params, &grads)?,
                None => drop(reference.step(&mut params, &grads)?),
            }
            expected.push(streams(reference, &params));
        }
        let mut got = vec![self.download(self.device_params.slice(..))?];
        for name in &names {
            let slices = self.optimizer.state(name).unwrap_or_default();
            let parts: Result<Vec<_>, _> = slices.into_iter().map(|slice| self.download(slice)).collect();
            got.push(parts?.concat());
        }
        for (stream, name) in std::iter::once("param").chain(names.iter().map(String::as_str)).enumerate() {
            // A factor belongs to many elements.
            let of_element = |values: &[f32], i: usize| if old[stream].len() == LEN { values[i] } else { f32::NAN };
            for element in 0..old[stream].len() {
                let (old, got) = (old[stream][element], got[stream][element]);
                if !expected.iter().any(|expected| is_close(old, expected[stream][element], got)) {
                    return Err(Error::RuleMismatch {
                        rule: self.builder.settings.rule.spec().name.to_string(),
                        function: auxiliary.unwrap_or("rule").to_owned(),
                        stream: name.to_owned(),
                        step: step + 1,
                        param: of_element(&self.params, element),
                        grad: of_element(&grads, element),
                        device: got,
                        cpu: expected[0][stream][element],
                    });
                }
            }
        }
        // Continues from the device's numbers. Non-finite ones would compare as equal for ever; they keep their old values.
        for (got, old) in got.iter_mut().flatten().zip(old.iter().flatten()) {
            if !got.is_finite() {
                *got = *old;
            }
        }
        self.params = got.remove(0);
        queue.write_buffer(&self.device_params, 0, bytemuck::cast_slice(&self.params));
        for (name, values) in names.iter().zip(got) {
            for state in self.references.iter_mut().filter_map(|reference| reference.state_mut(name)?.into_f32()) {
                state.copy_from_slice(&values);
            }
            let mut rest = &values[..];
            for slice in self.optimizer.state(name).unwrap_or_default() {
                let (part, later) = rest.split_at(slice.size() as usize / 4);
                queue.write_buffer(slice.buffer(), slice.offset(), bytemuck::cast_slice(part));
                rest = later;
            }
        }
        Ok(())
    }

    fn download(&self, slice: wgpu::BufferSlice<'_>) -> Result<Vec<f32>, Error> {
        let lost = |error: &dyn std::fmt::Display| Error::Unreadable(error.to_string());
        let Gpu { device, queue, .. } = self.gpu;
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wgpu-optim verify"),
            size: slice.size(),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &staging, 0, slice.size());
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., |_| {});
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| lost(&error))?;
        let view = staging.get_mapped_range(..).map_err(|error| lost(&error))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}

/// Parameters, then the states.
fn streams(reference: &CpuOptimizer, params: &[f32]) -> Vec<Vec<f32>> {
    let states = reference.state_names().filter_map(|name| reference.state(name)).map(HostSlice::to_f32);
    std::iter::once(params.to_vec()).chain(states).collect()
}

/// The value on a device that flushes subnormal numbers.
fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0.0 } else { value }
}

fn is_close(old: f32, expected: f32, got: f32) -> bool {
    if !expected.is_finite() || !got.is_finite() {
        return expected.is_finite() == got.is_finite();
    }
    let scale = old.abs().max(expected.abs()).max((expected - old).abs());
    (got - expected).abs() <= TOLERANCE * scale + FLUSHED
}
