//! Metric sums: sums over a segment in one sampled step, from which the host computes the metrics.

use bytemuck::{Pod, Zeroable};

/// `MetricSums` of the WGSL.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Pod, Zeroable)]
pub(crate) struct MetricSums {
    /// Squares of gradients after the gradient scale and the global norm, before other clipping.
    pub(crate) grad_sq: f32,
    pub(crate) param_sq: f32,
    pub(crate) update_sq: f32,
    /// Elements clipped by value or by the norm of a segment.
    pub(crate) clipped: f32,
    /// Elements for which the rule's metric holds.
    pub(crate) counted: f32,
    /// Elements whose update rounding loses.
    pub(crate) lost: f32,
    padding: [u32; 2],
}

impl MetricSums {
    pub(crate) fn new([grad_sq, param_sq, update_sq, clipped]: [f32; 4], [counted, lost, ..]: [f32; 4]) -> Self {
        Self { grad_sq, param_sq, update_sq, clipped, counted, lost, padding: [0; 2] }
    }
}
