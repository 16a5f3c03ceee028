//! A function as a surface in three dimensions, with paths on it.

use bytemuck::{Pod, Zeroable};
use examples_common::functions::Function;
use wasm_bindgen::prelude::*;
use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu;

use super::canvas::{Canvas, Drawing, Targets, buffer, set_colours};
use super::device::Device;
use super::out;
use crate::{Result, field};

/// Cells along a side, as in `surface.wgsl`.
const CELLS: u32 = 96;
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
    sheet: Drawing,
    stroke: Drawing,
    targets: Targets,
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
            self.stroke.rebind(&self.gpu, &[&self.uniform, &self.paths]);
        }
        self.gpu.queue.write_buffer(&self.paths, 0, bytes);
    }

    /// Draws from a turn and a tilt in radians. At a zoom of 1 the whole surface is seen.
    pub fn draw(&mut self, turn: f32, tilt: f32, zoom: f32) {
        if self.canvas.resize(&self.gpu) {
            self.targets = Targets::new(&self.gpu, &self.canvas);
        }
        let [width, height] = self.canvas.size().map(|size| size as f32);
        let fit = 0.68 * zoom;
        self.view.turn = [turn.cos(), turn.sin(), tilt.cos(), tilt.sin()];
        let line = WIDTH * (width / 640.0).max(0.75);
        self.view.scale =
            [fit * height.min(width) / width, fit * height.min(width) / height, line / width, line / height];
        self.gpu.queue.write_buffer(&self.uniform, 0, bytemuck::bytes_of(&self.view));
        let segments = self.points.saturating_sub(1) as u32;
        self.canvas.draw(&self.gpu, Some(&self.targets), |pass| {
            self.sheet.record(pass, 6 * CELLS * CELLS);
            self.stroke.record(pass, 6 * segments);
        });
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
        let uniform = buffer(gpu, "view", size_of::<View>() as u64, wgpu::BufferUsages::UNIFORM);
        let paths = path_buffer(gpu, 1 << 16);
        Ok(Self {
            sheet: Drawing::new(gpu, &canvas, &module, ["sheet", "shade"], true, &[&uniform]),
            stroke: Drawing::new(gpu, &canvas, &module, ["stroke", "ink"], true, &[&uniform, &paths]),
            view: view(function, stops)?,
            targets: Targets::new(gpu, &canvas),
            paths,
            points: 0,
            gpu: gpu.clone(),
            canvas,
            uniform,
        })
    }
}

fn view(function: &Function, stops: &[f32]) -> Result<View> {
    let mut view = View::zeroed();
    set_colours(&mut view.stops, stops)?;
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
    buffer(gpu, "paths", size, wgpu::BufferUsages::STORAGE)
}
