//! Several optimizers in one encoder, several devices in one process, steps recorded by other threads.

use std::thread;

use wgpu_optim::wgpu::{Buffer, BufferSlice, CommandBuffer};
use wgpu_optim::{AdamW, Clip, Gpu, Lamb, Layout, Optimizer, OptimizerBuilder, Sgd, SharedPipelines, TensorInfo};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{device, device_with, encoder};

const STEPS: u64 = 3;

fn layout() -> Layout {
    let layout = Layout::builder().tensor("a", &[8_200]).tensor("b", &[3]).tensor("c", &[77, 5]);
    layout.packed().build().unwrap()
}

fn builders() -> [OptimizerBuilder; 4] {
    [
        Optimizer::builder(AdamW::default()),
        Optimizer::builder(Sgd::default().with_momentum(0.9)).clip(Clip::global_norm(1.0)),
        Optimizer::builder(Lamb::default()),
        Optimizer::builder(AdamW::default().with_lr(0.01)).gather_gradients(),
    ]
}

fn initial(number: usize) -> Vec<f32> {
    random(number as u64, layout().len())
}

fn grads(number: usize, step: u64) -> Vec<f32> {
    random(100 + 10 * number as u64 + step, layout().len())
}

/// A slice per tensor, from byte `first` on.
fn slices<'a>(buffer: &'a Buffer, first: u64, layout: &Layout) -> Vec<BufferSlice<'a>> {
    let tensors = layout.tensors().iter().map(TensorInfo::range);
    tensors.map(|range| buffer.slice(first + 4 * range.start as u64..first + 4 * range.end as u64)).collect()
}

/// The parameters of one optimizer after its steps, each in a submission of its own.
fn alone(gpu: &Gpu, number: usize) -> Vec<f32> {
    let mut optimizer = device::build(gpu, builders()[number].clone(), &layout()).unwrap();
    let params = device::upload(gpu, &initial(number));
    for step in 0..STEPS {
        let mut recorded = encoder(gpu);
        optimizer.step(&mut recorded, &params, &device::upload(gpu, &grads(number, step))).unwrap();
        gpu.queue.submit([recorded.finish()]);
    }
    device::download(gpu, &params)
}

/// Optimizers by turns over parts of one page, all steps in one encoder: each acts as if it were alone.
#[test]
fn optimizers_share_an_encoder_and_a_page() {
    let (gpu, layout) = (device::gpu(), layout());
    let len = layout.len();
    let count = builders().len();
    // Parameters of each, then gradients of each step of each.
    let mut contents: Vec<f32> = (0..count).flat_map(initial).collect();
    contents.extend((0..count).flat_map(|number| (0..STEPS).flat_map(move |step| grads(number, step))));
    let page = device::upload(gpu, &contents);
    let at = |section: usize| slices(&page, 4 * (section * len) as u64, &layout);
    let mut optimizers = builders().map(|builder| device::build(gpu, builder, &layout).unwrap());
    let mut recorded = encoder(gpu);
    for step in 0..STEPS as usize {
        for (number, optimizer) in optimizers.iter_mut().enumerate() {
            let grads = at(count + number * STEPS as usize + step);
            optimizer.step(&mut recorded, &at(number), &grads).unwrap();
        }
    }
    gpu.queue.submit([recorded.finish()]);
    let seen = device::download(gpu, &page);
    for number in 0..count {
        let params = &seen[number * len..][..len];
        assert_same_bits(params, &alone(gpu, number), &format!("optimizer {number}"));
    }
    assert_same_bits(&seen[count * len..], &contents[count * len..], "gradients");
}

/// Two devices of one adapter, by turns.
#[test]
fn devices_do_not_meet() {
    let gpus = [(); 2].map(|()| device_with(|_| {}));
    let layout = layout();
    for (number, builder) in builders().into_iter().enumerate() {
        let mut all = gpus.each_ref().map(|gpu| {
            let optimizer = builder.clone().build(&gpu.device, &gpu.queue, &layout).unwrap();
            (optimizer, device::upload(gpu, &initial(number)))
        });
        for step in 0..STEPS {
            let recorded = [0, 1].map(|i| {
                let (gpu, (optimizer, params)) = (&gpus[i], &mut all[i]);
                let mut recorded = encoder(gpu);
                optimizer.step(&mut recorded, &*params, &device::upload(gpu, &grads(number, step))).unwrap();
                recorded.finish()
            });
            for (gpu, recorded) in gpus.iter().zip(recorded) {
                gpu.queue.submit([recorded]);
            }
        }
        for (gpu, (_, params)) in gpus.iter().zip(&all) {
            assert_same_bits(&device::download(gpu, params), &alone(device::gpu(), number), "of two devices");
        }
    }
}

/// One optimizer per thread, all at once on one device with shared pipelines; the commands are submitted by this thread.
#[test]
fn threads_record_steps_of_one_device() {
    let gpu = device_with(|_| {});
    let pipelines = SharedPipelines::new(&gpu.device);
    let layout = layout();
    let params = [0, 1, 2, 3].map(|number| device::upload(&gpu, &initial(number)));
    let recorded: Vec<Vec<CommandBuffer>> = thread::scope(|scope| {
        let threads: Vec<_> = builders()
            .into_iter()
            .enumerate()
            .map(|(number, builder)| {
                let (gpu, pipelines, layout, params) = (&gpu, &pipelines, &layout, &params[number]);
                scope.spawn(move || {
                    let mut optimizer = builder.build_shared(pipelines, &gpu.queue, layout).unwrap();
                    let step = |step| {
                        let mut recorded = encoder(gpu);
                        optimizer.step(&mut recorded, params, &device::upload(gpu, &grads(number, step))).unwrap();
                        recorded.finish()
                    };
                    (0..STEPS).map(step).collect()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    gpu.queue.submit(recorded.into_iter().flatten());
    for (number, params) in params.iter().enumerate() {
        assert_same_bits(&device::download(&gpu, params), &alone(device::gpu(), number), "of a thread");
    }
}

/// An optimizer moves from thread to thread between its steps.
#[test]
fn an_optimizer_moves_between_threads() {
    let gpu = device::gpu();
    for (number, builder) in builders().into_iter().enumerate() {
        let mut optimizer = device::build(gpu, builder, &layout()).unwrap();
        let params = device::upload(gpu, &initial(number));
        for step in 0..STEPS {
            let params = params.clone();
            let stepped = thread::spawn(move || {
                let mut recorded = encoder(gpu);
                optimizer.step(&mut recorded, &params, &device::upload(gpu, &grads(number, step))).unwrap();
                gpu.queue.submit([recorded.finish()]);
                optimizer
            });
            optimizer = stepped.join().unwrap();
        }
        assert_same_bits(&device::download(gpu, &params), &alone(gpu, number), "of several threads");
    }
}
