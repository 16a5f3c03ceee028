//! Rate against size, a curve per engine, rule and clipping.

use std::collections::BTreeMap;
use std::path::Path;

use examples_common::rates::{Curve, render};

use crate::Result;
use crate::row::Row;

/// Draws the rows; clipped steps have hollow marks.
pub(crate) fn draw(rows: &[Row], path: &Path) -> Result<()> {
    let svg = render("Rate of a step", &curves(rows)).map_err(|error| format!("the rates cannot be drawn: {error}"))?;
    std::fs::write(path, svg)
        .map_err(|error| format!("{} cannot be written: {error}; give --plot another file", path.display()).into())
}

fn curves(rows: &[Row]) -> Vec<Curve> {
    let mut curves = BTreeMap::new();
    for row in rows {
        let points: &mut Vec<_> = curves.entry((row.engine, &row.rule, row.clip)).or_default();
        points.push((row.elements as f64, row.bytes_per_second));
    }
    let curve = |(i, ((engine, rule, clip), points)): (usize, ((&str, &String, bool), _))| {
        let clipped = if clip { ", clipped" } else { "" };
        Curve {
            label: format!("{rule} on the {}{clipped}", engine.to_uppercase()),
            points,
            colour: i / 2,
            hollow: clip,
        }
    };
    curves.into_iter().enumerate().map(curve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::tests::row;

    #[test]
    fn sizes_of_one_rule_are_one_curve() {
        let curves = curves(&[row(65_536), row(1 << 20)]);
        let labels: Vec<_> = curves.iter().map(|curve| &curve.label).collect();
        assert_eq!(labels, ["adamw on the GPU, clipped"]);
        assert_eq!(curves[0].points.iter().map(|point| point.0).collect::<Vec<_>>(), [65_536.0, 1_048_576.0]);
    }
}
