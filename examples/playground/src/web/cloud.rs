//! The cloud as JavaScript sees it, and its picture.

use bytemuck::{Pod, Zeroable};
use examples_common::functions::Function;
use wasm_bindgen::prelude::*;
use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu;

use super::canvas::{Canvas, Drawing, buffer, set_colours};
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
    discs: Drawing,
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
        let vertices = 6 * self.cloud.len() as u32;
        self.canvas.draw(&self.gpu, None, |pass| self.discs.record(pass, vertices));
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
        let uniform = buffer(gpu, "view", size_of::<View>() as u64, wgpu::BufferUsages::UNIFORM);
        let discs =
            Drawing::new(gpu, &canvas, &module, ["corner", "fill"], false, &[&uniform, &cloud.starts, &cloud.points]);
        Ok(Self { view: view(function, side, colours)?, gpu: gpu.clone(), canvas, cloud, side, uniform, discs })
    }
}

fn view(function: &Function, side: usize, colours: &[f32]) -> Result<View> {
    let mut view = View::zeroed();
    set_colours(&mut view.colours, colours)?;
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
