use std::collections::HashMap;
use std::sync::Arc;

use wgpu::{BindGroupLayout, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipeline};

use super::chunking;
use super::shader::{self, FACTORS_BINDING, Form, GRAD_STREAM, OBSERVED_BINDING, SEGMENTS_BINDING, STREAM_BINDING};
use super::shared_pipelines::{PipelineKey, SharedPipelines};
use crate::Error;
use crate::clip::ClipForm;
use crate::rule::Rule;

/// Invocations of a workgroup at most; `norm` and the updates have fewer.
pub(super) const WORKGROUP: u32 = 256;

/// The kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    Norm(Form),
    Finish,
    /// Sums what the rule measures.
    Measure(Form),
    /// Adds the sums of each tensor up.
    Settle,
    /// Sums squares over pieces of lines.
    Lines,
    /// Adds the pieces of each line up.
    SettleLines,
    /// Takes the means of the rows' factors.
    MeanRows,
    /// Sums what a step is about to do.
    Observe(Form),
    /// Adds these sums up.
    Totals,
    Update(Form),
    UpdateBare(Form),
    /// A further pass of the rule.
    Pass(&'static str, Form),
}

/// Pipelines of one rule on one device, each made when it is first needed, unless another optimizer has it already.
#[derive(Debug)]
pub(crate) struct Pipelines {
    rule: Arc<dyn Rule>,
    clip: ClipForm,
    shared: SharedPipelines,
    norm_layout: BindGroupLayout,
    finish_layout: BindGroupLayout,
    measure_layout: BindGroupLayout,
    settle_layout: BindGroupLayout,
    lines_layout: BindGroupLayout,
    factors_layout: BindGroupLayout,
    update_layout: BindGroupLayout,
    update_bare_layout: BindGroupLayout,
    observe_layout: BindGroupLayout,
    totals_layout: BindGroupLayout,
    slot_layout: BindGroupLayout,
    made: HashMap<Kernel, ComputePipeline>,
}

impl Pipelines {
    /// Checks the rule's WGSL and the device's limits, for optimizers that observe steps or do not; makes the layouts.
    pub(crate) fn new(
        shared: &SharedPipelines,
        rule: Arc<dyn Rule>,
        clip: ClipForm,
        observes: bool,
    ) -> Result<Self, Error> {
        let device = &shared.device;
        shader::check_source(&*rule, &shader::finish(&*rule, &clip))?;
        let form = Form::ALL[0].1;
        shader::check_source(&*rule, &shader::update(&*rule, &clip, form))?;
        for pass in rule.passes() {
            shader::check_source(&*rule, &shader::pass(&*rule, pass, form))?;
        }
        let measures = !rule.measures().is_empty();
        if measures {
            shader::check_source(&*rule, &shader::measure(&*rule, &clip, form))?;
            shader::check_source(&*rule, &shader::settle(&*rule))?;
        }
        let factored = rule.factored();
        if factored {
            shader::check_source(&*rule, &shader::settle_lines(&*rule))?;
            shader::check_source(&*rule, &shader::mean_rows(&*rule))?;
        }
        if observes {
            shader::check_source(&*rule, &shader::observe(&*rule, &clip, form))?;
        }
        let states = rule.states().len() as u32;
        let in_finish = 4 + u32::from(clip.window.is_some());
        let in_update = 4 + states + u32::from(factored);
        let in_observe = if observes { in_update + u32::from(measures) } else { 0 };
        let storage_buffers = in_finish.max(in_update).max(in_observe);
        let limits = device.limits();
        for (limit, required, available) in [
            ("max_storage_buffers_per_shader_stage", storage_buffers, limits.max_storage_buffers_per_shader_stage),
            ("max_compute_invocations_per_workgroup", WORKGROUP, limits.max_compute_invocations_per_workgroup),
            ("max_compute_workgroup_size_x", WORKGROUP, limits.max_compute_workgroup_size_x),
            ("max_compute_workgroup_storage_size", WORKGROUP * 16, limits.max_compute_workgroup_storage_size),
            ("max_compute_workgroups_per_dimension", chunking::LEAST_GRID, limits.max_compute_workgroups_per_dimension),
        ] {
            check_limit(limit, required.into(), available.into())?;
        }
        let uniform = BufferBindingType::Uniform;
        let (read, write) = (storage(true), storage(false));
        let mut streams = vec![(STREAM_BINDING, write), (STREAM_BINDING + GRAD_STREAM as u32, read)];
        streams.extend((0..states).map(|i| (STREAM_BINDING + GRAD_STREAM as u32 + 1 + i, write)));
        let harness = [(0, uniform), (1, uniform), (2, read)];
        let segments = [(SEGMENTS_BINDING, write)];
        let factors = if factored { &[(FACTORS_BINDING, read)][..] } else { &[] };
        let streams_to_read: Vec<_> = streams.iter().map(|&(binding, _)| (binding, read)).collect();
        let measure = [&harness[..], &streams_to_read, &segments, factors].concat();
        let mut update = [&harness[..], &streams, factors].concat();
        if measures {
            update.push((SEGMENTS_BINDING, read));
        }
        // Only optimizers that observe have room for one more buffer.
        let mut observe = Vec::new();
        if observes {
            observe = [&harness[..], &streams_to_read, factors, &[(OBSERVED_BINDING, write)]].concat();
            observe.extend(measures.then_some((SEGMENTS_BINDING, read)));
        }
        let update_bare = [&harness[..], &[(3, write)], &streams].concat();
        let finish = [(0, write), (1, read), (2, read), (3, write), (4, write)];
        let norm = [(0, uniform), (2, read), (3, write), (STREAM_BINDING + GRAD_STREAM as u32, read)];
        Ok(Self {
            norm_layout: bind_group_layout(device, &norm, false),
            finish_layout: bind_group_layout(device, &finish[..4 + usize::from(clip.window.is_some())], false),
            measure_layout: bind_group_layout(device, &measure, false),
            settle_layout: bind_group_layout(device, &[(1, uniform), (SEGMENTS_BINDING, write)], false),
            lines_layout: bind_group_layout(
                device,
                &[&harness[..], &[(STREAM_BINDING + GRAD_STREAM as u32, read), (FACTORS_BINDING, write)]].concat(),
                false,
            ),
            factors_layout: bind_group_layout(device, &[(1, uniform), (FACTORS_BINDING, write)], false),
            update_layout: bind_group_layout(device, &update, false),
            update_bare_layout: bind_group_layout(device, &update_bare, false),
            observe_layout: bind_group_layout(device, &observe, false),
            totals_layout: bind_group_layout(device, &[(1, uniform), (OBSERVED_BINDING, write)], false),
            slot_layout: bind_group_layout(device, &[(0, uniform), (1, uniform)], true),
            shared: shared.clone(),
            made: HashMap::new(),
            rule,
            clip,
        })
    }

    /// Layout of bind group 0.
    pub(crate) fn layout(&self, kernel: Kernel) -> &BindGroupLayout {
        match kernel {
            Kernel::Norm(_) => &self.norm_layout,
            Kernel::Finish => &self.finish_layout,
            Kernel::Measure(_) => &self.measure_layout,
            Kernel::Settle => &self.settle_layout,
            Kernel::Lines => &self.lines_layout,
            Kernel::SettleLines | Kernel::MeanRows => &self.factors_layout,
            Kernel::Update(_) | Kernel::Pass(..) => &self.update_layout,
            Kernel::UpdateBare(_) => &self.update_bare_layout,
            Kernel::Observe(_) => &self.observe_layout,
            Kernel::Totals => &self.totals_layout,
        }
    }

    /// Layout of bind group 1: the step's slot, and the powers of the betas.
    pub(crate) fn slot_layout(&self) -> &BindGroupLayout {
        &self.slot_layout
    }

    /// Makes the pipeline if it is not there yet.
    pub(crate) fn prepare(&mut self, device: &wgpu::Device, kernel: Kernel) {
        if self.made.contains_key(&kernel) {
            return;
        }
        let (rule, clip) = (&*self.rule, &self.clip);
        let (entry_point, source) = match kernel {
            Kernel::Norm(form) => ("norm", shader::norm(clip.norm, form)),
            Kernel::Finish => ("finish", shader::finish(rule, clip)),
            Kernel::Measure(form) => ("sum_items", shader::measure(rule, clip, form)),
            Kernel::Settle => ("settle_tensors", shader::settle(rule)),
            Kernel::Lines => ("sum_lines", shader::lines(rule, clip)),
            Kernel::SettleLines => ("settle_lines", shader::settle_lines(rule)),
            Kernel::MeanRows => ("mean_rows", shader::mean_rows(rule)),
            Kernel::Observe(form) => ("sum_items", shader::observe(rule, clip, form)),
            Kernel::Totals => ("observe_totals", shader::totals()),
            Kernel::Update(form) => ("update", shader::update(rule, clip, form)),
            Kernel::UpdateBare(form) => ("update_bare", shader::update(rule, clip, form)),
            Kernel::Pass(pass, form) => ("update_pass", shader::pass(rule, pass, form)),
        };
        let knows_the_rule = !["norm", "sum_lines", "observe_totals"].contains(&entry_point);
        let constants = if knows_the_rule { rule.constants() } else { Vec::new() };
        let key = PipelineKey {
            entry_point,
            constants: constants.iter().map(|&(name, value)| (name.to_owned(), value.to_bits())).collect(),
            source: source.clone(),
        };
        let pipeline = self.shared.get(key, || {
            let label = format!("wgpu-optim {} {entry_point}", rule.name());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
            let groups = [Some(self.layout(kernel)), Some(&self.slot_layout)];
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: if knows_the_rule { &groups } else { &groups[..1] },
                immediate_size: 0,
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Every word of workgroup memory is written before it is read.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.shared.cache.as_ref(),
            })
        });
        self.made.insert(kernel, pipeline);
    }

    /// A pipeline that was prepared.
    pub(crate) fn get(&self, kernel: Kernel) -> &ComputePipeline {
        &self.made[&kernel]
    }
}

pub(crate) fn check_limit(limit: &'static str, required: u64, available: u64) -> Result<(), Error> {
    if available >= required { Ok(()) } else { Err(Error::DeviceLimit { limit, required, available }) }
}

fn storage(read_only: bool) -> BufferBindingType {
    BufferBindingType::Storage { read_only }
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
