//! Updates all elements, unless `decide` has skipped the step.

use super::update_elements::{ElementTables, Shard, StepContext, update_elements};
use crate::host::HostSlice;
use crate::transform::TransformedRule;

/// Updates a shard. Returns the flat index of its first non-finite gradient.
pub(crate) fn update(
    rule: &TransformedRule,
    tables: ElementTables<'_>,
    context: &StepContext,
    grad: HostSlice<'_>,
    shard: Shard<'_>,
) -> u32 {
    update_elements(tables, context, grad, shard, |elements, step| rule.update(elements, step))
}
