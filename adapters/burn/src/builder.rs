use burn::backend::wgpu::WgpuSetup;
use burn::module::Module;
use wgpu_optim::{Dtype, GroupOptions, Layout, OptimizerBuilder, TENSOR_ALIGNMENT, wgpu};

use crate::leases::BufferLeases;
use crate::parameters::ParameterList;
use crate::{Error, FusedOptimizer, ParameterFilter, tensors};

/// The settings of a [`FusedOptimizer`]: those of the library, and groups of parameters.
#[must_use]
#[derive(Debug, Clone)]
pub struct FusedOptimizerBuilder {
    builder: OptimizerBuilder,
    groups: Vec<(ParameterFilter, GroupOptions)>,
}

impl FusedOptimizer {
    /// Starts an optimizer with the library's settings.
    pub fn builder(builder: OptimizerBuilder) -> FusedOptimizerBuilder {
        FusedOptimizerBuilder { builder, groups: Vec::new() }
    }
}

impl FusedOptimizerBuilder {
    /// Sets the options of some parameters, named by a pattern (`"*.bias"`) or burn's `ParamGroup`. Of several groups
    /// with one parameter, the last counts. Default: the rule's options.
    pub fn group(mut self, parameters: impl Into<ParameterFilter>, options: GroupOptions) -> Self {
        self.groups.push((parameters.into(), options));
        self
    }

    /// Builds the optimizer for the parameters of a module that require gradients, on the device of `setup`.
    ///
    /// # Errors
    /// [`Error::NoParameters`], [`Error::ForeignDevice`], [`Error::Dtype`], [`Error::UnmatchedGroup`], and the errors of
    /// [`OptimizerBuilder::build`].
    pub fn build(self, module: &impl Module, setup: &WgpuSetup) -> Result<FusedOptimizer, Error> {
        let list = ParameterList::of(module)?;
        let mut builder = self.builder;
        let alignment = alignment(&builder)?;
        for (number, (_, options)) in self.groups.iter().enumerate() {
            builder = builder.group(group_name(number), options.clone());
        }
        let layout = layout(&list, &self.groups, alignment)?;
        let optimizer = builder.build(&setup.device, &setup.queue, &layout)?;
        let formats = optimizer.formats();
        let format = |name: &str| formats.streams.iter().find(|(stream, _)| stream == name).map(|(_, dtype)| *dtype);
        let (params, grads) = (format("param").unwrap_or(Dtype::F32), format("grad").unwrap_or(Dtype::F32));
        let found = list.read(module, None, (params, grads))?;
        let tensors = tensors::read(found.params.into_iter().flatten().collect())?;
        let leases = BufferLeases::of(&tensors)?;
        if !are_on(&leases, &setup.device) {
            let parameter = list.parameters[0].path.clone();
            return Err(Error::ForeignDevice { parameter, device: "another wgpu device".to_owned() });
        }
        Ok(FusedOptimizer::new(optimizer, list, (params, grads), setup))
    }
}

fn group_name(number: usize) -> String {
    format!("group {number}")
}

/// Alignment of the tensors in the flat space, in elements: 256 share a scale of 8-bit states.
fn alignment(builder: &OptimizerBuilder) -> Result<usize, Error> {
    let formats = builder.formats(&Layout::flat(1)?)?;
    let is_coded = |(_, dtype): &(String, Dtype)| matches!(dtype, Dtype::Dynamic8 | Dtype::Companded8);
    Ok(if formats.streams.iter().any(is_coded) { 256 } else { TENSOR_ALIGNMENT })
}

fn layout(list: &ParameterList, groups: &[(ParameterFilter, GroupOptions)], alignment: usize) -> Result<Layout, Error> {
    let mut is_used = vec![false; groups.len()];
    let mut layout = Layout::builder().aligned(alignment);
    for parameter in &list.parameters {
        layout = layout.tensor(&parameter.path, &parameter.shape);
        let is_member = |group: &usize| parameter.paths().any(|path| groups[*group].0.contains(parameter.id, path));
        let matching: Vec<usize> = (0..groups.len()).filter(is_member).collect();
        for &group in &matching {
            is_used[group] = true;
        }
        if let Some(&group) = matching.last() {
            layout = layout.group(group_name(group));
        }
    }
    if let Some(number) = is_used.iter().position(|used| !used) {
        let parameters = list.parameters.iter().map(|parameter| parameter.path.clone()).collect();
        return Err(Error::UnmatchedGroup { pattern: groups[number].0.describe(), parameters });
    }
    Ok(layout.build()?)
}

/// True if the buffers are of this device: it refuses to bind those of others.
fn are_on(leases: &BufferLeases, device: &wgpu::Device) -> bool {
    let Some(slice) = leases.slices().first().copied() else { return true };
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let ty = wgpu::BindingType::Buffer {
        ty: wgpu::BufferBindingType::Storage { read_only: true },
        has_dynamic_offset: false,
        min_binding_size: None,
    };
    let entry = wgpu::BindGroupLayoutEntry { binding: 0, visibility: wgpu::ShaderStages::COMPUTE, ty, count: None };
    let layout = device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some("device check"), entries: &[entry] });
    let resource = slice.buffer().as_entire_binding();
    let entries = [wgpu::BindGroupEntry { binding: 0, resource }];
    let _bound = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("device check"),
        layout: &layout,
        entries: &entries,
    });
    pollster::block_on(scope.pop()).is_none()
}
