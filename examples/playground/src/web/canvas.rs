//! A canvas that wgpu draws to, transparent where nothing is drawn.

use web_sys::HtmlCanvasElement;
use wgpu_optim::Gpu;
use wgpu_optim::wgpu::{
    self, CompositeAlphaMode, CurrentSurfaceTexture, Instance, InstanceDescriptor, Surface, SurfaceConfiguration,
    SurfaceTarget,
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

    /// Draws a picture, where the browser has one to draw to.
    pub(super) fn draw(&self, gpu: &Gpu, targets: Option<&Targets>, record: impl FnOnce(&mut wgpu::RenderPass)) {
        let frame = match self.surface.get_current_texture() {
            CurrentSurfaceTexture::Success(frame) | CurrentSurfaceTexture::Suboptimal(frame) => frame,
            _ => return,
        };
        let picture = frame.texture.create_view(&wgpu::TextureViewDescriptor::default());
        let load = wgpu::LoadOp::Clear(wgpu::Color::TRANSPARENT);
        let colours = match targets {
            Some(targets) => wgpu::RenderPassColorAttachment {
                view: &targets.colours,
                depth_slice: None,
                resolve_target: Some(&picture),
                ops: wgpu::Operations { load, store: wgpu::StoreOp::Discard },
            },
            None => wgpu::RenderPassColorAttachment {
                view: &picture,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations { load, store: wgpu::StoreOp::Store },
            },
        };
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
            label: Some("picture"),
            color_attachments: &[Some(colours)],
            depth_stencil_attachment: targets.map(|targets| wgpu::RenderPassDepthStencilAttachment {
                view: &targets.depths,
                depth_ops: Some(wgpu::Operations { load: wgpu::LoadOp::Clear(1.0), store: wgpu::StoreOp::Discard }),
                stencil_ops: None,
            }),
            ..Default::default()
        });
        record(&mut pass);
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        gpu.queue.present(frame);
    }
}

/// Several samples a pixel, and their depths.
pub(super) struct Targets {
    colours: wgpu::TextureView,
    depths: wgpu::TextureView,
}

impl Targets {
    pub(super) const SAMPLES: u32 = 4;
    const DEPTH: wgpu::TextureFormat = wgpu::TextureFormat::Depth32Float;

    pub(super) fn new(gpu: &Gpu, canvas: &Canvas) -> Self {
        let [width, height] = canvas.size();
        let [colours, depths] = [canvas.format(), Self::DEPTH].map(|format| {
            let texture = gpu.device.create_texture(&wgpu::TextureDescriptor {
                label: Some("samples"),
                size: wgpu::Extent3d { width, height, depth_or_array_layers: 1 },
                mip_level_count: 1,
                sample_count: Self::SAMPLES,
                dimension: wgpu::TextureDimension::D2,
                format,
                usage: wgpu::TextureUsages::RENDER_ATTACHMENT,
                view_formats: &[],
            });
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        });
        Self { colours, depths }
    }
}

/// A pipeline with the buffers that it reads.
pub(super) struct Drawing {
    pipeline: wgpu::RenderPipeline,
    bindings: wgpu::BindGroup,
}

impl Drawing {
    /// Draws triangles by a module's entry points, a vertex and a fragment shader; with depths on [`Targets`]. The
    /// colours are multiplied by their opacity already.
    pub(super) fn new(
        gpu: &Gpu,
        canvas: &Canvas,
        module: &wgpu::ShaderModule,
        [vertex, fragment]: [&str; 2],
        with_depth: bool,
        buffers: &[&wgpu::Buffer],
    ) -> Self {
        let blend = Some(wgpu::BlendState::PREMULTIPLIED_ALPHA_BLENDING);
        let target = wgpu::ColorTargetState { format: canvas.format(), blend, write_mask: wgpu::ColorWrites::ALL };
        let pipeline = gpu.device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some(vertex),
            layout: None,
            vertex: wgpu::VertexState {
                module,
                entry_point: Some(vertex),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState::default(),
            depth_stencil: with_depth.then(|| wgpu::DepthStencilState {
                format: Targets::DEPTH,
                depth_write_enabled: Some(true),
                depth_compare: Some(wgpu::CompareFunction::Less),
                stencil: wgpu::StencilState::default(),
                bias: wgpu::DepthBiasState::default(),
            }),
            multisample: wgpu::MultisampleState {
                count: if with_depth { Targets::SAMPLES } else { 1 },
                ..Default::default()
            },
            fragment: Some(wgpu::FragmentState {
                module,
                entry_point: Some(fragment),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                targets: &[Some(target)],
            }),
            multiview_mask: None,
            cache: None,
        });
        let bindings = bind(gpu, &pipeline, buffers);
        Self { pipeline, bindings }
    }

    /// Reads other buffers from now on.
    pub(super) fn rebind(&mut self, gpu: &Gpu, buffers: &[&wgpu::Buffer]) {
        self.bindings = bind(gpu, &self.pipeline, buffers);
    }

    /// Draws this many vertices.
    pub(super) fn record(&self, pass: &mut wgpu::RenderPass, vertices: u32) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.draw(0..vertices, 0..1);
    }
}

/// Buffers at bindings 0, 1, ….
fn bind(gpu: &Gpu, pipeline: &wgpu::RenderPipeline, buffers: &[&wgpu::Buffer]) -> wgpu::BindGroup {
    let entries = buffers.iter().zip(0..);
    let entries: Vec<_> = entries
        .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
        .collect();
    let layout = &pipeline.get_bind_group_layout(0);
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

/// A buffer that is written from the CPU.
pub(super) fn buffer(gpu: &Gpu, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size,
        usage: usage | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// Copies red, green and blue of each colour.
///
/// # Errors
/// Another number of colours.
pub(super) fn set_colours(to: &mut [[f32; 4]], from: &[f32]) -> Result<()> {
    if from.len() != 3 * to.len() {
        return Err(format!("{} numbers for colours; give {}", from.len(), 3 * to.len()).into());
    }
    for (to, from) in to.iter_mut().zip(from.chunks_exact(3)) {
        to[..3].copy_from_slice(from);
    }
    Ok(())
}
