//! The built-in picture: a sky with a sun, hills, and two ferns of fine leaves.

use crate::picture::Picture;

/// Samples along each side of a pixel.
const SAMPLES: usize = 4;

type Colour = [f32; 3];

/// A straight stroke with round ends; lengths are fractions of the picture's side.
struct Stroke {
    from: [f32; 2],
    to: [f32; 2],
    width: f32,
    colour: Colour,
}

/// A square picture of that side.
pub(crate) fn picture(side: usize) -> Picture {
    let fine = side * SAMPLES;
    let at = |i: usize| (i as f32 + 0.5) / fine as f32;
    let mut canvas: Vec<Colour> = (0..fine * fine).map(|i| background(at(i % fine), at(i / fine))).collect();
    let mut strokes = Vec::new();
    fern(&mut strokes, [0.30, 1.02], -1.45, 0.85, [0.10, 0.33, 0.16]);
    fern(&mut strokes, [0.78, 1.03], -1.85, 0.60, [0.30, 0.50, 0.16]);
    for stroke in &strokes {
        draw(&mut canvas, fine, stroke);
    }
    let average = |i: usize| {
        let (left, top) = (i % side * SAMPLES, i / side * SAMPLES);
        let samples = (0..SAMPLES * SAMPLES).map(|k| canvas[(top + k / SAMPLES) * fine + left + k % SAMPLES]);
        let sum = samples.fold([0.0; 3], |sum: Colour, sample| [0, 1, 2].map(|c| sum[c] + sample[c]));
        sum.map(|channel| (255.0 * channel / (SAMPLES * SAMPLES) as f32).round() as u8)
    };
    Picture { width: side, height: side, pixels: (0..side * side).map(average).collect() }
}

fn lerp(from: Colour, to: Colour, t: f32) -> Colour {
    [0, 1, 2].map(|c| from[c] + (to[c] - from[c]) * t.clamp(0.0, 1.0))
}

/// Sky, sun and hills; y points down.
fn background(x: f32, y: f32) -> Colour {
    let mut colour = lerp([0.16, 0.27, 0.52], [0.97, 0.74, 0.52], y / 0.7);
    let distance = (x - 0.66).hypot(y - 0.33);
    colour = lerp(colour, [1.0, 0.90, 0.66], 0.8 * (-6.0 * distance).exp());
    if distance < 0.085 {
        colour = [1.0, 0.96, 0.84];
    }
    let hills: [(f32, f32, f32, Colour); 3] = [
        (0.56, 0.050, 7.0, [0.52, 0.50, 0.60]),
        (0.66, 0.040, 11.0, [0.34, 0.40, 0.46]),
        (0.78, 0.030, 17.0, [0.20, 0.27, 0.24]),
    ];
    for (height, swing, waves, shade) in hills {
        let ridge = height + swing * ((waves * x).sin() + 0.5 * (2.3 * waves * x + waves).sin());
        if y > ridge {
            colour = lerp(shade, [0.80, 0.66, 0.52], 0.9 - 2.5 * (y - ridge) - height);
        }
    }
    colour
}

/// A bent stem with pairs of pinnae, which have pairs of leaflets.
fn fern(strokes: &mut Vec<Stroke>, root: [f32; 2], heading: f32, length: f32, colour: Colour) {
    const PINNAE: usize = 19;
    const LEAFLETS: usize = 16;
    let ahead = |at: [f32; 2], heading: f32, by: f32| [at[0] + by * heading.cos(), at[1] + by * heading.sin()];
    let (mut at, mut heading) = (root, heading);
    for pinna in 0..PINNAE {
        let t = pinna as f32 / PINNAE as f32;
        let next = ahead(at, heading, length / PINNAE as f32);
        strokes.push(Stroke { from: at, to: next, width: 0.008 * (1.0 - t) + 0.002, colour: colour.map(|c| 0.7 * c) });
        for side in [-1.0, 1.0] {
            let reach = 0.36 * length * (1.0 - t).powf(0.8) * (0.4 + 2.4 * t).min(1.0);
            let aim = heading + side * 1.1;
            for leaflet in 0..LEAFLETS {
                let along = leaflet as f32 / LEAFLETS as f32;
                let base = ahead(next, aim - side * 0.4 * along, reach * along);
                let size = 0.13 * reach * (1.0 - along) + 0.002;
                let shade = colour.map(|c| c * (0.8 + 0.7 * along) + 0.04 * (1.0 + side));
                for turn in [-0.8, 0.8] {
                    let to = ahead(base, aim - side * 0.4 * along + turn, size);
                    strokes.push(Stroke { from: base, to, width: 0.005, colour: shade });
                }
            }
        }
        at = next;
        heading += 0.022;
    }
}

fn draw(canvas: &mut [Colour], side: usize, stroke: &Stroke) {
    let Stroke { from, to, width, colour } = *stroke;
    let scale = side as f32;
    let range = |axis: usize| {
        let (low, high) = (from[axis].min(to[axis]) - width, from[axis].max(to[axis]) + width);
        (low * scale).max(0.0) as usize..((high * scale).max(0.0).ceil() as usize).min(side)
    };
    let along = [to[0] - from[0], to[1] - from[1]];
    let square = along[0] * along[0] + along[1] * along[1];
    for row in range(1) {
        for column in range(0) {
            let offset = [(column as f32 + 0.5) / scale - from[0], (row as f32 + 0.5) / scale - from[1]];
            let t = ((offset[0] * along[0] + offset[1] * along[1]) / square).clamp(0.0, 1.0);
            if (offset[0] - t * along[0]).hypot(offset[1] - t * along[1]) < width / 2.0 {
                canvas[row * side + column] = colour;
            }
        }
    }
}
