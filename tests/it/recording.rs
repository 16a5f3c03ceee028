//! What recording a step costs the host beyond wgpu's own passes; `benches/step.rs` has the time.

use crate::common::by_hand::{ByHand, buffer, layout, noop};
use wgpu_optim::wgpu::{self, BufferUsages, CommandEncoder, CommandEncoderDescriptor, Device, Queue};
use wgpu_optim::{AdamW, Clip, Optimizer, OptimizerBuilder};

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
