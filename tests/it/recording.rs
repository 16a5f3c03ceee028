//! The host's cost of recording a step beyond wgpu's own passes. `benches/step.rs` measures its time.

use crate::common::by_hand::{ByHand, buffer, layout, noop};
use crate::common::{self, device};
use wgpu_optim::wgpu::{self, BufferUsages, CommandEncoder, CommandEncoderDescriptor, Device, Queue};
use wgpu_optim::{AdamW, Clip, Error, Layout, Optimizer, OptimizerBuilder};

/// The allocations of `record`, once what grows by use has grown and every buffer has been used.
fn allocations((device, queue): &(Device, Queue), mut record: impl FnMut(&mut CommandEncoder)) -> u64 {
    let counted = (0..200).map(|_| {
        let mut encoder = device.create_command_encoder(&CommandEncoderDescriptor::default());
        let counted = allocation_counter::measure(|| record(&mut encoder));
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        counted.count_total
    });
    counted.skip(100).min().unwrap()
}

fn of_a_step(builder: OptimizerBuilder) -> u64 {
    let gpu = noop();
    let layout = layout();
    let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
    let [params, grads] = [(); 2].map(|()| buffer(&gpu.0, layout.buffer_size(), usage));
    let mut optimizer = builder.build(&gpu.0, &gpu.1, &layout).unwrap();
    allocations(&gpu, |encoder| optimizer.step(encoder, &params, &grads).unwrap())
}

#[test]
fn recording_allocates_nothing_beyond_such_passes_by_hand() {
    let by_hand = ByHand::new();
    for (builder, dispatches) in [
        (Optimizer::builder(AdamW::default()), 1),
        (Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0)), 3),
    ] {
        let own = of_a_step(builder);
        let wgpus = allocations(&by_hand.gpu, |encoder| by_hand.record(encoder, dispatches));
        assert_eq!(own, wgpus, "{dispatches} dispatches");
    }
}

/// A future that is awaited after `try_take` has taken its value answers; it does not wait for ever.
#[test]
fn statistics_are_taken_once() {
    let gpu = device::gpu();
    let mut optimizer = device::build(gpu, Optimizer::builder(AdamW::default()), &Layout::flat(4).unwrap()).unwrap();
    let (params, grads) = (device::upload(gpu, &[1.0; 4]), device::upload(gpu, &[1.0; 4]));
    let mut encoder = common::encoder(gpu);
    optimizer.step(&mut encoder, &params, &grads).unwrap();
    let mut stats = optimizer.stats(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    assert_eq!(stats.try_take().unwrap().unwrap().step, 1);
    assert!(stats.try_take().is_none());
    assert!(matches!(pollster::block_on(stats), Err(Error::AlreadyTaken)));
}
