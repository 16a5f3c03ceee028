//! A function as a surface in three dimensions, with paths on it.

use bytemuck::{Pod, Zeroable};
use examples_common::functions::Function;
use wasm_bindgen::prelude::*;
use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu;

use super::canvas::{Canvas, bind, over, uniform};
use super::device::Device;
use super::out;
use crate::{Result, field};

/// Cells along a side, as in `surface.wgsl`.
const CELLS: u32 = 96;
const SAMPLES: u32 = 4;
const DEPTH: wgpu::TextureFormat = wgpu::TextureFormat::Depth32Float;
/// Width of a path in pixels of the canvas, 640 of them wide.
const WIDTH: f32 = 4.0;
/// Numbers of a point of a path: x, y, red, green, blue, number of the path.
const POINT: usize = 6;

/// `View` of `surface.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct View {
    window: [f32; 4],
    turn: [f32; 4],
    scale: [f32; 4],
    heights: [f32; 4],
    stops: [[f32; 4]; 5],
}

/// A surface on a canvas.
#[wasm_bindgen]
pub struct SurfaceView {
    gpu: Gpu,
    canvas: Canvas,
    view: View,
    uniform: wgpu::Buffer,
    sheet: (wgpu::RenderPipeline, wgpu::BindGroup),
    stroke: (wgpu::RenderPipeline, wgpu::BindGroup),
    /// Several samples a pixel, and depths.
    targets: [wgpu::TextureView; 2],
    paths: wgpu::Buffer,
    points: usize,
}

#[wasm_bindgen]
impl SurfaceView {
    /// `stops`: red, green and blue from 0 to 1 of five colours, from the lowest to the highest value.
    #[wasm_bindgen(constructor)]
    pub fn new(
        device: &Device,
        element: HtmlCanvasElement,
        function: &str,
        stops: &[f32],
    ) -> std::result::Result<SurfaceView, JsError> {
        out(Self::build(device, element, function, stops))
    }

    /// Sets all paths: x, y, red, green, blue and the path's number for each point, path after path.
    pub fn set_paths(&mut self, numbers: &[f32]) {
        self.points = numbers.len() / POINT;
        let bytes = bytemuck::cast_slice(numbers);
        if self.paths.size() < bytes.len() as u64 {
            self.paths = path_buffer(&self.gpu, 2 * bytes.len() as u64);
        }
        self.gpu.queue.write_buffer(&self.paths, 0, bytes);
    }

    /// Draws from a turn and a tilt in radians. At a zoom of 1 the whole surface is seen.
    pub fn draw(&mut self, turn: f32, tilt: f32, zoom: f32) {
        if self.canvas.resize(&self.gpu) {
            self.targets = targets(&self.gpu, &self.canvas);
        }
        let [width, height] = self.canvas.size().map(|size| size as f32);
        let fit = 0.68 * zoom;
        self.view.turn = [turn.cos(), turn.sin(), tilt.cos(), tilt.sin()];
        let line = WIDTH * (width / 640.0).max(0.75);
        self.view.scale =
            [fit * height.min(width) / width, fit * height.min(width) / height, line / width, line / height];
        self.gpu.queue.write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.view));
        let Some(frame) = self.canvas.frame() else { return };
        let resolved = frame.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("surface"),
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: &self.targets[0],
                    depth_slice: None,
                    resolve_target: Some(&resolved),
                    ops: wgpu::Operations {
                        load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT),
                        store: wgpu::StoreOp::Discard,
                    },
                })],
                depth_stencil_attachment: Some(wgpu::RenderPassDepthStencilAttachment {
                    view: &self.targets[1],
                    depth_ops: Some(wgpu::Operations { load: wgpu::LoadOp::Clear(1.0), store: wgpu::StoreOp::Discard }),
                    stencil_ops: None,
                }),
                ..Default::default()
            });
            pass.set_pipeline(&self.sheet.0);
            pass.set_bind_group(0, &self.sheet.1, &[]);
            pass.draw(0..6 * CELLS * CELLS, 0..1);
            if self.points > 1 {
                let point = (POINT * 4) as u64;
                let end = self.points as u64 * point;
                pass.set_pipeline(&self.stroke.0);
                pass.set_bind_group(0, &self.stroke.1, &[]);
                pass.set_vertex_buffer(0, self.paths.slice(..end - point));
                pass.set_vertex_buffer(1, self.paths.slice(point..end));
                pass.draw(0..6, 0..self.points as u32 - 1);
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.queue.present(frame);
    }
}

impl SurfaceView {
    fn build(device: &Device, element: HtmlCanvasElement, function: &str, stops: &[f32]) -> Result<Self> {
        let (gpu, _) = device.parts()?;
        let function = field::function(function)?;
        let canvas = Canvas::new(gpu, element)?;
        let source = wgpu::ShaderSource::Wgsl([function.wgsl, include_str!("surface.wgsl")].concat().into());
        let module =
            gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some("surface.wgsl"), source });
        let uniform = uniform(gpu, size_of::<View>());
        let pipeline = |vertex, fragment, buffers: &[Option<wgpu::VertexBufferLayout>]| {
            let pipeline = gpu.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: Some(vertex),
                layout: None,
                vertex: wgpu::VertexState {
                    module: &module,
                    entry_point: Some(vertex),
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    buffers,
                },
                primitive: wgpu::PrimitiveState::default(),
                depth_stencil: Some(wgpu::DepthStencilState {
                    format: DEPTH,
                    depth_write_enabled: Some(true),
                    depth_compare: Some(wgpu::CompareFunction::Less),
                    stencil: wgpu::StencilState::default(),
                    bias: wgpu::DepthBiasState::default(),
                }),
                multisample: wgpu::MultisampleState { count: SAMPLES, ..Default::default() },
                fragment: Some(wgpu::FragmentState {
                    module: &module,
                    entry_point: Some(fragment),
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    targets: &over(canvas.format()),
                }),
                multiview_mask: None,
                cache: None,
            });
            let bindings = bind(gpu, &pipeline, &uniform);
            (pipeline, bindings)
        };
        let here = wgpu::vertex_attr_array![0 => Float32x2, 1 => Float32x4];
        let next = wgpu::vertex_attr_array![2 => Float32x2, 3 => Float32x4];
        let layout = |attributes| {
            let array_stride = (POINT * 4) as u64;
            Some(wgpu::VertexBufferLayout { array_stride, step_mode: wgpu::VertexStepMode::Instance, attributes })
        };
        Ok(Self {
            sheet: pipeline("sheet", "shade", &[]),
            stroke: pipeline("stroke", "ink", &[layout(&here), layout(&next)]),
            view: view(function, stops)?,
            targets: targets(gpu, &canvas),
            paths: path_buffer(gpu, 1 << 16),
            points: 0,
            gpu: gpu.clone(),
            canvas,
            uniform,
        })
    }
}

fn view(function: &Function, stops: &[f32]) -> Result<View> {
    let mut view = View::zeroed();
    if stops.len() != 3 * view.stops.len() {
        return Err(format!("{} numbers for colours; give {}", stops.len(), 3 * view.stops.len()).into());
    }
    for (to, from) in view.stops.iter_mut().zip(stops.chunks_exact(3)) {
        to[..3].copy_from_slice(from);
    }
    let [(left, right), (bottom, top)] = function.window;
    view.window = [left, bottom, right, top];
    let values = field::values(function, 97, 97);
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    view.heights = if function.logarithmic {
        [0.0, (1.0 + largest - least).ln(), least, 1.0]
    } else {
        [least, largest, least, 0.0]
    };
    Ok(view)
}

fn path_buffer(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("paths"),
        size,
        usage: wgpu::BufferUsages::VERTEX | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

fn targets(gpu: &Gpu, canvas: &Canvas) -> [wgpu::TextureView; 2] {
    let [width, height] = canvas.size();
    [canvas.format(), DEPTH].map(|format| {
        let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
            label: Some("surface"),
            size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: SAMPLES,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
            view_formats: &[],
        });
        texture.create_view(&wgpu::TextureViewDescriptor::default())
    })
}
