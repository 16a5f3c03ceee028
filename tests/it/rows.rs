//! Rows that come and go: live rows, visible rows, a learning rate per column.

use crate::common::both::Both;
use crate::common::numbers::{assert_close, assert_same_bits, random};
use crate::common::{device, encoder, rule, storage};
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{Buffer, BufferUsages};
use wgpu_optim::{
    Adam, Clip, Ema, Error, GroupOptions, Layout, Lookahead, NonFinite, Optimizer, OptimizerBuilder, Rows, RuleConfig,
    Sgd,
};

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

fn upload(words: &[u32]) -> Buffer {
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
            // Factors of frozen elements decay, those of inactive rows do not.
            let names = RuleConfig::NAMES.iter().filter(|name| **name != "adafactor");
            for (number, name) in names.enumerate() {
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
                    assert_same_bits(
                        &on_cpu,
                        reference.state(state).unwrap().as_f32().unwrap(),
                        &format!("{what}, {state}, CPU"),
                    );
                    assert_same_bits(&on_device, &on_cpu, &format!("{what}, {state}, device"));
                }
                assert!(live == 0 || expected != params, "{what}");
            }
        }
    }
}

/// The bytes of every row are those of an optimizer of this row alone, which steps when the row is active.
#[test]
fn rows_with_step_counts_train_by_themselves() {
    let (rows, masks) = (70, [u32::MAX, 0b1011_0010, 0, 0x0f0f_3333, u32::MAX]);
    let with_rows = |rows: usize, is_packed: bool| {
        let builder = Layout::builder().tensor("a", &[rows, 3]).tensor("b", &[rows]).tensor("c", &[rows, 2, 3]);
        if is_packed { builder.packed() } else { builder }.build().unwrap()
    };
    let of_row = |layout: &Layout, values: &[f32], row: usize| -> Vec<f32> {
        let rows = layout.tensors().iter().zip([3, 1, 6]);
        rows.flat_map(|(tensor, columns)| values[tensor.range().start + row * columns..][..columns].to_vec()).collect()
    };
    for name in ["sgd", "adam", "radam", "lion", "rprop", "adamax"] {
        for is_packed in [false, true] {
            let (layout, alone) = (with_rows(rows, is_packed), with_rows(1, true));
            let builder = match name {
                "sgd" => Optimizer::builder(Sgd::default().with_momentum(0.9).with_dampening(0.5)),
                _ => rule(name),
            };
            let builder = builder.on_nonfinite(NonFinite::Skip);
            let builder = if is_packed { builder.average(Ema::new(0.9)) } else { builder };
            let params = random(7, layout.len());
            let mut both = Both::new(&builder.clone().rows(Rows::default().with_row_steps()), &layout, &params);
            let mut each: Vec<_> = (0..rows).map(|_| builder.clone().build_cpu(&alone).unwrap()).collect();
            let mut expected: Vec<_> = (0..rows).map(|row| of_row(&layout, &params, row)).collect();
            for (step, word) in masks.into_iter().enumerate() {
                let (mask, live) = ([word, word.rotate_left(3), word], if step == 3 { 50 } else { rows });
                let mut grads = random(20 + step as u64, layout.len());
                if step == 4 {
                    // A skipped step counts for no row.
                    grads[0] = f32::INFINITY;
                }
                set(&mut both, live as u32, Some(&mask));
                both.step(&grads);
                for row in (0..rows).filter(|&row| step < 4 && is_active(row, live, Some(&mask))) {
                    each[row].step(&mut expected[row], &of_row(&layout, &grads, row)).unwrap();
                }
                for (engine, params) in ["CPU", "device"].into_iter().zip(both.params()) {
                    for (row, expected) in expected.iter().enumerate() {
                        let what = format!("{name}, packed {is_packed}, {engine}, step {step}, row {row}");
                        assert_same_bits(&of_row(&layout, &params, row), expected, &what);
                    }
                }
            }
        }
    }
}

/// brush's and gsplat's equations in f64: eps 1e-15, no decay, `row_var` of the mean square.
#[test]
fn one_second_moment_per_row_follows_its_mean_square() {
    let rows = 200;
    for (is_packed, amsgrad) in [(false, false), (true, true)] {
        let builder = Layout::builder().tensor("a", &[rows, 5]).tensor("b", &[rows]).tensor("c", &[rows, 3, 47]);
        let layout = if is_packed { builder.packed() } else { builder }.build().unwrap();
        let rule = Adam::default().with_lr(0.1).with_eps(1e-15).with_amsgrad(amsgrad).with_row_second_moment(true);
        let params = random(3, layout.len());
        let mut both = Both::new(&Optimizer::builder(rule).rows(Rows::default()), &layout, &params);
        let mut exact: Vec<f64> = params.iter().map(|&param| param.into()).collect();
        let mut exp_avg = vec![0.0; layout.len()];
        let (mut row_vars, mut max_vars) = (vec![0.0; 3 * rows], vec![0.0f64; layout.len()]);
        for step in 1..=4 {
            let grads = random(30 + step, layout.len());
            let (mask, live) = (mask(), if step == 2 { 199 } else { 150 });
            set(&mut both, live as u32, Some(&mask[..rows.div_ceil(32)]));
            both.step(&grads);
            for (tensor, (info, columns)) in layout.tensors().iter().zip([5, 1, 141]).enumerate() {
                for row in (0..rows).filter(|&row| is_active(row, live, Some(&mask))) {
                    let elements = info.range().start + row * columns..info.range().start + (row + 1) * columns;
                    let squares = grads[elements.clone()].iter().map(|&grad| f64::from(grad).powi(2));
                    let row_var = &mut row_vars[tensor * rows + row];
                    *row_var = 0.999 * *row_var + 0.001 * squares.sum::<f64>() / columns as f64;
                    for i in elements {
                        exp_avg[i] = 0.9 * exp_avg[i] + 0.1 * f64::from(grads[i]);
                        max_vars[i] = if amsgrad { max_vars[i].max(*row_var) } else { *row_var };
                        let [c1, c2] = [0.9f64, 0.999].map(|beta| 1.0 - beta.powi(step as i32));
                        exact[i] -= 0.1 / c1 * exp_avg[i] / ((max_vars[i] / c2).sqrt() + 1e-15);
                    }
                }
            }
            let [on_cpu, on_device] = both.params();
            assert_close("CPU", &on_cpu, &exact, 2e-6);
            assert_close("device", &on_device, &exact, 2e-6);
        }
        let [on_cpu, on_device] = both.state("row_var");
        assert_close("row_var", &on_cpu, &row_vars, 1e-6);
        assert_close("row_var on the device", &on_device, &row_vars, 1e-6);
        assert_eq!(both.on_cpu.state_names().collect::<Vec<_>>()[0], "exp_avg");
        assert!(both.on_cpu.state("exp_avg_sq").is_none());
    }
}

/// Scales of columns are the learning rates of groups that hold these columns.
#[test]
fn columns_have_learning_rates() {
    let rows = 90;
    let scales = [[0.5, 2.0, 0.0].to_vec(), [3.0].to_vec()];
    let tensors = || Layout::builder().packed().tensor("a", &[rows, 3]).tensor("b", &[rows, 1]).tensor("c", &[rows, 2]);
    let layout = tensors().build().unwrap();
    let mut grouped = tensors();
    for (i, scale) in [0.5, 2.0, 0.0].into_iter().enumerate() {
        for row in 0..rows {
            grouped = grouped.range(3 * row + i..3 * row + i + 1, format!("{scale}"));
        }
    }
    let grouped = grouped.range(3 * rows..4 * rows, "3").build().unwrap();
    let params = random(3, layout.len());
    for name in ["adamw", "sgd", "lion", "lamb", "prodigy"] {
        // With rates of columns, groups may have schedules.
        for clip in [None, Some(Clip::global_norm(0.1))] {
            let builder = || clip.map_or(rule(name), |clip| rule(name).clip(clip));
            let mut reference = builder();
            for scale in [0.5, 2.0, 0.0, 3.0] {
                reference = reference.group(format!("{scale}"), GroupOptions::default().with_lr_scale(scale));
            }
            let mut reference = reference.build_cpu(&grouped).unwrap();
            // Other scales until the first step.
            let options =
                Rows::default().with_column_lr_scales("a", [7.0; 3]).with_column_lr_scales("b", scales[1].clone());
            let mut both = Both::new(&builder().rows(options), &layout, &params);
            let mut expected = params.clone();
            both.on_cpu.set_column_lr_scales("a", &scales[0]).unwrap();
            both.on_device.optimizer.set_column_lr_scales("a", &scales[0]).unwrap();
            for step in 0..3 {
                let grads = random(9 + step, layout.len());
                reference.step(&mut expected, &grads).unwrap();
                both.step(&grads);
                let [on_cpu, on_device] = both.params();
                assert_same_bits(&on_cpu, &expected, &format!("{name}, CPU, step {step}"));
                assert_same_bits(&on_device, &expected, &format!("{name}, device, step {step}"));
            }
        }
    }
}

/// Two steps in one encoder have the rows, masks and rates of their time; the number of live rows comes from a buffer.
#[test]
fn settings_of_rows_belong_to_the_step_that_follows_them() {
    let (layout, gpu) = (Layout::builder().packed().tensor("a", &[64, 3]).build().unwrap(), device::gpu());
    let options = Rows::default().with_live(7).with_column_lr_scales("a", [1.0; 3]);
    let builder = Optimizer::builder(Adam::default()).rows(options);
    let (params, grads) = (random(1, layout.len()), random(2, layout.len()));
    let mut both = Both::new(&builder, &layout, &params);
    let (live, masks) = (upload(&[40]), [upload(&[0xff0f_0f0f, 7]), upload(&[u32::MAX, 0])]);
    let mut recorded = encoder(gpu);
    let Both { on_cpu, params: expected, on_device } = &mut both;
    gpu.queue.write_buffer(&on_device.grads, 0, bytemuck::cast_slice(&grads));
    for step in 0..4 {
        let optimizer = &mut on_device.optimizer;
        match step {
            1 => {
                optimizer.set_live_rows(&live).unwrap();
                on_cpu.set_live_rows(40).unwrap();
                optimizer.set_visible_rows(Some(&masks[0])).unwrap();
                on_cpu.set_visible_rows(Some(&[0xff0f_0f0f, 7])).unwrap();
            }
            2 => {
                optimizer.set_visible_rows(Some(&masks[1])).unwrap();
                on_cpu.set_visible_rows(Some(&[u32::MAX, 0])).unwrap();
                optimizer.set_column_lr_scales("a", &[0.0, 1.0, 5.0]).unwrap();
                on_cpu.set_column_lr_scales("a", &[0.0, 1.0, 5.0]).unwrap();
            }
            3 => {
                optimizer.set_live_rows(64).unwrap();
                on_cpu.set_live_rows(64).unwrap();
                optimizer.set_visible_rows(None).unwrap();
                on_cpu.set_visible_rows(None).unwrap();
            }
            _ => {}
        }
        optimizer.step(&mut recorded, &on_device.params, &on_device.grads).unwrap();
        on_cpu.step(&mut *expected, &grads).unwrap();
    }
    gpu.queue.submit([recorded.finish()]);
    let [on_cpu, on_device] = both.params();
    assert_same_bits(&on_device, &on_cpu, "four steps in one encoder");
    assert_ne!(on_cpu[..21], params[..21]);
}

/// Averages and slow weights of a row begin with its own first step, or a mask is refused: they would begin at 0.
#[test]
fn averages_of_rows_hidden_at_first_begin_as_their_parameters() {
    let layout = Layout::builder().packed().tensor("a", &[2]).build().unwrap();
    let sgd = || Optimizer::builder(Sgd::default().with_lr(1.0));
    for (builder, expected) in [
        (sgd().average(Ema::new(0.5)), [8.25, 9.0]),
        (sgd().average(Ema::new(0.5).debiased()), [8.0, 9.0]),
        (sgd().lookahead(Lookahead::new(2, 0.5)), [8.75, 9.0]),
    ] {
        let mut refused = Both::new(&builder.clone().rows(Rows::default()), &layout, &[10.0; 2]);
        let (on_cpu, optimizer) = (&mut refused.on_cpu, &mut refused.on_device.optimizer);
        assert!(matches!(on_cpu.set_visible_rows(Some(&[1])), Err(Error::Unsupported { .. })));
        assert!(matches!(optimizer.set_visible_rows(Some(&upload(&[1]))), Err(Error::Unsupported { .. })));
        on_cpu.set_visible_rows(None).unwrap();
        optimizer.set_visible_rows(None).unwrap();
        let mut both = Both::new(&builder.rows(Rows::default().with_row_steps()), &layout, &[10.0; 2]);
        for (mask, grads) in [(Some(&[1][..]), [1.0, f32::NAN]), (None, [1.5, 1.0])] {
            set(&mut both, 2, mask);
            both.step(&grads);
        }
        if both.on_cpu.state("average").is_some() {
            both.eval();
        }
        both.params().iter().for_each(|params| assert_same_bits(params, &expected, "averaged"));
    }
}

/// Each row continues after the applied steps that the program gives.
#[test]
fn rows_continue_from_given_steps() {
    let layout = Layout::builder().packed().tensor("a", &[5, 3]).build().unwrap();
    let params = random(1, layout.len());
    let builder = Optimizer::builder(Adam::default());
    let mut both = Both::new(&builder.clone().rows(Rows::default().with_row_steps()), &layout, &params);
    let (mut plain, mut expected) = (builder.build_cpu(&layout).unwrap(), params);
    plain.set_applied_steps(9).unwrap();
    both.on_cpu.set_applied_steps(9).unwrap();
    both.on_device.optimizer.set_applied_steps(9).unwrap();
    let grads = random(2, layout.len());
    plain.step(&mut expected, &grads).unwrap();
    both.step(&grads);
    both.params().iter().for_each(|params| assert_same_bits(params, &expected, "continued"));
}

/// A checkpoint holds the step counts of rows, for the other engine too.
#[test]
fn step_counts_of_rows_are_saved() {
    let layout = Layout::builder().packed().tensor("a", &[64, 3]).build().unwrap();
    let options = Rows::default().with_row_steps().with_live(50);
    let rule = Adam::default().with_row_second_moment(true);
    let builder = Optimizer::builder(rule).rows(options);
    let params = random(1, layout.len());
    let mut both = Both::new(&builder, &layout, &params);
    for step in 0..3 {
        set(&mut both, 50, Some(&[0b1011 << step, 0xf0f0]));
        both.step(&random(step, layout.len()));
    }
    let mut file = Vec::new();
    both.on_cpu.save_to(&mut file, Some((&both.params).into())).unwrap();
    let (on_device, folder) = (&both.on_device, tempfile::tempdir().unwrap());
    let slice = on_device.params.slice(..4 * layout.len() as u64);
    on_device.optimizer.save(folder.path().join("rows"), Some(slice.into())).unwrap();
    let of_device = std::fs::read(folder.path().join("rows")).unwrap();
    assert!(file == of_device, "the engines' files differ");
    let checkpoint = || Checkpoint::new(std::io::Cursor::new(file.clone())).unwrap();
    let mut continued = Both::new(&OptimizerBuilder::from_checkpoint(&checkpoint()).unwrap(), &layout, &params);
    let options = LoadOptions::default();
    let loaded = continued.on_cpu.load_from(&mut checkpoint(), Some((&mut continued.params).into()), &options).unwrap();
    assert!(loaded.differences.is_empty());
    let on_device = &mut continued.on_device;
    let slice = on_device.params.slice(..4 * layout.len() as u64);
    let loaded = on_device.optimizer.load_from(&mut checkpoint(), Some(slice.into()), &options).unwrap();
    assert!(loaded.differences.is_empty());
    let grads = random(9, layout.len());
    for both in [&mut both, &mut continued] {
        set(both, 40, Some(&[u32::MAX, 0xffff_0000]));
        both.step(&grads);
    }
    let [expected, on_device] = both.params();
    assert_same_bits(&on_device, &expected, "device");
    continued.params().iter().for_each(|params| assert_same_bits(params, &expected, "continued"));
}

/// A file of an optimizer without step counts of rows: every row has the steps of the file.
#[test]
fn rows_continue_from_a_plain_file() {
    let layout = Layout::builder().packed().tensor("a", &[40, 3]).build().unwrap();
    let builder = Optimizer::builder(Adam::default()).rows(Rows::default());
    let mut plain = builder.build_cpu(&layout).unwrap();
    let mut expected = random(1, layout.len());
    for step in 0..3 {
        plain.step(&mut expected, &random(2 + step, layout.len())).unwrap();
    }
    let mut file = Vec::new();
    plain.save_to(&mut file, Some((&expected).into())).unwrap();
    let counted = Optimizer::builder(Adam::default()).rows(Rows::default().with_row_steps());
    let mut both = Both::new(&counted, &layout, &vec![0.0; layout.len()]);
    let checkpoint = || Checkpoint::new(std::io::Cursor::new(file.clone())).unwrap();
    let options = LoadOptions::default();
    let loaded = both.on_cpu.load_from(&mut checkpoint(), Some((&mut both.params).into()), &options).unwrap();
    assert_eq!(loaded.differences.len(), 1, "{:?}", loaded.differences);
    let slice = both.on_device.params.slice(..4 * layout.len() as u64);
    both.on_device.optimizer.load_from(&mut checkpoint(), Some(slice.into()), &options).map(drop).unwrap();
    let grads = random(9, layout.len());
    plain.step(&mut expected, &grads).unwrap();
    both.step(&grads);
    both.params().iter().for_each(|params| assert_same_bits(params, &expected, "the fourth step"));
}

#[test]
fn mistakes_with_rows_are_errors() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[10, 3]).tensor("b", &[10]).build().unwrap();
    let message = |error: Result<(), Error>| error.unwrap_err().to_string();
    let build = |layout: &Layout, rows: Rows| Optimizer::builder(Sgd::default()).rows(rows).build_cpu(layout).map(drop);
    for (shape, text) in [(&[11][..], "tensor \"b\" of shape [11] has not the 10 rows"), (&[], "of shape []")] {
        let layout = Layout::builder().tensor("a", &[10, 3]).tensor("b", shape).build().unwrap();
        let message = message(build(&layout, Rows::default()));
        assert!(message.contains(text) && message.contains("an optimizer of its own"), "{message}");
    }
    for (rows, text) in [
        (Rows::default().with_live(11), "rows: live is 11; allowed: at most the rows"),
        (Rows::default().with_column_lr_scales("c", [1.0]), "no tensor \"c\"; it has: a, b"),
        (
            Rows::default().with_column_lr_scales("a", [1.0]),
            "1 learning-rate scales were given for tensor \"a\", which has 3",
        ),
        (Rows::default().with_column_lr_scales("b", [-1.0]), "b: column_lr_scale is -1; allowed: 0 or greater"),
        (Rows::default().with_column_lr_scales("b", [f32::NAN]), "b: column_lr_scale is NaN"),
    ] {
        let message = message(build(&layout, rows));
        assert!(message.contains(text), "{message}");
    }
    let wide = Layout::builder().tensor("a", &[2, 257]).build().unwrap();
    let message_of = message(build(&wide, Rows::default().with_column_lr_scales("a", [1.0; 257])));
    assert!(message_of.contains("more than 256 columns"), "{message_of}");
    let counted = |rule| Optimizer::builder(rule).rows(Rows::default().with_row_steps());
    let counted_by = |name| rule(name).rows(Rows::default().with_row_steps());
    let adaptive = counted(Sgd::default()).clip(Clip::adaptive(0.1)).build_cpu(&layout).map(drop);
    assert!(message(adaptive).contains("a step count per row does not work with sums over tensors"));
    assert!(message(counted_by("nadam").build_cpu(&layout).map(drop)).contains("scalar states, which all rows share"));
    let sampled = HistoryOptions::steps(3).with_norms_every(1);
    assert!(message(counted(Sgd::default()).history(sampled).build_cpu(&layout).map(drop)).contains("metrics"));
    let by_row = Optimizer::builder(Adam::default().with_row_second_moment(true)).build_cpu(&layout).map(drop);
    assert!(message(by_row).contains("call `.rows(Rows::default())`"));
    let mut plain = Both::new(&Optimizer::builder(Sgd::default()), &layout, &vec![0.0; layout.len()]);
    assert!(message(plain.on_cpu.set_live_rows(1)).contains("has no rows that come and go"));
    let mut both =
        Both::new(&Optimizer::builder(Sgd::default()).rows(Rows::default()), &layout, &vec![0.0; layout.len()]);
    assert!(
        message(both.on_cpu.set_visible_rows(Some(&[0, 0])))
            .contains("has 2 words of 32 rows; the layout's rows need 1")
    );
    assert!(
        message(both.on_cpu.set_column_lr_scales("a", &[1.0; 3])).contains("begin with `Rows::with_column_lr_scales`")
    );
    let (optimizer, plain) = (&mut both.on_device.optimizer, &mut plain.on_device.optimizer);
    let copied = upload(&[3]);
    let unusable = storage(gpu, 4, BufferUsages::COPY_DST);
    assert!(matches!(plain.set_live_rows(&copied), Err(Error::NoRows)));
    assert!(matches!(plain.set_visible_rows(Some(&copied)), Err(Error::NoRows)));
    assert!(message(optimizer.set_live_rows(&unusable)).contains("live_rows was created with"));
    assert!(message(optimizer.set_visible_rows(Some(&unusable))).contains("because steps copy it"));
    assert!(message(optimizer.set_live_rows(11)).contains("live is 11"));
}
