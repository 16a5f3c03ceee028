//! Rows that come and go: live rows, visible rows, a learning rate per column.

use crate::common::both::Both;
use crate::common::numbers::{assert_same_bits, random};
use crate::common::{Trainer, device, device_with, encoder, rule, storage};
use wgpu_optim::wgpu::BufferUsages;
use wgpu_optim::{Adam, Clip, Ema, Error, GroupOptions, Layout, NonFinite, Optimizer, Rows, RuleConfig, Sgd};

/// Rows of every tensor.
const CAPACITY: usize = 230;
/// Columns that divide no quad, one, a quad, and more than a tile has of this many rows.
const COLUMNS: [usize; 4] = [3, 1, 4, 59];

fn layout(is_packed: bool, ranges: impl Fn(&Layout, usize) -> bool) -> Layout {
    let build = |ranges: &[(std::ops::Range<usize>, &str)]| {
        let mut builder = Layout::builder();
        for (i, columns) in COLUMNS.into_iter().enumerate() {
            builder = builder.tensor(format!("t{i}"), &[CAPACITY, columns]);
        }
        for (range, group) in ranges {
            builder = builder.range(range.clone(), *group);
        }
        if is_packed { builder.packed() } else { builder }.build().unwrap()
    };
    let plain = build(&[]);
    let mut frozen = Vec::new();
    for (tensor, columns) in plain.tensors().iter().zip(COLUMNS) {
        let start = tensor.range().start;
        let rows = (0..CAPACITY).filter(|&row| ranges(&plain, row));
        frozen.extend(rows.map(|row| (start + row * columns..start + (row + 1) * columns, "frozen")));
    }
    build(&frozen)
}

/// Bits of rows: two of three rows, and whole words.
fn mask() -> Vec<u32> {
    (0..CAPACITY.div_ceil(32) as u32).map(|word| if word == 3 { 0 } else { 0b1011_0110_1101 << (word % 7) }).collect()
}

fn is_active(row: usize, live: usize, mask: Option<&[u32]>) -> bool {
    row < live && mask.is_none_or(|mask| (mask[row / 32] >> (row % 32)) & 1 == 1)
}

fn upload(words: &[u32]) -> wgpu_optim::wgpu::Buffer {
    let gpu = device::gpu();
    let usage = BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
    let buffer = storage(gpu, 4 * words.len() as u64, usage);
    gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
    buffer
}

/// Sets the rows of both engines.
fn set(both: &mut Both, live: u32, mask: Option<&[u32]>) {
    both.on_cpu.set_live_rows(live).unwrap();
    both.on_cpu.set_visible_rows(mask).unwrap();
    let optimizer = &mut both.on_device.optimizer;
    optimizer.set_live_rows(live).unwrap();
    optimizer.set_visible_rows(mask.map(upload).as_ref()).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A step over active rows is the step of an optimizer in which the other rows are frozen.
#[test]
fn inactive_rows_are_as_frozen() {
    let mask = mask();
    for is_packed in [false, true] {
        for (live, mask) in [(CAPACITY, None), (170, None), (0, None), (CAPACITY, Some(&mask[..])), (170, Some(&mask))]
        {
            let frozen = layout(is_packed, |_, row| !is_active(row, live, mask));
            let plain = layout(is_packed, |_, _| false);
            let params = random(1, plain.len());
            for (number, name) in RuleConfig::NAMES.iter().enumerate() {
                // All rules with one mask, some with the others.
                if (live, is_packed) != (170, false) && number % 9 != 0 {
                    continue;
                }
                let builder = || match number % 3 {
                    0 if rule(name).clip(Clip::global_norm(0.5)).build_cpu(&plain).is_ok() => {
                        rule(name).clip(Clip::global_norm(0.5))
                    }
                    1 => rule(name).on_nonfinite(NonFinite::Skip),
                    _ => rule(name),
                };
                let mut reference = builder().build_cpu(&plain).unwrap();
                if frozen.groups().is_empty() {
                    // Every row is active.
                } else {
                    let frozen_group = builder().group("frozen", GroupOptions::default().frozen());
                    reference = frozen_group.build_cpu(&frozen).unwrap();
                }
                let mut expected = params.clone();
                let mut both = Both::new(&builder().rows(Rows::default()), &plain, &params);
                set(&mut both, live as u32, mask);
                for step in 0..3 {
                    let mut grads = random(2 + step, plain.len());
                    reference.step(&mut expected, &grads).unwrap();
                    // The bytes of inactive rows do not matter.
                    for (tensor, columns) in plain.tensors().iter().zip(COLUMNS) {
                        for row in (0..CAPACITY).filter(|&row| !is_active(row, live, mask)) {
                            grads[tensor.range().start + row * columns] = f32::NAN;
                        }
                    }
                    both.step(&grads);
                }
                let what = format!("{name}, {live} live, mask {}, packed {is_packed}", mask.is_some());
                let [on_cpu, on_device] = both.params();
                assert_same_bits(&on_cpu, &expected, &format!("{what}, CPU"));
                assert_same_bits(&on_device, &on_cpu, &format!("{what}, device"));
                for state in reference.state_names() {
                    let [on_cpu, on_device] = both.state(state);
                    assert_same_bits(&on_cpu, reference.state(state).unwrap(), &format!("{what}, {state}, CPU"));
                    assert_same_bits(&on_device, &on_cpu, &format!("{what}, {state}, device"));
                }
                assert!(live == 0 || expected != params, "{what}");
            }
        }
    }
}
