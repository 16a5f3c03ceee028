//! The WGSL of kernels: composes it from modules, validates it, and reflects its bindings.

mod coded;
mod codegen;
mod compose;
mod modules;
mod reflect;
mod scan;
mod validate;
mod variant;

pub(crate) use codegen::bound_streams;

pub(crate) use compose::Composed;
pub(crate) use reflect::{Binding, Reflection};
pub(crate) use validate::validate;
pub(crate) use variant::{GradBinding, GroupLookup, Variant};

use std::collections::HashMap;
use std::sync::Arc;

use crate::metrics::HistoryOptions;
use crate::plan::{Pass, PlanSettings, StepPlan};
use crate::rule::{Factored, Rule};
use crate::storage::Dtype;
use crate::{Clip, Ema, Error, GroupOptions, Layout, Lookahead, Precision, Projection, Rows, Sam, Schedule};

/// The WGSL of one kernel.
///
/// # Errors
/// [`Error::Shader`] for an import or a name of the rule's WGSL.
pub(crate) fn kernel(plan: &StepPlan, pass: Pass, variant: Variant) -> Result<Composed, Error> {
    let seams = modules::seams(plan, pass, variant);
    compose::compose(&format!("kernels/{}", pass.name()), &seams, modules::file)
        .map_err(|message| shader_error(plan, message))
}

/// The WGSL of copies that depend on a flag.
///
/// # Errors
/// None.
pub(crate) fn copy_if(plan: &StepPlan) -> Result<Composed, Error> {
    compose::compose("device/copy_if", &HashMap::new(), modules::file).map_err(|message| shader_error(plan, message))
}

/// The WGSL of the kernel that moves rows.
///
/// # Errors
/// None.
pub(crate) fn remap(plan: &StepPlan) -> Result<Composed, Error> {
    compose::compose("kernels/remap", &HashMap::new(), modules::file).map_err(|message| shader_error(plan, message))
}

/// The `override` constants that a module declares.
pub(crate) fn overrides(wgsl: &str) -> Vec<String> {
    let declared = scan::declarations(wgsl).into_iter();
    declared.filter(|(keyword, ..)| *keyword == "override").map(|(.., name)| name).collect()
}

/// The rule's WGSL does not compile.
pub(crate) fn shader_error(plan: &StepPlan, message: String) -> Error {
    Error::Shader { rule: plan.rule.spec().name.to_string(), message }
}

/// The label and the WGSL of every kernel that an optimizer with this rule and clipping may run, for inspection and for
/// other tools.
///
/// # Errors
/// The errors of [`OptimizerBuilder::build`](crate::OptimizerBuilder::build) for rule and clipping.
pub fn shader_sources(rule: &Arc<dyn Rule>, clip: Option<Clip>) -> Result<Vec<(String, String)>, Error> {
    let scheduled = GroupOptions::default().with_schedule(Schedule::constant(1e-3));
    let history = Some(HistoryOptions::steps(1).with_norms_every(1));
    let sam = Some(Sam::new(0.05));
    let factors_rows = rule.factored().is_some_and(Factored::factors_rows);
    let rows = factors_rows.then(Rows::default);
    let settings = PlanSettings { clip, history, accumulates: true, sam, rows, ..PlanSettings::new(rule.clone()) };
    let with_schedules = PlanSettings { groups: vec![("scheduled".to_owned(), scheduled)], ..settings.clone() };
    let (lookahead, average) = (Some(Lookahead::new(5, 0.5)), Some(Ema::new(0.999).into()));
    let sam = Some(Sam::adaptive(0.5, 0.01));
    let with_transforms = PlanSettings { lookahead, average, sam, ..settings.clone() };
    let rows = Rows::default().with_column_lr_scales("params", [1.0]);
    let rows = Some(rows.with_projection("params", Projection::unit_norm(0..1)));
    let with_rows = PlanSettings { rows, sam: None, ..settings.clone() };
    let rows = Some(Rows::default().with_row_steps());
    let with_row_steps = PlanSettings { rows, sam: None, history: None, ..settings.clone() };
    let of_halves = |precision| PlanSettings { precision, accumulates: false, ..settings.clone() };
    let states: Vec<_> = rule.spec().present_states().cloned().collect();
    let halves =
        states.iter().fold(Precision::bf16_stochastic(1), |all, state| all.with_state(state.name.clone(), Dtype::Bf16));
    let (with_bf16, with_f16) = (of_halves(halves), of_halves(Precision::f16_master()));
    let with_split = of_halves(Precision::bf16_split());
    let has_moments = states.iter().any(|state| state.moment.is_some() && state.initial == 0.0);
    let in_8_bits = |precision: Precision, dtype| of_halves(precision.with_moments(dtype).with_min_8bit_len(0));
    let with_dynamic = in_8_bits(Precision::bf16_split(), Dtype::Dynamic8);
    let with_companded = in_8_bits(Precision::bf16_stochastic(1), Dtype::Companded8);
    let layout = Layout::builder().tensor("params", &[1]).group("scheduled").build()?;
    let mut kernels = Vec::new();
    for (settings, options) in [
        (&settings, ""),
        (&with_schedules, ", group schedules"),
        (&with_transforms, ", transforms"),
        (&with_rows, ", rows"),
        (&with_row_steps, ", row steps"),
        (&with_bf16, ", bf16"),
        (&with_f16, ", f16"),
        (&with_split, ", split"),
        (&with_dynamic, ", split, 8-bit blocks"),
        (&with_companded, ", bf16, 8-bit groups"),
    ] {
        let is_coded = settings.precision.moments != Dtype::F32;
        let plan = match StepPlan::new(settings, &layout) {
            // The rule has parameters for evaluation itself, or shares scalars or sums among rows.
            Err(Error::Unsupported { .. }) if settings.average.is_some() || options == ", row steps" => continue,
            // Moments that do not begin at 0, and second moments of rows.
            Err(Error::Unsupported { .. }) if is_coded && (!has_moments || settings.rows.is_some()) => continue,
            plan => plan?,
        };
        // Sums read no state of transforms.
        let has_transforms = |pass: &Pass| {
            pass.is_of_sam() || matches!(pass, Pass::Update | Pass::UpdateSinglePass | Pass::AuxiliaryUpdate(_))
        };
        let passes = all_passes(&plan).into_iter().filter(|pass| settings.average.is_none() || has_transforms(pass));
        for pass in passes {
            // Rows change no access to streams, formats no options.
            let is_needed = |variant: &Variant| {
                let is_plain = variant.grads == GradBinding::Own && !variant.shifted;
                let is_of_rows = is_plain && (variant.aligned || matches!(pass, Pass::FactorPartials | Pass::Project));
                let is_of_halves = is_plain && variant.group_lookup == GroupLookup::Uniform;
                match (settings.rows.is_some(), settings.precision.grads) {
                    (true, _) => is_of_rows,
                    (false, Dtype::F32) => true,
                    (false, _) => is_of_halves,
                }
            };
            for variant in Variant::of(pass).into_iter().filter(is_needed) {
                let label = format!("{pass} ({}{options})", variant.label());
                kernels.push((label, kernel(&plan, pass, variant)?.source));
            }
        }
    }
    let with_missing = PlanSettings { misses_gradients: true, clip, average, ..PlanSettings::new(rule.clone()) };
    match StepPlan::new(&with_missing, &layout) {
        // Rules with sums, and rules that have parameters for evaluation themselves.
        Err(Error::Unsupported { .. }) => {}
        plan => {
            let plan = plan?;
            let passes = all_passes(&plan);
            for pass in passes.into_iter().filter(|pass| !matches!(pass, Pass::GlobalNorm | Pass::Decide)) {
                for variant in Variant::of(pass) {
                    let label = format!("{pass} ({}, missing gradients)", variant.label());
                    kernels.push((label, kernel(&plan, pass, variant)?.source));
                }
            }
        }
    }
    let plan = StepPlan::new(&settings, &layout)?;
    kernels.push(("copy_if".to_owned(), copy_if(&plan)?.source));
    kernels.push(("remap".to_owned(), remap(&plan)?.source));
    Ok(kernels)
}

/// Every pass that an optimizer may run.
pub(crate) fn all_passes(plan: &StepPlan) -> Vec<Pass> {
    let mut passes = Vec::new();
    for kind in plan.kinds() {
        for pass in plan.passes(kind) {
            if !passes.contains(&pass) {
                passes.push(pass);
            }
        }
    }
    passes
}
