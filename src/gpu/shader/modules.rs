//! The WGSL files of kernels, and the choice among them for each variant of a kernel.

use std::collections::HashMap;

use super::coded::writes_blocks;
use super::codegen;
use super::compose::Seam;
use super::variant::Variant;
use crate::params::ParamFormat;
use crate::plan::{Pass, StepPlan};
use crate::storage;

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Path below `shaders/` without its ending, and text.
        const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../../shaders/", $path, ".wgsl")))),*];
    };
}

files! {
    "device/active_rows",
    "device/apply_rule",
    "device/chunk",
    "device/chunk_options",
    "device/column_lr",
    "device/control_uniform",
    "device/copy_if",
    "device/factored_variance",
    "device/first_element",
    "device/group_lookup/block",
    "device/group_lookup/padded",
    "device/group_lookup/search",
    "device/group_lookup/uniform",
    "device/multiply_twice",
    "device/own_step",
    "device/quad_options",
    "device/row_scalars",
    "device/row_variance",
    "device/segment_values",
    "device/stored_bf16",
    "device/step_uniforms/by_group",
    "device/step_uniforms/scaled",
    "device/stub/active_rows",
    "device/stub/average",
    "device/stub/clip_segment",
    "device/stub/clip_value",
    "device/stub/column_lr",
    "device/stub/factored_variance",
    "device/stub/lookahead",
    "device/stub/loss_scale",
    "device/stub/metric",
    "device/stub/own_step",
    "device/stub/param_scale",
    "device/stub/percentile",
    "device/stub/row_scalars",
    "device/stub/segment_values",
    "device/stub/stored_param",
    "device/stub/update_scalars",
    "device/stub/update_tensor_state",
    "device/tile_total",
    "device/update_blocks",
    "device/update_quads",
    "device/update_rows",
    "device/workgroup_scaled_sum",
    "device/workgroup_sum",
    "factors",
    "kernels/accumulate",
    "kernels/auxiliary_update",
    "kernels/bias_correction",
    "kernels/control",
    "kernels/decide",
    "kernels/factor_partials",
    "kernels/factor_row_mean",
    "kernels/factor_update",
    "kernels/global_norm",
    "kernels/loss_scale",
    "kernels/metric_sums",
    "kernels/metrics_reduce",
    "kernels/metrics_total",
    "kernels/norm_order",
    "kernels/part_sums",
    "kernels/percentile",
    "kernels/perturb",
    "kernels/remap",
    "kernels/project",
    "kernels/restore_params",
    "kernels/row_steps",
    "kernels/sam_factors",
    "kernels/sam_norm",
    "kernels/scaled_sum",
    "kernels/segment_reduce",
    "kernels/segment_update",
    "kernels/tensor_steps",
    "kernels/tile_norm",
    "kernels/update",
    "kernels/update_elements",
    "kernels/update_single_pass",
    "power_of_two",
    "random",
    "rows",
    "rule/math",
    "rule/step",
    "segments",
    "tile",
    "transform/average",
    "transform/clip_segment",
    "transform/clip_value",
    "transform/lookahead",
    "transform/sam",
}

/// The text of a file by its path below `shaders/`, without the ending.
pub(crate) fn file(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(known, _)| *known == path).map(|(_, text)| *text).or_else(|| storage::module(path))
}

/// The module for each import name that depends on the plan, the pass or the variant.
pub(super) fn seams(plan: &StepPlan, pass: Pass, variant: Variant) -> HashMap<&'static str, Seam> {
    let rule = &plan.rule;
    let file_if = |condition: bool, file, stub| Seam::File(if condition { file } else { stub });
    let rule_if = |condition: bool, stub| if condition { Seam::Rule } else { Seam::File(stub) };
    let auxiliary = match pass {
        Pass::AuxiliaryUpdate(name) => Some(name),
        _ => None,
    };
    // Auxiliary updates read their input as it is.
    let clips_value = rule.clip_value().is_some() && auxiliary.is_none();
    let has_sums = rule.reduction().is_some();
    let reduces = matches!(pass, Pass::SegmentReduce | Pass::SegmentUpdate);
    let updates_factors = matches!(pass, Pass::FactorPartials | Pass::FactorUpdate | Pass::FactorRowMean);
    // The way back restores all rows: their activity may have changed since.
    let has_rows = plan.groups.rows().is_some() && pass != Pass::RestoreParams;
    let stores_bf16 = plan.settings.precision.params == ParamFormat::Bf16;
    let scales_loss = plan.settings.grad_scaler.is_some();
    let has_column_lrs = plan.groups.rows().is_some_and(|rows| !rows.scales().is_empty());
    let mut seams = HashMap::from([
        ("interface", Seam::Text(codegen::interface(plan))),
        ("streams", Seam::Text(codegen::streams(plan, pass, variant))),
        ("segment_table", Seam::Text(codegen::segment_table(reduces))),
        ("factor_table", Seam::Text(codegen::factor_table(updates_factors))),
        ("row_table", Seam::Text(codegen::row_table(pass == Pass::RowSteps))),
        ("tensor_step_table", Seam::Text(codegen::tensor_step_table(pass == Pass::TensorSteps))),
        ("own_step", file_if(plan.settings.misses_gradients, "device/own_step", "device/stub/own_step")),
        ("active_rows", file_if(has_rows, "device/active_rows", "device/stub/active_rows")),
        ("row_scalars", file_if(plan.row_step_count().is_some(), "device/row_scalars", "device/stub/row_scalars")),
        ("applied_lanes", Seam::Text(codegen::applied_lanes(plan, auxiliary.is_some()))),
        ("column_lr", file_if(has_column_lrs, "device/column_lr", "device/stub/column_lr")),
        ("group_lookup", Seam::File(variant.group_lookup.file())),
        (
            "step_uniforms",
            file_if(plan.groups.lr_quads() > 0, "device/step_uniforms/by_group", "device/step_uniforms/scaled"),
        ),
        ("clip_value", file_if(clips_value, "transform/clip_value", "device/stub/clip_value")),
        ("clip_segment", file_if(rule.clip_segment().is_some(), "transform/clip_segment", "device/stub/clip_segment")),
        ("lookahead", file_if(rule.lookahead().is_some(), "transform/lookahead", "device/stub/lookahead")),
        ("average", file_if(rule.average().is_some(), "transform/average", "device/stub/average")),
        ("param_scale", file_if(plan.scales_by_params(), "transform/sam", "device/stub/param_scale")),
        ("element_updates", file_if(writes_blocks(plan, pass, variant), "device/update_blocks", "device/update_rows")),
        ("loss_scale", file_if(scales_loss, "kernels/loss_scale", "device/stub/loss_scale")),
        ("percentile", file_if(plan.norm_window().is_some(), "kernels/percentile", "device/stub/percentile")),
        ("stored_param", file_if(stores_bf16, "device/stored_bf16", "device/stub/stored_param")),
        ("segment_values", file_if(has_sums, "device/segment_values", "device/stub/segment_values")),
        (
            "factored_variance",
            Seam::File(match rule.factored() {
                Some(factored) if factored.factors_rows() => "device/row_variance",
                Some(_) => "device/factored_variance",
                None => "device/stub/factored_variance",
            }),
        ),
        ("scalar_state", rule_if(rule.has_scalar_state(), "device/stub/update_scalars")),
        ("tensor_state", rule_if(rule.tensor_state().is_some(), "device/stub/update_tensor_state")),
        ("metric", rule_if(rule.metric().is_some(), "device/stub/metric")),
        ("reduction", rule_if(rule.clip_segment().is_none(), "transform/clip_segment")),
        ("applied", auxiliary.map_or(Seam::File("device/apply_rule"), |name| Seam::Text(codegen::apply(plan, name)))),
    ]);
    seams.insert("rule", Seam::Text(rule.wgsl().into_owned()));
    seams
}

#[cfg(test)]
mod tests {
    use super::FILES;

    #[test]
    fn every_file_is_listed() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().with_extension("");
                    found.push(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        // Rules and storage formats hold their own files.
        found.retain(|name| !name.starts_with("rules/") && !name.starts_with("storage/"));
        found.sort();
        let mut listed: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, found);
    }
}
