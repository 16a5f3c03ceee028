//! Every composed shader is valid WGSL and translates to SPIR-V, MSL, HLSL and GLSL, without any device: the evidence
//! for the platforms that no test machine has.

use naga::back::{glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::collections::BTreeSet;

use crate::common::shader_cases::shader_cases;
use crate::shared_factors::{HARMLESS, shared_factors};
use wgpu_optim::shader_sources;

pub fn validate(module: &naga::Module, what: &str, source: &str) -> ModuleInfo {
    Validator::new(ValidationFlags::all(), Capabilities::empty())
        .validate(module)
        .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(source)))
}

#[test]
fn every_shader_validates_and_translates() {
    let (mut seen, mut shared, mut excused) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (rule, clip) in shader_cases() {
        let spec = rule.spec();
        for (label, source) in shader_sources(&rule, clip).unwrap() {
            let what = format!("{} {label}", spec.name);
            let module = naga::front::wgsl::parse_str(&source)
                .unwrap_or_else(|error| panic!("{what}: {}", error.emit_to_string(&source)));
            let info = validate(&module, &what, &source);
            if let Some((function, path)) = branch_on_the_step(&module) {
                panic!("{what}: {function} branches on {path}; use `select`, or a condition that varies by element");
            }
            for found in shared_factors(&module, &info) {
                let harmless = HARMLESS
                    .iter()
                    .position(|(function, factor, _)| found == format!("{function} multiplies by {factor}"));
                match harmless {
                    Some(number) => drop(excused.insert(number)),
                    None => drop(shared.insert(format!("{what}: {found}"))),
                }
            }
            let [entry] = &module.entry_points[..] else { panic!("{what}: not one entry point") };
            assert!(label.starts_with(&entry.name), "{what} has the entry point {}", entry.name);
            seen.insert(entry.name.clone());
            // Constants of the kernels, beside the rule's.
            let constants = [("clip_by_params", 1.0), ("norm_order", 3.0), ("norm_type", 2.5), ("lookahead_k", 5.0)];
            let average = ["equal", "debiased"].map(|flag| format!("average_is_{flag}"));
            let average = average.iter().map(|name| (name.as_str(), 1.0));
            let average = average.chain([("average_warms_up", 1.0), ("average_start", 2.0), ("average_every", 3.0)]);
            let constants =
                spec.constants.iter().map(|(name, value)| (&**name, *value)).chain(constants).chain(average);
            let declared = |name: &str| module.overrides.iter().any(|(_, known)| known.name.as_deref() == Some(name));
            let constants = constants.filter(|(name, _)| declared(name));
            let constants = constants.map(|(name, value)| (name.to_owned(), value)).collect();
            let stage = Some((naga::ShaderStage::Compute, entry.name.as_str()));
            let (module, info) = process_overrides(&module, &info, stage, &constants).unwrap();
            translate(&module, &info, &entry.name, &what);
        }
    }
    assert!(shared.is_empty(), "{}", shared.into_iter().collect::<Vec<_>>().join("\n"));
    assert_eq!(excused.len(), HARMLESS.len(), "entries of HARMLESS that no shader needs; needed: {excused:?}");
    let kernels = [
        "accumulate",
        "auxiliary_update",
        "copy_if",
        "decide",
        "factor_partials",
        "factor_row_mean",
        "factor_update",
        "global_norm",
        "metrics_reduce",
        "metrics_total",
        "perturb",
        "project",
        "remap",
        "restore_params",
        "row_steps",
        "sam_factors",
        "sam_norm",
        "segment_reduce",
        "segment_update",
        "tensor_steps",
        "update",
        "update_single_pass",
    ];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), kernels);
}

pub fn translate(module: &naga::Module, info: &ModuleInfo, entry: &str, what: &str) {
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
    let of_64 = [
        "accumulate",
        "auxiliary_update",
        "global_norm",
        "perturb",
        "restore_params",
        "sam_norm",
        "tensor_steps",
        "update",
        "update_single_pass",
    ];
    let lanes = if of_64.contains(&entry) { 64 } else { 256 };
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
        "if hyper.rate * control.scalar_state.x > 1.0 { return 1.0; }",
        "if first(control.scalar_state) > 1.0 { return 1.0; }",
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
            "struct Control {{ apply: u32, scalar_state: vec4<f32> }}
            struct Hyper {{ rate: f32 }}
            @group(0) @binding(0) var<uniform> control: Control;
            fn first(numbers: vec4<f32>) -> f32 {{ return numbers.x; }}
            fn update_scalars(place: u32, lr: f32, hyper: Hyper, t: u32) -> f32 {{ {body} return 3.0; }}"
        );
        let module = naga::front::wgsl::parse_str(&source).unwrap();
        assert_eq!(branch_on_the_step(&module).is_some(), expected, "{body}");
    }
}

/// Uniforms that differ from step to step, and the names of arguments with such values.
const CHANGING: [&str; 14] = [
    "control",
    "uniforms.head.lr",
    "uniforms.head.inv_scale",
    "uniforms.head.clip_limit",
    "uniforms.group_lrs",
    "step.t",
    "step.is_first",
    "step.bias_correction",
    "step.scalar_state",
    "context",
    // Arguments of a rule's `update_scalars` and `update_tensor_state`.
    "lr",
    "t",
    "is_first",
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

/// The arguments of the call whose result an expression is. `None` for calls within a branch.
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

/// The path of a chain of members in a uniform, or in an argument that is equal in all invocations.
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
