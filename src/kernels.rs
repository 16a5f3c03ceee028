//! The CPU reference of each kernel, and the structs that both engines share. Files and passes have the names of
//! those in `shaders/kernels`.

pub(crate) mod accumulate;
pub(crate) mod auxiliary_update;
pub(crate) mod bias_correction;
pub(crate) mod control;
pub(crate) mod decide;
pub(crate) mod factor_partials;
pub(crate) mod factor_row_mean;
pub(crate) mod factor_update;
pub(crate) mod global_norm;
pub(crate) mod loss_scale;
pub(crate) mod metric_sums;
pub(crate) mod metrics_reduce;
pub(crate) mod metrics_total;
pub(crate) mod norm_order;
pub(crate) mod part_sums;
pub(crate) mod percentile;
pub(crate) mod perturb;
pub(crate) mod project;
pub(crate) mod remap;
pub(crate) mod restore_params;
pub(crate) mod row_steps;
pub(crate) mod sam_factors;
pub(crate) mod sam_norm;
pub(crate) mod scaled_sum;
pub(crate) mod segment_reduce;
pub(crate) mod segment_update;
pub(crate) mod tensor_steps;
pub(crate) mod tile_norm;
pub(crate) mod update;
pub(crate) mod update_elements;
pub(crate) mod update_single_pass;
