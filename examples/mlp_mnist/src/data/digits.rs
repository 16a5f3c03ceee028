//! Draws digits, so that the example runs without any file: strokes of a pen, moved about like handwriting.

use std::f32::consts::TAU;
use std::thread;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{CLASSES, Data, Examples};

/// Rows and columns of an image, as in MNIST.
const SIDE: usize = 28;

const TRAIN_IMAGES: usize = 20_000;
const TEST_IMAGES: usize = 4_000;

type Point = [f32; 2];

/// Training and test images drawn independently; the same seed draws the same.
pub fn draw(seed: u64) -> Data {
    draw_counts(seed, TRAIN_IMAGES, TEST_IMAGES)
}

pub fn draw_counts(seed: u64, train: usize, test: usize) -> Data {
    Data { train: draw_examples(seed, 0, train), test: draw_examples(seed, train, test) }
}

/// Images `first..first + count` of the endless series that belongs to `seed`.
fn draw_examples(seed: u64, first: usize, count: usize) -> Examples {
    const PIXELS: usize = SIDE * SIDE;
    let labels = (first..first + count).map(|index| (index % CLASSES) as u8).collect();
    let mut images = vec![0; count * PIXELS];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).max(1);
    let draw = |part: usize, images: &mut [u8]| {
        for (offset, image) in images.chunks_exact_mut(PIXELS).enumerate() {
            let index = first + part * share + offset;
            // A generator per image: the drawing does not depend on the number of threads.
            let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index as u64);
            draw_digit(index % CLASSES, &mut rng, image);
        }
    };
    thread::scope(|scope| {
        let mut parts = images.chunks_mut(share * PIXELS).enumerate();
        // This thread's own. Browsers have no other.
        let own = parts.next();
        for (part, images) in parts {
            scope.spawn(move || draw(part, images));
        }
        if let Some((part, images)) = own {
            draw(part, images);
        }
    });
    Examples { images, labels, pixels: PIXELS }
}

/// Points on the ellipse around (`x`, `y`), from one angle to another in turns; 0 is right, 0.25 is down.
fn arc([x, y]: Point, [width, height]: Point, from: f32, to: f32) -> Vec<Point> {
    const STEPS: usize = 12;
    (0..=STEPS)
        .map(|step| {
            let (sin, cos) = (TAU * (from + (to - from) * step as f32 / STEPS as f32)).sin_cos();
            [x + width * cos, y + height * sin]
        })
        .collect()
}

/// The strokes of a digit in the unit square, y downwards. Some digits have a second form.
fn strokes(digit: usize, second_form: bool) -> Vec<Vec<Point>> {
    match digit {
        0 => vec![arc([0.5, 0.5], [0.32, 0.45], 0.0, 1.0)],
        1 if second_form => vec![vec![[0.3, 0.25], [0.52, 0.05], [0.52, 0.95]], vec![[0.3, 0.95], [0.74, 0.95]]],
        1 => vec![vec![[0.5, 0.05], [0.5, 0.95]]],
        2 => {
            let mut line = arc([0.5, 0.3], [0.3, 0.25], 0.5, 1.05);
            line.extend([[0.2, 0.93], [0.82, 0.93]]);
            vec![line]
        }
        3 => vec![arc([0.45, 0.28], [0.3, 0.23], 0.55, 1.25), arc([0.45, 0.72], [0.34, 0.23], 0.75, 1.45)],
        4 if second_form => vec![vec![[0.25, 0.08], [0.2, 0.55], [0.8, 0.55]], vec![[0.74, 0.1], [0.7, 0.95]]],
        4 => vec![vec![[0.65, 0.95], [0.65, 0.05], [0.15, 0.65], [0.85, 0.65]]],
        5 => {
            let mut line = vec![[0.8, 0.07], [0.28, 0.07], [0.25, 0.45]];
            line.extend(arc([0.46, 0.67], [0.32, 0.26], 0.68, 1.42));
            vec![line]
        }
        6 => vec![vec![[0.7, 0.05], [0.4, 0.25], [0.22, 0.65]], arc([0.5, 0.7], [0.28, 0.24], 0.0, 1.0)],
        7 if second_form => vec![vec![[0.18, 0.08], [0.82, 0.08], [0.4, 0.95]], vec![[0.35, 0.52], [0.75, 0.48]]],
        7 => vec![vec![[0.18, 0.08], [0.82, 0.08], [0.4, 0.95]]],
        8 => vec![arc([0.5, 0.28], [0.25, 0.22], 0.0, 1.0), arc([0.5, 0.72], [0.3, 0.23], 0.0, 1.0)],
        _ => vec![arc([0.48, 0.3], [0.28, 0.24], 0.0, 1.0), vec![[0.76, 0.3], [0.7, 0.65], [0.55, 0.95]]],
    }
}

fn draw_digit(digit: usize, rng: &mut StdRng, image: &mut [u8]) {
    let mut spread = |width: f32| rng.random_range(-width..=width);
    let (sin, cos) = spread(0.3).sin_cos();
    let shear = spread(0.35);
    let size = [16.5 + spread(4.5), 19.0 + spread(3.5)];
    let centre = [13.5 + spread(2.5), 13.5 + spread(2.5)];
    // A wave bends the strokes, each digit its own way.
    let wave = [spread(0.09), spread(0.09)];
    let (frequency, phase) = (4.0 + spread(2.0), spread(3.0));
    let radius = 1.15 + spread(0.55);
    let ink = 215.0 + spread(40.0);
    let noise = 14.0 + spread(14.0);
    let second_form = rng.random_bool(0.35);

    let place = |[x, y]: Point| -> Point {
        let bent_x = x - 0.5 + wave[0] * (frequency * y + phase).sin();
        let bent_y = y - 0.5 + wave[1] * (frequency * x + phase).sin();
        let (x, y) = ((bent_x + shear * bent_y) * size[0], bent_y * size[1]);
        [centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y]
    };
    let mut lines: Vec<[Point; 2]> = Vec::new();
    for stroke in strokes(digit, second_form) {
        // A shaking hand: each corner lands a little beside its place.
        let points: Vec<Point> = stroke
            .into_iter()
            .map(|[x, y]| place([x + rng.random_range(-0.03..=0.03), y + rng.random_range(-0.03..=0.03)]))
            .collect();
        lines.extend(points.windows(2).map(|pair| [pair[0], pair[1]]));
    }
    // A stray mark of the pen.
    if rng.random_bool(0.25) {
        let mut anywhere = || [rng.random_range(2.0..26.0), rng.random_range(2.0..26.0)];
        let (start, direction) = (anywhere(), anywhere());
        let toward = |from: f32, to: f32| from + (to - from) * 0.3;
        lines.push([start, [toward(start[0], direction[0]), toward(start[1], direction[1])]]);
    }

    for (index, pixel) in image.iter_mut().enumerate() {
        let point = [(index % SIDE) as f32, (index / SIDE) as f32];
        let squared = lines.iter().map(|line| squared_distance(point, line)).fold(f32::INFINITY, f32::min);
        // The edge of a stroke fades over one pixel.
        let coverage = (radius + 0.5 - squared.sqrt()).clamp(0.0, 1.0);
        let grain = noise * (rng.random::<f32>() + rng.random::<f32>() - 1.0);
        *pixel = (ink * coverage + grain).clamp(0.0, 255.0) as u8;
    }
}

fn squared_distance([x, y]: Point, [[x0, y0], [x1, y1]]: &[Point; 2]) -> f32 {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { (((x - x0) * dx + (y - y0) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - x0 - along * dx).powi(2) + (y - y0 - along * dy).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_digits_and_another_seed_others() {
        let (one, again, other) = (draw_counts(7, 40, 20), draw_counts(7, 40, 20), draw_counts(8, 40, 20));
        assert_eq!(one.train, again.train);
        assert_eq!(one.test, again.test);
        assert_ne!(one.train.images, other.train.images);
        assert_ne!(one.train.image(0), one.test.image(0), "the test images are not those of the training set");
    }

    #[test]
    fn every_class_is_drawn_equally_often_with_ink_inside_the_frame() {
        let train = draw_counts(1, 500, 0).train;
        for class in 0..CLASSES {
            assert_eq!(train.labels.iter().filter(|&&label| usize::from(label) == class).count(), 50);
        }
        for index in 0..train.len() {
            let ink = train.image(index).iter().filter(|&&pixel| pixel > 120).count();
            assert!((12..350).contains(&ink), "image {index}, a {}, has {ink} dark pixels", train.labels[index]);
        }
    }
}
