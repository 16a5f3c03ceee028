//! Checks kernels against the device's limits. An excess is [`Error::DeviceLimit`](crate::Error::DeviceLimit), not wgpu's
//! panic.

use wgpu::Limits;

use super::shader::Reflection;
use crate::Error;

/// Name of a limit, need of one kernel, the device's value.
type KernelLimit = (&'static str, fn(&Reflection) -> u32, fn(&Limits) -> u32);

/// Needs of kernels, by limit.
const KERNEL_LIMITS: [KernelLimit; 8] = [
    ("max_bind_groups", Reflection::bind_groups, |limits| limits.max_bind_groups),
    ("max_bindings_per_bind_group", Reflection::binding_numbers, |limits| limits.max_bindings_per_bind_group),
    ("max_dynamic_uniform_buffers_per_pipeline_layout", Reflection::dynamic_uniform_buffers, |limits| {
        limits.max_dynamic_uniform_buffers_per_pipeline_layout
    }),
    ("max_uniform_buffers_per_shader_stage", Reflection::uniform_buffers, |limits| {
        limits.max_uniform_buffers_per_shader_stage
    }),
    ("max_storage_buffers_per_shader_stage", Reflection::storage_buffers, |limits| {
        limits.max_storage_buffers_per_shader_stage
    }),
    ("max_compute_invocations_per_workgroup", Reflection::workgroup_len, |limits| {
        limits.max_compute_invocations_per_workgroup
    }),
    ("max_compute_workgroup_size_x", Reflection::workgroup_len, |limits| limits.max_compute_workgroup_size_x),
    ("max_compute_workgroup_storage_size", Reflection::workgroup_bytes, |limits| {
        limits.max_compute_workgroup_storage_size
    }),
];

/// Checks the needs of all kernels of an optimizer.
pub(crate) fn check_kernels(kernels: &[impl AsRef<Reflection>], limits: &Limits) -> Result<(), Error> {
    for (limit, need, available) in KERNEL_LIMITS {
        let required = kernels.iter().map(|kernel| need(kernel.as_ref())).max().unwrap_or(0);
        check_limit(limit, required.into(), available(limits).into())?;
    }
    Ok(())
}

pub(crate) fn check_limit(limit: &'static str, required: u64, available: u64) -> Result<(), Error> {
    if available >= required { Ok(()) } else { Err(Error::DeviceLimit { limit, required, available }) }
}
