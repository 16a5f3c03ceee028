//! The functions to minimize: the CPU references of `functions/*.wgsl`.

/// A function of x and y, or of x alone (then y is 0).
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub formula: &'static str,
    /// Elements of a point.
    pub dimensions: usize,
    pub value: fn([f32; 2]) -> f32,
    pub gradient: fn([f32; 2]) -> [f32; 2],
    /// The diagonal of the Hessian.
    pub curvature: fn([f32; 2]) -> [f32; 2],
    /// The three, for the device.
    pub wgsl: &'static str,
    /// What is drawn, and where the grid of starting points lies.
    pub window: [(f32, f32); 2],
    /// Where the first point starts.
    pub start: [f32; 2],
    /// A point is at the target where the function is at most this.
    pub target: f32,
    pub minima: &'static [[f32; 2]],
    /// Whether contour lines are spaced by the logarithm of the value above the minimum.
    pub logarithmic: bool,
}

/// The fields that are found under the function's name.
macro_rules! function {
    ($name:ident, $formula:literal, $dimensions:literal, { $($rest:tt)* }) => {
        Function {
            name: stringify!($name),
            formula: $formula,
            dimensions: $dimensions,
            value: $name::value,
            gradient: $name::gradient,
            curvature: $name::curvature,
            wgsl: include_str!(concat!("functions/", stringify!($name), ".wgsl")),
            $($rest)*
        }
    };
}

/// The kernels of every function, over a flat buffer of points: `gradients` and `curvatures`. They follow the function's own
/// text, and need the constants `DIMENSIONS` and `TARGET`.
pub const KERNELS: &str = include_str!("functions/points.wgsl");

/// Well-known functions.
pub static FUNCTIONS: [Function; 7] = [
    function!(rosenbrock, "(1 − x)² + 100(y − x²)²", 2, {
        window: [(-2.0, 2.0), (-1.0, 3.0)],
        start: [-1.0, 1.0],
        target: 1e-2,
        minima: &[[1.0, 1.0]],
        logarithmic: true,
    }),
    function!(beale, "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²", 2, {
        window: [(-1.0, 4.5), (-2.0, 2.0)],
        start: [1.0, 1.5],
        target: 1e-2,
        minima: &[[3.0, 0.5]],
        logarithmic: true,
    }),
    function!(himmelblau, "(x² + y − 11)² + (x + y² − 7)²", 2, {
        window: [(-5.5, 5.5), (-5.5, 5.5)],
        start: [-0.5, -1.0],
        target: 1e-2,
        minima: &[[3.0, 2.0], [-2.805_118, 3.131_312_5], [-3.779_310_2, -3.283_186], [3.584_428_3, -1.848_126_5]],
        logarithmic: true,
    }),
    function!(rastrigin, "20 + x² + y² − 10(cos 2πx + cos 2πy)", 2, {
        window: [(-2.5, 2.5), (-2.5, 2.5)],
        start: [1.3, -1.7],
        target: 1e-2,
        minima: &[[0.0, 0.0]],
        logarithmic: false,
    }),
    function!(saddle, "x² − y²", 2, {
        window: [(-1.5, 1.5), (-1.5, 1.5)],
        start: [1.0, 0.01],
        target: -1.0,
        minima: &[],
        logarithmic: false,
    }),
    function!(quartic, "x⁴ − 3x³ + 2", 1, {
        window: [(-1.0, 3.5), (-8.0, 8.0)],
        start: [-0.5, 0.0],
        // 0.01 above the minimum.
        target: -6.532_969,
        minima: &[[2.25, 0.0]],
        logarithmic: false,
    }),
    function!(square, "x²", 1, {
        window: [(-6.0, 6.0), (0.0, 36.0)],
        start: [5.0, 0.0],
        target: 1e-2,
        minima: &[[0.0, 0.0]],
        logarithmic: false,
    }),
];

/// A bowl that is ten times as long as wide.
pub static BOWL: Function = function!(bowl, "(x² + 100y²) / 20", 2, {
    window: [(-6.0, 6.0), (-3.0, 3.0)],
    start: [-5.0, 1.0],
    target: 1e-3,
    minima: &[[0.0, 0.0]],
    logarithmic: true,
});

/// A sharp minimum beside a flat one, which lies a little higher.
pub static WELLS: Function = function!(wells, "0.05(x² + y²) − 1.1exp(−12((x + 1)² + y²)) − exp(−0.8((x − 1)² + y²))", 2, {
    window: [(-2.2, 2.8), (-2.0, 2.0)],
    start: [-1.3, 0.9],
    target: -0.9,
    minima: &[[-0.99118, 0.0], [0.94102, 0.0]],
    logarithmic: false,
});

impl Function {
    /// The points of a flat buffer.
    pub fn points(&self, flat: &[f32]) -> impl Iterator<Item = [f32; 2]> {
        flat.chunks_exact(self.dimensions).map(|point| [point[0], point.get(1).copied().unwrap_or(0.0)])
    }

    /// As many points as asked for at most, evenly over the window (a square grid where there are two dimensions, row by
    /// row from below), after the function's own start; in one flat buffer.
    pub fn starts(&self, points: usize) -> Vec<f32> {
        let side = self.side(points);
        let place = |axis: usize, i: usize| {
            let (low, high) = self.window[axis];
            low + (high - low) * (i as f32 + 0.5) / side as f32
        };
        let grid = (0..side.pow(self.dimensions as u32)).flat_map(|i| [place(0, i % side), place(1, i / side)]);
        let own = self.start.into_iter();
        own.chain(grid).enumerate().filter(|(i, _)| i % 2 < self.dimensions).map(|(_, element)| element).collect()
    }

    /// Points of the grid along each axis.
    pub fn side(&self, points: usize) -> usize {
        if self.dimensions == 1 { points } else { points.isqrt() }
    }
}

mod rosenbrock {
    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        let valley = y - x * x;
        (1.0 - x) * (1.0 - x) + 100.0 * valley * valley
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        let valley = y - x * x;
        [-2.0 * (1.0 - x) - 400.0 * x * valley, 200.0 * valley]
    }

    pub(super) fn curvature([x, y]: [f32; 2]) -> [f32; 2] {
        [2.0 - 400.0 * y + 1200.0 * x * x, 200.0]
    }
}

mod beale {
    fn residuals([x, y]: [f32; 2]) -> [f32; 3] {
        let a = 1.5 - x + x * y;
        let b = 2.25 - x + x * y * y;
        let c = 2.625 - x + x * y * y * y;
        [a, b, c]
    }

    pub(super) fn value(p: [f32; 2]) -> f32 {
        let r = residuals(p);
        r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        let r = residuals([x, y]);
        let y2 = y * y;
        let along_x = r[0] * (y - 1.0) + r[1] * (y2 - 1.0) + r[2] * (y2 * y - 1.0);
        let along_y = r[0] + r[1] * (2.0 * y) + r[2] * (3.0 * y2);
        [2.0 * along_x, 2.0 * x * along_y]
    }

    pub(super) fn curvature([x, y]: [f32; 2]) -> [f32; 2] {
        let r = residuals([x, y]);
        let y2 = y * y;
        let a = y - 1.0;
        let b = y2 - 1.0;
        let c = y2 * y - 1.0;
        let along_y = x * (1.0 + 4.0 * y2 + 9.0 * y2 * y2) + 2.0 * r[1] + 6.0 * y * r[2];
        [2.0 * (a * a + b * b + c * c), 2.0 * x * along_y]
    }
}

mod himmelblau {
    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        let a = x * x + y - 11.0;
        let b = x + y * y - 7.0;
        a * a + b * b
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        let a = x * x + y - 11.0;
        let b = x + y * y - 7.0;
        [4.0 * x * a + 2.0 * b, 2.0 * a + 4.0 * y * b]
    }

    pub(super) fn curvature([x, y]: [f32; 2]) -> [f32; 2] {
        let a = x * x + y - 11.0;
        let b = x + y * y - 7.0;
        [4.0 * a + 8.0 * x * x + 2.0, 2.0 + 4.0 * b + 8.0 * y * y]
    }
}

mod rastrigin {
    use std::f32::consts::TAU;

    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        20.0 + x * x + y * y - 10.0 * ((TAU * x).cos() + (TAU * y).cos())
    }

    pub(super) fn gradient(p: [f32; 2]) -> [f32; 2] {
        p.map(|p| 2.0 * p + 10.0 * TAU * (TAU * p).sin())
    }

    pub(super) fn curvature(p: [f32; 2]) -> [f32; 2] {
        p.map(|p| 2.0 + 10.0 * TAU * TAU * (TAU * p).cos())
    }
}

mod saddle {
    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        x * x - y * y
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        [2.0 * x, -2.0 * y]
    }

    pub(super) fn curvature(_: [f32; 2]) -> [f32; 2] {
        [2.0, -2.0]
    }
}

mod quartic {
    pub(super) fn value([x, _]: [f32; 2]) -> f32 {
        x * x * x * (x - 3.0) + 2.0
    }

    pub(super) fn gradient([x, _]: [f32; 2]) -> [f32; 2] {
        [x * x * (4.0 * x - 9.0), 0.0]
    }

    pub(super) fn curvature([x, _]: [f32; 2]) -> [f32; 2] {
        [x * (12.0 * x - 18.0), 0.0]
    }
}

mod square {
    pub(super) fn value([x, _]: [f32; 2]) -> f32 {
        x * x
    }

    pub(super) fn gradient([x, _]: [f32; 2]) -> [f32; 2] {
        [2.0 * x, 0.0]
    }

    pub(super) fn curvature(_: [f32; 2]) -> [f32; 2] {
        [2.0, 0.0]
    }
}

mod bowl {
    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        0.05 * x * x + 5.0 * y * y
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        [0.1 * x, 10.0 * y]
    }

    pub(super) fn curvature(_: [f32; 2]) -> [f32; 2] {
        [0.1, 10.0]
    }
}

mod wells {
    const SHARP: f32 = 12.0;
    const FLAT: f32 = 0.8;

    /// Depths at the point, of the sharp well and of the flat one.
    fn depths([x, y]: [f32; 2]) -> [f32; 2] {
        let sharp = 1.1 * (-SHARP * ((x + 1.0) * (x + 1.0) + y * y)).exp();
        let flat = (-FLAT * ((x - 1.0) * (x - 1.0) + y * y)).exp();
        [sharp, flat]
    }

    pub(super) fn value([x, y]: [f32; 2]) -> f32 {
        let d = depths([x, y]);
        0.05 * (x * x + y * y) - d[0] - d[1]
    }

    pub(super) fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
        let d = depths([x, y]);
        let along_x = 2.0 * (SHARP * (x + 1.0) * d[0] + FLAT * (x - 1.0) * d[1]);
        let along_y = 2.0 * y * (SHARP * d[0] + FLAT * d[1]);
        [0.1 * x + along_x, 0.1 * y + along_y]
    }

    pub(super) fn curvature([x, y]: [f32; 2]) -> [f32; 2] {
        let d = depths([x, y]);
        let bend = |from_sharp: f32, from_flat: f32| {
            let sharp = 2.0 * SHARP * d[0] * (1.0 - 2.0 * SHARP * from_sharp * from_sharp);
            0.1 + sharp + 2.0 * FLAT * d[1] * (1.0 - 2.0 * FLAT * from_flat * from_flat)
        };
        [bend(x + 1.0, x - 1.0), bend(y, y)]
    }
}
