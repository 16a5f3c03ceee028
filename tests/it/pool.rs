//! Parameters and gradients in slices of one buffer, as the memory pools of frameworks hold them.

use wgpu_optim::history::HistoryOptions;
use wgpu_optim::wgpu::{
    BindGroupDescriptor, BindGroupEntry, Buffer, BufferUsages, CommandEncoder, ComputePassDescriptor,
    ComputePipelineDescriptor, PipelineCompilationOptions, ShaderModuleDescriptor, ShaderSource,
};
use wgpu_optim::{
    Adafactor, AdamW, Clip, Dtype, Gpu, GroupOptions, Lamb, Layout, LayoutBuilder, NonFinite, Optimizer,
    OptimizerBuilder, ScheduleFreeSgd, Sgd, Sophia, TensorInfo,
};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{bf16, device, device_with, encoder, finish, state, storage};

/// Lengths that end in the middle of a word, of a quad, of a workgroup and of a tile.
const TENSORS: [(&str, &[usize]); 7] =
    [("w", &[129, 67]), ("b", &[2]), ("v", &[8_195]), ("one", &[1]), ("still", &[3]), ("x", &[77]), ("y", &[64])];

fn layout(builder: LayoutBuilder) -> Layout {
    let tensor = |layout: LayoutBuilder, (name, shape): (&str, &[usize])| layout.tensor(name, shape).group(name);
    TENSORS.into_iter().fold(builder, tensor).build().unwrap()
}

fn builders() -> Vec<(&'static str, OptimizerBuilder)> {
    let history = HistoryOptions::steps(4).with_norms_every(1).per_group();
    let builders = [
        ("one pass", Optimizer::builder(AdamW::default().with_lr(0.01).with_amsgrad(true))),
        ("clip", Optimizer::builder(Sgd::default().with_momentum(0.9)).clip(Clip::global_norm(1.0))),
        ("sums", Optimizer::builder(Lamb::default())),
        ("factors", Optimizer::builder(Adafactor::torch().with_min_dim_size_to_factor(2))),
        ("history", Optimizer::builder(AdamW::default()).clip(Clip::value(0.5)).history(history)),
        ("check", Optimizer::builder(AdamW::default()).on_nonfinite(NonFinite::Skip)),
    ];
    let options = |builder: OptimizerBuilder| {
        builder
            .group("still", GroupOptions::default().frozen())
            .group("v", GroupOptions::default().with_lr_scale(0.5).with_weight_decay(0.1))
    };
    builders.map(|(name, builder)| (name, options(builder))).into()
}

/// The order of slices in a page.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Parameters and gradients by turns.
    Interleaved,
    /// All parameters, then all gradients.
    ParamsFirst,
    /// All gradients, then all parameters.
    GradsFirst,
}

const ORDERS: [Order; 3] = [Order::Interleaved, Order::ParamsFirst, Order::GradsFirst];
const CANARY: u8 = 0xf3;

/// One buffer with the parameters and the gradients of all tensors, and canaries between them.
struct Page {
    buffer: Buffer,
    contents: Vec<u8>,
    params: Vec<(u64, u64)>,
    grads: Vec<(u64, u64)>,
}

impl Page {
    /// Places slices of that many bytes, from `first` on, each at the next multiple of `align`.
    fn new(gpu: &Gpu, params: &[Vec<u8>], grads: &[Vec<u8>], order: Order, (first, align): (u64, u64)) -> Self {
        let mut at = first;
        let mut place = |bytes: &Vec<u8>| {
            let start = at;
            at = (at + bytes.len() as u64).next_multiple_of(align);
            (start, start + bytes.len() as u64)
        };
        let (param_places, grad_places): (Vec<_>, Vec<_>) = match order {
            Order::Interleaved => params.iter().zip(grads).map(|(param, grad)| (place(param), place(grad))).unzip(),
            Order::ParamsFirst => {
                let params: Vec<_> = params.iter().map(&mut place).collect();
                (params, grads.iter().map(&mut place).collect())
            }
            Order::GradsFirst => {
                let grads: Vec<_> = grads.iter().map(&mut place).collect();
                (params.iter().map(&mut place).collect(), grads)
            }
        };
        let mut contents = vec![CANARY; at.next_multiple_of(4) as usize + 20];
        for (bytes, &(start, end)) in params.iter().zip(&param_places).chain(grads.iter().zip(&grad_places)) {
            contents[start as usize..end as usize].copy_from_slice(bytes);
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let buffer = storage(gpu, contents.len() as u64, usage);
        gpu.queue.write_buffer(&buffer, 0, &contents);
        Self { buffer, contents, params: param_places, grads: grad_places }
    }

    /// Replaces the gradients.
    fn write_grads(&mut self, gpu: &Gpu, grads: &[Vec<u8>]) {
        for (bytes, &(start, end)) in grads.iter().zip(&self.grads) {
            self.contents[start as usize..end as usize].copy_from_slice(bytes);
        }
        let mut contents = self.download(gpu);
        for &(start, end) in &self.grads {
            let range = start as usize..end as usize;
            contents[range.clone()].copy_from_slice(&self.contents[range]);
        }
        gpu.queue.write_buffer(&self.buffer, 0, &contents);
    }

    fn download(&self, gpu: &Gpu) -> Vec<u8> {
        bytemuck::cast_slice(&device::download(gpu, &self.buffer)).to_vec()
    }

    fn step(&self, optimizer: &mut Optimizer, encoder: &mut CommandEncoder) {
        let [params, grads] = [&self.params, &self.grads]
            .map(|places| places.iter().map(|&(start, end)| self.buffer.slice(start..end)).collect::<Vec<_>>());
        optimizer.step(encoder, &params, &grads).unwrap();
    }

    /// The parameters, after a look at every byte around them.
    fn params(&self, gpu: &Gpu, what: &str) -> Vec<f32> {
        let mut contents = self.download(gpu);
        let mut params = Vec::new();
        for &(start, end) in &self.params {
            let range = start as usize..end as usize;
            params.extend_from_slice(&contents[range.clone()]);
            contents[range.clone()].copy_from_slice(&self.contents[range]);
        }
        assert!(contents == self.contents, "{what}: bytes beside the parameters have changed");
        bytemuck::pod_collect_to_vec(&params)
    }
}

fn bytes_of(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::Bf16 => bf16::round(values).iter().flat_map(|number| number.to_bits().to_ne_bytes()).collect(),
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}

/// The bytes of each tensor.
fn cut(values: &[f32], layout: &Layout, dtype: Dtype) -> Vec<Vec<u8>> {
    layout.tensors().iter().map(|tensor| bytes_of(&values[tensor.range()], dtype)).collect()
}

/// The outcome of three steps from separate buffers and from a page is the same to the last bit.
fn compare(layout: &Layout, (name, builder): (&str, &OptimizerBuilder), dtype: Dtype, places: &[(Order, u64, u64)]) {
    let gpu = device::gpu();
    let builder = builder.clone().grad_dtype(dtype);
    let grads = |t: u64| random(10 + t, layout.len());
    // One slice each, padding included.
    let bytes = |values: &[f32], dtype| {
        let mut bytes = bytes_of(values, dtype);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let buffer = storage(gpu, bytes.len() as u64, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        gpu.queue.write_buffer(&buffer, 0, &bytes);
        buffer
    };
    let mut expected = device::build(gpu, builder.clone(), layout).unwrap();
    let params = bytes(&random(1, layout.len()), Dtype::F32);
    let mut stats = Vec::new();
    for t in 0..3 {
        let mut recorded = encoder(gpu);
        let grads = bytes(&grads(t), dtype);
        expected.step(&mut recorded, &params, grads.slice(..dtype.bytes(layout.len() as u64))).unwrap();
        stats.push(finish(gpu, &expected, recorded));
    }
    let flat = device::download(gpu, &params);
    let expected_params: Vec<f32> =
        layout.tensors().iter().flat_map(|tensor| flat[tensor.range()].iter().copied()).collect();
    // Copies of bf16 gradients need slices that begin at even elements.
    let is_even = dtype == Dtype::F32 || layout.tensors().iter().all(|tensor| tensor.range().start % 2 == 0);
    let places = places.iter().flat_map(|place| [(place, false), (place, true)]);
    for (&(order, first, align), gathers) in places.filter(|(_, gathers)| !gathers || is_even) {
        let what = format!("{name}, {dtype:?}, {order:?} from byte {first}, multiples of {align}, {gathers}");
        let start = cut(&random(1, layout.len()), layout, Dtype::F32);
        let mut page = Page::new(gpu, &start, &cut(&grads(0), layout, dtype), order, (first, align));
        let builder = if gathers { builder.clone().gather_gradients() } else { builder.clone() };
        let mut optimizer = device::build(gpu, builder, layout).unwrap();
        for (t, stats) in stats.iter().enumerate() {
            if t > 0 {
                page.write_grads(gpu, &cut(&grads(t as u64), layout, dtype));
            }
            let mut recorded = encoder(gpu);
            page.step(&mut optimizer, &mut recorded);
            assert_eq!(finish(gpu, &optimizer, recorded), *stats, "{what}");
        }
        assert_same_bits(&page.params(gpu, &what), &expected_params, &what);
        for name in expected.state_names() {
            assert_same_bits(&state(gpu, &optimizer, name), &state(gpu, &expected, name), &format!("{what}, {name}"));
        }
    }
}

/// Every kind of step, both formats of gradients, slices at the smallest offsets that the device and this crate allow.
#[test]
fn parameters_and_gradients_share_a_buffer() {
    let alignment = u64::from(device::gpu().device.limits().min_storage_buffer_offset_alignment);
    let mut turn = 0;
    for layout in [layout(Layout::builder()), layout(Layout::builder().packed())] {
        for (name, builder) in &builders() {
            for dtype in [Dtype::F32, Dtype::Bf16] {
                // Norms over packed bf16 tensors of odd length are refused, wherever they lie.
                let odd = dtype == Dtype::Bf16 && layout.tensors().iter().any(|tensor| tensor.range().start % 2 == 1);
                if odd && *name != "one pass" {
                    continue;
                }
                // Each order meets each place in turn.
                let places = [(0, 4), (0, alignment), (20, 4), (8, 16)];
                let places = ORDERS.map(|order| {
                    turn += 1;
                    let (first, align) = places[turn % places.len()];
                    (order, first, align)
                });
                compare(&layout, (name, builder), dtype, &places);
            }
        }
    }
}

/// Long neighbors whose bindings would overlap are cut: bits stay the same.
#[test]
fn long_slices_lie_side_by_side() {
    for len in [64, 8_191, 3 * 8_192 - 1, 3 * 8_192, 3 * 8_192 + 5, 8 * 8_192 + 3, 100_001] {
        let layout = Layout::builder().tensor("all", &[len]).packed().build().unwrap();
        let name = format!("{len} elements");
        let builder = Optimizer::builder(Sgd::default().with_momentum(0.9));
        for builder in [builder.clone(), builder.clip(Clip::global_norm(1.0))] {
            for dtype in [Dtype::F32, Dtype::Bf16] {
                let places = [(Order::ParamsFirst, 0, 4), (Order::GradsFirst, 12, 4), (Order::ParamsFirst, 4, 8)];
                compare(&layout, (&name, &builder), dtype, &places);
            }
        }
    }
}

/// Devices of small bindings cut chunks: a page larger than a binding serves as any other.
#[test]
fn a_page_may_exceed_a_binding() {
    const LEN: usize = 50_001;
    let small = device_with(|limits| limits.max_storage_buffer_binding_size = 80 << 10);
    let layout = Layout::builder().tensor("all", &[LEN]).packed().build().unwrap();
    let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
    let cut = |seed| vec![bytes_of(&random(seed, LEN), Dtype::F32)];
    let updated = [device::gpu(), &small].map(|gpu| {
        let page = Page::new(gpu, &cut(1), &cut(2), Order::ParamsFirst, (4, 4));
        let mut optimizer = builder.clone().build(&gpu.device, &gpu.queue, &layout).unwrap();
        let mut recorded = encoder(gpu);
        page.step(&mut optimizer, &mut recorded);
        (finish(gpu, &optimizer, recorded), page.params(gpu, "one step"))
    });
    assert_eq!(updated[0].0, updated[1].0);
    assert_same_bits(&updated[0].1, &updated[1].1, "one step");
}

/// Auxiliary updates read their input from the page of the parameters.
#[test]
fn auxiliary_updates_read_the_page_too() {
    let gpu = device::gpu();
    let layout = layout(Layout::builder().packed());
    let (values, input) = (random(1, layout.len()), random(2, layout.len()));
    let page = Page::new(
        gpu,
        &cut(&values, &layout, Dtype::F32),
        &cut(&input, &layout, Dtype::F32),
        Order::Interleaved,
        (0, 4),
    );
    let [params, inputs] = [&page.params, &page.grads]
        .map(|places| places.iter().map(|&(start, end)| page.buffer.slice(start..end)).collect::<Vec<_>>());
    let (flat, flat_input) = (device::upload(gpu, &values), device::upload(gpu, &input));

    let [mut own, mut shared] =
        [(); 2].map(|()| device::build(gpu, Optimizer::builder(Sophia::default()), &layout).unwrap());
    let mut recorded = encoder(gpu);
    own.update_hessian(&mut recorded, &flat, &flat_input).unwrap();
    own.step(&mut recorded, &flat, &flat_input).unwrap();
    shared.update_hessian(&mut recorded, &params, &inputs).unwrap();
    shared.step(&mut recorded, &params, &inputs).unwrap();
    gpu.queue.submit([recorded.finish()]);
    assert_same_bits(&page.params(gpu, "Sophia"), &device::download(gpu, &flat), "Sophia");
    assert_same_bits(&state(gpu, &shared, "hessian"), &state(gpu, &own, "hessian"), "Hessian");

    let [mut own, mut shared] =
        [(); 2].map(|()| device::build(gpu, Optimizer::builder(ScheduleFreeSgd::default()), &layout).unwrap());
    let mut recorded = encoder(gpu);
    own.step(&mut recorded, &flat, &flat_input).unwrap();
    own.eval(&mut recorded, &flat).unwrap();
    shared.step(&mut recorded, &params, &inputs).unwrap();
    shared.eval(&mut recorded, &params).unwrap();
    gpu.queue.submit([recorded.finish()]);
    assert_same_bits(&page.params(gpu, "eval"), &device::download(gpu, &flat), "eval");
    let mut recorded = encoder(gpu);
    own.train(&mut recorded, &flat).unwrap();
    own.step(&mut recorded, &flat, &flat_input).unwrap();
    shared.train(&mut recorded, &params).unwrap();
    shared.step(&mut recorded, &params, &inputs).unwrap();
    gpu.queue.submit([recorded.finish()]);
    assert_same_bits(&page.params(gpu, "train"), &device::download(gpu, &flat), "train");
}

/// Accumulates gradients of a page, whose parameters the step then updates.
#[test]
fn gradients_of_a_page_accumulate() {
    let gpu = device::gpu();
    let layout = layout(Layout::builder().packed());
    let (values, grads) = (random(1, layout.len()), random(2, layout.len()));
    let page = Page::new(
        gpu,
        &cut(&values, &layout, Dtype::F32),
        &cut(&grads, &layout, Dtype::F32),
        Order::Interleaved,
        (4, 4),
    );
    let [params, inputs] = [&page.params, &page.grads]
        .map(|places| places.iter().map(|&(start, end)| page.buffer.slice(start..end)).collect::<Vec<_>>());
    let (flat, flat_grads) = (device::upload(gpu, &values), device::upload(gpu, &grads));
    let builder = Optimizer::builder(AdamW::default()).accumulate_gradients();
    let [mut own, mut shared] = [(); 2].map(|()| device::build(gpu, builder.clone(), &layout).unwrap());
    let mut recorded = encoder(gpu);
    own.accumulate(&mut recorded, &flat_grads, 0.25).unwrap();
    own.step_accumulated(&mut recorded, &flat).unwrap();
    shared.accumulate(&mut recorded, &inputs, 0.25).unwrap();
    shared.step_accumulated(&mut recorded, &params).unwrap();
    gpu.queue.submit([recorded.finish()]);
    assert_same_bits(&page.params(gpu, "accumulated"), &device::download(gpu, &flat), "accumulated");
}

/// A kernel of somebody else: multiplies `count` words from `source` on by `factor` into those from `target` on.
pub fn scale(gpu: &Gpu, encoder: &mut CommandEncoder, page: &Buffer, words: (u64, u64, u64), factor: f64) {
    let source = "
        override source: u32;
        override goal: u32;
        override count: u32;
        override factor: f32;
        @group(0) @binding(0) var<storage, read_write> page: array<f32>;
        @compute @workgroup_size(64)
        fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < count { page[goal + id.x] = page[source + id.x] * factor; }
        }";
    let source = ShaderSource::Wgsl(source.into());
    let module = gpu.device.create_shader_module(ShaderModuleDescriptor { label: None, source });
    let constants =
        [("source", words.0 as f64), ("goal", words.1 as f64), ("count", words.2 as f64), ("factor", factor)];
    let pipeline = gpu.device.create_compute_pipeline(&ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("scale"),
        compilation_options: PipelineCompilationOptions { constants: &constants, ..Default::default() },
        cache: None,
    });
    let layout = pipeline.get_bind_group_layout(0);
    let entries = [BindGroupEntry { binding: 0, resource: page.as_entire_binding() }];
    let group = gpu.device.create_bind_group(&BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
    let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
    pass.set_pipeline(&pipeline);
    pass.set_bind_group(0, &group, &[]);
    pass.dispatch_workgroups(words.2.div_ceil(64) as u32, 1, 1);
}

/// Kernels that use the same page before and after the step, in one submission, see its bytes in order.
#[test]
fn others_use_the_page_in_the_same_submission() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[10_001]).tensor("b", &[77]).packed().build().unwrap();
    for (name, builder) in [
        ("one pass", Optimizer::builder(Sgd::default().with_momentum(0.9))),
        ("clip", Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0))),
    ] {
        let len = layout.len();
        let doubled: Vec<f32> = random(2, len).iter().map(|grad| grad * 2.0).collect();
        let mut own = device::build(gpu, builder.clone(), &layout).unwrap();
        let params = device::upload(gpu, &random(1, len));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut recorded = encoder(gpu);
            own.step(&mut recorded, &params, &device::upload(gpu, &doubled)).unwrap();
            finish(gpu, &own, recorded);
            seen.push(device::download(gpu, &params));
        }
        // Sections of parameters, of gradients and of two further copies of the parameters: with bindings that overlap, and
        // each with its own.
        for section in [len, len.next_multiple_of(64)] {
            let mut contents = vec![0.0; 4 * section];
            contents[..len].copy_from_slice(&random(1, len));
            contents[section..][..len].copy_from_slice(&random(2, len));
            let page = device::upload(gpu, &contents);
            let slices = |first: usize| -> Vec<_> {
                let tensors = layout.tensors().iter().map(TensorInfo::range);
                let bytes = |element: usize| 4 * (first + element) as u64;
                tensors.map(|range| page.slice(bytes(range.start)..bytes(range.end))).collect()
            };
            let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
            let mut recorded = encoder(gpu);
            let (words, next) = (len as u64, section as u64);
            scale(gpu, &mut recorded, &page, (next, next, words), 2.0);
            optimizer.step(&mut recorded, &slices(0), &slices(section)).unwrap();
            scale(gpu, &mut recorded, &page, (0, 2 * next, words), 1.0);
            optimizer.step(&mut recorded, &slices(0), &slices(section)).unwrap();
            scale(gpu, &mut recorded, &page, (0, 3 * next, words), 1.0);
            gpu.queue.submit([recorded.finish()]);
            let contents = device::download(gpu, &page);
            for (number, expected) in [&seen[1], &doubled, &seen[0], &seen[1]].into_iter().enumerate() {
                let what = format!("{name}, sections of {section}, section {number}");
                assert_same_bits(&contents[number * section..][..len], expected, &what);
            }
        }
    }
}

/// Tensors at their places of a padded layout are joined, with a gap between them that belongs to somebody else; a gap that
/// holds gradients is left alone.
#[test]
fn padding_between_neighbors_stays_untouched() {
    let gpu = device::gpu();
    let layout = Layout::builder().tensor("a", &[61]).tensor("b", &[2]).tensor("c", &[8_200]).build().unwrap();
    let starts: Vec<_> = layout.tensors().iter().map(|tensor| 4 * tensor.range().start as u64).collect();
    let ends: Vec<_> = layout.tensors().iter().map(|tensor| 4 * tensor.range().end as u64).collect();
    for builder in
        [Optimizer::builder(AdamW::default()), Optimizer::builder(Lamb::default()).clip(Clip::global_norm(1.0))]
    {
        let grad_values = random(2, layout.len());
        let flat = device::upload(gpu, &random(1, layout.len()));
        let mut own = device::build(gpu, builder.clone(), &layout).unwrap();
        let mut recorded = encoder(gpu);
        own.step(&mut recorded, &flat, &device::upload(gpu, &grad_values)).unwrap();
        let stats = finish(gpu, &own, recorded);
        let expected = device::download(gpu, &flat);
        // The gradients of `b` lie in the gap behind the parameters of `b`; all other gaps are not numbers.
        let gap = |bytes: u64| bytes as usize / 4 + 3;
        let mut contents = vec![f32::NAN; layout.len() + 4];
        let mut grads = contents.clone();
        for tensor in layout.tensors() {
            contents[tensor.range()].copy_from_slice(&random(1, layout.len())[tensor.range()]);
            grads[tensor.range()].copy_from_slice(&grad_values[tensor.range()]);
        }
        contents[gap(ends[1])..][..2].copy_from_slice(&grads[layout.tensors()[1].range()]);
        let (page, others) = (device::upload(gpu, &contents), device::upload(gpu, &grads));
        for in_gap in [false, true] {
            gpu.queue.write_buffer(&page, 0, bytemuck::cast_slice(&contents));
            let [params, mut grads] =
                [&page, &others].map(|buffer| [0, 1, 2].map(|i| buffer.slice(starts[i]..ends[i])));
            if in_gap {
                let first = 4 * gap(ends[1]) as u64;
                grads[1] = page.slice(first..first + 8);
            }
            let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
            let mut recorded = encoder(gpu);
            optimizer.step(&mut recorded, &params, &grads).unwrap();
            assert_eq!(finish(gpu, &optimizer, recorded), stats);
            let mut seen = device::download(gpu, &page);
            for tensor in layout.tensors() {
                assert_same_bits(&seen[tensor.range()], &expected[tensor.range()], tensor.name());
                seen[tensor.range()].copy_from_slice(&contents[tensor.range()]);
            }
            assert_same_bits(&seen, &contents, "padding");
        }
    }
}
