//! The cloud as JavaScript sees it, and its picture.

use bytemuck::{Pod, Zeroable};
use examples_common::functions::Function;
use wasm_bindgen::prelude::*;
use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu;

use super::canvas::{Canvas, bind, over, uniform};
use super::device::Device;
use super::out;
use crate::Result;
use crate::cloud::{self, CpuCloud, GpuCloud};
use crate::entry::Entry;
use crate::field::{self, COLOURS};

const ATTRACTORS: usize = 32;
/// Size of a disc in pixels of the canvas, of 4,096 points over 640 pixels.
const RADIUS: f32 = 3.0;

/// `View` of `cloud.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct View {
    window: [f32; 4],
    disc: [f32; 2],
    cell: [f32; 2],
    far: [f32; 2],
    cells: f32,
    attractors: u32,
    opacity: f32,
    padding: [f32; 3],
    places: [[f32; 4]; ATTRACTORS],
    colours: [[f32; 4]; COLOURS as usize + 1],
}

/// A cloud on the device. It is drawn from the buffers that the optimizer steps.
#[wasm_bindgen]
pub struct DeviceCloud {
    gpu: Gpu,
    canvas: Canvas,
    cloud: GpuCloud,
    view: View,
    side: usize,
    uniform: wgpu::Buffer,
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
}

#[wasm_bindgen]
impl DeviceCloud {
    /// `side`: points along a side of the grid of starts. `colours`: red, green and blue from 0 to 1 of each basin, and
    /// of points that have diverged.
    #[wasm_bindgen(constructor)]
    pub fn new(
        device: &Device,
        element: HtmlCanvasElement,
        function: &str,
        entry: &str,
        side: usize,
        colours: &[f32],
    ) -> std::result::Result<DeviceCloud, JsError> {
        out(Self::build(device, element, function, entry, side, colours))
    }

    /// Takes some steps in one submission.
    pub fn step(&mut self, steps: usize) -> std::result::Result<(), JsError> {
        out(self.cloud.step(steps))
    }

    /// Draws the points, or the basins of their starts.
    pub fn draw(&mut self, basins: bool) {
        self.canvas.resize(&self.gpu);
        let size = self.canvas.size().map(|size| size as f32);
        let radius = RADIUS * (64.0 / self.side as f32).sqrt() * (size[0] / 640.0);
        self.view.disc = size.map(|size| 2.0 * radius.max(1.2) / size);
        self.view.cells = f32::from(u8::from(basins));
        self.view.opacity = if basins { 0.72 } else { 0.9 };
        self.gpu.queue.write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.view));
        let Some(frame) = self.canvas.frame() else { return };
        let view = frame.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("cloud"),
                color_attachments: &[Some(wgpu::RenderPassColorAttachment {
                    view: &view,
                    depth_slice: None,
                    resolve_target: None,
                    ops: wgpu::Operations {
                        load: wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT),
                        store: wgpu::StoreOp::Store,
                    },
                })],
                ..Default::default()
            });
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            pass.set_vertex_buffer(0, self.cloud.starts.slice(..));
            pass.set_vertex_buffer(1, self.cloud.points.slice(..));
            pass.draw(0..6, 0..self.cloud.len() as u32);
        }
        self.gpu.queue.submit([encoder.finish()]);
        self.gpu.queue.present(frame);
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.cloud.len()
    }
}

impl DeviceCloud {
    fn build(
        device: &Device,
        element: HtmlCanvasElement,
        function: &str,
        entry: &str,
        wanted: usize,
        colours: &[f32],
    ) -> Result<Self> {
        let (gpu, shared) = device.parts()?;
        let function = field::function(function)?;
        let entry = Entry::read(entry)?;
        let side = cloud::side(&entry, wanted)?;
        let cloud = GpuCloud::new(gpu, shared, function, entry, side)?;
        let canvas = Canvas::new(gpu, element)?;
        let module = gpu.device.create_shader_module(wgpu::include_wgsl!("cloud.wgsl"));
        let attributes = |shader_location| {
            [wgpu::VertexAttribute { format: wgpu::VertexFormat::Float32x2, offset: 0, shader_location }]
        };
        let (starts, points) = (attributes(0), attributes(1));
        let layout = |attributes| {
            Some(wgpu::VertexBufferLayout { array_stride: 8, step_mode: wgpu::VertexStepMode::Instance, attributes })
        };
        let pipeline = gpu.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("cloud"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &module,
                entry_point: Some("corner"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[layout(&starts), layout(&points)],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: None,
            multisample: wgpu::MultisampleState::default(),
            fragment: Some(wgpu::FragmentState {
                module: &module,
                entry_point: Some("fill"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &over(canvas.format()),
            }),
            multiview_mask: None,
            cache: None,
        });
        let uniform = uniform(gpu, size_of::<View>());
        Ok(Self {
            bindings: bind(gpu, &pipeline, &uniform),
            view: view(function, side, colours)?,
            gpu: gpu.clone(),
            canvas,
            cloud,
            side,
            uniform,
            pipeline,
        })
    }
}

fn view(function: &Function, side: usize, colours: &[f32]) -> Result<View> {
    let mut view = View::zeroed();
    if colours.len() != 3 * view.colours.len() {
        return Err(format!("{} numbers for colours; give {}", colours.len(), 3 * view.colours.len()).into());
    }
    for (to, from) in view.colours.iter_mut().zip(colours.chunks_exact(3)) {
        to[..3].copy_from_slice(from);
    }
    let [(left, right), (bottom, top)] = function.window;
    view.window = [left, bottom, right, top];
    view.far = if function.name == "saddle" { [f32::MAX; 2] } else { field::far(function) };
    view.cell = [1.0 / side as f32; 2];
    let attractors = field::attractors(function);
    view.attractors = attractors.len() as u32;
    for (to, from) in view.places.iter_mut().zip(&attractors) {
        *to = [from.place[0], from.place[1], from.colour as f32, 0.0];
    }
    Ok(view)
}

/// A cloud on the CPU engine. JavaScript draws it.
#[wasm_bindgen]
pub struct HostCloud {
    function: &'static Function,
    cloud: CpuCloud,
}

#[wasm_bindgen]
impl HostCloud {
    #[wasm_bindgen(constructor)]
    pub fn new(function: &str, entry: &str, side: usize) -> std::result::Result<HostCloud, JsError> {
        let function = out(field::function(function))?;
        let cloud = out(Entry::read(entry).and_then(|entry| CpuCloud::new(function, entry, side)))?;
        Ok(Self { function, cloud })
    }

    pub fn step(&mut self, steps: usize) -> std::result::Result<(), JsError> {
        out((0..steps).try_for_each(|_| self.cloud.step()))
    }

    pub fn starts(&self) -> Vec<f32> {
        self.cloud.starts().to_vec()
    }

    pub fn places(&self) -> Vec<f32> {
        self.cloud.points().to_vec()
    }

    /// Indices into the colours: one per point.
    pub fn colours(&self) -> Vec<u8> {
        let attractors = field::attractors(self.function);
        let points = self.cloud.points().chunks_exact(2);
        points.map(|point| field::colour(self.function, &attractors, [point[0], point[1]]) as u8).collect()
    }

    /// Number of points.
    pub fn points(&self) -> usize {
        self.cloud.points().len() / 2
    }
}
