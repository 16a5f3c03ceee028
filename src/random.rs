//! Random bits from a seed, the applied step and the flat index: equal on both engines, however the work is cut.

/// The finalizer of `MurmurHash3`.
#[inline(always)]
fn mix(number: u32) -> u32 {
    let mut hash = number;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// The bits of an element in a step.
#[inline(always)]
pub(crate) fn random_bits(seed: u32, t: u32, element: u32) -> u32 {
    mix(seed ^ mix(t ^ mix(element)))
}

/// Further bits of the same element.
#[inline(always)]
pub(crate) fn further_bits(bits: u32, number: u32) -> u32 {
    mix(bits ^ number.wrapping_mul(0x9e37_79b9))
}

#[cfg(test)]
mod tests {
    use super::{further_bits, random_bits};

    /// Chi-square of each byte of the bits over elements, over steps and over seeds, in 256 bins.
    #[test]
    fn bits_are_uniform() {
        let len = 1u32 << 20;
        let draws: [&dyn Fn(u32) -> u32; 4] =
            [&|i| random_bits(3, 1, i), &|i| random_bits(3, i, 7), &|i| random_bits(i, 1, 7), &|i| {
                further_bits(random_bits(0, 1, i), 1)
            }];
        for draw in draws {
            for shift in [0, 8, 16, 24] {
                let mut bins = [0u32; 256];
                (0..len).for_each(|i| bins[(draw(i) >> shift & 255) as usize] += 1);
                let expected = f64::from(len) / 256.0;
                let chi_square: f64 = bins.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
                // 255 degrees of freedom: mean 255, standard deviation 22.6.
                assert!((chi_square - 255.0).abs() < 5.0 * 22.6, "{chi_square}");
            }
        }
    }

    /// The bits of two streams have no relation: each of their 32 bits differs in half of the elements.
    #[test]
    fn bits_of_two_streams_are_independent() {
        let len = 1u32 << 18;
        let mut differ = [0u32; 32];
        for element in 0..len {
            let bits = random_bits(9, 4, element);
            let other = bits ^ further_bits(bits, 1);
            (0..32).for_each(|bit| differ[bit] += other >> bit & 1);
        }
        let deviation = (f64::from(len) / 4.0).sqrt();
        assert!(differ.iter().all(|&count| (f64::from(count) - f64::from(len) / 2.0).abs() < 5.0 * deviation));
    }
}
