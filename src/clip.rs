//! Gradient clipping: [`Clip`] and its kinds.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod adaptive;
mod global_norm;
mod group_norm;
mod percentile;
mod value;

pub use adaptive::Adaptive;
pub use global_norm::GlobalNorm;
pub use group_norm::GroupNorm;
pub use percentile::Percentile;
pub use value::Value;

use crate::Error;
use crate::error::check;

macro_rules! kinds {
    ($($Kind:ident),*) => {
        /// Gradient clipping, part of the step. Each kind is a struct that becomes a clip by `into()`.
        ///
        /// ```
        /// use wgpu_optim::{AdamW, Clip, Optimizer, clip::GlobalNorm};
        /// let builder = Optimizer::builder(AdamW::default()).clip(Clip::global_norm(1.0));
        /// let builder = builder.clip(GlobalNorm::new(1.0).with_norm_type(f64::INFINITY).exact());
        /// ```
        ///
        /// In configuration files: `{"name": "global_norm", "max_norm": 1.0}`. Infinite numbers are `"inf"`.
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(tag = "name", rename_all = "snake_case")
        )]
        #[non_exhaustive]
        pub enum Clip {
            $(
                #[doc = concat!("[`", stringify!($Kind), "`].")]
                $Kind($Kind),
            )*
        }

        $(
            impl From<$Kind> for Clip {
                fn from(kind: $Kind) -> Self {
                    Self::$Kind(kind)
                }
            }
        )*

        impl Clip {
            pub(crate) fn validate(&self) -> Result<(), Error> {
                match self {
                    $(Self::$Kind(kind) => kind.validate(),)*
                }
            }
        }
    };
}

kinds!(GlobalNorm, Value, GroupNorm, Adaptive, Percentile);

impl Clip {
    /// [`GlobalNorm`]: PyTorch's `clip_grad_norm_`.
    pub fn global_norm(max_norm: f64) -> Self {
        GlobalNorm::new(max_norm).into()
    }

    /// [`Value`]: PyTorch's `clip_grad_value_`.
    pub fn value(clip_value: f64) -> Self {
        Value::new(clip_value).into()
    }

    /// [`GroupNorm`]: PyTorch's `clip_grad_norm_`, called for each group.
    pub fn group_norm(max_norm: f64) -> Self {
        GroupNorm::new(max_norm).into()
    }

    /// [`Adaptive`]: adaptive gradient clipping (AGC).
    pub fn adaptive(clip_factor: f64) -> Self {
        Adaptive::new(clip_factor).into()
    }

    /// [`Percentile`]: AutoClip.
    pub fn percentile(percentile: f64) -> Self {
        Percentile::new(percentile).into()
    }
}

/// Larger orders hardly differ from infinity, and the powers in the kernels would overflow.
const MAX_NORM_TYPE: f64 = 32.0;

fn check_norm_type(owner: &str, norm_type: f64) -> Result<(), Error> {
    let fits = (1.0..=MAX_NORM_TYPE).contains(&norm_type) || norm_type == f64::INFINITY;
    check(fits, owner, "norm_type", norm_type, "1 to 32, or infinity")
}

/// Refuses values that are not normal numbers in f32.
fn check_normal(owner: &str, name: &'static str, value: f64) -> Result<(), Error> {
    let fits = value as f32 >= f32::MIN_POSITIVE && (value as f32).is_finite();
    check(fits, owner, name, value, "1.2e-38 (the least normal f32) or more, finite in f32")
}

#[cfg(feature = "serde")]
fn euclidean() -> f64 {
    2.0
}
