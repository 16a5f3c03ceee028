use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wgpu::{BindGroupLayout, BindGroupLayoutEntry, BindingType, BufferBindingType};

use super::chunking::MIN_GRID;
use super::kernel::{Kernel, KernelKey};
use super::limits::{check_kernels, check_limit};
use super::shader::{self, Composed, Reflection, Variant};
use super::shared_pipelines::SharedPipelines;
use super::verdict::Verdict;
use crate::Error;
use crate::plan::{Pass, StepPlan};

/// Maximum invocations of a workgroup.
pub(crate) const WORKGROUP_SIZE: u32 = 256;

/// The kernels of one optimizer, each compiled on first use unless another optimizer has it already.
#[derive(Debug)]
pub(crate) struct Pipelines {
    shared: SharedPipelines,
    /// Layout of bind group 1.
    pub(crate) uniforms_layout: BindGroupLayout,
    compiled: HashMap<(Pass, Variant), Arc<Kernel>>,
    /// Kernels that the device has not accepted yet.
    unaccepted: Vec<Arc<Kernel>>,
}

impl Pipelines {
    /// Validates every kernel that the optimizer may run, and checks the device's limits. Compiles nothing.
    ///
    /// # Errors
    /// [`Error::Shader`], [`Error::DeviceLimit`].
    pub(crate) fn new(shared: &SharedPipelines, plan: &StepPlan) -> Result<Self, Error> {
        let mut kernels = Vec::new();
        for pass in shader::all_passes(plan) {
            for variant in Variant::met(pass, plan) {
                let kernel = shader::kernel(plan, pass, variant)?;
                kernels.push(validated(shared, plan, plan.constants(pass), &kernel)?.1);
            }
        }
        kernels.push(validated(shared, plan, Vec::new(), &shader::copy_if(plan)?)?.1);
        if plan.groups.rows().is_some() {
            kernels.push(validated(shared, plan, Vec::new(), &shader::remap(plan)?)?.1);
        }
        check_constants(plan)?;
        let limits = shared.device.limits();
        check_kernels(&kernels, &limits)?;
        let workgroups = limits.max_compute_workgroups_per_dimension;
        check_limit("max_compute_workgroups_per_dimension", MIN_GRID.into(), workgroups.into())?;
        let uniform = |binding| (binding, BufferBindingType::Uniform);
        let uniforms_layout = bind_group_layout(&shared.device, &[uniform(0), uniform(1)], true);
        Ok(Self { shared: shared.clone(), uniforms_layout, compiled: HashMap::new(), unaccepted: Vec::new() })
    }

    /// The kernel, compiled if it is not yet.
    pub(crate) fn get(&mut self, plan: &StepPlan, pass: Pass, variant: Variant) -> Result<Arc<Kernel>, Error> {
        if let Some(kernel) = self.compiled.get(&(pass, variant)) {
            return Ok(kernel.clone());
        }
        let composed = shader::kernel(plan, pass, variant)?;
        let kernel = self.compiled(plan, pass.name(), plan.constants(pass), &composed)?;
        self.compiled.insert((pass, variant), kernel.clone());
        Ok(kernel)
    }

    /// The kernel of copies that depend on a flag.
    pub(crate) fn copy_if(&mut self, plan: &StepPlan) -> Result<Arc<Kernel>, Error> {
        self.compiled(plan, "copy_if", Vec::new(), &shader::copy_if(plan)?)
    }

    /// The kernel that moves rows.
    pub(crate) fn remap(&mut self, plan: &StepPlan) -> Result<Arc<Kernel>, Error> {
        self.compiled(plan, "remap", Vec::new(), &shader::remap(plan)?)
    }

    /// Refuses to go on if the device has refused a kernel. Browsers tell after the call that compiles.
    ///
    /// # Errors
    /// [`Error::Shader`].
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.poll_accepted(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verdict) => verdict,
            Poll::Pending => Ok(()),
        }
    }

    /// Resolves once the device has accepted every kernel, or refused one.
    pub(crate) fn poll_accepted(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut refused = None;
        self.unaccepted.retain(|kernel| match kernel.verdict.poll(context) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                refused = Some(error);
                true
            }
            Poll::Pending => true,
        });
        match refused {
            Some(error) => Poll::Ready(Err(error)),
            None if self.unaccepted.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    fn compiled(
        &mut self,
        plan: &StepPlan,
        entry_point: &str,
        constants: Vec<(String, f64)>,
        composed: &Composed,
    ) -> Result<Arc<Kernel>, Error> {
        let (key, reflection) = validated(&self.shared, plan, constants, composed)?;
        let kernel = self.shared.kernel(&key, || self.compile(plan, entry_point, (composed, &key), &reflection));
        self.unaccepted.push(kernel.clone());
        self.check()?;
        Ok(kernel)
    }

    fn compile(
        &self,
        plan: &StepPlan,
        entry_point: &str,
        (composed, key): (&Composed, &KernelKey),
        reflection: &Reflection,
    ) -> Kernel {
        let device = &self.shared.device;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let label = format!("wgpu-optim {} {entry_point}", plan.rule.spec().name);
        let bindings: Vec<_> = reflection.bindings.iter().map(|binding| (binding.number, binding.ty)).collect();
        let layout = bind_group_layout(device, &bindings, false);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(key.source.as_str().into()),
        });
        let groups = [Some(&layout), Some(&self.uniforms_layout)];
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: if reflection.reads_uniforms { &groups } else { &groups[..1] },
            immediate_size: 0,
        });
        let constants: Vec<_> =
            key.constants.iter().map(|(name, bits)| (name.as_str(), f64::from_bits(*bits))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Every word of workgroup memory is written before it is read.
                zero_initialize_workgroup_memory: false,
            },
            cache: self.shared.cache.as_ref(),
        });
        let Reflection { bindings, reads_uniforms, .. } = reflection.clone();
        let verdict = Verdict::new(&plan.rule.spec().name, scope, module, composed);
        Kernel { pipeline, layout, bindings, reads_uniforms, verdict }
    }
}

/// A composed kernel, and its interface.
fn validated(
    shared: &SharedPipelines,
    plan: &StepPlan,
    constants: Vec<(String, f64)>,
    composed: &Composed,
) -> Result<(KernelKey, Arc<Reflection>), Error> {
    let reflection = shared
        .reflection(&composed.source, &constants, || shader::validate(composed, &constants))
        .map_err(|message| shader::shader_error(plan, message))?;
    let declared = constants.into_iter().filter(|(name, _)| reflection.overrides.contains(name));
    let constants = declared.map(|(name, value)| (name, value.to_bits())).collect();
    Ok((KernelKey { source: composed.source.clone(), constants }, reflection))
}

/// Refuses constants of the rule that its WGSL does not declare.
fn check_constants(plan: &StepPlan) -> Result<(), Error> {
    let spec = plan.rule.rule().spec();
    let overrides = shader::overrides(&plan.rule.wgsl());
    match spec.constants.iter().find(|(name, _)| !overrides.iter().any(|declared| *declared == **name)) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("it declares no `override {name}`, which RuleSpec::constants gives a value");
            Err(shader::shader_error(plan, message))
        }
    }
}

fn bind_group_layout(
    device: &wgpu::Device,
    bindings: &[(u32, BufferBindingType)],
    has_dynamic_offset: bool,
) -> BindGroupLayout {
    let entries: Vec<_> = bindings
        .iter()
        .map(|&(binding, ty)| BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        })
        .collect();
    let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("wgpu-optim"), entries: &entries };
    device.create_bind_group_layout(&descriptor)
}
