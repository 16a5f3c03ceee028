//! Codes and decoded numbers of a device, against those of the CPU.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wgpu_optim::wgpu::{
    BindGroupDescriptor, BindGroupEntry, CommandEncoderDescriptor, ComputePassDescriptor, ComputePipelineDescriptor,
    PipelineCompilationOptions, ShaderModuleDescriptor, ShaderSource,
};

use crate::common::device;
use crate::quantized::{CODINGS, Coding, pack_codes, scales, unpack_codes, values};
use crate::shaders::{translate, validate};

/// A kernel that stores a quad of numbers per lane, and reads it again.
fn kernel(coding: &Coding) -> String {
    let files = [
        include_str!("../../shaders/storage/scaled.wgsl"),
        include_str!("../../shaders/storage/dynamic.wgsl"),
        include_str!("../../shaders/storage/companded.wgsl"),
    ];
    let lines = files.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("import "));
    let source: String = lines.flat_map(|line| [line, "\n"]).collect();
    let name = coding.name;
    let larger_scale = if name == "signed" { "larger_signed_scale" } else { "larger_scale" };
    source
        + &format!(
            "@group(0) @binding(0) var<storage, read_write> numbers: array<vec4<u32>>;
            @group(0) @binding(1) var<storage, read_write> scales: array<vec4<u32>>;
            @group(0) @binding(2) var<storage, read_write> words: array<vec2<u32>>;
            @compute @workgroup_size(256)
            fn store(@builtin(global_invocation_id) id: vec3<u32>) {{
                if id.x < arrayLength(&numbers) {{
                    let word = pack_codes({name}_code(numbers[id.x], scales[id.x]));
                    words[id.x] = vec2<u32>(word, {larger_scale}(scales[id.x].x, numbers[id.x]));
                    numbers[id.x] = {name}_bits(unpack_codes(word), scales[id.x]);
                    scales[id.x] = {name}_bits((id.xxxx + vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(0xffu), scales[id.x]);
                }}
            }}"
        )
}

/// Numbers of each kind with their scales: all sizes under all scales, middles of codes and their neighbors, NaN.
fn cases(coding: &Coding) -> (Vec<u32>, Vec<u32>) {
    let mut random = StdRng::seed_from_u64(88);
    let (mut numbers, mut with) = (Vec::new(), Vec::new());
    let mut add = |value: f32, scale: f32| {
        numbers.push(value.to_bits());
        with.push(scale.to_bits());
    };
    for scale in scales().chain([0.0, f32::INFINITY, f32::NAN]) {
        for _ in 0..80 {
            add(values(coding, scale, &mut random), scale);
        }
        for value in [0.0, -0.0, 2.0, scale, -scale, f32::from_bits(1), f32::MIN_POSITIVE, f32::INFINITY, f32::NAN] {
            add(value, scale);
        }
        let code = random.random_range(0..255);
        let middle = f32::midpoint(coding.decode(code, scale), coding.decode(code + 1, scale));
        for value in [middle.next_down(), middle, middle.next_up(), coding.decode(code, scale)] {
            add(value, scale);
        }
    }
    for code in 0..255 {
        for scale in [1.0, 1.3, 2.0f32.next_down()] {
            let middle = f32::midpoint(coding.decode(code, scale), coding.decode(code + 1, scale));
            for value in [middle.next_down(), middle, middle.next_up(), coding.decode(code, scale)] {
                add(value, scale);
            }
        }
    }
    (numbers, with)
}

#[test]
fn other_devices_get_the_functions() {
    for coding in CODINGS {
        let source = kernel(&coding);
        let module =
            naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&source)));
        translate(&module, &validate(&module, coding.name, &source), "store", coding.name);
    }
}

#[test]
fn a_device_stores_the_same_codes() {
    let gpu = device::gpu();
    let mut count = 0;
    for coding in CODINGS {
        let (numbers, scales) = cases(&coding);
        let quads = numbers.len() / 4;
        let upload = |bits: &[u32]| device::upload(gpu, bytemuck::cast_slice(bits));
        let buffers = [upload(&numbers[..4 * quads]), upload(&scales[..4 * quads]), upload(&vec![0; 2 * quads])];
        let module = gpu.device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(kernel(&coding).into()),
        });
        let pipeline = gpu.device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("store"),
            compilation_options: PipelineCompilationOptions::default(),
            cache: None,
        });
        let entries: Vec<_> = buffers
            .iter()
            .zip(0..)
            .map(|(buffer, binding)| BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = &pipeline.get_bind_group_layout(0);
        let bound = gpu.device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries });
        let mut encoder = gpu.device.create_command_encoder(&CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bound, &[]);
        pass.dispatch_workgroups(quads.div_ceil(256) as u32, 1, 1);
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        let [decoded, of_any_code, words] = buffers
            .each_ref()
            .map(|buffer| device::download(gpu, buffer).into_iter().map(f32::to_bits).collect::<Vec<_>>());
        for quad in 0..quads {
            let at: [usize; 4] = std::array::from_fn(|lane| 4 * quad + lane);
            let codes = at.map(|i| (coding.code)(numbers[i], scales[i]));
            let what = format!("{} {:x?} of {:x?}", coding.name, at.map(|i| numbers[i]), at.map(|i| scales[i]));
            assert_eq!(unpack_codes(words[2 * quad]), codes, "{what}");
            assert_eq!(words[2 * quad], pack_codes(codes), "{what}");
            let largest = at.iter().fold(scales[4 * quad], |scale, &i| (coding.larger_scale)(scale, numbers[i]));
            assert_eq!(words[2 * quad + 1], largest, "{what}");
            assert_eq!(at.map(|i| decoded[i]), at.map(|i| (coding.bits)(codes[i % 4], scales[i])), "{what}");
            let any_code = |i: usize| (coding.bits)((quad + i % 4) as u32 & 0xff, scales[i]);
            assert_eq!(at.map(|i| of_any_code[i]), at.map(any_code), "{what}");
        }
        count += 4 * quads;
    }
    assert!(count > 300_000, "{count}");
}
