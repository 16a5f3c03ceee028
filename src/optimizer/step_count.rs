//! Step counts that no test can reach step by step.

use wgpu::{BufferUsages, CommandEncoderDescriptor, MapMode, PollType};

use super::Optimizer;
use crate::kernels::bias_correction::BiasPowers;
use crate::kernels::control::ControlBlock;
use crate::kernels::decide::decide;
use crate::kernels::scaled_sum::ScaledSum;
use crate::rules::AdamW;
use crate::{Clip, Gpu, Layout};

/// Counts at the carry of a byte, around the end of f32's consecutive integers, and the last one with a successor.
const COUNTS: [u32; 5] = [256, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, u32::MAX - 1];

/// Its powers do not vanish before step 2^24.
const BETA: f64 = 1.0 - 1e-7;

/// The control block before step `count`.
fn before(count: u32, powers: &BiasPowers) -> ControlBlock {
    let mut block = ControlBlock::new(powers, [0.0; 4], None);
    block.step = count - 1;
    block.upcoming_bias_correction = powers.bias_correction(count);
    block
}

fn assert_counted(block: &ControlBlock, count: u32, what: &str) {
    assert_eq!((block.step, block.skipped), (count, 0), "{what}");
    for (corrections, t) in [(block.bias_correction, count), (block.upcoming_bias_correction, count.wrapping_add(1))] {
        let exact = -(f64::from(t) * BETA.ln()).exp_m1();
        let ulp = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
        let error = (f64::from(corrections[0]) - exact).abs();
        assert!(error <= 2.5 * ulp, "{what}, 1 - beta^{t}: {} for {exact}", corrections[0]);
    }
}

#[test]
fn large_step_counts_are_exact() {
    let gpu = pollster::block_on(Gpu::new()).unwrap();
    let layout = Layout::flat(4).unwrap();
    let adamw = Optimizer::builder(AdamW::default().with_betas((BETA, BETA)));
    // In a single pass, and by `decide`.
    for builder in [adamw.clone(), adamw.clip(Clip::global_norm(1.0))] {
        let mut optimizer = builder.build(&gpu.device, &gpu.queue, &layout).unwrap();
        let buffer = |size, usage| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        let [params, grads] = [(); 2].map(|()| buffer(16, BufferUsages::STORAGE));
        let powers = BiasPowers::new(&optimizer.plan.rule.spec().bias_corrected);
        for count in COUNTS {
            let mut reference = before(count, &powers);
            gpu.queue.write_buffer(&optimizer.resources.control, 0, bytemuck::bytes_of(&reference));
            let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
            optimizer.step(&mut encoder, &params, &grads).unwrap();
            let size = size_of::<ControlBlock>() as u64;
            let staging = buffer(size, BufferUsages::COPY_DST | BufferUsages::MAP_READ);
            encoder.copy_buffer_to_buffer(&optimizer.resources.control, 0, &staging, 0, size);
            let stats = optimizer.stats(&mut encoder);
            gpu.queue.submit([encoder.finish()]);
            staging.map_async(MapMode::Read, .., Result::unwrap);
            gpu.device.poll(PollType::wait_indefinitely()).unwrap();
            assert_eq!(pollster::block_on(stats).unwrap().step, u64::from(count));
            let on_device: ControlBlock = bytemuck::pod_read_unaligned(&staging.get_mapped_range(..).unwrap());
            assert_counted(&on_device, count, "device");

            let (order, head) = (optimizer.plan.norm_order(), optimizer.plan.next_head().unwrap());
            decide(&mut reference, order, &[ScaledSum::EMPTY], None, &head, &powers, &optimizer.plan.rule);
            assert_counted(&reference, count, "CPU");
            assert_eq!(on_device.bias_correction, reference.bias_correction);
            assert_eq!(on_device.upcoming_bias_correction, reference.upcoming_bias_correction);
        }
    }
}
