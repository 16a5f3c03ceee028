//! Comparison of statistics, as JSON.

use serde_json::{Map, Value};

/// Relative error of one rounding.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;
/// Maximum roundings that an element's square goes through in the sums of the metrics, up to 30,000 elements.
const ROUNDINGS: f64 = 34.0;

/// Compares statistics, or lists of them. All numbers are equal, but for norms of updates, which have a bound.
pub fn compare_records(what: &str, device: &Value, reference: &Value) -> Result<(), String> {
    match (device, reference) {
        (Value::Array(device), Value::Array(reference)) if device.len() == reference.len() => {
            let mut pairs = device.iter().zip(reference).enumerate();
            pairs.try_for_each(|(i, (device, reference))| {
                compare_records(&format!("{what}, entry {i}"), device, reference)
            })
        }
        (Value::Object(device), Value::Object(reference)) => device.iter().try_for_each(|(key, value)| {
            let expected = &reference[key];
            if value == expected || ["update_norm", "update_ratio"].contains(&&**key) && are_near(device, reference) {
                return Ok(());
            }
            Err(format!("{what}, {key}: {value} on the device, {expected} in the reference"))
        }),
        (device, reference) if device == reference => Ok(()),
        _ => Err(format!("{what}: {device} on the device, {reference} in the reference")),
    }
}

/// Whether the norms of two updates differ by no more than roundings. The shader compiler chooses whether a new parameter
/// is rounded before the norm: each element of the change then differs by half an ULP of the parameter.
fn are_near(device: &Map<String, Value>, reference: &Map<String, Value>) -> bool {
    let number = |record: &Map<String, Value>, key: &str| record[key].as_f64();
    let (Some(param_norm), Some(left), Some(right)) =
        (number(reference, "param_norm"), number(device, "update_norm"), number(reference, "update_norm"))
    else {
        return false;
    };
    // Half of the roundings remain in the root, of either sum.
    let bound = ROUNDING * (param_norm + left.max(right)) + ROUNDINGS * ROUNDING * left.max(right);
    // The last rounding is that of the quotient.
    let ratio = number(device, "update_ratio")
        .is_some_and(|ratio| ratio.is_finite() && (ratio * param_norm - left).abs() <= 3.0 * ROUNDING * left);
    (left - right).abs() <= bound && (ratio || param_norm == 0.0)
}
