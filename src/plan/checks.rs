//! Checks of settings that exclude each other, and of numbers.

use super::settings::PlanSettings;
use crate::error::check;
use crate::grad_scaler::is_loss_scale;
use crate::params::ParamFormat;
use crate::rule::{MAX_STATES, StateSpec};
use crate::transform::TransformedRule;
use crate::{Error, Layout, NonFinite, Rows, TensorInfo};

/// The states that an optimizer keeps, in their storage formats.
pub(super) fn states_of(settings: &PlanSettings, rule: &TransformedRule) -> Result<Vec<StateSpec>, Error> {
    let (name, precision) = (&rule.spec().name, &settings.precision);
    let mut states: Vec<StateSpec> = rule.states().cloned().collect();
    precision.validate(name, &states.iter().map(|state| &*state.name).collect::<Vec<_>>())?;
    for state in &mut states {
        state.dtype = precision.state(&state.name);
    }
    if precision.params != ParamFormat::F32 && settings.rows.as_ref().is_some_and(Rows::has_projections) {
        return Err(Error::Unsupported {
            what: "a projection of rows".to_owned(),
            with: format!("parameters of format {:?}, of which kernels write two at a time", precision.params),
            remedy: "leave the projection out, or keep the parameters in f32",
        });
    }
    let Some(companion) = precision.params.companion() else { return Ok(states) };
    let problem = |problem: String| Err(Error::RuleInterface { rule: name.to_string(), problem });
    if states.len() == MAX_STATES {
        return problem(format!("with the state {:?} it has more than {MAX_STATES} states", companion.name));
    }
    if states.iter().any(|state| state.name == companion.name) {
        return problem(format!("its state {:?} has the name of the one that completes parameters", companion.name));
    }
    let mut rest = StateSpec::new(companion.name).as_param();
    rest.dtype = companion.dtype;
    states.push(rest);
    Ok(states)
}

/// Refuses projections of rows beside states that the update computes from parameters.
pub(super) fn check_projections(settings: &PlanSettings) -> Result<(), Error> {
    let follows = [(settings.average.is_some(), "an average"), (settings.lookahead.is_some(), "Lookahead")];
    let Some((_, with)) = follows.into_iter().find(|(is_used, _)| *is_used) else { return Ok(()) };
    if !settings.rows.as_ref().is_some_and(Rows::has_projections) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "a projection of rows".to_owned(),
        with: format!("{with}, which would hold parameters before it"),
        remedy: "leave one of the two out",
    })
}

/// Refuses a gradient scaler that steps do not follow.
pub(super) fn check_grad_scaler(settings: &PlanSettings) -> Result<(), Error> {
    let Some(scaler) = &settings.grad_scaler else { return Ok(()) };
    scaler.validate()?;
    if settings.on_nonfinite != Some(NonFinite::Propagate) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "a gradient scaler".to_owned(),
        with: "`NonFinite::Propagate`: it lowers its scale by skipping".to_owned(),
        remedy: "leave `on_nonfinite` out",
    })
}

/// Refuses factors of rows without rows.
pub(super) fn check_row_factors(settings: &PlanSettings) -> Result<(), Error> {
    if settings.rows.is_some() || settings.rule.factored().is_none_or(|factored| !factored.factors_rows()) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: format!("rule {:?} with one second moment per row", settings.rule.spec().name),
        with: "an optimizer without rows".to_owned(),
        remedy: "call `.rows(Rows::default())` on the builder, or set `row_second_moment` to false",
    })
}

/// Refuses a step count per row where sums over elements of many rows need one.
pub(super) fn check_row_steps(settings: &PlanSettings, rule: &TransformedRule) -> Result<(), Error> {
    let samples = settings.history.as_ref().is_some_and(|history| history.norms_every.is_some());
    let with = [
        (rule.reduction().is_some(), "sums over tensors, of the rule or its clipping"),
        (rule.has_scalar_state(), "a rule with scalar states, which all rows share"),
        (samples, "metrics in the history"),
    ];
    let Some((_, with)) = with.into_iter().find(|(is_used, _)| *is_used) else { return Ok(()) };
    if !settings.rows.as_ref().is_some_and(Rows::has_steps) {
        return Ok(());
    }
    Err(Error::Unsupported {
        what: "a step count per row".to_owned(),
        with: with.to_owned(),
        remedy: "leave `with_row_steps` out, or choose a rule, a clip and a history without them",
    })
}

/// Refuses what missing gradients do not work with.
pub(super) fn check_missing_gradients(
    settings: &PlanSettings,
    rule: &TransformedRule,
    layout: &Layout,
) -> Result<(), Error> {
    let name = &rule.spec().name;
    let shared = "`missing_gradients`: sums would lack the tensors without a gradient";
    let alone = "`missing_gradients`, which concerns `step` alone";
    let is_cut = |tensor: &TensorInfo| !tensor.range().start.is_multiple_of(4);
    let cases = [
        (
            rule.reduction().is_some() || rule.factored().is_some(),
            format!("sums over tensors, units or groups (rule {name:?} or its clipping)"),
            shared,
            "clip by global norm or value, and choose a rule without sums",
        ),
        (
            settings.history.as_ref().is_some_and(|history| history.norms_every.is_some()),
            "a history with norms".to_owned(),
            shared,
            "keep a history without norms",
        ),
        (settings.sam.is_some(), "`sam`".to_owned(), alone, "leave one of them out"),
        (settings.accumulates, "`accumulate_gradients`".to_owned(), alone, "leave one of them out"),
        (settings.rows.is_some(), "`rows`".to_owned(), alone, "hide rows without a gradient by a mask"),
        (
            layout.tensors().iter().any(is_cut),
            "a tensor that begins at an element that is no multiple of 4".to_owned(),
            "`missing_gradients`, whose kernels load four elements of one tensor",
            "build the layout with padding",
        ),
    ];
    match cases.into_iter().find(|(meets, ..)| *meets) {
        None => Ok(()),
        Some((_, what, with, remedy)) => Err(Error::Unsupported { what, with: with.to_owned(), remedy }),
    }
}

pub(super) fn check_grad_scale(scale: f32) -> Result<(), Error> {
    // Devices may flush subnormal scales and inverses.
    let allowed = "1.2e-38 to 8.5e37: positive and normal in f32, with a normal inverse";
    check(is_loss_scale(scale), "gradient scale", "grad_scale", scale.into(), allowed)
}

/// Checks a momentum that a schedule cycles, as schedules do: a file may hold it without one.
pub(super) fn check_momentum(momentum: f64) -> Result<(), Error> {
    check(momentum > 0.0 && (momentum as f32) < 1.0, "schedule", "momentum", momentum, "above 0, below 1")
}

pub(super) fn check_count(what: &'static str, expected: usize, actual: usize) -> Result<(), Error> {
    if actual == expected { Ok(()) } else { Err(Error::StateCount { what, expected, actual }) }
}
