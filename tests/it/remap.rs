//! Rows that move with their states: both engines against indexing in plain Rust.

use std::collections::BTreeMap;

use serde::Deserialize;
use wgpu_optim::checkpoint::LoadOptions;
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{Buffer, BufferSlice, BufferUsages};
use wgpu_optim::{
    Adafactor, Adam, AdamW, Clip, CpuRemap, Dtype, Ema, Error, Gpu, GroupOptions, Layout, LayoutBuilder, Lookahead,
    Optimizer, OptimizerBuilder, Remap, Rows, RuleConfig, Sam, Sgd, Stats,
};

use crate::common::both::Both;
use crate::common::numbers::{assert_close, assert_same_bits, random};
use crate::common::{Trainer, bf16, cpu_bits, device, device_with, encoder, finish, rule, set_state, state, storage};

/// A remap, as the host knows it.
#[derive(Debug, Clone, Default)]
struct Table {
    sources: Vec<i32>,
    states: Option<Vec<i32>>,
    new: Option<Vec<f32>>,
}

impl Table {
    fn new(sources: impl IntoIterator<Item = i32>) -> Self {
        Self { sources: sources.into_iter().collect(), ..Self::default() }
    }

    fn with_states(self, states: impl IntoIterator<Item = i32>) -> Self {
        Self { states: Some(states.into_iter().collect()), ..self }
    }

    fn states(&self) -> &[i32] {
        self.states.as_ref().unwrap_or(&self.sources)
    }

    fn on_cpu(&self) -> CpuRemap<'_> {
        let mut table = CpuRemap::new(&self.sources);
        if let Some(states) = &self.states {
            table = table.with_state_sources(states);
        }
        if let Some(new) = &self.new {
            table = table.with_new_params(new);
        }
        table
    }

    /// Calls `f` with the table in buffers that are longer than it.
    fn on_device<R>(&self, gpu: &Gpu, f: impl FnOnce(&Remap<'_>) -> R) -> R {
        let sources = indices(gpu, &self.sources);
        let states = self.states.as_ref().map(|states| indices(gpu, states));
        let new = self.new.as_ref().map(|new| device::upload(gpu, new));
        let mut table = Remap::new(&sources);
        if let Some(states) = &states {
            table = table.with_state_sources(states);
        }
        if let Some(new) = &new {
            table = table.with_new_params(new);
        }
        f(&table)
    }
}

fn indices(gpu: &Gpu, rows: &[i32]) -> Buffer {
    device::upload(gpu, bytemuck::cast_slice(&[rows, &[i32::MAX; 3]].concat()))
}

fn remap(both: &mut Both, table: &Table) {
    both.on_cpu.remap(&mut both.params, &table.on_cpu()).unwrap();
    let gpu = both.on_device.gpu;
    table.on_device(gpu, |table| both.record(|optimizer, encoder, params| optimizer.remap(encoder, params, table)));
}

fn stats(both: &Both) -> [Stats; 2] {
    let Trainer { gpu, optimizer, .. } = &both.on_device;
    [both.on_cpu.stats(), finish(gpu, optimizer, encoder(gpu))]
}

/// Training of rows on both engines.
fn start(builder: &OptimizerBuilder, layout: &Layout, params: &[f32]) -> Both {
    Both::new(&builder.clone().rows(Rows::default()), layout, params)
}

/// First element and columns of each tensor.
fn tensors(layout: &Layout) -> Vec<(usize, usize)> {
    let columns = |shape: &[usize]| shape[1..].iter().product();
    layout.tensors().iter().map(|tensor| (tensor.range().start, columns(tensor.shape()))).collect()
}

/// The rows of `old` by a table. Invalid rows keep their values; `new` has the values of new rows.
fn moved(tensors: &[(usize, usize)], sources: &[i32], old: &[f32], new: impl Fn(usize) -> f32) -> Vec<f32> {
    let mut values = old.to_vec();
    for &(start, columns) in tensors {
        for (row, &source) in sources.iter().enumerate() {
            for column in 0..columns {
                let at = start + row * columns + column;
                values[at] = match usize::try_from(source) {
                    Ok(source) if source < sources.len() => old[start + source * columns + column],
                    _ if source == -1 => new(at),
                    _ => old[at],
                };
            }
        }
    }
    values
}

const COLUMNS: [usize; 5] = [1, 3, 5, 14, 59];

fn layout_of(builder: LayoutBuilder, capacity: usize) -> Layout {
    let tensor = |builder: LayoutBuilder, columns: usize| builder.tensor(format!("t{columns}"), &[capacity, columns]);
    COLUMNS.into_iter().fold(builder, tensor).tensor("vector", &[capacity]).build().unwrap()
}

fn layouts(capacity: usize) -> [(&'static str, Layout); 2] {
    let packed = layout_of(Layout::builder().packed(), capacity);
    [("packed", packed), ("padded", layout_of(Layout::builder(), capacity))]
}

/// Indices that scatter rows, with a new row among any five.
fn scattered(capacity: usize, seed: usize) -> Vec<i32> {
    let row = |row: usize| (row * 7 + seed) % capacity.max(1);
    (0..capacity).map(|i| if (i + seed).is_multiple_of(5) { -1 } else { row(i) as i32 }).collect()
}

/// Moves rows after three steps of AdamW, and compares parameters and states of both engines.
fn assert_moved(what: &str, layout: &Layout, table: &Table) {
    let len = layout.len();
    let mut both = start(&Optimizer::builder(AdamW::default()), layout, &random(1, len));
    (0..3).for_each(|step| both.step(&random(10 + step, len)));
    let before: Vec<_> = ["exp_avg", "exp_avg_sq"].map(|name| both.state(name)[0].clone()).into();
    let (params, tensors) = (both.params.clone(), tensors(layout));
    remap(&mut both, table);
    let new = table.new.as_ref().unwrap_or(&params);
    let expected = moved(&tensors, &table.sources, &params, |at| new[at]);
    both.params().iter().for_each(|found| assert_same_bits(found, &expected, what));
    for (name, old) in ["exp_avg", "exp_avg_sq"].iter().zip(before) {
        let expected = moved(&tensors, table.states(), &old, |_| 0.0);
        both.state(name).iter().for_each(|found| assert_same_bits(found, &expected, &format!("{what}, {name}")));
    }
    assert_eq!(stats(&both).map(|stats| stats.invalid_rows), [false; 2], "{what}");
    both.step(&random(20, len));
    let [on_cpu, on_device] = both.params();
    assert_same_bits(&on_cpu, &on_device, &format!("{what}, the step after"));
}

#[test]
fn rows_move_as_plain_indexing_moves_them() {
    const CAPACITY: usize = 83;
    let rows = || 0..CAPACITY as i32;
    for (name, layout) in layouts(CAPACITY) {
        let tables = [
            ("identity", Table::new(rows())),
            ("permutation", Table::new(rows().map(|row| (row * 5 + 2) % CAPACITY as i32))),
            ("reversal", Table::new(rows().rev())),
            // The rows that stay move to the front.
            ("prune", Table::new(rows().map(|row| (2 * row).min(CAPACITY as i32 - 1)))),
            (
                "clone",
                Table::new(rows().map(|row| row % 40)).with_states(rows().map(|row| if row < 40 { row } else { -1 })),
            ),
            ("relocation", Table::new(rows().map(|row| if row % 9 == 4 { 7 } else { row }))),
            ("all new", Table::new(rows().map(|_| -1))),
            ("scattered", Table::new(scattered(CAPACITY, 3)).with_states(scattered(CAPACITY, 11))),
        ];
        for (what, table) in tables {
            assert_moved(&format!("{name}, {what}"), &layout, &table);
            let new = Some(random(30, layout.len()));
            assert_moved(&format!("{name}, {what}, new parameters"), &layout, &Table { new, ..table });
        }
    }
}

#[test]
fn few_rows_move() {
    for (name, layout) in [0, 1, 2].into_iter().flat_map(layouts) {
        let capacity = layout.tensors()[0].shape()[0];
        for source in [-1, 0] {
            assert_moved(&format!("{name}, {capacity} rows"), &layout, &Table::new(vec![source; capacity]));
        }
    }
    let empty = Layout::builder().tensor("none", &[3, 0]).tensor("a", &[3, 2]).tensor("no", &[3, 0]).build().unwrap();
    assert_moved("tensors without columns", &empty, &Table::new([2, -1, 0]));
}

/// Sets everything that an optimizer of `both` holds, as if it had made it itself.
fn given(
    both: &Both,
    builder: &OptimizerBuilder,
    layout: &Layout,
    params: &[f32],
    states: &[(String, Vec<f32>)],
) -> Both {
    let mut given = start(builder, layout, params);
    let Trainer { gpu, optimizer, .. } = &mut given.on_device;
    let from = &both.on_device.optimizer;
    for (name, values) in states {
        given.on_cpu.state_mut(name).unwrap().into_f32().unwrap().copy_from_slice(values);
        set_state(gpu, optimizer, name, values);
    }
    given.on_cpu.set_scalar_states(both.on_cpu.scalar_states()).unwrap();
    given.on_cpu.set_tensor_states(&both.on_cpu.tensor_states().collect::<Vec<_>>()).unwrap();
    if let Some(scalars) = from.scalar_states() {
        optimizer.set_scalar_states(&device::download_slice(gpu, scalars)).unwrap();
    }
    if let Some(states) = from.tensor_states() {
        optimizer.set_tensor_states(bytemuck::cast_slice(&device::download_slice(gpu, states))).unwrap();
    }
    let steps = both.on_cpu.stats().step;
    given.on_cpu.set_applied_steps(steps).unwrap();
    optimizer.set_applied_steps(steps).unwrap();
    given
}

/// States that are parameters.
const PARAMS: [&str; 4] = ["z", "p0", "slow", "average"];

/// Steps after a remap equal those of an optimizer that is given the moved states.
fn assert_continues(what: &str, builder: &OptimizerBuilder) {
    const CAPACITY: usize = 23;
    let layout = layout_of(Layout::builder().packed(), CAPACITY);
    let (len, tensors) = (layout.len(), tensors(&layout));
    let mut both = start(builder, &layout, &random(1, len));
    let names: Vec<_> = both.on_cpu.state_names().map(str::to_owned).collect();
    // A new state is as before the first step.
    let initial: Vec<_> =
        names.iter().map(|name| both.on_cpu.state(name).unwrap().as_f32().unwrap().first().copied()).collect();
    (0..3).for_each(|step| both.step(&random(10 + step, len)));
    let new = random(30, len);
    let table =
        Table { new: Some(new.clone()), ..Table::new(scattered(CAPACITY, 3)).with_states(scattered(CAPACITY, 9)) };
    let params = moved(&tensors, &table.sources, &both.params, |at| new[at]);
    let states = names.iter().zip(initial).filter(|(_, initial)| initial.is_some()).map(|(name, initial)| {
        let old = both.on_cpu.state(name).unwrap().as_f32().unwrap();
        let values = if PARAMS.contains(&&**name) {
            moved(&tensors, &table.sources, old, |at| params[at])
        } else {
            let one = |count: usize| (0..count).map(|tensor| (tensor * CAPACITY, 1)).collect::<Vec<_>>();
            let places = match &**name {
                "row_var" => one(COLUMNS.len()),
                "col_var" => one(0),
                "variance" => one(1),
                _ => tensors.clone(),
            };
            moved(&places, table.states(), old, |_| initial.unwrap())
        };
        (name.clone(), values)
    });
    let states: Vec<_> = states.collect();
    let mut expected = given(&both, builder, &layout, &params, &states);
    remap(&mut both, &table);
    for step in 0..3 {
        let bits = |both: &Both| [cpu_bits(&both.on_cpu, &both.params), both.on_device.bits()];
        assert!(bits(&both) == bits(&expected), "{what}, {step} steps after");
        both.step(&random(20 + step, len));
        expected.step(&random(20 + step, len));
    }
}

fn states_move(name: &str) {
    assert_continues(name, &rule(name));
}

tests_of! {
    [states_move]
    every_rule
}

#[test]
fn every_rule_is_here() {
    assert_eq!(RULES, RuleConfig::NAMES);
}

#[test]
fn states_of_transforms_move_with_the_parameters() {
    let adamw = || Optimizer::builder(AdamW::default().with_lr(0.01));
    assert_continues("average", &adamw().average(Ema::new(0.9)));
    assert_continues("Lookahead", &adamw().lookahead(Lookahead::new(2, 0.5)));
    assert_continues("both", &adamw().lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.9)));
    assert_continues("decided", &adamw().clip(Clip::global_norm(1.0)).average(Ema::new(0.9).with_warmup()));
    assert_continues("amsgrad", &Optimizer::builder(Adam::default().with_amsgrad(true)));
}

/// The average of a new row evaluates to the row's parameters, whatever the number of steps before.
#[test]
fn a_debiased_average_of_a_new_row_begins_as_its_parameters() {
    let layout = Layout::builder().packed().tensor("a", &[3, 2]).build().unwrap();
    let builder = Optimizer::builder(Sgd::default().with_lr(0.5)).average(Ema::new(0.9).debiased());
    let mut both = start(&builder, &layout, &[1.0; 6]);
    (0..3).for_each(|_| both.step(&[0.5; 6]));
    let old = both.state("average")[0].clone();
    remap(&mut both, &Table { new: Some(vec![8.0; 6]), ..Table::new([1, -1, 0]) });
    let [on_cpu, on_device] = both.state("average");
    assert_same_bits(&on_cpu, &on_device, "average");
    assert_same_bits(&on_cpu[..2], &old[2..4], "a moved row");
    both.eval();
    for params in both.params() {
        assert!((params[2] - 8.0).abs() < 1e-5 && (params[3] - 8.0).abs() < 1e-5, "{params:?}");
    }
}

/// The factors of rows move; those of columns belong to all rows.
#[test]
fn factors_move() {
    let layout =
        Layout::builder().packed().tensor("m", &[4, 3]).tensor("v", &[4]).tensor("b", &[4, 2, 5]).build().unwrap();
    let builder = Optimizer::builder(Adafactor::torch().with_min_dim_size_to_factor(2));
    let mut both = start(&builder, &layout, &random(1, layout.len()));
    both.step(&random(2, layout.len()));
    let old: Vec<_> = ["row_var", "col_var", "variance"].map(|name| both.state(name)[0].clone()).into();
    assert_eq!([old[0].len(), old[1].len(), old[2].len()], [4 + 8, 3 + 20, 4]);
    let sources = [3, -1, 0, 0];
    remap(&mut both, &Table::new(sources));
    let tensors = [vec![(0, 1), (4, 2)], vec![(3, 5)], vec![(0, 1)]];
    for ((name, old), tensors) in ["row_var", "col_var", "variance"].iter().zip(old).zip(tensors) {
        let expected = moved(&tensors, &sources, &old, |_| 0.0);
        both.state(name).iter().for_each(|found| assert_same_bits(found, &expected, name));
    }
    both.step(&random(3, layout.len()));
    let [on_cpu, on_device] = both.params();
    assert_same_bits(&on_cpu, &on_device, "the step after");
}

const CANARY: f32 = -12345.678;

#[test]
fn invalid_indices_leave_rows_and_set_the_flag() {
    const CAPACITY: usize = 9;
    for (name, layout) in layouts(CAPACITY) {
        for bad in [i32::MIN, -2, CAPACITY as i32, i32::MAX] {
            for in_states in [false, true] {
                let what = format!("{name}, {bad}, {in_states}");
                let valid: Vec<i32> = (0..CAPACITY as i32).rev().collect();
                let mut sources = valid.clone();
                (sources[0], sources[4], sources[CAPACITY - 1]) = (bad, bad, bad);
                let table =
                    if in_states { Table::new(valid.clone()).with_states(sources) } else { Table::new(sources) };
                assert_invalid(&what, &layout, &table, &Table::new(valid));
            }
        }
    }
}

/// Parameters lie between canaries. The flag stays over steps of both kinds, up to the next remap.
fn assert_invalid(what: &str, layout: &Layout, table: &Table, valid: &Table) {
    let (len, gpu, ahead) = (layout.len(), device::gpu(), 64);
    let builder = Optimizer::builder(AdamW::default()).rows(Rows::default());
    let mut optimizer = device::build(gpu, builder.clone(), layout).unwrap();
    let mut reference = builder.build_cpu(layout).unwrap();
    let mut params = random(1, len);
    let canaries = vec![CANARY; ahead];
    let buffer = device::upload(gpu, &[&canaries[..], &params, &canaries].concat());
    let on_device = buffer.slice(4 * ahead as u64..4 * (ahead + len) as u64);
    let grads = random(2, len);
    let on_device_grads = device::upload(gpu, &grads);
    let step = |optimizer: &mut Optimizer, recorded: &mut _| {
        optimizer.step(recorded, on_device, on_device_grads.slice(..4 * len as u64)).unwrap();
    };
    let mut recorded = encoder(gpu);
    step(&mut optimizer, &mut recorded);
    table.on_device(gpu, |table| optimizer.remap(&mut recorded, on_device, table)).unwrap();
    assert!(finish(gpu, &optimizer, recorded).invalid_rows, "{what}");
    reference.step(&mut params, &grads).unwrap();
    let (old, old_states) = (params.clone(), reference.state("exp_avg").unwrap().as_f32().unwrap().to_vec());
    reference.remap(&mut params, &table.on_cpu()).unwrap();
    assert!(reference.stats().invalid_rows, "{what}");
    let tensors = tensors(layout);
    let expected = moved(&tensors, &table.sources, &old, |_| unreachable!());
    let expected_states = moved(&tensors, table.states(), &old_states, |_| unreachable!());
    let found = device::download(gpu, &buffer);
    assert_same_bits(&found[ahead..ahead + len], &expected, what);
    assert_same_bits(&params, &expected, what);
    assert_same_bits(&state(gpu, &optimizer, "exp_avg")[..len], &expected_states, what);
    assert_same_bits(reference.state("exp_avg").unwrap().as_f32().unwrap(), &expected_states, what);
    assert_same_bits(&found[..ahead], &canaries, what);
    assert_same_bits(&found[ahead + len..], &canaries, what);
    // A gradient scale makes a step decided.
    for scale in [None, Some(2.0)] {
        if let Some(scale) = scale {
            optimizer.set_grad_scale(scale).unwrap();
            reference.set_grad_scale(scale).unwrap();
        }
        let mut recorded = encoder(gpu);
        step(&mut optimizer, &mut recorded);
        assert!(finish(gpu, &optimizer, recorded).invalid_rows, "{what}, {scale:?}");
        assert!(reference.step(&mut params, &grads).unwrap().invalid_rows, "{what}, {scale:?}");
    }
    let mut recorded = encoder(gpu);
    valid.on_device(gpu, |table| optimizer.remap(&mut recorded, on_device, table)).unwrap();
    step(&mut optimizer, &mut recorded);
    assert!(!finish(gpu, &optimizer, recorded).invalid_rows, "{what}");
    reference.remap(&mut params, &valid.on_cpu()).unwrap();
    assert!(!reference.step(&mut params, &grads).unwrap().invalid_rows, "{what}");
    assert_same_bits(&device::download_slice(gpu, on_device), &params, what);
}

/// The parameters of a device after two steps and a remap between, cut into buffers of their own.
fn in_parts(gpu: &Gpu, layout: &Layout, cuts: &[usize], table: &Table) -> (Optimizer, Vec<f32>) {
    let (len, values) = (layout.len(), random(1, layout.len()));
    let upload = |values: &[f32]| -> Vec<Buffer> {
        cuts.windows(2).map(|cut| device::upload(gpu, &values[cut[0]..cut[1]])).collect()
    };
    let (params, grads) = (upload(&values), upload(&random(2, len)));
    let mut optimizer = device::build(gpu, Optimizer::builder(AdamW::default()).rows(Rows::default()), layout).unwrap();
    let [params, grads] = [&params, &grads].map(|parts| parts.iter().map(|part| part.slice(..)).collect::<Vec<_>>());
    let mut recorded = encoder(gpu);
    optimizer.step(&mut recorded, &params, &grads).unwrap();
    table.on_device(gpu, |table| optimizer.remap(&mut recorded, &params, table)).unwrap();
    optimizer.step(&mut recorded, &params, &grads).unwrap();
    finish(gpu, &optimizer, recorded);
    let params = params.iter().flat_map(|part| device::download_slice(gpu, *part)).collect();
    (optimizer, params)
}

fn assert_same_in_parts(what: &str, gpu: &Gpu, layout: &Layout, cuts: &[usize]) {
    let capacity = layout.tensors()[0].shape()[0];
    let table = Table {
        new: Some(random(5, layout.len())),
        ..Table::new(scattered(capacity, 3)).with_states(scattered(capacity, 4))
    };
    let mut reference = Optimizer::builder(AdamW::default()).rows(Rows::default()).build_cpu(layout).unwrap();
    let (mut params, grads) = (random(1, layout.len()), random(2, layout.len()));
    reference.step(&mut params, &grads).unwrap();
    reference.remap(&mut params, &table.on_cpu()).unwrap();
    reference.step(&mut params, &grads).unwrap();
    let (optimizer, found) = in_parts(gpu, layout, cuts, &table);
    assert_same_bits(&found, &params, what);
    for name in ["exp_avg", "exp_avg_sq"] {
        let found: Vec<f32> = state(gpu, &optimizer, name).into_iter().take(layout.len()).collect();
        assert_same_bits(
            &found[..layout.len()],
            reference.state(name).unwrap().as_f32().unwrap(),
            &format!("{what}, {name}"),
        );
    }
}

#[test]
fn parameters_may_lie_in_several_buffers() {
    for (name, layout) in layouts(83) {
        let len = layout.len();
        let starts: Vec<_> = layout.tensors().iter().map(|tensor| tensor.range().start).chain([len]).collect();
        assert_same_in_parts(&format!("{name}, a buffer per tensor"), device::gpu(), &layout, &starts);
        assert_same_in_parts(&format!("{name}, cut inside rows"), device::gpu(), &layout, &[0, 131, 132, 2_001, len]);
    }
}

/// Tensors exceed bindings and buffers: the source of a row lies in another chunk than the row.
#[test]
fn tensors_may_exceed_bindings_and_buffers() {
    let gpu = device_with(|limits| {
        limits.max_storage_buffer_binding_size = 36_864;
        limits.max_buffer_size = 3 << 16;
    });
    for builder in [Layout::builder().packed(), Layout::builder()] {
        let layout = builder.tensor("a", &[701, 5]).tensor("b", &[701, 59]).tensor("c", &[701]).build().unwrap();
        let len = layout.len();
        let cuts: Vec<_> = (0..len).step_by(16_384).chain([len]).collect();
        assert_same_in_parts("small bindings", &gpu, &layout, &cuts);
    }
}

#[test]
fn accumulated_gradients_move_with_the_states() {
    let layout = Layout::builder().tensor("a", &[5, 3]).tensor("b", &[5]).build().unwrap();
    let (len, tensors) = (layout.len(), tensors(&layout));
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let builder = Optimizer::builder(AdamW::default()).accumulate_gradients().grad_dtype(dtype);
        let mut both = start(&builder, &layout, &random(1, len));
        let (mut sum, grads) = (vec![0.0; len], [2, 3].map(|seed| bf16::widen(&bf16::round(&random(seed, len)))));
        let table = Table::new([4, 0, 0, -1, 2]).with_states([4, 0, -1, -1, 2]);
        let accumulate = |both: &mut Both, grads: &[f32]| {
            let gpu = both.on_device.gpu;
            let narrow = bf16::round(grads);
            let buffer = if dtype == Dtype::F32 { device::upload(gpu, grads) } else { bf16::upload(gpu, &narrow) };
            both.record(|optimizer, encoder, _| optimizer.accumulate(encoder, &buffer, 1.0));
            match dtype {
                Dtype::F32 => both.on_cpu.accumulate(grads, 1.0).unwrap(),
                _ => both.on_cpu.accumulate(&narrow[..], 1.0).unwrap(),
            }
        };
        accumulate(&mut both, &grads[0]);
        for (start, columns) in &tensors {
            let live = *start..start + 5 * columns;
            sum[live.clone()].copy_from_slice(&grads[0][live]);
        }
        remap(&mut both, &table);
        sum = moved(&tensors, table.states(), &sum, |_| 0.0);
        accumulate(&mut both, &grads[1]);
        sum.iter_mut().zip(&grads[1]).for_each(|(sum, grad)| *sum += grad);
        both.on_cpu.step_accumulated(&mut both.params).unwrap();
        both.record(|optimizer, encoder, params| optimizer.step_accumulated(encoder, params));
        // One step from 0: the first moment is a tenth of the sum.
        for (start, columns) in &tensors {
            for exp_avg in both.state("exp_avg") {
                for at in *start..start + 5 * columns {
                    assert!((exp_avg[at] - 0.1 * sum[at]).abs() <= 1e-5 * sum[at].abs(), "{dtype:?} {at}");
                }
            }
        }
        let [on_cpu, on_device] = both.params();
        assert_same_bits(&on_cpu, &on_device, "accumulated");
    }
}

/// Training parameters that are stored while others have their place move, too.
/// Puts others in the place of the training parameters.
type Replace = fn(&mut Both, &[f32]);

#[test]
fn stored_training_parameters_move() {
    let layout = Layout::builder().packed().tensor("a", &[6, 3]).tensor("b", &[6]).build().unwrap();
    let (len, tensors) = (layout.len(), tensors(&layout));
    let sources = [5, -1, 0, 0, 2, 4];
    let builder = Optimizer::builder(AdamW::default());
    let cases: [(_, _, Replace); 2] = [
        ("eval", builder.clone().average(Ema::new(0.9)), |both, _| both.eval()),
        ("perturb", builder.sam(Sam::new(0.5)), |both, grads| both.perturb(grads)),
    ];
    for (what, builder, replace) in cases {
        let mut both = start(&builder, &layout, &random(1, len));
        if what == "eval" {
            (0..2).for_each(|step| both.step(&random(10 + step, len)));
        }
        let training = both.params.clone();
        replace(&mut both, &random(3, len));
        let replaced = both.params.clone();
        assert_ne!(training, replaced, "{what}");
        let new = random(4, len);
        remap(&mut both, &Table { new: Some(new.clone()), ..Table::new(sources) });
        let expected = moved(&tensors, &sources, &replaced, |at| new[at]);
        both.params().iter().for_each(|found| assert_same_bits(found, &expected, what));
        both.train();
        let expected = moved(&tensors, &sources, &training, |at| new[at]);
        both.params().iter().for_each(|found| assert_same_bits(found, &expected, what));
    }
}

#[test]
fn a_snapshot_before_a_remap_restores_all() {
    let (_, layout) = &layouts(19)[1];
    let len = layout.len();
    let builder = Optimizer::builder(AdamW::default()).average(Ema::new(0.9)).clip(Clip::global_norm(1.0));
    let [mut moved, mut untouched] = [0, 1].map(|_| start(&builder, layout, &random(1, len)));
    for both in [&mut moved, &mut untouched] {
        both.step(&random(2, len));
    }
    let on_cpu = moved.on_cpu.snapshot(&moved.params).unwrap();
    let mut on_device = None;
    moved.record(|optimizer, encoder, params| {
        on_device = Some(optimizer.snapshot(encoder, params)?);
        Ok(())
    });
    let mut sources = scattered(19, 3);
    sources[7] = 19;
    remap(&mut moved, &Table::new(sources));
    moved.step(&random(3, len));
    moved.on_cpu.restore(&mut moved.params, &on_cpu).unwrap();
    moved.record(|optimizer, encoder, params| optimizer.restore(encoder, params, on_device.as_ref().unwrap()));
    assert_eq!(stats(&moved).map(|stats| stats.invalid_rows), [false; 2]);
    for step in 0..2 {
        let bits = |both: &Both| [cpu_bits(&both.on_cpu, &both.params), both.on_device.bits()];
        assert!(bits(&moved) == bits(&untouched), "{step} steps after");
        moved.step(&random(4 + step, len));
        untouched.step(&random(4 + step, len));
    }
}

#[test]
fn a_checkpoint_after_a_remap_continues() {
    let (_, layout) = &layouts(19)[0];
    let len = layout.len();
    let builder = Optimizer::builder(AdamW::default()).average(Ema::new(0.9)).history(HistoryOptions::steps(4));
    let mut both = start(&builder, layout, &random(1, len));
    both.step(&random(2, len));
    let mut sources = scattered(19, 3);
    sources[7] = 19;
    remap(&mut both, &Table::new(sources));
    both.step(&random(3, len));
    let folder = tempfile::tempdir().unwrap();
    let [on_cpu, on_device] = ["cpu", "device"].map(|name| folder.path().join(name));
    both.on_cpu.save(&on_cpu, Some((&both.params).into())).unwrap();
    let Trainer { optimizer, params, .. } = &both.on_device;
    optimizer.save(&on_device, Some(params.into())).unwrap();
    let [of_cpu, of_device] = [&on_cpu, &on_device].map(|path| std::fs::read(path).unwrap());
    assert!(of_cpu == of_device, "the file of the device differs from that of the CPU");
    let (mut loaded, options) = (start(&builder, layout, &vec![0.0; len]), LoadOptions::default());
    let _ = loaded.on_cpu.load(&on_cpu, Some((&mut loaded.params).into()), &options).unwrap();
    let Trainer { optimizer, params, .. } = &mut loaded.on_device;
    let _ = optimizer.load(&on_device, Some((&*params).into()), &options).unwrap();
    assert_eq!(stats(&loaded).map(|stats| stats.invalid_rows), [true; 2]);
    for step in 0..2 {
        let bits = |both: &Both| [cpu_bits(&both.on_cpu, &both.params), both.on_device.bits()];
        assert!(bits(&loaded) == bits(&both), "{step} steps after");
        both.step(&random(4 + step, len));
        loaded.step(&random(4 + step, len));
    }
}

#[test]
fn a_dropped_remap_changes_nothing() {
    let (_, layout) = &layouts(19)[0];
    let len = layout.len();
    let mut both = start(&Optimizer::builder(AdamW::default()), layout, &random(1, len));
    both.step(&random(2, len));
    let before = both.on_device.bits();
    let mut sources = scattered(19, 3);
    sources[7] = 19;
    let Trainer { gpu, optimizer, params, .. } = &mut both.on_device;
    let mut dropped = encoder(gpu);
    Table::new(sources).on_device(gpu, |table| optimizer.remap(&mut dropped, &*params, table)).unwrap();
    drop(dropped);
    assert!(both.on_device.bits() == before);
    assert_eq!(stats(&both).map(|stats| stats.invalid_rows), [false; 2]);
    both.step(&random(3, len));
    let [on_cpu, on_device] = both.params();
    assert_same_bits(&on_cpu, &on_device, "the step after");
}

/// Rows of frozen groups move, with their states.
#[test]
fn frozen_rows_move() {
    let layout = Layout::builder().tensor("a", &[4, 3]).tensor("still", &[4, 2]).group("still").build().unwrap();
    let (len, sources) = (layout.len(), [3, 0, -1, 1]);
    let builder = Optimizer::builder(AdamW::default()).group("still", GroupOptions::default().frozen());
    let mut both = start(&builder, &layout, &random(1, len));
    let states = random(2, len);
    both.on_cpu.state_mut("exp_avg").unwrap().into_f32().unwrap().copy_from_slice(&states);
    set_state(both.on_device.gpu, &both.on_device.optimizer, "exp_avg", &states);
    let (params, new) = (both.params.clone(), random(3, len));
    remap(&mut both, &Table { new: Some(new.clone()), ..Table::new(sources) });
    let expected = moved(&tensors(&layout), &sources, &params, |at| new[at]);
    both.params().iter().for_each(|found| assert_same_bits(found, &expected, "params"));
    let expected = moved(&tensors(&layout), &sources, &states, |_| 0.0);
    both.state("exp_avg").iter().for_each(|found| assert_same_bits(found, &expected, "exp_avg"));
}

#[test]
fn rows_move_to_other_buffers() {
    for ((name, layout), is_given) in
        layouts(29).into_iter().flat_map(|layout| [(layout.clone(), false), (layout, true)])
    {
        let (len, gpu) = (layout.len(), device::gpu());
        let mut both = start(&Optimizer::builder(AdamW::default()), &layout, &random(1, len));
        both.step(&random(2, len));
        let mut table = Table::new(scattered(29, 3));
        table.sources[8] = 29;
        table.new = is_given.then(|| random(4, len));
        let (old, held, states) = (both.params.clone(), random(3, len), both.state("exp_avg")[0].clone());
        let mut expected = moved(&tensors(&layout), &table.sources, &old, |at| table.new.as_ref().unwrap_or(&held)[at]);
        // Padding is that of the target.
        let mut is_padding = vec![true; len];
        for (start, columns) in tensors(&layout) {
            is_padding[start..start + 29 * columns].fill(false);
        }
        (0..len).filter(|&at| is_padding[at]).for_each(|at| expected[at] = held[at]);
        let mut new = held.clone();
        both.on_cpu.remap_to(&old, &mut new, &table.on_cpu()).unwrap();
        assert_same_bits(&new, &expected, name);
        // The target begins at no aligned offset.
        let target = device::upload(gpu, &[&[CANARY; 3][..], &held].concat());
        table.on_device(gpu, |table| {
            both.record(|optimizer, encoder, params| optimizer.remap_to(encoder, params, target.slice(12..), table));
        });
        assert_same_bits(&device::download_slice(gpu, target.slice(12..)), &expected, name);
        both.params().iter().for_each(|found| assert_same_bits(found, &old, name));
        let expected = moved(&tensors(&layout), &table.sources, &states, |_| 0.0);
        both.state("exp_avg").iter().for_each(|found| assert_same_bits(found, &expected, name));
    }
}

/// A dispatch may read no buffer that it writes: new rows of an average are parameters of the same pool.
#[test]
fn states_and_parameters_may_share_a_buffer() {
    let (gpu, layout) = (device::gpu(), &layouts(29)[1].1);
    let (len, bytes) = (layout.len(), 4 * layout.len() as u64);
    let pool = device::upload(gpu, &[random(1, len), vec![0.0; len]].concat());
    let builder = Optimizer::builder(AdamW::default()).average(Ema::new(0.9)).rows(Rows::default());
    let mut reference = builder.clone().build_cpu(layout).unwrap();
    let mut optimizer = device::build(gpu, builder.state_buffers("average", pool.slice(bytes..)), layout).unwrap();
    let (grads, mut params) = (random(2, len), random(1, len));
    let on_device = device::upload(gpu, &grads);
    let table = Table { new: Some(random(3, len)), ..Table::new(scattered(29, 3)) };
    let mut recorded = encoder(gpu);
    optimizer.step(&mut recorded, pool.slice(..bytes), &on_device).unwrap();
    table.on_device(gpu, |table| optimizer.remap(&mut recorded, pool.slice(..bytes), table)).unwrap();
    finish(gpu, &optimizer, recorded);
    reference.step(&mut params, &grads).unwrap();
    reference.remap(&mut params, &table.on_cpu()).unwrap();
    let found = device::download(gpu, &pool);
    for (start, columns) in tensors(layout) {
        let elements = start..start + 29 * columns;
        assert_same_bits(&found[elements.clone()], &params[elements.clone()], "params");
        let average = &reference.state("average").unwrap().as_f32().unwrap()[elements.clone()];
        assert_same_bits(&found[len..][elements], average, "average");
    }
    let refused = optimizer.remap(&mut encoder(gpu), pool.slice(..bytes), &Remap::new(&pool)).unwrap_err();
    assert!(matches!(refused, Error::AliasedBuffers { first: "sources", .. }), "{refused}");
}

#[test]
fn a_remap_over_known_buffers_makes_no_object() {
    let gpu = device_with(|_| {});
    let (_, layout) = &layouts(29)[1];
    let mut optimizer =
        Optimizer::builder(AdamW::default()).rows(Rows::default()).build(&gpu.device, &gpu.queue, layout).unwrap();
    let params = device::upload(&gpu, &random(1, layout.len()));
    let tables = [3, 4].map(|seed| indices(&gpu, &scattered(29, seed)));
    let objects = || {
        let counters = gpu.device.get_internal_counters().hal;
        [counters.buffers.read(), counters.bind_groups.read(), counters.compute_pipelines.read()]
    };
    let mut recorded = encoder(&gpu);
    let mut record = |round: usize| {
        let before = objects();
        optimizer.remap(&mut recorded, &params, &Remap::new(&tables[round % 2])).unwrap();
        let after = objects();
        after.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>()
    };
    // The parameters and two states, each with its uniforms.
    assert!(record(0).iter().all(|created| *created > 0));
    assert_eq!(record(1)[1..], [3, 0]);
    for round in 2..6 {
        // wgpu stages the number of live rows in a buffer of its own.
        assert_eq!(record(round), [1, 0, 0], "{round}");
    }
}

#[test]
fn unusable_tables_are_refused_and_change_nothing() {
    let gpu = device::gpu();
    let layout = Layout::builder().packed().tensor("a", &[5, 3]).build().unwrap();
    let builder = Optimizer::builder(AdamW::default());
    let mut both = start(&builder, &layout, &random(1, 15));
    let before = both.on_device.bits();
    let (sources, short) = (indices(gpu, &[0; 5]), device::upload(gpu, &[0.0; 4]));
    let without_usage = storage(gpu, 20, BufferUsages::COPY_SRC);
    let without_copy = storage(gpu, 60, BufferUsages::STORAGE);
    let params = both.on_device.params.clone();
    let Trainer { optimizer, .. } = &mut both.on_device;
    let own = optimizer.state("exp_avg").unwrap()[0].buffer().clone();
    let mut recorded = encoder(gpu);
    let mut refused =
        |params: BufferSlice<'_>, table: Remap<'_>| optimizer.remap(&mut recorded, params, &table).unwrap_err();
    let whole = params.slice(..60);
    let error = refused(whole, Remap::new(&short));
    assert!(matches!(error, Error::IndexCount { what: "sources", expected: 5, actual: 4 }), "{error}");
    let error = refused(whole, Remap::new(&sources).with_state_sources(&short));
    assert!(matches!(error, Error::IndexCount { what: "state_sources", .. }), "{error}");
    let error = refused(whole, Remap::new(&without_usage));
    assert!(matches!(error, Error::MissingUsage { what: "sources", .. }), "{error}");
    let error = refused(without_copy.slice(..), Remap::new(&sources));
    assert!(matches!(error, Error::MissingUsage { what: "params", .. }), "{error}");
    let error = refused(whole, Remap::new(&params));
    assert!(matches!(error, Error::AliasedBuffers { first: "sources", second: "params" }), "{error}");
    let error = refused(whole, Remap::new(&sources).with_new_params(params.slice(..60)));
    assert!(matches!(error, Error::AliasedBuffers { first: "parameters of new rows", .. }), "{error}");
    let error = refused(whole, Remap::new(&sources).with_new_params(sources.slice(..8)));
    assert!(matches!(error, Error::LengthMismatch { what: "parameters of new rows", .. }), "{error}");
    let error = refused(whole, Remap::new(&own));
    assert!(matches!(error, Error::AliasedBuffers { first: "sources", second: "a state of the optimizer" }), "{error}");
    let error = refused(params.slice(..56), Remap::new(&sources));
    assert!(matches!(error, Error::LengthMismatch { what: "params", .. }), "{error}");
    gpu.queue.submit([recorded.finish()]);
    assert!(both.on_device.bits() == before);
    for table in [CpuRemap::new(&[0; 4]), CpuRemap::new(&[0; 5]).with_state_sources(&[0; 6])] {
        let error = both.on_cpu.remap(&mut both.params, &table).unwrap_err();
        assert!(matches!(error, Error::IndexCount { expected: 5, .. }), "{error}");
    }
    let error = both.on_cpu.remap(&mut both.params, &CpuRemap::new(&[0; 5]).with_new_params(&[0.0; 14])).unwrap_err();
    assert!(matches!(error, Error::LengthMismatch { .. }), "{error}");
}

#[test]
fn optimizers_without_rows_are_refused() {
    let layout = Layout::builder().packed().tensor("a", &[4, 3]).build().unwrap();
    let mut both = Both::new(&Optimizer::builder(Sgd::default()), &layout, &random(1, layout.len()));
    let error = both.on_cpu.remap(&mut both.params, &CpuRemap::new(&[0; 4])).unwrap_err();
    assert!(matches!(error, Error::NoRows), "{error}");
    let Trainer { gpu, optimizer, params, .. } = &mut both.on_device;
    let table = indices(gpu, &[0; 4]);
    let error = optimizer.remap(&mut encoder(gpu), &*params, &Remap::new(&table)).unwrap_err();
    assert!(matches!(error, Error::NoRows), "{error}");
}

/// Dead rows stay, whatever their indices are.
#[test]
fn only_live_rows_move() {
    for (name, layout) in layouts(29) {
        for on_device in [false, true] {
            let len = layout.len();
            let mut both = start(&Optimizer::builder(AdamW::default()), &layout, &random(1, len));
            both.step(&random(2, len));
            both.on_cpu.set_live_rows(11).unwrap();
            let live = device::upload(both.on_device.gpu, &[f32::from_bits(11)]);
            let optimizer = &mut both.on_device.optimizer;
            if on_device { optimizer.set_live_rows(&live) } else { optimizer.set_live_rows(11) }.unwrap();
            let mut table = Table::new(scattered(29, 3));
            table.sources[11..].fill(i32::MIN);
            let (old, states) = (both.params.clone(), both.state("exp_avg")[0].clone());
            remap(&mut both, &table);
            let what = format!("{name}, {on_device}");
            assert_eq!(stats(&both).map(|stats| stats.invalid_rows), [false; 2], "{what}");
            let expected = moved(&tensors(&layout), &table.sources, &old, |at| old[at]);
            both.params().iter().for_each(|found| assert_same_bits(found, &expected, &what));
            let expected = moved(&tensors(&layout), &table.sources, &states, |_| 0.0);
            both.state("exp_avg").iter().for_each(|found| assert_same_bits(found, &expected, &what));
            both.step(&random(3, len));
            let [on_cpu, on_device] = both.params();
            assert_same_bits(&on_cpu, &on_device, &what);
        }
    }
}

/// Rows with counts of their own: steps after a permutation are the permutation of steps, and a new row begins as in a new
/// optimizer.
#[test]
fn step_counts_and_moments_of_rows_move() {
    const CAPACITY: usize = 37;
    let layout = layout_of(Layout::builder(), CAPACITY);
    let (len, tensors) = (layout.len(), tensors(&layout));
    let steps = || Rows::default().with_row_steps();
    let moments = || Optimizer::builder(AdamW::default().with_row_second_moment(true));
    let adamw = || Optimizer::builder(AdamW::default());
    for (what, builder, has_steps) in [
        ("steps", adamw().rows(steps()), true),
        ("average", adamw().average(Ema::new(0.9)).rows(steps()), true),
        ("debiased average", adamw().average(Ema::new(0.9).debiased()).rows(steps()), true),
        ("rprop", rule("rprop").rows(steps()), true),
        ("moments", moments().rows(Rows::default()), false),
        ("both", moments().rows(steps()), true),
    ] {
        let new = || Both::new(&builder, &layout, &random(1, len));
        let (mut expected, mut both) = (new(), new());
        for step in 0..3 {
            // Rows differ in their counts.
            let mask: [u32; 2] = [0x9249_3d5a >> step, 0x15 << step];
            let on_device = device::upload(device::gpu(), bytemuck::cast_slice(&mask));
            for both in [&mut expected, &mut both] {
                both.on_cpu.set_visible_rows(Some(&mask)).unwrap();
                both.on_device.optimizer.set_visible_rows(Some(&on_device)).unwrap();
                both.step(&random(10 + step, len));
                both.on_cpu.set_visible_rows(None).unwrap();
                both.on_device.optimizer.set_visible_rows(None).unwrap();
            }
        }
        let sources: Vec<i32> = (0..CAPACITY as i32).map(|row| (row * 5 + 2) % CAPACITY as i32).collect();
        remap(&mut both, &Table::new(sources.clone()));
        for step in 0..2 {
            let grads = random(20 + step, len);
            expected.step(&grads);
            both.step(&moved(&tensors, &sources, &grads, |_| 0.0));
            let params = moved(&tensors, &sources, &expected.params, |_| 0.0);
            both.params().iter().for_each(|found| assert_same_bits(found, &params, &format!("{what}, {step}")));
        }
        if has_steps {
            remap(&mut both, &Table { new: Some(random(1, len)), ..Table::new(vec![-1; CAPACITY]) });
            let mut fresh = new();
            for step in 0..2 {
                both.step(&random(30 + step, len));
                fresh.step(&random(30 + step, len));
                let what = format!("{what}, {step} after birth");
                for (found, expected) in both.params().iter().zip(fresh.params()) {
                    for (start, columns) in &tensors {
                        let elements = *start..start + CAPACITY * columns;
                        assert_same_bits(&found[elements.clone()], &expected[elements], &what);
                    }
                }
            }
        }
    }
}

type Tensors = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Splats {
    start: Tensors,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    operation: String,
    rows: Vec<i32>,
    new: Tensors,
    grads: Vec<Tensors>,
    params: Tensors,
    exp_avg: Tensors,
}

/// The strategies of Gaussian splats, as gsplat has them (`golden/splats.py`).
#[test]
fn strategies_follow_gsplat() {
    const CAPACITY: usize = 12;
    let layout = Layout::builder().tensor("means", &[CAPACITY, 3]).tensor("opacities", &[CAPACITY, 1]).build().unwrap();
    let Splats { start: first, cases } = serde_json::from_str(include_str!("../golden/splats.json")).unwrap();
    // Values of live rows at the places of the layout; others are poison.
    let flat = |tensors: &Tensors, from: usize| {
        let mut flat = vec![f32::NAN; layout.len()];
        for (name, values) in tensors {
            let tensor = layout.tensor(name).unwrap();
            let at = tensor.range().start + from * tensor.shape()[1];
            flat[at..at + values.len()].iter_mut().zip(values).for_each(|(to, value)| *to = *value as f32);
        }
        flat
    };
    let builder = Optimizer::builder(Adam::default().with_lr(0.01).with_eps(1e-15));
    let mut live = first["opacities"].len();
    let mut both = start(&builder, &layout, &flat(&first, 0));
    for Case { operation, rows, new, grads, params, exp_avg } in cases {
        let is_named = |row: &i32| rows.contains(row);
        let old = 0..live as i32;
        let (sources, states): (Vec<i32>, Vec<i32>) = match &*operation {
            "remove" => old.filter(|row| !is_named(row)).map(|row| (row, row)).unzip(),
            "duplicate" => old.map(|row| (row, row)).chain(rows.iter().map(|row| (*row, -1))).unzip(),
            "split" => {
                let children = vec![(-1, -1); 2 * rows.len()];
                old.filter(|row| !is_named(row)).map(|row| (row, row)).chain(children).unzip()
            }
            _ => {
                let (dead, sampled) = rows.split_at(rows.len() / 2);
                let source = |row| dead.iter().position(|dead| *dead == row).map_or(row, |i| sampled[i]);
                old.map(|row| (source(row), if sampled.contains(&row) { -1 } else { row })).unzip()
            }
        };
        live = sources.len();
        let first_new = sources.iter().position(|source| *source == -1).unwrap_or(0);
        let mut table = Table { new: Some(flat(&new, first_new)), ..Table::new(sources).with_states(states) };
        // Garbage behind the live rows.
        table.sources.resize(CAPACITY, i32::MIN);
        table.states.as_mut().unwrap().resize(CAPACITY, i32::MAX);
        both.on_cpu.set_live_rows(live as u32).unwrap();
        both.on_device.optimizer.set_live_rows(live as u32).unwrap();
        remap(&mut both, &table);
        assert_eq!(stats(&both).map(|stats| stats.invalid_rows), [false; 2]);
        for grads in &grads {
            both.step(&flat(grads, 0));
        }
        for (expected, [on_cpu, on_device]) in [(params, both.params()), (exp_avg, both.state("exp_avg"))] {
            for (name, expected) in expected {
                let at = layout.tensor(&name).unwrap().range().start;
                for found in [&on_cpu, &on_device] {
                    assert_close(&format!("{operation}, {name}"), &found[at..at + expected.len()], &expected, 1e-5);
                }
            }
        }
    }
}
