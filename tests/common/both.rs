use wgpu_optim::wgpu::{BufferSlice, CommandEncoder};
use wgpu_optim::{CpuOptimizer, Error, Layout, Optimizer, OptimizerBuilder};

use super::{Trainer, device, encoder};

/// Training on both engines at once.
pub struct Both {
    pub on_cpu: CpuOptimizer,
    pub params: Vec<f32>,
    pub on_device: Trainer<'static>,
}

impl Both {
    pub fn new(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Self {
        Self {
            on_cpu: builder.clone().build_cpu(layout).unwrap(),
            params: params.to_vec(),
            on_device: Trainer::new(device::gpu(), builder.clone(), layout, params),
        }
    }

    pub fn step(&mut self, grads: &[f32]) {
        self.on_cpu.step(&mut self.params, grads).unwrap();
        self.on_device.step(grads);
    }

    /// Parameters of the CPU engine, then of the device.
    pub fn params(&self) -> [Vec<f32>; 2] {
        let on_device = self.on_device.params()[..self.params.len()].to_vec();
        [self.params.clone(), on_device]
    }

    pub fn state(&self, name: &str) -> [Vec<f32>; 2] {
        [self.on_cpu.state(name).unwrap().as_f32().unwrap().to_vec(), self.on_device.state(name)]
    }

    pub fn eval(&mut self) {
        self.on_cpu.eval(&mut self.params).unwrap();
        self.record(|optimizer, encoder, params| optimizer.eval(encoder, params));
    }

    pub fn train(&mut self) {
        self.on_cpu.train(&mut self.params).unwrap();
        self.record(|optimizer, encoder, params| optimizer.train(encoder, params));
    }

    pub fn perturb(&mut self, grads: &[f32]) {
        self.on_cpu.perturb(&mut self.params, grads).unwrap();
        self.on_device.gpu.queue.write_buffer(&self.on_device.grads, 0, bytemuck::cast_slice(grads));
        let of_device = self.on_device.grads.clone();
        let grads = of_device.slice(..4 * grads.len() as u64);
        self.record(|optimizer, encoder, params| optimizer.perturb(encoder, params, grads));
    }

    /// Records a call over the parameters on the device, and submits it.
    pub fn record(
        &mut self,
        call: impl FnOnce(&mut Optimizer, &mut CommandEncoder, BufferSlice<'_>) -> Result<(), Error>,
    ) {
        let Trainer { gpu, optimizer, params, .. } = &mut self.on_device;
        let mut recorded = encoder(gpu);
        call(optimizer, &mut recorded, params.slice(..4 * self.params.len() as u64)).unwrap();
        gpu.queue.submit([recorded.finish()]);
    }
}
