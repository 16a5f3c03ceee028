//! The adapter as JSON: name, driver, limits and features.

use serde_json::{Map, Value, json};
use wgpu_optim::Gpu;

/// Limits are those of the adapter. The device has fewer ([`Gpu`] names which).
pub(crate) fn describe(gpu: &Gpu) -> Value {
    let info = gpu.adapter.get_info();
    let names =
        |features: wgpu_optim::wgpu::Features| -> Vec<&str> { features.iter_names().map(|(name, _)| name).collect() };
    json!({
        "adapter": info.name,
        "kind": format!("{:?}", info.device_type),
        "software": gpu.is_software(),
        "backend": format!("{:?}", info.backend),
        "driver": format!("{} {}", info.driver, info.driver_info).trim(),
        "vendor": format!("{:#06x}", info.vendor),
        "device": format!("{:#06x}", info.device),
        "subgroup_min_size": info.subgroup_min_size,
        "subgroup_max_size": info.subgroup_max_size,
        "limits": fields(&format!("{:#?}", gpu.adapter.limits())),
        "features": names(gpu.adapter.features()),
        "device_features": names(gpu.device.features()),
    })
}

/// The numbers in the debug output of a struct.
fn fields(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse::<u64>().ok()?.into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adapter_has_a_name_limits_and_features() {
        let gpu = pollster::block_on(Gpu::new()).expect("an adapter");
        let described = describe(&gpu);
        assert_eq!(described["adapter"], gpu.adapter.get_info().name);
        assert_eq!(described["limits"]["max_buffer_size"], gpu.adapter.limits().max_buffer_size);
        let features = described["features"].as_array().expect("a list");
        let timestamps = wgpu_optim::wgpu::Features::TIMESTAMP_QUERY;
        assert_eq!(features.contains(&"TIMESTAMP_QUERY".into()), gpu.adapter.features().contains(timestamps));
    }
}
