//! Kernels as WGSL.

pub(crate) mod compose;

pub(crate) use compose::*;

use crate::clip::ClipForm;
use crate::rule::Rule;
use crate::transform::ClippedRule;
use crate::{Clip, Error};

/// The WGSL of every kernel an optimizer with this rule and this clipping may run, with a label each: for other tools, and
/// for a look.
///
/// # Errors
/// [`Error::RuleInterface`].
pub fn shader_sources(rule: &dyn Rule, clip: Option<Clip>) -> Result<Vec<(String, String)>, Error> {
    check_interface(rule)?;
    let clip = ClipForm::new(clip);
    let clipped;
    let rule = match clip.segments {
        Some(segments) => {
            clipped = ClippedRule::new(rule, segments)?;
            &clipped
        }
        None => rule,
    };
    let measures = !rule.measures().is_empty();
    let mut kernels = Vec::new();
    for (label, form) in Form::ALL {
        kernels.push((format!("update {label}"), update(rule, &clip, form)));
        kernels.push((format!("norm {label}"), norm(clip.norm, form)));
        let passes = rule.passes().into_iter();
        kernels.extend(passes.map(|pass| (format!("{pass} {label}"), compose::pass(rule, pass, form))));
        if measures {
            kernels.push((format!("measure {label}"), measure(rule, &clip, form)));
        }
        kernels.push((format!("observe {label}"), observe(rule, &clip, form)));
    }
    if measures {
        kernels.push(("settle".to_owned(), settle(rule)));
    }
    if rule.factored() {
        kernels.push(("lines".to_owned(), lines(rule, &clip)));
        kernels.push(("settle lines".to_owned(), settle_lines(rule)));
        kernels.push(("mean rows".to_owned(), mean_rows(rule)));
    }
    kernels.push(("finish".to_owned(), finish(rule, &clip)));
    kernels.push(("totals".to_owned(), totals()));
    Ok(kernels)
}
