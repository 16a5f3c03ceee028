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
}

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
        let (mut bindings, mut reads_uniforms) = (Vec::new(), false);
        for (_, variable) in used {
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
        Self { bindings, reads_uniforms, overrides }
    }

    /// Storage buffers of the kernel.
    pub(crate) fn storage_buffers(&self) -> u32 {
        self.bindings.iter().filter(|binding| binding.ty != BufferBindingType::Uniform).count() as u32
    }
}
