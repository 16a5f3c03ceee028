//! `verify` passes rules whose WGSL and Rust say the same, and finds where they do not.

use crate::add_sign::AddSign;
use crate::common::device;
use wgpu_optim::rule::{AuxiliaryUpdates, Elements, Factored, Reduction, RuleSpec, StepScalars, Terms};
use wgpu_optim::{CustomRule, Error, Optimizer, Rule, Schedule, Sophia};

const MOMENTUM: &str = "
fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.buffer = hyper.momentum * old.buffer + grad;
    updated.param = old.param - step.lr * (updated.buffer + step.weight_decay * old.param);
    return updated;
}
";

const DECAY: &str = "
fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {
    var updated = old;
    updated.param = old.param - step.lr * (grad + step.weight_decay * old.param);
    return updated;
}
";

/// SGD with momentum whose Rust is as given: `(momentum, lr, weight_decay, param, grad, buffer)` to parameter and
/// buffer.
fn momentum(
    update: impl Fn(f32, f32, f32, f32, f32, f32) -> (f32, f32) + Send + Sync + 'static,
) -> impl Rule + 'static {
    let reference = move |param, grad, [buffer]: [f32; 1], [momentum]: [f32; 1], step: &StepScalars| {
        let (param, buffer) = update(momentum, step.lr, step.weight_decay, param, grad, buffer);
        (param, [buffer])
    };
    CustomRule::new("momentum", ["buffer"], [("momentum", 0.9)], MOMENTUM, reference)
        .with_lr(0.1)
        .with_weight_decay(0.01)
}

fn mismatch(rule: impl Rule + 'static) -> (String, u32, String) {
    match Optimizer::builder(rule).verify(device::gpu()) {
        Err(Error::RuleMismatch { stream, step, function, .. }) => (stream, step, function),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_that_say_the_same_twice_pass() {
    let right = momentum(|momentum, lr, decay, param, grad, buffer| {
        let buffer = momentum * buffer + grad;
        (param - lr * (buffer + decay * param), buffer)
    });
    Optimizer::builder(right).verify(device::gpu()).unwrap();
    Optimizer::builder(AddSign { lr: 0.1, beta: 0.75 }).verify(device::gpu()).unwrap();
}

#[test]
fn a_difference_in_one_term_is_found_and_named() {
    let found = mismatch(momentum(|momentum, lr, _, param, grad, buffer| {
        let buffer = momentum * buffer + grad;
        (param - lr * buffer, buffer)
    }));
    assert_eq!(found, ("param".to_owned(), 1, "rule".to_owned()));
    // Decay of 1e-4 times 0.01 would be lost in the parameters' last digits.
    let slow = CustomRule::new("slow", [], [], DECAY, |param, grad, [], [], step| (param - step.lr * grad, []));
    let found = mismatch(slow.with_lr(1e-4).with_weight_decay(0.01));
    assert_eq!(found, ("param".to_owned(), 1, "rule".to_owned()));
    // The first step begins with an empty buffer; the second tells.
    let found = mismatch(momentum(|momentum, lr, decay, param, grad, buffer| {
        let averaged = momentum * buffer + grad;
        (param - lr * (averaged + decay * param), momentum * (buffer + grad) + (1.0 - momentum) * grad + 0.1 * buffer)
    }));
    assert_eq!(found, ("buffer".to_owned(), 2, "rule".to_owned()));
    let found = mismatch(momentum(|momentum, lr, decay, param, grad, buffer| {
        let buffer = momentum * buffer + grad;
        (param + lr * (buffer + decay * param), buffer)
    }));
    assert_eq!(found.0, "param");
}

#[test]
fn an_auxiliary_update_is_compared_too() {
    #[derive(Debug)]
    struct Wrong(Sophia);

    impl Rule for Wrong {
        fn spec(&self) -> RuleSpec {
            self.0.spec()
        }
        fn auxiliary_updates(&self) -> Option<&dyn AuxiliaryUpdates> {
            Some(self)
        }
        fn wgsl(&self) -> std::borrow::Cow<'_, str> {
            self.0.wgsl()
        }
        fn update(&self, elements: Elements<'_>, step: &StepScalars) {
            self.0.update(elements, step);
        }
    }

    impl AuxiliaryUpdates for Wrong {
        fn auxiliary_names(&self) -> &'static [&'static str] {
            self.0.auxiliary_names()
        }
        /// Leaves the Hessian unchanged.
        fn auxiliary_update(&self, _: &str, elements: Elements<'_>, _: &StepScalars) {
            elements.each(|param, _, states: [f32; 2]| (param, states));
        }
    }

    assert_eq!(mismatch(Wrong(Sophia::default())).2, "update_hessian");
}

/// Leaves parameters alone, and updates factors on the device alone.
#[derive(Debug)]
struct Squares;

impl Rule for Squares {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("squares", 1.0)
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        Some(self)
    }
    fn factored(&self) -> Option<&dyn Factored> {
        Some(self)
    }
    fn wgsl(&self) -> std::borrow::Cow<'_, str> {
        "fn update_factor(old: f32, mean_sq: f32, hyper: Hyper, scalars: ScalarState, t: u32) -> f32 { return mean_sq; }
        fn floor_mean(mean: f32, hyper: Hyper) -> f32 { return mean; }
        fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums { return SegmentSums(grad); }
        fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element { return old; }"
            .into()
    }
    fn update(&self, _: Elements<'_>, _: &StepScalars) {}
}

impl Reduction for Squares {
    fn sums(&self) -> Vec<&'static str> {
        vec!["sum"]
    }
    fn terms(&self, _: Terms<'_>, _: &StepScalars) {}
}

/// Keeps the old factor.
impl Factored for Squares {
    fn update_factor(&self, old: f32, _: f32, _: [f32; 4], _: u32) -> f32 {
        old
    }
    fn floor_mean(&self, mean: f32) -> f32 {
        mean
    }
}

#[test]
fn factors_are_compared_too() {
    assert_eq!(mismatch(Squares).0, "row_var");
}

#[test]
fn every_rule_of_the_crate_passes() {
    for name in wgpu_optim::RuleConfig::NAMES {
        let rule: wgpu_optim::RuleConfig = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
        // The schedule takes no part: `verify` tests the rule alone.
        let builder = rule.builder().schedule(Schedule::constant(0.5));
        builder.verify(device::gpu()).unwrap_or_else(|error| panic!("{error}"));
    }
}
