//! Rate against size: our rules, and AdamW beside other optimizers.

use std::collections::BTreeMap;

use examples_common::rates::{Curve, render};
use serde_json::Value;

use super::Result;
use super::read::{number, text};
use super::results::{Results, Row};
use super::tables::rate;

/// File names and pictures; none without rows.
pub(crate) fn all(results: &Results) -> Result<Vec<(&'static str, String)>> {
    let mut pictures = Vec::new();
    for (file, stage, caption, key) in [
        ("rules.svg", "steps", "Rate of a step", "rule"),
        ("compared.svg", "compare", "Rate of AdamW, ours and theirs", "engine"),
    ] {
        let curves = curves(results.rows(stage), key);
        if !curves.is_empty() {
            pictures.push((file, render(caption, &curves)?));
        }
    }
    Ok(pictures)
}

/// A curve for each label and kind of step, over rows with one tensor.
fn curves<'a>(rows: impl Iterator<Item = &'a Row>, key: &str) -> Vec<Curve> {
    let mut rates = BTreeMap::<_, BTreeMap<u64, Vec<f64>>>::new();
    for row in rows.filter(|row| number(row, "tensors") == 1.0) {
        let clip = row.get("clip").and_then(Value::as_bool).unwrap_or_default();
        let sizes = rates.entry((text(row, key), clip)).or_default();
        sizes.entry(number(row, "elements") as u64).or_default().push(rate(row));
    }
    let mut labels: Vec<_> = rates.keys().map(|(label, _)| *label).collect();
    labels.dedup();
    let curve = |((label, clip), sizes): (&(&str, bool), &BTreeMap<u64, Vec<f64>>)| {
        // Rounds of a comparison count once.
        let average = |rates: &Vec<f64>| rates.iter().sum::<f64>() / rates.len() as f64;
        Curve {
            label: format!("{label}{}", if *clip { ", clipped" } else { "" }),
            points: sizes.iter().map(|(&elements, rates)| (elements as f64, average(rates))).collect(),
            colour: labels.iter().position(|known| known == label).unwrap_or_default(),
            hollow: *clip,
        }
    };
    rates.iter().map(curve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rounds_are_averaged_and_many_tensors_left_out() {
        let rows = [(1, 1.0, true), (1, 3.0, true), (200, 9.0, true), (1, 5.0, false)];
        let rows = rows.map(|(tensors, rate, clip)| {
            let row =
                json!({"engine": "ours", "tensors": tensors, "clip": clip, "elements": 64, "bytes_per_second": rate});
            row.as_object().expect("an object").clone()
        });
        let curves = curves(rows.iter(), "engine");
        let points = curves.iter().map(|curve| (&*curve.label, curve.points[0], curve.colour, curve.hollow));
        let expected = [("ours", (64.0, 5.0), 0, false), ("ours, clipped", (64.0, 2.0), 0, true)];
        assert_eq!(points.collect::<Vec<_>>(), expected);
    }
}
