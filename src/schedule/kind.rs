use std::fmt;

use crate::Error;
use crate::error;
use crate::error::is_rate;

/// The name of a schedule in configuration files and errors.
pub(super) trait Named {
    const NAME: &'static str;

    /// Returns [`Error::Hyperparameter`] unless `ok`. Allocates only then, because every step calls it.
    fn check(ok: bool, field: &'static str, value: f64, allowed: &'static str) -> Result<(), Error> {
        if ok { Ok(()) } else { error::check(ok, &format!("{} schedule", Self::NAME), field, value, allowed) }
    }

    /// Checks a learning rate or a factor of one.
    fn check_rate(field: &'static str, value: f64) -> Result<(), Error> {
        Self::check(is_rate(value), field, value, "0 or greater, finite in f32")
    }

    /// Checks a momentum.
    fn check_momentum(field: &'static str, momentum: f64) -> Result<(), Error> {
        Self::check(momentum > 0.0 && (momentum as f32) < 1.0, field, momentum, "above 0, below 1")
    }

    /// Checks a count, which must not be 0.
    fn check_count(field: &'static str, count: u64) -> Result<(), Error> {
        Self::check(count > 0, field, count as f64, "at least 1")
    }
}

/// A kind of [`Schedule`](super::Schedule).
pub(super) trait Kind: Named {
    /// The learning rate at a step. Requires valid fields.
    fn lr(&self, step: u64) -> Result<f64, Error>;

    /// The momentum at a step, if the schedule cycles it. Requires valid fields.
    fn momentum(&self, _step: u64) -> Result<Option<f64>, Error> {
        Ok(None)
    }

    fn validate(&self) -> Result<(), Error>;
}

/// Linear interpolation: `start` at a `part` of 0, `end` at 1.
pub(super) fn linear(start: f64, end: f64, part: f64) -> f64 {
    (end - start) * part + start
}

/// Half-cosine interpolation: `start` at a `part` of 0, `end` at 1.
pub(super) fn cosine(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) / 2.0 * ((std::f64::consts::PI * part).cos() + 1.0)
}

/// Defines a schedule: a struct with public fields, `new` with the fields that have no default, a setter for each other
/// field, serde with the same defaults, and `Display`. `as` sets the key in configuration files.
macro_rules! kind {
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (
        $(#[$about:meta])*
        $Kind:ident = $name:literal {
            $($(#[$doc:meta])* $field:ident $(as $key:literal)?: $type:ty,)*
            $(..$($(#[$option_doc:meta])*
            $option:ident $(as $option_key:literal)?: $option_type:ty = $default:expr, $with:ident;)*)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize))]
        #[non_exhaustive]
        pub struct $Kind {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
                $(#[cfg_attr(feature = "serde", serde(rename = $key))])?
                pub $field: $type,
            )*
            $($(
                $(#[$option_doc])*
                #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
                $(#[cfg_attr(feature = "serde", serde(rename = $option_key))])?
                pub $option: $option_type,
            )*)?
        }

        impl Named for $Kind {
            const NAME: &'static str = $name;
        }

        impl $Kind {
            /// Creates it with the defaults of all other fields.
            pub fn new($($field: $type),*) -> Self {
                Self { $($field,)* $($($option: $default,)*)? }
            }

            $($(
                #[doc = concat!("Sets [`", stringify!($Kind), "::", stringify!($option), "`].")]
                #[must_use]
                pub fn $with(mut self, $option: $option_type) -> Self {
                    self.$option = $option;
                    self
                }
            )*)?
        }

        impl std::fmt::Display for $Kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let values: &[(&str, &dyn std::fmt::Debug)] = &[
                    $((kind!(@key $field $($key)?), &self.$field),)*
                    $($((kind!(@key $option $($option_key)?), &self.$option),)*)?
                ];
                super::kind::write_call(f, $name, values)
            }
        }

        #[cfg(feature = "serde")]
        const _: () = {
            /// The fields in a configuration file; those with a default are optional.
            #[derive(serde::Deserialize)]
            #[serde(deny_unknown_fields)]
            struct Given {
                $(#[serde(with = "crate::number")] $(#[serde(rename = $key)])? $field: $type,)*
                $($(
                    #[serde(default, with = "crate::number")]
                    $(#[serde(rename = $option_key)])?
                    $option: Option<$option_type>,
                )*)?
            }

            impl<'de> serde::Deserialize<'de> for $Kind {
                fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    let given = Given::deserialize(deserializer)?;
                    Ok(Self { $($field: given.$field,)* $($($option: given.$option.unwrap_or($default),)*)? })
                }
            }
        };
    };
}
pub(super) use kind;

/// Writes `name(field=value, …)`.
pub(super) fn write_call(f: &mut fmt::Formatter<'_>, name: &str, values: &[(&str, &dyn fmt::Debug)]) -> fmt::Result {
    write!(f, "{name}(")?;
    for (i, (field, value)) in values.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{field}={value:?}")?;
    }
    f.write_str(")")
}
