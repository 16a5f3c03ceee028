//! Every composed shader is valid WGSL and translates to SPIR-V, MSL, HLSL and GLSL, without any device: the evidence
//! for the platforms that no test machine has.

use naga::back::{glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use wgpu_optim::rule::shader_sources;
use wgpu_optim::{
    AdEMAMix, AdaBelief, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, Adan, Clip, Lamb, Lars, Lion, NAdam,
    NovoGrad, Prodigy, RAdam, RmsProp, Rprop, Rule, ScheduleFreeAdamW, ScheduleFreeSgd, Sgd, SignSgd, Sophia, Yogi,
};

fn rules() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(Sgd::default()),
        Box::new(Sgd::default().with_momentum(0.9)),
        Box::new(Sgd::default().with_momentum(0.9).with_nesterov(true)),
        Box::new(Sgd::keras().with_momentum(0.9).with_dampen_first_step(true)),
        Box::new(Adam::default()),
        Box::new(Adam::default().with_amsgrad(true)),
        Box::new(Adam::optax().with_amsgrad(true)),
        Box::new(Adam::keras()),
        Box::new(AdamW::default()),
        Box::new(AdamW::default().with_amsgrad(true)),
        Box::new(AdamW::bitsandbytes().with_eps_root(1e-8).with_max_lr(Some(0.1))),
        Box::new(Adagrad::default()),
        Box::new(Adagrad::optax()),
        Box::new(RmsProp::default()),
        Box::new(RmsProp::default().with_centered(true)),
        Box::new(RmsProp::default().with_momentum(0.9)),
        Box::new(RmsProp::optax().with_centered(true).with_momentum(0.9)),
        Box::new(Adadelta::default()),
        Box::new(Adamax::default()),
        Box::new(Rprop::default()),
        Box::new(Lion::default()),
        Box::new(Lion::default().with_cautious(true).with_cautious_weight_decay(true)),
        Box::new(AdamW::default().with_cautious(true).with_cautious_weight_decay(true)),
        Box::new(Adam::default().with_cautious(true)),
        Box::new(Sgd::default().with_momentum(0.9).with_cautious(true)),
        Box::new(Adan::default().with_cautious(true).with_cautious_weight_decay(true)),
        Box::new(NAdam::optax().with_cautious(true).with_cautious_weight_decay(true)),
        Box::new(Adamax::optax()),
        Box::new(RAdam::optax()),
        Box::new(RAdam::default()),
        Box::new(AdaBelief::default()),
        Box::new(Yogi::default()),
        Box::new(Adan::default()),
        Box::new(Adan::optax()),
        Box::new(SignSgd::default()),
        Box::new(SignSgd::default().with_momentum(0.9)),
        Box::new(AdEMAMix::default()),
        Box::new(AdEMAMix::default().with_t_alpha(Some(100)).with_t_beta3(Some(100))),
        Box::new(NAdam::default()),
        Box::new(ScheduleFreeSgd::default()),
        Box::new(ScheduleFreeAdamW::default().with_r(1.0)),
        Box::new(Sophia::default()),
        Box::new(Sophia::hutchinson()),
        Box::new(Lamb::default()),
        Box::new(Lamb::optax().with_ratio_range(Some((0.01, 10.0)))),
        Box::new(Lars::default()),
        Box::new(Lars::optax().with_nesterov(true)),
        Box::new(NovoGrad::default()),
        Box::new(Adafactor::default()),
        Box::new(Adafactor::optax()),
        Box::new(Prodigy::default()),
        Box::new(Prodigy::default().with_decouple(false).with_use_bias_correction(true)),
        Box::new(Prodigy::default().with_safeguard_warmup(true).with_growth_rate(Some(1.02))),
    ]
}

fn validate(module: &naga::Module, what: &str, source: &str) -> ModuleInfo {
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(module)
        .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(source)))
}

#[test]
fn every_shader_validates_and_translates() {
    let mut entry_points = Vec::new();
    let global = |norm_type| Some(GlobalNorm::new(1.0).with_norm_type(norm_type));
    let clips = [global(1.0), global(f64::INFINITY), global(2.5), Some(Clip::value(1.0)), Some(Clip::percentile(10.0))];
    let clipped = clips.into_iter().map(|clip| (Box::new(Adafactor::default()) as Box<dyn Rule>, clip));
    let adaptive: (Box<dyn Rule>, _) = (Box::new(Sophia::default()), Some(Clip::adaptive(0.01)));
    for (rule, clip) in rules().into_iter().map(|rule| (rule, None)).chain(clipped).chain([adaptive]) {
        for (label, source) in shader_sources(&*rule, clip).unwrap() {
            let what = format!("{} {label}", rule.name());
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(&source)));
            let info = validate(&module, &what, &source);
            if let Some((function, path)) = branch_on_the_step(&module) {
                panic!("{what}: {function} branches on {path}; take `select`, or a condition that varies by element");
            }
            for entry in &module.entry_points {
                entry_points.push(entry.name.clone());
                // `norm` and `lines` know nothing of rules; the last is of clipping by norms of units.
                let constants = rule.constants().into_iter().chain([("clip_by_params", 1.0)]);
                let declared =
                    |name: &str| module.overrides.iter().any(|(_, known)| known.name.as_deref() == Some(name));
                let constants = constants.filter(|(name, _)| declared(name));
                let constants = constants.map(|(name, value)| (name.to_owned(), value)).collect();
                let stage = Some((naga::ShaderStage::Compute, entry.name.as_str()));
                let (module, info) = process_overrides(&module, &info, stage, &constants).unwrap();
                translate(&module, &info, &entry.name, &what);
            }
        }
    }
    for kernel in [
        "norm",
        "finish",
        "sum_lines",
        "settle_lines",
        "mean_rows",
        "sum_items",
        "settle_tensors",
        "update",
        "update_bare",
        "update_pass",
        "observe_totals",
    ] {
        assert!(entry_points.iter().any(|entry| entry == kernel), "{kernel} was not looked at");
    }
}

fn translate(module: &naga::Module, info: &ModuleInfo, entry: &str, what: &str) {
    let stage = naga::ShaderStage::Compute;
    let options = spv::PipelineOptions { shader_stage: stage, entry_point: entry.to_owned() };
    let words = spv::write_vec(module, info, &spv::Options::default(), Some(&options)).unwrap();
    assert_eq!(words[0], 0x0723_0203, "{what} {entry}: SPIR-V's magic number");

    let options = msl::Options { fake_missing_bindings: true, ..Default::default() };
    let pipeline = msl::PipelineOptions { entry_point: Some((stage, entry.to_owned())), ..Default::default() };
    let (metal, _) = msl::write_string(module, info, &options, &pipeline).unwrap();
    assert!(metal.contains("kernel void"), "{what} {entry}: {metal}");

    let mut direct3d = String::new();
    let options = hlsl::Options { fake_missing_bindings: true, ..Default::default() };
    let pipeline = hlsl::PipelineOptions { entry_point: Some((stage, entry.to_owned())) };
    hlsl::Writer::new(&mut direct3d, &options, &pipeline).write(module, info, None).unwrap();
    let lanes = if ["norm", "update", "update_bare", "update_pass"].contains(&entry) { 64 } else { 256 };
    assert!(direct3d.contains(&format!("numthreads({lanes}, 1, 1)")), "{what} {entry}: {direct3d}");

    let mut opengl = String::new();
    let options = glsl::Options { version: glsl::Version::new_gles(310), ..Default::default() };
    let pipeline = glsl::PipelineOptions { shader_stage: stage, entry_point: entry.to_owned(), multiview: None };
    let policies = naga::proc::BoundsCheckPolicies::default();
    glsl::Writer::new(&mut opengl, module, info, &options, &pipeline, policies).unwrap().write().unwrap();
    assert!(opengl.contains(&format!("local_size_x = {lanes}")), "{what} {entry}: {opengl}");
}

/// lavapipe compiles a kernel anew for each value of a uniform that a branch depends on alone: no branch may depend on what
/// changes from step to step and on nothing else. Gives the function with such a branch, and what it depends on.
fn branch_on_the_step(module: &naga::Module) -> Option<(String, String)> {
    let functions = module.functions.iter().map(|(_, function)| function);
    for function in functions.chain(module.entry_points.iter().map(|entry| &entry.function)) {
        let mut conditions = Vec::new();
        conditions_of(&function.body, &mut conditions);
        for condition in conditions {
            let mut uniforms = Vec::new();
            let alone = only_uniforms(module, function, condition, &mut uniforms);
            let is_changing = |path: &String| CHANGING.iter().any(|changing| is_part_of(path, changing));
            if let (true, Some(path)) = (alone, uniforms.into_iter().find(is_changing)) {
                return Some((function.name.clone().unwrap_or_else(|| "a kernel".to_owned()), path));
            }
        }
    }
    None
}

#[test]
fn branches_on_the_step_are_found() {
    let refused = [
        "if control.apply == 0u { return 1.0; }",
        "let stopped = control.apply == 0u; if stopped { return 1.0; }",
        "let copy = control; if copy.apply == 0u { return 1.0; }",
        "let pointer = &control; if (*pointer).apply == 0u { return 1.0; }",
        // `&&` is a branch on its left side.
        "if control.apply == 0u && place > 1u { return 1.0; }",
        "if hyper.rate * control.scalars.x > 1.0 { return 1.0; }",
        "if first(control.scalars) > 1.0 { return 1.0; }",
        "switch t { case 1u: { return 1.0; } default: {} }",
        "if lr > 1.0 { return 1.0; }",
    ];
    let allowed = [
        "if hyper.rate > 1.0 { return 1.0; }",
        "if (control.apply == 0u) & (place > 1u) { return 1.0; }",
        "return select(1.0, 2.0, control.apply == 0u);",
    ];
    for (body, expected) in refused.map(|body| (body, true)).into_iter().chain(allowed.map(|body| (body, false))) {
        let source = format!(
            "struct Control {{ apply: u32, scalars: vec4<f32> }}
            struct Hyper {{ rate: f32 }}
            @group(0) @binding(0) var<uniform> control: Control;
            fn first(numbers: vec4<f32>) -> f32 {{ return numbers.x; }}
            fn advance(place: u32, lr: f32, hyper: Hyper, t: u32) -> f32 {{ {body} return 3.0; }}"
        );
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        assert_eq!(branch_on_the_step(&module).is_some(), expected, "{body}");
    }
}

/// Uniforms that have other values at other steps, and the names of arguments that hold such values.
const CHANGING: [&str; 12] = [
    "control",
    "slot.head.lr",
    "slot.head.inv_scale",
    "slot.head.max_norm",
    "slot.group_lrs",
    "step.t",
    "step.bias_correction",
    "step.scalars",
    "whole",
    // Arguments of a rule's `advance` and `settle`.
    "lr",
    "t",
    "bias_correction",
];

fn is_part_of(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn conditions_of(block: &naga::Block, conditions: &mut Vec<naga::Handle<naga::Expression>>) {
    for statement in block {
        match statement {
            naga::Statement::Block(block) => conditions_of(block, conditions),
            naga::Statement::If { condition, accept, reject } => {
                conditions.push(*condition);
                conditions_of(accept, conditions);
                conditions_of(reject, conditions);
            }
            naga::Statement::Switch { selector, cases } => {
                conditions.push(*selector);
                for case in cases {
                    conditions_of(&case.body, conditions);
                }
            }
            naga::Statement::Loop { body, continuing, break_if } => {
                conditions.extend(*break_if);
                conditions_of(body, conditions);
                conditions_of(continuing, conditions);
            }
            _ => {}
        }
    }
}

/// Whether an expression depends on nothing but constants and what is the same for all invocations, and on what of the latter.
fn only_uniforms(
    module: &naga::Module,
    function: &naga::Function,
    expression: naga::Handle<naga::Expression>,
    uniforms: &mut Vec<String>,
) -> bool {
    use naga::Expression as E;

    if let Some(path) = uniform_path(module, function, expression) {
        uniforms.push(path);
        return true;
    }
    let mut all = |parts: &[naga::Handle<E>]| parts.iter().all(|&part| only_uniforms(module, function, part, uniforms));
    match &function.expressions[expression] {
        E::Literal(_) | E::Constant(_) | E::Override(_) | E::ZeroValue(_) => true,
        E::Compose { components, .. } => all(components),
        E::Load { pointer: part }
        | E::AccessIndex { base: part, .. }
        | E::Splat { value: part, .. }
        | E::Swizzle { vector: part, .. }
        | E::Unary { expr: part, .. }
        | E::Relational { argument: part, .. }
        | E::As { expr: part, .. } => all(&[*part]),
        E::Access { base, index } => all(&[*base, *index]),
        E::Binary { left, right, .. } => all(&[*left, *right]),
        E::Select { condition, accept, reject } => all(&[*condition, *accept, *reject]),
        E::Math { arg, arg1, arg2, .. } => all(&[*arg]) && [arg1, arg2].into_iter().flatten().all(|&arg| all(&[arg])),
        E::CallResult(_) => arguments_of(&function.body, expression).is_some_and(all),
        _ => false,
    }
}

/// What the function was called with whose result an expression is; none but of calls beyond all branches.
fn arguments_of(
    block: &naga::Block,
    expression: naga::Handle<naga::Expression>,
) -> Option<&[naga::Handle<naga::Expression>]> {
    block.iter().find_map(|statement| match statement {
        naga::Statement::Call { arguments, result, .. } if *result == Some(expression) => Some(&arguments[..]),
        naga::Statement::Block(block) => arguments_of(block, expression),
        _ => None,
    })
}

/// What a chain of members in a uniform, or in an argument that all invocations have alike, is called.
fn uniform_path(
    module: &naga::Module,
    function: &naga::Function,
    expression: naga::Handle<naga::Expression>,
) -> Option<String> {
    use naga::Expression as E;

    let typed = |expression: &E| -> Option<(String, naga::Handle<naga::Type>)> {
        match expression {
            E::GlobalVariable(variable) => {
                let variable = &module.global_variables[*variable];
                (variable.space == naga::AddressSpace::Uniform).then(|| (variable.name.clone(), variable.ty))
            }
            E::FunctionArgument(number) => {
                let argument = &function.arguments[*number as usize];
                Some((argument.name.clone(), argument.ty))
            }
            _ => None,
        }
        .and_then(|(name, ty)| Some((name?, ty)))
    };
    let mut members = Vec::new();
    let mut at = expression;
    loop {
        match &function.expressions[at] {
            E::Load { pointer } => at = *pointer,
            E::AccessIndex { base, index } => {
                members.push(*index as usize);
                at = *base;
            }
            root => {
                let (name, mut ty) = typed(root)?;
                let mut path = name.clone();
                for &member in members.iter().rev() {
                    let naga::TypeInner::Struct { members, .. } = &module.types[ty].inner else { break };
                    path = format!("{path}.{}", members[member].name.as_deref()?);
                    ty = members[member].ty;
                }
                let is_changing = |name: &str| CHANGING.iter().any(|changing| is_part_of(changing, name));
                let is_uniform = matches!(root, E::GlobalVariable(_)) || name == "hyper" || is_changing(&name);
                return is_uniform.then_some(path);
            }
        }
    }
}
