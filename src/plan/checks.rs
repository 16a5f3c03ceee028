//! Checks of settings that exclude each other, and of numbers.

use super::settings::PlanSettings;
use crate::error::check;
use crate::grad_scaler::is_loss_scale;
use crate::groups::GroupTable;
use crate::params::ParamFormat;
use crate::rule::{MAX_STATES, StateSpec};
use crate::states::{CodedState, F32Parts};
use crate::storage::CodeMap;
use crate::transform::TransformedRule;
use crate::{Error, Layout, NonFinite, Precision, Rows, TensorInfo};

/// The states that an optimizer keeps, in their storage formats: the rule's, those of its transforms, the scales of 8-bit
/// states, the one that completes the parameters, then the f32 of small tensors.
pub(super) fn states_of(
    settings: &PlanSettings,
    rule: &TransformedRule,
    has_small: bool,
) -> Result<(Vec<StateSpec>, Vec<CodedState>), Error> {
    let (name, precision) = (&rule.spec().name, &settings.precision);
    let mut states: Vec<StateSpec> = rule.states().cloned().collect();
    precision.validate(name, &states.iter().map(|state| (&*state.name, state.moment)).collect::<Vec<_>>())?;
    let mut coded = Vec::new();
    for (codes, state) in states.iter_mut().enumerate() {
        state.dtype = precision.state(&state.name, state.moment);
        let map = state.moment.and_then(|moment| CodeMap::new(state.dtype, moment));
        coded.extend(map.map(|map| CodedState { map, codes, scales: 0, small: None }));
    }
    if precision.params != ParamFormat::F32 && settings.rows.as_ref().is_some_and(Rows::has_projections) {
        return Err(Error::Unsupported {
            what: "a projection of rows".to_owned(),
            with: format!("parameters of format {:?}, of which kernels write two at a time", precision.params),
            remedy: "leave the projection out, or keep the parameters in f32",
        });
    }
    for state in &mut coded {
        let codes = &mut states[state.codes];
        if codes.initial != 0.0 {
            return Err(Error::Unsupported {
                what: format!("the format {:?}", codes.dtype),
                with: format!("the state {:?} of rule {name:?}, which begins at {}", codes.name, codes.initial),
                remedy: "let it begin at 0, or use F32 or Bf16",
            });
        }
        codes.initial = f32::from(state.map.zero());
        let mut scales = StateSpec::new(format!("{}_scale", codes.name));
        scales.dtype = codes.dtype.scale_dtype().unwrap_or_default();
        state.scales = states.len();
        states.push(scales);
    }
    if let Some(companion) = precision.params.companion() {
        let mut rest = StateSpec::new(companion.name).as_param();
        rest.dtype = companion.dtype;
        states.push(rest);
    }
    let problem = |problem: String| Err(Error::RuleInterface { rule: name.to_string(), problem });
    if states.len() > MAX_STATES {
        let names: Vec<_> = states.iter().map(|state| &*state.name).collect();
        return problem(format!("its states {names:?} are more than {MAX_STATES}, with those of the precision"));
    }
    for state in coded.iter_mut().filter(|_| has_small) {
        state.small = Some(states.len());
        states.push(StateSpec::new(format!("{}_f32", states[state.codes].name)));
    }
    for (number, state) in states.iter().enumerate() {
        if states[..number].iter().any(|other| other.name == state.name) {
            return problem(format!("its state {:?} has the name of one that the precision adds", state.name));
        }
    }
    Ok((states, coded))
}

/// The elements of tensors that keep their moments in f32 beside moments of 8 bits.
pub(super) fn f32_parts(precision: &Precision, layout: &Layout) -> F32Parts {
    let starts = layout.tensors().iter().skip(1).map(|tensor| tensor.range().start).chain([layout.len()]);
    let is_small = |tensor: &TensorInfo| (tensor.range().len() as u64) < precision.min_8bit_len;
    // Padding belongs to the tensor before it: all parts begin where tensors do.
    let with_padding = |(tensor, end): (&TensorInfo, usize)| is_small(tensor).then_some(tensor.range().start..end);
    F32Parts::new(layout.tensors().iter().zip(starts).filter_map(with_padding))
}

/// Refuses blocks of 8-bit states that would lie in two tensors, or whose elements are not updated together.
pub(super) fn check_blocks(
    settings: &PlanSettings,
    coded: &[CodedState],
    parts: &F32Parts,
    layout: &Layout,
    groups: &GroupTable,
) -> Result<(), Error> {
    let Some(len) = coded.iter().map(|state| state.map.block_len()).max() else { return Ok(()) };
    let unsupported = |what: String, with: String, remedy| Err(Error::Unsupported { what, with, remedy });
    if settings.rows.is_some() {
        let with = "`rows`, which end within a block".to_owned();
        return unsupported("an 8-bit state".to_owned(), with, "keep the states in f32");
    }
    let is_large = |start: usize| !parts.contains(start);
    let blocks = format!("8-bit states in blocks of {len}");
    let mut tensors = layout.tensors().iter().filter(|tensor| !tensor.range().is_empty());
    if let Some(tensor) = tensors.find(|tensor| is_large(tensor.range().start) && tensor.range().start % len != 0) {
        let what = format!("the tensor {:?}, which begins at element {}", tensor.name(), tensor.range().start);
        return unsupported(what, blocks, "call `aligned(256)` on the layout's builder instead of `packed`");
    }
    let mut ends = groups.activity_ends().filter(|&end| is_large(end) && !end.is_multiple_of(len));
    let is_inside = |end: &usize| {
        layout.tensors().iter().any(|tensor| (tensor.range().start + 1..tensor.range().end).contains(end))
    };
    if let Some(end) = ends.find(is_inside) {
        let what = format!("a frozen range that ends within a tensor, at element {end}");
        return unsupported(
            what,
            blocks,
            "freeze whole tensors, or ranges that begin and end at multiples of 256 elements",
        );
    }
    Ok(())
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

/// Refuses what needs the gradients or rows of all elements.
pub(super) fn check_share(settings: &PlanSettings) -> Result<(), Error> {
    let cases = [
        (settings.rows.is_some(), "`rows`", "leave one of them out"),
        (
            settings.rule.factored().is_some(),
            "a rule with factored states, which are sums over whole rows and columns",
            "train it unsharded: factors take little memory",
        ),
    ];
    match cases.into_iter().find(|(meets, ..)| *meets && settings.share.is_some()) {
        None => Ok(()),
        Some((_, with, remedy)) => {
            Err(Error::Unsupported { what: "a sharded optimizer".to_owned(), with: with.to_owned(), remedy })
        }
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
