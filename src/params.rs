//! Storage formats of parameters: alone, or with a state that completes them.

use std::ops::Range;

use crate::host::{HostSlice, HostSliceMut};
use crate::random::{further_bits, random_bits};
use crate::simd::vectorized;
use crate::storage::{
    Dtype, bf16_nearest, bf16_stochastic, f16_nearest, master_bits, split_bits, split_high, split_low,
};

/// The storage format of the parameters, as the model reads them. Arithmetic is f32 in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ParamFormat {
    /// f32: 4 bytes per parameter.
    #[default]
    F32,
    /// bf16 and nothing else: 2 bytes. Each step rounds the parameters: see [`Rounding`].
    Bf16,
    /// bf16, and an f32 master in the state `param_master`: 6 bytes. Each step stores the bf16 nearest to the master. Where a
    /// parameter is another number, the program has set it: the step starts from it. Masters are 0 before the first step, and
    /// stay 0 where no step updates.
    ///
    /// To start from f32 weights, write them into the master, and the nearest bf16 into the parameters.
    ///
    /// [`OptimizerBuilder::state_buffers`](crate::OptimizerBuilder::state_buffers) keeps the master in a buffer of the program:
    /// training in f32 with a bf16 copy for the forward pass, in one dispatch.
    Bf16Master,
    /// f16, and an f32 master, as with [`ParamFormat::Bf16Master`]: 6 bytes.
    F16Master,
    /// bf16, and the rest of an f32 in the state `param_low`: 4 bytes. Both have the bits of training in f32, but for the
    /// payload of some NaN. The bf16 is the nearest to the f32, ties away from zero. A parameter that the program sets keeps
    /// its rest, less than a unit in the last place of the bf16; a zero has none.
    Bf16Split,
}

/// The rounding of parameters and states that a step stores as bf16 and that nothing completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Rounding {
    /// To the nearest, ties to even. Updates below half a unit in the last place change nothing.
    #[default]
    Nearest,
    /// To one of the two neighbors, with the number as mean. The random bits depend on the seed, the applied step and the
    /// flat index: on nothing else.
    Stochastic {
        /// Any number.
        seed: u32,
    },
}

impl Rounding {
    /// The seed of stochastic rounding.
    pub(crate) fn seed(self) -> Option<u32> {
        if let Self::Stochastic { seed } = self { Some(seed) } else { None }
    }
}

/// The state that completes parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Companion {
    pub(crate) name: &'static str,
    pub(crate) dtype: Dtype,
}

impl ParamFormat {
    /// The storage format of the buffer or slice that the model reads.
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 | Self::Bf16Master | Self::Bf16Split => Dtype::Bf16,
            Self::F16Master => Dtype::F16,
        }
    }

    /// The state that completes the parameters.
    pub(crate) const fn companion(self) -> Option<Companion> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::Bf16Master | Self::F16Master => Some(Companion { name: "param_master", dtype: Dtype::F32 }),
            Self::Bf16Split => Some(Companion { name: "param_low", dtype: Dtype::I16 }),
        }
    }

    /// The f32 bits of a parameter after a step to the nearest.
    pub(crate) fn stored_bits(self) -> fn(f32) -> u32 {
        if self == Self::Bf16 { |param| bf16_nearest(param.to_bits()) } else { f32::to_bits }
    }

    /// Imports of a kernel that reads or writes parameters with their companion.
    pub(crate) fn imports(self) -> &'static [&'static str] {
        match self {
            Self::F32 | Self::Bf16 => &[],
            Self::Bf16Master => &["master::{master_bits}", "bf16::{bf16_nearest}"],
            Self::F16Master => &["master::{master_bits}", "f16::{f16_nearest}"],
            Self::Bf16Split => &["split::{split_bits, split_high, split_low}"],
        }
    }

    /// The f32 bits of the parameters, given those of what the model reads and of the companion.
    pub(crate) fn join(self, seen: &str, companion: &str) -> String {
        match self {
            Self::F32 | Self::Bf16 => seen.to_owned(),
            Self::Bf16Master => format!("master_bits({seen}, {companion}, bf16_nearest({companion}))"),
            Self::F16Master => format!("master_bits({seen}, {companion}, f16_nearest({companion}))"),
            Self::Bf16Split => format!("split_bits({seen}, {companion})"),
        }
    }

    /// The f32 bits of what the model reads, given those of the parameters. Storing rounds them to the nearest.
    pub(crate) fn seen(self, bits: &str) -> String {
        if self == Self::Bf16Split { format!("split_high({bits})") } else { bits.to_owned() }
    }

    /// The bits of the companion, given the f32 bits of the parameters.
    pub(crate) fn rest(self, bits: &str) -> String {
        if self == Self::Bf16Split { format!("split_low({bits})") } else { bits.to_owned() }
    }
}

/// Parameters in host memory, with the state that completes them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParamSlice<'a> {
    pub(crate) format: ParamFormat,
    pub(crate) seen: HostSlice<'a>,
    pub(crate) companion: Option<HostSlice<'a>>,
    /// Index of the companion's first number among `seen`.
    pub(crate) first: usize,
}

impl<'a> ParamSlice<'a> {
    /// The parameters of a range: where they lie, or widened into `scratch`.
    pub(crate) fn load<'b>(&self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        let Some(companion) = self.companion else { return self.seen.load(range, scratch) };
        self.seen.load(range.clone(), scratch);
        let range = range.start - self.first..range.end - self.first;
        match (companion, self.format) {
            (HostSlice::I16(low), _) => {
                let pairs = scratch.iter_mut().zip(&low[range]);
                vectorized(
                    #[inline(always)]
                    || pairs.for_each(|(value, &low)| *value = f32::from_bits(split_bits(value.to_bits(), low))),
                );
            }
            (HostSlice::F32(master), ParamFormat::F16Master) => load_master(scratch, &master[range], f16_nearest),
            (HostSlice::F32(master), _) => load_master(scratch, &master[range], bf16_nearest),
            _ => {}
        }
        scratch
    }
}

/// Replaces what the model reads by the masters, as [`master_bits`] does.
#[inline(always)]
fn load_master(seen: &mut [f32], master: &[f32], nearest: impl Fn(u32) -> u32) {
    let pairs = seen.iter_mut().zip(master);
    vectorized(
        #[inline(always)]
        || {
            pairs.for_each(|(value, master)| {
                let master = master.to_bits();
                *value = f32::from_bits(master_bits(value.to_bits(), master, nearest(master)));
            });
        },
    );
}

/// The part of the streams that a kernel writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SeenParams {
    /// The parameters that the model reads, and their companion.
    WithCompanion,
    /// The parameters that the model reads: others have their place for a time.
    Alone,
}

/// As [`ParamSlice`], to change them.
#[derive(Debug)]
pub(crate) struct ParamSliceMut<'a> {
    pub(crate) format: ParamFormat,
    pub(crate) seen: HostSliceMut<'a>,
    pub(crate) companion: Option<HostSliceMut<'a>>,
}

impl ParamSliceMut<'_> {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(crate) fn as_slice(&self) -> ParamSlice<'_> {
        ParamSlice {
            format: self.format,
            seen: self.seen.as_slice(),
            companion: self.companion.as_ref().map(HostSliceMut::as_slice),
            first: 0,
        }
    }

    /// The parameters of a range: where they lie, or widened into `scratch`.
    pub(crate) fn load_mut<'b>(&'b mut self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b mut [f32] {
        if self.companion.is_none() {
            return self.seen.load_mut(range, scratch);
        }
        self.as_slice().load(range, scratch);
        scratch
    }

    /// Replaces the parameters of a range by those that `load_mut` has widened, if it has.
    pub(crate) fn store_widened(&mut self, range: Range<usize>, values: &[f32], writes: SeenParams) {
        if self.format != ParamFormat::F32 {
            self.store(range, values, writes);
        }
    }

    fn store(&mut self, range: Range<usize>, values: &[f32], writes: SeenParams) {
        match (self.format, &mut self.seen) {
            (ParamFormat::Bf16Split, HostSliceMut::Bf16(seen)) => {
                let pairs = seen[range.clone()].iter_mut().zip(values);
                vectorized(
                    #[inline(always)]
                    || {
                        pairs.for_each(|(number, value)| {
                            *number = half::bf16::from_bits((split_high(value.to_bits()) >> 16) as u16);
                        });
                    },
                );
            }
            (_, seen) => seen.store(range.clone(), values),
        }
        match &mut self.companion {
            _ if writes == SeenParams::Alone => {}
            Some(HostSliceMut::I16(low)) => {
                let pairs = low[range].iter_mut().zip(values);
                vectorized(
                    #[inline(always)]
                    || pairs.for_each(|(number, value)| *number = split_low(value.to_bits())),
                );
            }
            Some(master) => master.store(range, values),
            None => {}
        }
    }
}

/// Replaces `bits` by the random bits of elements from flat index `start` on.
pub(crate) fn draw(bits: &mut Vec<u32>, (seed, t): (u32, u32), start: usize, len: usize) {
    bits.resize(len, 0);
    vectorized(
        #[inline(always)]
        || bits.iter_mut().zip(start as u32..).for_each(|(bits, element)| *bits = random_bits(seed, t, element)),
    );
}

/// Rounds values to bf16 at random. `bits` are those of the elements; `number` is that of the stream.
pub(crate) fn round_stochastically(values: &mut [f32], bits: &[u32], number: u32) {
    let pairs = values.iter_mut().zip(bits);
    vectorized(
        #[inline(always)]
        || {
            pairs.for_each(|(value, &bits)| {
                *value = f32::from_bits(bf16_stochastic(value.to_bits(), further_bits(bits, number)));
            });
        },
    );
}
