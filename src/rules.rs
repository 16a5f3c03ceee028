//! The built-in update rules: one file each, listed in `registry`.

mod custom;
pub(crate) mod declare;
#[cfg(test)]
mod docs;
pub(crate) mod registry;

pub use custom::CustomRule;
pub use lars::LarsEquations;
pub use sophia::Curvature;

use std::sync::Arc;

use crate::rule::Rule;
use declare::Declared;

macro_rules! modules {
    ($($module:ident: $($Rule:ident),+;)*) => {
        $(
            mod $module;
            pub use $module::{$($Rule),+};
        )*

        /// Every built-in rule in each set of options that composes to another shader: for tools that look at shaders.
        pub fn rule_variants() -> Vec<Arc<dyn Rule>> {
            let mut rules: Vec<Arc<dyn Rule>> = Vec::new();
            $($(rules.extend($Rule::variants().into_iter().map(|rule| Arc::new(rule) as Arc<dyn Rule>));)+)*
            rules
        }
    };
}

registry::for_each_rule!(modules);
