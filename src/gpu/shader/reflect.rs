//! Reads a kernel's bindings from its WGSL.

use naga::valid::ModuleInfo;
use naga::{AddressSpace, Module, StorageAccess};
use wgpu::BufferBindingType;

/// The interface of one kernel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reflection {
    /// The variables of bind group 0 that the entry point uses, in ascending order of binding.
    pub(crate) bindings: Vec<Binding>,
    /// Whether it uses bind group 1: the uniforms of the step.
    pub(crate) reads_uniforms: bool,
    /// Names of the `override` constants.
    pub(crate) overrides: Vec<String>,
    /// Invocations of a workgroup, in one dimension.
    workgroup_len: u32,
    /// Bytes of the workgroup variables that the entry point uses.
    workgroup_bytes: u32,
}

/// Bindings of bind group 1, each with a dynamic offset.
const STEP_UNIFORMS: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) number: u32,
    /// Name of the variable.
    pub(crate) name: String,
    pub(crate) ty: BufferBindingType,
}

impl Reflection {
    /// Reflects the only entry point of a module.
    pub(crate) fn new(module: &Module, info: &ModuleInfo) -> Self {
        let entry = info.get_entry_point(0);
        let used = module.global_variables.iter().filter(|(handle, _)| !entry[*handle].is_empty());
        let (mut bindings, mut reads_uniforms, mut workgroup_bytes) = (Vec::new(), false, 0_u32);
        for (_, variable) in used {
            if variable.space == AddressSpace::WorkGroup {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                let size = size.checked_next_multiple_of(16).unwrap_or(u32::MAX);
                workgroup_bytes = size.saturating_add(workgroup_bytes);
            }
            let Some(place) = variable.binding else { continue };
            if place.group == 1 {
                reads_uniforms = true;
                continue;
            }
            let ty = match variable.space {
                AddressSpace::Storage { access } => {
                    BufferBindingType::Storage { read_only: !access.contains(StorageAccess::STORE) }
                }
                _ => BufferBindingType::Uniform,
            };
            bindings.push(Binding { number: place.binding, name: variable.name.clone().unwrap_or_default(), ty });
        }
        bindings.sort_by_key(|binding| binding.number);
        let overrides = module.overrides.iter().filter_map(|(_, constant)| constant.name.clone()).collect();
        let workgroup_len = module.entry_points[0].workgroup_size.iter().product();
        Self { bindings, reads_uniforms, overrides, workgroup_len, workgroup_bytes }
    }

    pub(crate) fn bind_groups(&self) -> u32 {
        1 + u32::from(self.reads_uniforms)
    }

    /// The largest binding number, plus one.
    pub(crate) fn binding_numbers(&self) -> u32 {
        let last = self.bindings.last().map_or(0, |binding| binding.number + 1);
        last.max(self.dynamic_uniform_buffers())
    }

    pub(crate) fn dynamic_uniform_buffers(&self) -> u32 {
        if self.reads_uniforms { STEP_UNIFORMS } else { 0 }
    }

    /// Uniform buffers of both bind groups.
    pub(crate) fn uniform_buffers(&self) -> u32 {
        self.bindings.len() as u32 - self.storage_buffers() + self.dynamic_uniform_buffers()
    }

    pub(crate) fn workgroup_len(&self) -> u32 {
        self.workgroup_len
    }

    pub(crate) fn workgroup_bytes(&self) -> u32 {
        self.workgroup_bytes
    }

    /// Storage buffers of the kernel.
    pub(crate) fn storage_buffers(&self) -> u32 {
        self.bindings.iter().filter(|binding| binding.ty != BufferBindingType::Uniform).count() as u32
    }
}
