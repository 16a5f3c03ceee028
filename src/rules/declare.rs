use crate::rule::Rule;

/// A constructor with the options of another framework: name, what differs, constructor.
#[cfg(any(test, feature = "serde"))]
pub(crate) type Preset<R> = (&'static str, &'static str, fn() -> R);

/// The registry's view of a rule; [`rule!`](super::declare::rule) implements it.
pub(crate) trait Declared: Rule + Default + Clone + PartialEq + 'static {
    /// Name in configuration files and error messages.
    const NAME: &'static str;
    /// The implementation whose names, defaults and numbers the rule has.
    #[cfg(test)]
    const SOURCE: &'static str;
    /// Keys of the fields.
    #[cfg(test)]
    const OPTIONS: &'static [&'static str];
    /// Constructors with the options of other frameworks.
    #[cfg(any(test, feature = "serde"))]
    const PRESETS: &'static [Preset<Self>];

    /// One rule per set of options that composes to another shader, the default first.
    fn variants() -> Vec<Self>;
}

/// Declares a rule: a struct with public fields, `Default`, a setter per field, serde with the same defaults, and
/// [`Declared`]. `as` gives a key that is no name in Rust. A preset names a constructor, with what it changes.
macro_rules! rule {
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (
        $(#[$about:meta])*
        $Rule:ident = $name:literal from $source:literal {
            $($(#[$doc:meta])* $field:ident $(as $key:literal)?: $type:ty = $default:expr, $with:ident;)*
        }
        presets { $($preset:ident: $difference:literal),* $(,)? }
        variants { $($variant:expr),* $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        #[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
        #[allow(clippy::struct_excessive_bools, reason = "each is an option of a framework, under its name")]
        pub struct $Rule {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "serde", serde(with = "crate::number"))]
                $(#[cfg_attr(feature = "serde", serde(rename = $key))])?
                pub $field: $type,
            )*
        }

        impl Default for $Rule {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $Rule {
            $(
                #[doc = concat!("Sets [`", stringify!($Rule), "::", stringify!($field), "`].")]
                #[must_use]
                pub fn $with(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }

        impl crate::rules::declare::Declared for $Rule {
            const NAME: &'static str = $name;
            #[cfg(test)]
            const SOURCE: &'static str = $source;
            #[cfg(test)]
            const OPTIONS: &'static [&'static str] = &[$(crate::rules::declare::rule!(@key $field $($key)?)),*];
            #[cfg(any(test, feature = "serde"))]
            const PRESETS: &'static [crate::rules::declare::Preset<Self>] =
                &[$((stringify!($preset), $difference, Self::$preset)),*];

            fn variants() -> Vec<Self> {
                vec![Self::default(), $($variant),*]
            }
        }
    };
}
pub(crate) use rule;

/// [`Rule::with_cycled_momentum`] of a rule whose momentum is the field given.
macro_rules! cycles_momentum {
    ($($field:tt)+) => {
        fn with_cycled_momentum(&self, momentum: f64) -> Option<std::sync::Arc<dyn crate::rule::Rule>> {
            let mut rule = self.clone();
            rule.$($field)+ = momentum;
            Some(std::sync::Arc::new(rule))
        }
    };
}
pub(crate) use cycles_momentum;

/// The start of a rule's spec: name, and the fields `lr`, `weight_decay` and `maximize`.
macro_rules! common_spec {
    ($rule:expr) => {
        crate::rule::RuleSpec::new(<Self as crate::rules::declare::Declared>::NAME, $rule.lr)
            .with_weight_decay($rule.weight_decay)
            .with_maximize($rule.maximize)
    };
}
pub(crate) use common_spec;
