use wgpu::{BindGroup, BindGroupEntry, BindGroupLayout, BindingResource, ComputePipeline};

use super::shader::Binding;
use super::verdict::Verdict;

/// A compiled kernel and its bindings.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) pipeline: ComputePipeline,
    /// Layout of bind group 0.
    pub(crate) layout: BindGroupLayout,
    pub(crate) bindings: Vec<Binding>,
    /// Whether it binds the uniforms of the step as bind group 1.
    pub(crate) reads_uniforms: bool,
    pub(crate) verdict: Verdict,
}

impl Kernel {
    /// Binds the resource of each variable of bind group 0, by the variable's name.
    pub(crate) fn bind_group<'a>(
        &self,
        device: &wgpu::Device,
        label: &str,
        resource: impl Fn(&str) -> Option<BindingResource<'a>>,
    ) -> BindGroup {
        let entry = |binding: &Binding| {
            let resource = resource(&binding.name)?;
            Some(BindGroupEntry { binding: binding.number, resource })
        };
        let entries: Vec<_> = self.bindings.iter().filter_map(entry).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some(label), layout: &self.layout, entries: &entries };
        device.create_bind_group(&descriptor)
    }
}

/// Key of a compiled kernel: source, and constants by their bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KernelKey {
    pub(crate) source: String,
    pub(crate) constants: Vec<(String, u64)>,
}
