//! The plan of a fit and its result, for both engines.

use wgpu_optim::schedule::Exponential;
use wgpu_optim::{Adam, Layout, Optimizer, OptimizerBuilder, Rows};

use crate::Result;
use crate::picture::{Picture, psnr};
use crate::splats::{COLUMNS, RATES, Splat, first};

/// Name of the tensor.
const TENSOR: &str = "splats";
/// Steps between two growths.
const INTERVAL: u32 = 50;
/// Last learning rate as a fraction of the first.
const DECAY: f64 = 0.3;
/// Steps between two reports.
const REPORT: u32 = 100;

pub(crate) struct Plan<'a> {
    pub(crate) target: &'a Picture,
    /// Maximum number of splats.
    pub(crate) capacity: usize,
    pub(crate) steps: u32,
    /// Steps before which the picture is kept, ascending; the last is `steps`.
    pub(crate) frames: &'a [u32],
    pub(crate) forgets_states: bool,
}

impl Plan<'_> {
    pub(crate) fn size(&self) -> [u32; 2] {
        [self.target.width as u32, self.target.height as u32]
    }

    pub(crate) fn splats(&self) -> Vec<Splat> {
        first(self.target, self.capacity / 4)
    }

    pub(crate) fn layout(&self) -> Result<Layout> {
        Ok(Layout::builder().tensor(TENSOR, &[self.capacity, COLUMNS]).build()?)
    }

    /// Adam with a rate for each column and a step count for each row. The schedule goes from 1 to the last fraction.
    pub(crate) fn optimizer(&self) -> OptimizerBuilder {
        let rows =
            Rows::default().with_live(self.capacity as u32 / 4).with_row_steps().with_column_lr_scales(TENSOR, RATES);
        let decay = DECAY.powf(1.0 / f64::from(self.steps));
        Optimizer::builder(Adam::default()).schedule(Exponential::new(1.0, decay)).rows(rows)
    }

    /// True if the splats grow after this many steps; the last third of a fit only refines.
    pub(crate) fn grows_after(&self, steps: u32) -> bool {
        steps.is_multiple_of(INTERVAL) && steps <= self.steps * 2 / 3
    }

    pub(crate) fn reports(&self, step: u32) -> bool {
        step.is_multiple_of(REPORT) || step == self.steps
    }
}

/// State of a fit before a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    /// Sum of the squared errors of all channels.
    pub(crate) squares: f64,
    pub(crate) splats: u32,
}

impl Point {
    /// The ratio in dB, before colours are rounded to 8 bits.
    pub(crate) fn psnr(&self, target: &Picture) -> f64 {
        psnr(self.squares, target.pixels.len())
    }
}

pub(crate) struct Fit {
    /// Before each step, and after the last.
    pub(crate) points: Vec<Point>,
    /// Pictures before the steps of the plan's frames.
    pub(crate) frames: Vec<Picture>,
}
