//! Kernels against their CPU references.

use wgpu_optim::Gpu;
use wgpu_optim::wgpu::{self, CommandEncoder};

use super::engine::Engine;
use crate::fit::Plan;
use crate::growth::Growth;
use crate::picture::Picture;
use crate::reference::{backward, forward};
use crate::splats::{BLUR, COLOUR, COLUMNS, EDGE, OPACITY, Shape, Splat, shape};
use crate::tests::{SIZE, random, splats, target};
use examples_common::read::read;

const COUNT: usize = 75;
/// In the exponent, at most 5.6, axes in a ratio of 3 err by 100 units of 2^-23; `exp` by 3 + 2 * 5.6 in WGSL.
const UNITS: f32 = 128.0;
const UNIT: f32 = 1.0 / (1 << 23) as f32;

fn engine(gpu: &Gpu, target: &Picture, splats: &[Splat], capacity: usize) -> Engine {
    let plan = Plan { target, capacity, steps: 1, frames: &[0, 1], forgets_states: false };
    let engine = Engine::new(gpu, &plan).expect("an engine");
    gpu.queue.write_buffer(&engine.buffers.params, 0, bytemuck::cast_slice(splats));
    gpu.queue.write_buffer(&engine.buffers.live, 0, bytemuck::bytes_of(&(splats.len() as u32)));
    engine
}

fn submit(gpu: &Gpu, record: impl FnOnce(&mut CommandEncoder)) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    record(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
}

fn gpu() -> Gpu {
    pollster::block_on(Gpu::new()).expect("an adapter")
}

/// Four times the capacity of the live rows: most masks have words without splats.
fn projected(gpu: &Gpu, splats: &[Splat]) -> (Engine, Vec<Shape>) {
    let engine = engine(gpu, &target(), splats, 4 * COUNT);
    submit(gpu, |encoder| {
        engine.record_picture(encoder);
        engine.record_gradients(encoder);
    });
    let mut shapes: Vec<Shape> = read(gpu, &engine.buffers.shapes).expect("read");
    shapes.truncate(splats.len());
    (engine, shapes)
}

#[test]
fn shapes_are_those_of_the_reference() {
    // WGSL lets sines err by 2^-11.
    const SINE: f32 = 1.0 / (1 << 11) as f32;
    let splats = splats(COUNT);
    let (_, shapes) = projected(&gpu(), &splats);
    for (ours, splat) in shapes.iter().zip(&splats) {
        let theirs = shape(splat, SIZE);
        let near = |ours: &[f32], theirs: &[f32], by: f32| ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= by);
        assert_eq!(ours.centre, theirs.centre);
        assert!(near(&ours.axes, &theirs.axes, 16.0 * UNIT * theirs.axes[0].max(theirs.axes[1])));
        assert!(near(&ours.along, &theirs.along, 1.1 * SINE / theirs.axes[0]));
        assert!(near(&ours.across, &theirs.across, 1.1 * SINE / theirs.axes[1]));
        assert!(near(&ours.light, &theirs.light, 2.0 * UNIT));
        for axis in 0..2 {
            let ends = [(ours.first[axis], theirs.first[axis]), (ours.end[axis], theirs.end[axis])];
            assert!(ends.iter().all(|(a, b)| a.abs_diff(*b) <= 1), "{ours:?} for {theirs:?}");
        }
    }
}

#[test]
fn pictures_are_those_of_the_reference() {
    let gpu = gpu();
    let (engine, shapes) = projected(&gpu, &splats(COUNT));
    let ours: Vec<[f32; 4]> = read(&gpu, &engine.buffers.errors).expect("read");
    let pixels: Vec<[u8; 4]> = read(&gpu, &engine.buffers.picture).expect("read");
    let statistics: Vec<f32> = read(&gpu, &engine.buffers.statistics).expect("read");
    let goal = target().colours();
    let mut theirs = vec![[0.0; 3]; goal.len()];
    forward(&shapes, &goal, SIZE[0] as usize, &mut theirs);
    let mut squares = 0.0;
    for (i, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        let (x, y) = (i as u32 % SIZE[0], i as u32 / SIZE[0]);
        let light =
            |channel: usize| shapes.iter().map(|shape| shape.light[channel].abs() * shape.at(x, y).2).sum::<f32>();
        for channel in 0..3 {
            let bound = (UNITS + COUNT as f32) * UNIT * (light(channel) + 1.0);
            assert!((ours[channel] - theirs[channel]).abs() <= bound, "({x}, {y}): {ours:?} for {theirs:?}");
            let level = 255.0 * (goal[i][channel] + theirs[channel]).clamp(0.0, 1.0);
            assert!((f32::from(pixels[i][channel]) - level).abs() <= 0.51, "({x}, {y}): {:?}", pixels[i]);
            squares += ours[channel] * ours[channel];
        }
    }
    assert!((statistics[0] - squares).abs() <= goal.len() as f32 * UNIT * squares, "{} for {squares}", statistics[0]);
    assert_eq!(statistics[1].to_bits(), COUNT as u32);
}

/// Sums of the absolute terms of each gradient.
fn magnitudes(splat: &Splat, shape: &Shape, errors: &[[f32; 3]]) -> Splat {
    let mut sums = [0.0; COLUMNS];
    for y in shape.first[1]..shape.end[1] {
        for x in shape.first[0]..shape.end[0] {
            let (u, v, gauss) = shape.at(x, y);
            let error = errors[(y * SIZE[0] + x) as usize];
            let slope: f32 = (0..3).map(|c| (error[c] * shape.light[c]).abs()).sum::<f32>() * gauss;
            let [length, width] = shape.axes;
            let centre = [0, 1].map(|axis| (u * shape.along[axis]).abs() + (v * shape.across[axis]).abs());
            let shares = [u * u, v * v, (u * v).abs() * (length / width + width / length)];
            let weights = error.map(|error| error.abs() * gauss);
            let colours = weights.map(|weight| weight * splat[OPACITY].abs());
            let opacity: f32 = (0..3).map(|c| splat[COLOUR + c].abs() * weights[c]).sum();
            let terms = [
                slope * centre[0],
                slope * centre[1],
                slope * shares[0],
                slope * shares[1],
                slope * shares[2],
                colours[0],
                colours[1],
                colours[2],
                opacity,
            ];
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
    }
    sums
}

#[test]
fn gradients_are_those_of_the_reference() {
    let gpu = gpu();
    let splats = splats(COUNT);
    let (engine, shapes) = projected(&gpu, &splats);
    let errors: Vec<[f32; 4]> = read(&gpu, &engine.buffers.errors).expect("read");
    let errors: Vec<_> = errors.iter().map(|&[red, green, blue, _]| [red, green, blue]).collect();
    let grads: Vec<f32> = read(&gpu, &engine.buffers.grads).expect("read");
    let scores: Vec<f32> = read(&gpu, &engine.buffers.scores).expect("read");
    for (row, (splat, shape)) in splats.iter().zip(&shapes).enumerate() {
        let (theirs, score) = backward(splat, shape, &errors, SIZE[0] as usize);
        let ours = &grads[row * COLUMNS..][..COLUMNS];
        let bounds = magnitudes(splat, shape, &errors).map(|sum| (UNITS + (SIZE[0] * SIZE[1]) as f32) * UNIT * sum);
        for column in 0..COLUMNS {
            let near = (ours[column] - theirs[column]).abs() <= bounds[column];
            assert!(near, "row {row}, column {column}: {ours:?} for {theirs:?} within {bounds:?}");
        }
        assert!((scores[row] - score).abs() <= bounds[0] + bounds[1], "row {row}: {} for {score}", scores[row]);
    }
    assert_eq!(grads[COLUMNS * COUNT..], vec![0.0; grads.len() - COLUMNS * COUNT], "rows without a splat");
}

/// Splats that nobody sees, scores of zero, equal scores, and one that is not a number.
fn growing(count: usize) -> (Vec<Splat>, Vec<f32>) {
    let mut next = random(23);
    let mut splats = splats(count);
    let mut scores: Vec<_> = (0..count).map(|_| (8.0 * next()).floor() * next().round()).collect();
    for row in (0..count).step_by(9) {
        splats[row][OPACITY] = 1e-3;
    }
    scores[count / 2] = f32::NAN;
    (splats, scores)
}

#[test]
fn growths_are_those_of_the_reference() {
    let gpu = gpu();
    for (count, capacity) in [(COUNT, 4 * COUNT), (300, 300), (300, 180), (1, 4)] {
        let (splats, scores) = if count == 1 { (splats(1), vec![1.0]) } else { growing(count) };
        let mut engine = engine(&gpu, &target(), &splats, capacity.max(count));
        gpu.queue.write_buffer(&engine.buffers.scores, 0, bytemuck::cast_slice(&scores));
        submit(&gpu, |encoder| engine.record_growth(encoder).expect("recorded"));
        let growth = Growth::new(&splats, &scores, capacity.max(count));
        let live: Vec<u32> = read(&gpu, &engine.buffers.live).expect("read");
        assert_eq!(live, [growth.live]);
        let tables = [
            (&engine.buffers.sources, &growth.sources),
            (&engine.buffers.state_sources, &growth.state_sources),
            (&engine.buffers.parents, &growth.parents),
        ];
        for (ours, theirs) in tables {
            assert_eq!(read::<i32>(&gpu, ours).expect("read"), *theirs);
        }
        let mut theirs: Vec<_> =
            growth.sources[..growth.live as usize].iter().map(|&row| splats[row as usize]).collect();
        theirs.resize(growth.parents.len(), [0.0; COLUMNS]);
        growth.divide(&mut theirs);
        let ours: Vec<f32> = read(&gpu, &engine.buffers.params).expect("read");
        for (row, theirs) in theirs[..growth.live as usize].iter().enumerate() {
            let ours = &ours[row * COLUMNS..][..COLUMNS];
            // Sines err by 2^-11, times a distance of at most 0.6 * e^2 pixels.
            let near = ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 4.5 / 2048.0);
            assert!(near, "row {row}: {ours:?} for {theirs:?}");
        }
        let scores: Vec<f32> = read(&gpu, &engine.buffers.scores).expect("read");
        assert!(scores.iter().all(|&score| score == 0.0));
    }
}

#[test]
fn constants_of_shaders_are_those_of_the_reference() {
    let words = include_str!("../shaders/splat.wgsl");
    assert!(words.contains("const EDGE = 1.0 / 256.0;") && EDGE == 1.0 / 256.0);
    assert!(words.contains("const BLUR = 0.09;") && BLUR == 0.09);
}
