//! Functions of two variables as the pages show them.

use examples_common::functions::{BOWL, FUNCTIONS, Function, WELLS};
use serde::Serialize;

use crate::Result;

/// Points further out than this many widths of the window have diverged.
const FAR: f32 = 20.0;

/// A place where points end, and the colour of its basin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Attractor {
    pub place: [f32; 2],
    pub colour: u32,
}

/// Colours of attractors.
pub const COLOURS: u32 = 6;

/// What a page needs to know of a function.
#[derive(Debug, Serialize)]
pub struct Description {
    name: &'static str,
    formula: &'static str,
    window: [(f32, f32); 2],
    start: [f32; 2],
    target: f32,
    minima: &'static [[f32; 2]],
    logarithmic: bool,
}

/// The functions of two variables.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    FUNCTIONS.iter().filter(|function| function.dimensions == 2).chain([&BOWL, &WELLS])
}

/// # Errors
/// An unknown name, with those that are known.
pub fn function(name: &str) -> Result<&'static Function> {
    functions().find(|function| function.name == name).ok_or_else(|| {
        let known: Vec<_> = functions().map(|function| function.name).collect();
        format!("no function {name:?}; known are {}", known.join(", ")).into()
    })
}

pub fn describe(function: &'static Function) -> Description {
    Description {
        name: function.name,
        formula: function.formula,
        window: function.window,
        start: function.start,
        target: function.target,
        minima: function.minima,
        logarithmic: function.logarithmic,
    }
}

/// Values at the centres of `columns × rows` cells of the window, row by row from above.
pub fn values(function: &Function, columns: usize, rows: usize) -> Vec<f32> {
    let [(left, right), (bottom, top)] = function.window;
    let place = |low: f32, high: f32, i: usize, count: usize| low + (high - low) * (i as f32 + 0.5) / count as f32;
    let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    cells
        .map(|(row, column)| (function.value)([place(left, right, column, columns), place(top, bottom, row, rows)]))
        .collect()
}

/// Starts of a cloud: a square grid of `side × side` over the window, row by row from below.
pub fn grid(function: &Function, side: usize) -> Vec<f32> {
    // The first is the function's own start.
    function.starts(side * side).split_off(2)
}

/// The places where points of a cloud may end.
pub fn attractors(function: &Function) -> Vec<Attractor> {
    match function.name {
        "rastrigin" => {
            let whole = |i: i32| (i / 5 - 2, i % 5 - 2);
            let others = (0..25).map(whole).filter(|&place| place != (0, 0));
            let colour = |(x, y): (i32, i32)| 1 + (x + 2 * y).rem_euclid(COLOURS as i32 - 1) as u32;
            let others = others.map(|(x, y)| Attractor { place: [x as f32, y as f32], colour: colour((x, y)) });
            [Attractor { place: [0.0, 0.0], colour: 0 }].into_iter().chain(others).collect()
        }
        // It has no minimum: points leave upwards or downwards.
        "saddle" => [1.0, -1.0].into_iter().zip(0..).map(|(y, colour)| Attractor { place: [0.0, y], colour }).collect(),
        _ => function.minima.iter().zip(0..).map(|(&place, colour)| Attractor { place, colour }).collect(),
    }
}

/// Largest coordinates of points that have not diverged.
pub fn far(function: &Function) -> [f32; 2] {
    function.window.map(|(low, high)| FAR * (high - low))
}

/// Whether a point has left for good: it is not finite, or far outside the window.
pub fn diverged(function: &Function, point: [f32; 2]) -> bool {
    point.iter().zip(far(function)).any(|(&element, far)| element.is_nan() || element.abs() > far)
}

/// The colour of the attractor next to the point; [`COLOURS`] if it has diverged.
pub fn colour(function: &Function, attractors: &[Attractor], point: [f32; 2]) -> u32 {
    if function.name != "saddle" && diverged(function, point) {
        return COLOURS;
    }
    let squared = |attractor: &Attractor| {
        let [x, y] = [0, 1].map(|i| attractor.place[i] - point[i]);
        x * x + y * y
    };
    let nearest = attractors.iter().min_by(|a, b| squared(a).total_cmp(&squared(b)));
    nearest.map_or(COLOURS, |attractor| attractor.colour)
}
