//! Floats in serialized form. JSON has no infinity: text formats have the strings `"inf"`, `"-inf"` and `"nan"`.
//!
//! For fields: `#[serde(with = "crate::number")]`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// A float in serialized form.
pub(crate) struct Number<T>(T);

pub(crate) trait Float: Copy + Into<f64> + Serialize + DeserializeOwned {
    fn from_f64(value: f64) -> Self;
}

impl Float for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

impl Float for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl<T: Float> Serialize for Number<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: f64 = self.0.into();
        if value.is_finite() || !serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        serializer.serialize_str(match value {
            f64::INFINITY => "inf",
            f64::NEG_INFINITY => "-inf",
            _ => "nan",
        })
    }
}

impl<'de, T: Float> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(NumberVisitor(PhantomData))
        } else {
            T::deserialize(deserializer).map(Number)
        }
    }
}

struct NumberVisitor<T>(PhantomData<T>);

impl<'de, T: Float> Visitor<'de> for NumberVisitor<T> {
    type Value = Number<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"inf\", \"-inf\" or \"nan\"")
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number(T::from_f64(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        self.visit_f64(value as f64)
    }

    /// With its feature `arbitrary_precision`, `serde_json` writes numbers as maps.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map))?;
        number.as_f64().map(|value| Number(T::from_f64(value))).ok_or_else(|| A::Error::custom("not a number"))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        match name {
            "inf" => self.visit_f64(f64::INFINITY),
            "-inf" => self.visit_f64(f64::NEG_INFINITY),
            "nan" => self.visit_f64(f64::NAN),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(name), &self)),
        }
    }
}

/// A type whose floats have another serialized form.
pub(crate) trait Portable: Sized {
    type Form: Serialize + DeserializeOwned;

    fn to_form(&self) -> Self::Form;
    fn from_form(form: Self::Form) -> Self;
}

macro_rules! floats {
    ($($Float:ty),*) => {
        $(impl Portable for $Float {
            type Form = Number<$Float>;

            fn to_form(&self) -> Self::Form {
                Number(*self)
            }

            fn from_form(form: Self::Form) -> Self {
                form.0
            }
        })*
    };
}
floats!(f32, f64);

/// Implements [`Portable`] for types without floats, or with an own form of them.
macro_rules! as_is {
    ($($Type:ty),*) => {
        $(impl crate::number::Portable for $Type {
            type Form = Self;

            fn to_form(&self) -> Self {
                self.clone()
            }

            fn from_form(form: Self) -> Self {
                form
            }
        })*
    };
}
pub(crate) use as_is;
as_is!(bool, u32, u64, usize);

impl<T: Portable> Portable for Option<T> {
    type Form = Option<T::Form>;

    fn to_form(&self) -> Self::Form {
        self.as_ref().map(T::to_form)
    }

    fn from_form(form: Self::Form) -> Self {
        form.map(T::from_form)
    }
}

impl<T: Portable> Portable for Vec<T> {
    type Form = Vec<T::Form>;

    fn to_form(&self) -> Self::Form {
        self.iter().map(T::to_form).collect()
    }

    fn from_form(form: Self::Form) -> Self {
        form.into_iter().map(T::from_form).collect()
    }
}

macro_rules! tuples {
    ($($($T:ident $index:tt),+;)*) => {
        $(impl<$($T: Portable),+> Portable for ($($T,)+) {
            type Form = ($($T::Form,)+);

            fn to_form(&self) -> Self::Form {
                ($(self.$index.to_form(),)+)
            }

            fn from_form(form: Self::Form) -> Self {
                ($($T::from_form(form.$index),)+)
            }
        })*
    };
}
tuples!(A 0, B 1; A 0, B 1, C 2;);

pub(crate) fn serialize<T: Portable, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_form().serialize(serializer)
}

pub(crate) fn deserialize<'de, T: Portable, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::Form::deserialize(deserializer).map(T::from_form)
}
