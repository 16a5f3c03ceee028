use super::{ReduceBy, Reduction, Rule, ScalarState, TensorState};
use crate::Error;
use crate::storage::{Dtype, MAX_STREAMS};

/// States that kernels have bindings for, beside parameters and gradients.
pub(crate) const MAX_STATES: usize = MAX_STREAMS - 2;
/// Hyperparameters that the uniforms of a step have room for, those of transforms included.
const MAX_HYPERPARAMETERS: usize = 60;
/// Components of a vector.
pub(crate) const MAX_PACKED: usize = 4;

/// Refuses a rule whose names and numbers cannot be composed into a kernel.
pub(crate) fn check_interface(rule: &dyn Rule) -> Result<(), Error> {
    let spec = rule.spec();
    let problem = |problem: String| Err(Error::RuleInterface { rule: spec.name.to_string(), problem });
    if let Some(state) = spec.states.iter().find(|state| state.dtype != Dtype::F32) {
        return problem(format!("the state {:?} is {:?}; states are f32", state.name, state.dtype));
    }
    let states: Vec<&str> = spec.states.iter().map(|state| &*state.name).collect();
    let hyperparameters: Vec<&str> = spec.hyperparameters.iter().map(|(name, _)| &**name).collect();
    let scalars = names(rule.scalar_state().map(ScalarState::initial_scalars));
    let sums = rule.reduction().map(Reduction::sums).unwrap_or_default();
    let tensor_state = rule.reduction().and_then(|reduction| reduction.tensor_state());
    let tensor_state = names(tensor_state.map(TensorState::initial_tensor_state));
    for (what, count, max) in [
        ("states", spec.present_states().count(), MAX_STATES),
        ("hyperparameters", hyperparameters.len(), MAX_HYPERPARAMETERS),
        ("bias corrections", spec.bias_corrected.len(), MAX_PACKED),
        ("scalars", scalars.len(), MAX_PACKED),
        ("sums", sums.len(), MAX_PACKED),
        ("tensor states", tensor_state.len(), MAX_PACKED),
    ] {
        if count > max {
            return problem(format!("it has {count} {what}; at most {max} are possible"));
        }
    }
    let factors_lines = rule.factored().is_some_and(|factored| !factored.factors_rows());
    if factors_lines && rule.reduction().is_none_or(|reduction| reduction.by() != ReduceBy::Tensor) {
        return problem("it is factored but has no sums over tensors; return some from Rule::reduction".to_owned());
    }
    for names in [&states, &hyperparameters, &scalars, &sums, &tensor_state] {
        for (i, name) in names.iter().enumerate() {
            let mut letters = name.chars();
            let starts = letters.next().is_some_and(|letter| letter.is_ascii_lowercase());
            if !starts || !letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
            {
                return problem(format!("{name:?} is no name for a WGSL field; allowed: a-z, then a-z, 0-9 and _"));
            }
            let is_reserved = ["param", "grad"].contains(name) || (rule.factored().is_some() && *name == "variance");
            if names[..i].contains(name) || is_reserved {
                return problem(format!(
                    "the name {name:?} is taken; every state, hyperparameter, scalar and sum needs its own"
                ));
            }
        }
    }
    if let Some((name, value)) = spec.hyperparameters.iter().find(|(_, value)| !value.is_finite()) {
        return problem(format!("the hyperparameter {name:?} is {value}; it must be finite in f32"));
    }
    if let Some((name, value)) = spec.constants.iter().find(|(_, value)| !value.is_finite()) {
        return problem(format!("the constant {name:?} is {value}; it must be finite"));
    }
    Ok(())
}

fn names(values: Option<Vec<(&'static str, f32)>>) -> Vec<&'static str> {
    values.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
}
