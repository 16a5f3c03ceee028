//! The CPU engine of each kernel.

pub(crate) mod control;
pub(crate) mod decide;
pub(crate) mod factor_partials;
pub(crate) mod global_norm;
pub(crate) mod metrics_reduce;
pub(crate) mod part_sums;
pub(crate) mod percentile;
pub(crate) mod scaled_sum;
pub(crate) mod segment_reduce;
pub(crate) mod segment_update;
pub(crate) mod update_elements;
