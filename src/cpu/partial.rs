use crate::control::NONE;

/// A sum of squares that can neither overflow nor vanish: `sum · 4^exponent`. Twin of `shaders/partial.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Partial {
    pub(crate) exponent: i32,
    pub(crate) sum: f32,
    pub(crate) max_bits: u32,
    pub(crate) first_nonfinite: u32,
}

pub(crate) const EMPTY_PARTIAL: Partial = Partial { exponent: -126, sum: 0.0, max_bits: 0, first_nonfinite: NONE };

/// 2^exponent as an f32, 0 below the normal range.
pub(crate) fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127).clamp(0, 254) as u32) << 23)
}

pub(crate) fn combine(a: Partial, b: Partial) -> Partial {
    let exponent = a.exponent.max(b.exponent);
    let sum = a.sum * power_of_two(2 * (a.exponent - exponent)) + b.sum * power_of_two(2 * (b.exponent - exponent));
    Partial {
        exponent,
        sum,
        max_bits: a.max_bits.max(b.max_bits),
        first_nonfinite: a.first_nonfinite.min(b.first_nonfinite),
    }
}

/// The sum over the lanes of a workgroup, as a tree of fixed shape.
pub(crate) fn reduce<const LANES: usize>(mut lane_partials: [Partial; LANES]) -> Partial {
    let mut stride = LANES / 2;
    while stride > 0 {
        for lane in 0..stride {
            lane_partials[lane] = combine(lane_partials[lane], lane_partials[lane + stride]);
        }
        stride /= 2;
    }
    lane_partials[0]
}
