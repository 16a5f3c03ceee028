//! Applies an auxiliary update of the rule to all elements.

use super::update_elements::{ElementTables, Shard, StepContext, update_elements};
use crate::host::HostSlice;
use crate::transform::TransformedRule;

/// Applies the update of that name to a shard.
pub(crate) fn auxiliary_update(
    rule: &TransformedRule,
    name: &str,
    tables: ElementTables<'_>,
    context: &StepContext,
    input: HostSlice<'_>,
    shard: Shard<'_>,
) {
    update_elements(tables, context, input, shard, |elements, step| rule.update_auxiliary(name, elements, step));
}
