//! Steps on the CPU.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use wgpu_optim::CpuOptimizer;

use crate::case::Case;
use crate::measure::measure;
use crate::row::{Compared, Row};
use crate::{Engine, Result, memory};

/// Elements a thread streams or copies at a time.
const PART: usize = 1 << 15;

/// Elements from where one stream begins in a page to where the next does in its own: side by side at the same place, they
/// would drive each other out of the first cache.
const SHIFT: usize = 176;

pub(crate) struct Cpu {
    processor: String,
    threads: String,
}

/// One copy of all slices of a case.
struct Set {
    optimizer: CpuOptimizer,
    /// What making it took.
    made_in: f64,
    params: Vec<f32>,
    grads: Vec<f32>,
    /// What the streaming loop reads and writes: as many slices as the rule has states.
    states: Vec<Vec<f32>>,
}

impl Cpu {
    pub(crate) fn new() -> Self {
        let threads = format!("threads: {}", rayon::current_num_threads());
        Self { processor: memory::processor(), threads }
    }
}

impl Engine for Cpu {
    fn describe(&self) -> String {
        format!("CPU engine: {}, {}", self.processor, self.threads)
    }

    fn has_room(&self, elements: usize, streams: usize) -> bool {
        let per_element = 4 * (2 * streams as u64 - 2);
        elements as u64 * per_element <= memory::available() / 2
    }

    fn run(&mut self, case: &Case, seconds: f64) -> Result<Row> {
        let set = |_| {
            let len = case.layout.len();
            let states = vec![vec![0.0; len + case.streams() * SHIFT]; case.streams() - 2];
            let start = Instant::now();
            let optimizer = case.builder().build_cpu(&case.layout)?;
            let made_in = start.elapsed().as_secs_f64();
            // Padding is 0, as most have it.
            let tensors = |value| {
                let mut values = vec![0.0; len];
                case.layout.tensors().iter().for_each(|tensor| values[tensor.range()].fill(value));
                values
            };
            Ok(Set { optimizer, made_in, params: tensors(1.0), grads: tensors(1e-3), states })
        };
        let mut sets: VecDeque<Set> = (0..case.copies()).map(set).collect::<Result<_>>()?;
        let first_step = |set: &mut Set| {
            let start = Instant::now();
            set.optimizer.step(&mut set.params, &set.grads)?;
            let seconds = set.made_in + start.elapsed().as_secs_f64();
            stream(set);
            Ok(seconds)
        };
        // Of all of them: what is measured later finds memory touched.
        let first_steps: Vec<f64> = sets.iter_mut().map(first_step).collect::<Result<_>>()?;
        let steps = Cell::new(sets.len() as u64);
        let sets = RefCell::new(sets);
        let turn = |work: &dyn Fn(&mut Set) -> Result<()>, turns| {
            let turn = |_| {
                let mut sets = sets.borrow_mut();
                sets.rotate_left(1);
                let start = Instant::now();
                work(&mut sets[0])?;
                Ok(start.elapsed().as_secs_f64())
            };
            (0..turns).map(turn).collect()
        };
        let mut step = |turns| {
            let step = |set: &mut Set| {
                set.optimizer.step(&mut set.params, &set.grads)?;
                steps.set(steps.get() + 1);
                Ok(())
            };
            turn(&step, turns)
        };
        let mut streaming = |turns| {
            let streaming = |set: &mut Set| {
                stream(set);
                Ok(())
            };
            turn(&streaming, turns)
        };
        let mut copy = |turns| {
            let copy = |set: &mut Set| {
                let parts = set.grads.par_chunks_mut(PART).zip(set.params.par_chunks(PART));
                parts.for_each(|(grads, params)| grads.copy_from_slice(params));
                Ok(())
            };
            turn(&copy, turns)
        };
        let [step, stream, copy] = measure([&mut step, &mut streaming, &mut copy], seconds)?;
        let applied: u64 = sets.borrow().iter().map(|set| set.optimizer.stats().step).sum();
        if applied != steps.get() {
            let (name, steps) = (&case.name, steps.get());
            return Err(format!("{name}: {applied} of {steps} steps were applied; the times mean nothing").into());
        }
        let copy = (4 * case.layout.len() as u64, copy);
        let compared = Compared { step, stream, copy, record_microseconds: None, first_step_seconds: first_steps[0] };
        Ok(Row::new(case, "cpu", (&self.processor, &self.threads), compared))
    }
}

/// Reads the gradients, reads and writes everything else in place, with two integer operations a word.
fn stream(set: &mut Set) {
    let mask = black_box(0);
    let len = set.params.len();
    let states = set.states.iter_mut().zip(1..);
    let mut states: Vec<_> = states.map(|(state, number)| state[number * SHIFT..][..len].chunks_mut(PART)).collect();
    let params = set.params.chunks_mut(PART).zip(set.grads.chunks(PART));
    let parts: Vec<_> = params.map(|(param, grad)| (param, grad, next_of_each(&mut states))).collect();
    parts.into_par_iter().for_each(|(param, grad, states)| match states.len() {
        0 => stream_part::<0>(param, grad, states, mask),
        1 => stream_part::<1>(param, grad, states, mask),
        2 => stream_part::<2>(param, grad, states, mask),
        3 => stream_part::<3>(param, grad, states, mask),
        4 => stream_part::<4>(param, grad, states, mask),
        more => unreachable!("no rule here has {more} states"),
    });
}

/// All streams side by side, as a step goes through them.
fn stream_part<const N: usize>(param: &mut [f32], grad: &[f32], states: Vec<&mut [f32]>, mask: u32) {
    let Ok(states) = <[&mut [f32]; N]>::try_from(states) else {
        unreachable!("the caller counted them");
    };
    let len = param.len();
    let (param, grad, mut states) = (&mut param[..len], &grad[..len], states.map(|state| &mut state[..len]));
    let before_a_line = param.as_ptr().align_offset(64).min(len);
    for part in [0..before_a_line, before_a_line..len] {
        for i in part {
            let grad = grad[i].to_bits() & mask;
            param[i] = f32::from_bits(param[i].to_bits() ^ grad);
            for state in &mut states {
                state[i] = f32::from_bits(state[i].to_bits() ^ grad);
            }
        }
    }
}

fn next_of_each<'a>(states: &mut [std::slice::ChunksMut<'a, f32>]) -> Vec<&'a mut [f32]> {
    states.iter_mut().filter_map(Iterator::next).collect()
}
