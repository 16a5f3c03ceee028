//! A canvas that wgpu draws to, transparent where nothing is drawn.

use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu::{
    self, CompositeAlphaMode, CurrentSurfaceTexture, Instance, InstanceDescriptor, Surface, SurfaceConfiguration,
    SurfaceTarget, SurfaceTexture,
};

use crate::Result;

pub(super) struct Canvas {
    element: HtmlCanvasElement,
    surface: Surface<'static>,
    config: SurfaceConfiguration,
}

impl Canvas {
    pub(super) fn new(gpu: &Gpu, element: HtmlCanvasElement) -> Result<Self> {
        let instance = Instance::new(InstanceDescriptor::new_without_display_handle());
        let surface = instance.create_surface(SurfaceTarget::Canvas(element.clone()))?;
        let config = surface.get_default_config(&gpu.adapter, element.width().max(1), element.height().max(1));
        let mut config = config.ok_or("this browser's GPU draws to no canvas")?;
        config.alpha_mode = CompositeAlphaMode::PreMultiplied;
        surface.configure(&gpu.device, &config);
        Ok(Self { element, surface, config })
    }

    pub(super) fn format(&self) -> wgpu::TextureFormat {
        self.config.format
    }

    pub(super) fn size(&self) -> [u32; 2] {
        [self.config.width, self.config.height]
    }

    /// Follows the size of the element; returns whether it has changed.
    pub(super) fn resize(&mut self, gpu: &Gpu) -> bool {
        let size = [self.element.width().max(1), self.element.height().max(1)];
        let changed = size != self.size();
        if changed {
            [self.config.width, self.config.height] = size;
            self.surface.configure(&gpu.device, &self.config);
        }
        changed
    }

    /// The picture to draw; `None` while the browser has none to give.
    pub(super) fn frame(&self) -> Option<SurfaceTexture> {
        match self.surface.get_current_texture() {
            CurrentSurfaceTexture::Success(frame) | CurrentSurfaceTexture::Suboptimal(frame) => Some(frame),
            _ => None,
        }
    }
}

/// A buffer for a uniform of this many bytes.
pub(super) fn uniform(gpu: &Gpu, size: usize) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("view"),
        size: size as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

pub(super) fn bind(gpu: &Gpu, pipeline: &wgpu::RenderPipeline, buffer: &wgpu::Buffer) -> wgpu::BindGroup {
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("view"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
    })
}

/// Colours over what is there, multiplied by their opacity already.
pub(super) fn over(format: wgpu::TextureFormat) -> [Option<wgpu::ColorTargetState>; 1] {
    let blend = Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING);
    [Some(wgpu::ColorTargetState { format, blend, write_mask: wgpu::ColorWrites::ALL })]
}
