//! Codes by tables, on the CPU: the bits of the functions that devices run, at a tenth of their time.

use std::sync::LazyLock;

use super::ABSOLUTE;
use super::codes::CodeMap;
use crate::simd::vectorized;

/// The scales, as bits, for which no product below leaves the normal range: 2^-63 to 2^63.
const ORDINARY: std::ops::RangeInclusive<u32> = 64 << 23..=190 << 23;
/// Upper halves of the f32 from 2^-24 to 1.
const FIRST: u32 = (127 - 24) << 7;
const LAST: u32 = 127 << 7;
/// More than the quotient of a number and its scale is rounded by.
const MARGIN: f32 = 1e-6;

/// The levels of a map, and its codes by the upper half of the quotient. Codes count magnitudes: see [`CodeMap::magnitude`].
struct CodeTable {
    map: CodeMap,
    /// The number of each code, for a scale of 1.
    levels: [f32; 256],
    /// The code of the least number with an upper half. Others with it have that code or the next one.
    codes: [u8; (LAST - FIRST) as usize + 1],
    /// Factors of the number and of the scale whose products are equal in the middle of a code and the next one.
    middles: [[f32; 2]; 257],
}

impl CodeTable {
    /// The table of a map.
    fn of(map: CodeMap) -> &'static Self {
        static TABLES: LazyLock<[CodeTable; 4]> = LazyLock::new(|| CodeMap::ALL.map(CodeTable::new));
        &TABLES[map as usize]
    }

    fn new(map: CodeMap) -> Self {
        let one = 1f32.to_bits();
        let half = |at: usize| f32::from_bits((FIRST + at as u32) << 16);
        let end = map.magnitude(one);
        Self {
            map,
            levels: std::array::from_fn(|code| f32::from_bits(map.bits(code as u32, one))),
            // The least numbers of all have the first entry.
            codes: std::array::from_fn(|at| {
                if at == 0 { 0 } else { map.magnitude((half(at) * (1.0 - MARGIN)).to_bits()) as u8 }
            }),
            middles: std::array::from_fn(|code| if code as u32 >= end { [0.0, 1.0] } else { map.middle(code as u32) }),
        }
    }

    /// Whether the table has the codes for a scale.
    #[inline(always)]
    fn is_for(scale: u32) -> bool {
        ORDINARY.contains(&scale)
    }

    /// The number of a code, for a scale of 0 or an ordinary one.
    #[inline(always)]
    fn level(&self, code: u8, scale: f32) -> f32 {
        self.levels[usize::from(code)] * scale
    }

    /// The nearest code; `inverse` is that of the scale.
    #[inline(always)]
    fn code(&self, value: f32, scale: f32, inverse: f32) -> u8 {
        let absolute = f32::from_bits(value.to_bits() & ABSOLUTE);
        let at = ((absolute * inverse).to_bits() >> 16).clamp(FIRST, LAST) - FIRST;
        let code = u32::from(self.codes[at as usize]);
        let [of_value, of_scale] = self.middles[code as usize];
        let code = code + u32::from(absolute * of_value > scale * of_scale);
        self.map.with_sign(code, value.to_bits()) as u8
    }

    /// One of the two codes around a number, as the functions for devices choose it.
    #[inline(always)]
    fn code_stochastic(&self, value: f32, (scale, inverse): (f32, f32), random: u32) -> u8 {
        let near = self.code(value, scale, inverse);
        let of_near = self.level(near, scale);
        let far = self.map.far(u32::from(near), of_near.to_bits(), value.to_bits()) as u8;
        let share = (random >> 8) as f32 / (1 << 24) as f32;
        let takes_far = share * (self.level(far, scale) - of_near).abs() < (value - of_near).abs();
        self.map.at_least_one(u32::from(if takes_far { far } else { near }), value.to_bits()) as u8
    }
}

/// Replaces `values` by the numbers of codes from element `start` on.
pub(crate) fn load(map: CodeMap, codes: &[u8], scales: &[f32], start: usize, values: &mut Vec<f32>) {
    values.resize(codes.len(), 0.0);
    let (len, mut at) = (map.block_len(), 0);
    while at < codes.len() {
        let element = start + at;
        let end = codes.len().min(at + len - element % len);
        load_block(map, &codes[at..end], scales[element / len], &mut values[at..end]);
        at = end;
    }
}

fn load_block(map: CodeMap, codes: &[u8], scale: f32, values: &mut [f32]) {
    let (table, bits, pairs) = (CodeTable::of(map), scale.to_bits(), values.iter_mut().zip(codes));
    if CodeTable::is_for(bits) || bits == 0 {
        pairs.for_each(|(value, &code)| *value = table.level(code, scale));
    } else {
        pairs.for_each(|(value, &code)| *value = f32::from_bits(map.bits(code.into(), bits)));
    }
}

/// Replaces codes and scales by those of `values`, which begin a block. With random bits rounding is stochastic.
pub(crate) fn store(map: CodeMap, values: &[f32], random: Option<&[u32]>, codes: &mut [u8], scales: &mut [f32]) {
    let len = map.block_len();
    let blocks = values.chunks(len).zip(codes.chunks_mut(len)).zip(scales).enumerate();
    for (block, ((values, codes), scale)) in blocks {
        *scale = f32::from_bits(scale_of(map, values));
        let random = random.map(|bits| &bits[block * len..][..values.len()]);
        store_block(map, values, *scale, random, codes);
    }
}

/// The scale of a block, as bits.
fn scale_of(map: CodeMap, values: &[f32]) -> u32 {
    let (mut positive, mut negative) = (0, 0);
    vectorized(
        #[inline(always)]
        || {
            for value in values {
                let bits = value.to_bits();
                let is_negative = bits > ABSOLUTE;
                positive = positive.max(if is_negative { 0 } else { bits });
                negative = negative.max(if is_negative { bits } else { 0 });
            }
        },
    );
    map.scale(positive, negative)
}

fn store_block(map: CodeMap, values: &[f32], scale: f32, random: Option<&[u32]>, codes: &mut [u8]) {
    let (table, bits, inverse) = (CodeTable::of(map), scale.to_bits(), 1.0 / scale);
    let pairs = codes.iter_mut().zip(values);
    match (random, CodeTable::is_for(bits)) {
        _ if bits == 0 => codes.fill(map.zero()),
        (None, true) => pairs.for_each(|(code, &value)| *code = table.code(value, scale, inverse)),
        (None, false) => pairs.for_each(|(code, value)| *code = map.code(value.to_bits(), bits) as u8),
        (Some(random), true) => {
            for ((code, &value), &random) in pairs.zip(random) {
                *code = table.code_stochastic(value, (scale, inverse), random);
            }
        }
        (Some(random), false) => {
            for ((code, value), &random) in pairs.zip(random) {
                *code = map.code_stochastic(value.to_bits(), bits, random) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Every upper half, with the margins of both sides, has at most two codes.
    #[test]
    fn neighbors_in_the_table_have_two_codes_at_most() {
        for map in CodeMap::ALL {
            let table = CodeTable::new(map);
            for (at, &code) in table.codes.iter().enumerate() {
                let end = f32::from_bits((FIRST + at as u32 + 1) << 16) * (1.0 + MARGIN);
                let last = map.magnitude(end.min(1.0).to_bits());
                assert!(last <= u32::from(code) + 1, "{map:?}: {code} to {last}");
            }
        }
    }

    #[test]
    fn codes_and_levels_are_those_of_the_functions() {
        let mut random = StdRng::seed_from_u64(5);
        for map in CodeMap::ALL {
            let table = CodeTable::new(map);
            for _ in 0..300_000 {
                let scale = f32::from_bits(random.random_range(ORDINARY));
                let sign = if map.is_signed() && random.random() { -1.0 } else { 1.0 };
                let size: f32 = random.random_range(0.0..1.0);
                let power = random.random_range(0..4) * random.random_range(0..9);
                let code = random.random_range(0..255);
                let bits = |code| f32::from_bits(map.bits(code, scale.to_bits()));
                let near = f32::midpoint(bits(code), bits(code + 1));
                for value in
                    [sign * size * scale * 0.5f32.powi(power), near, near.next_up(), near.next_down(), bits(code)]
                {
                    if value.abs() > scale || value < 0.0 && !map.is_signed() {
                        continue;
                    }
                    let expected = map.code(value.to_bits(), scale.to_bits());
                    let got = u32::from(table.code(value, scale, 1.0 / scale));
                    assert_eq!(got, expected, "{map:?}: {value:e} of {scale:e}");
                    let bits = random.random();
                    let expected = map.code_stochastic(value.to_bits(), scale.to_bits(), bits);
                    let got = u32::from(table.code_stochastic(value, (scale, 1.0 / scale), bits));
                    assert_eq!(got, expected, "{map:?}: {value:e} of {scale:e} with {bits:#x}");
                    let level = table.level(expected as u8, scale).to_bits();
                    assert_eq!(level, map.bits(expected, scale.to_bits()), "{map:?}: level {expected} of {scale:e}");
                }
            }
        }
    }
}
