//! A 16-bit parameter with an f32 master.

pub(super) const WGSL: &str = include_str!("../../shaders/storage/master.wgsl");

/// The f32 bits of the parameter, given those of the 16-bit number, of the master, and of the master rounded to 16 bits. A
/// number that is not the rounded master was set by the program, and counts.
#[inline(always)]
pub(crate) fn master_bits(seen: u32, master: u32, rounded: u32) -> u32 {
    if seen == rounded { master } else { seen }
}
