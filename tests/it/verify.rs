//! `verify` passes rules whose WGSL and Rust say the same, and finds where they do not.

use crate::add_sign::AddSign;
use crate::common::device;
use wgpu_optim::{CustomRule, Error, Optimizer, Rule, Schedule, Sophia};

const MOMENTUM: &str = "
fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
    var updated = old;
    updated.buffer = hyper.momentum * old.buffer + grad;
    updated.param = old.param - step.lr * (updated.buffer + step.weight_decay * old.param);
    return updated;
}
";

const DECAY: &str = "
fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element {
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
    let twin = move |param, grad, [buffer]: [f32; 1], [momentum]: [f32; 1], step: &wgpu_optim::rule::StepScalars| {
        let (param, buffer) = update(momentum, step.lr, step.weight_decay, param, grad, buffer);
        (param, [buffer])
    };
    CustomRule::new("momentum", ["buffer"], [("momentum", 0.9)], MOMENTUM, twin).with_lr(0.1).with_weight_decay(0.01)
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
fn a_pass_is_compared_too() {
    #[derive(Debug)]
    struct Wrong(Sophia);

    impl Rule for Wrong {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn lr(&self) -> f64 {
            self.0.lr()
        }
        fn states(&self) -> Vec<&str> {
            self.0.states()
        }
        fn hyperparameters(&self) -> Vec<(&str, f32)> {
            self.0.hyperparameters()
        }
        fn constants(&self) -> Vec<(&str, f64)> {
            self.0.constants()
        }
        fn bias_corrected(&self) -> Vec<f64> {
            self.0.bias_corrected()
        }
        fn passes(&self) -> Vec<&'static str> {
            self.0.passes()
        }
        fn wgsl(&self) -> std::borrow::Cow<'_, str> {
            self.0.wgsl()
        }
        fn update(&self, elements: wgpu_optim::rule::Elements<'_>, step: &wgpu_optim::rule::StepScalars) {
            self.0.update(elements, step);
        }
        // Without `update_pass`, whose default does nothing.
    }

    assert_eq!(mismatch(Wrong(Sophia::default())).2, "update_hessian");
}

/// Leaves parameters alone, and keeps as factors what its twin does not.
#[derive(Debug)]
struct Squares;

impl Rule for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }
    fn lr(&self) -> f64 {
        1.0
    }
    fn states(&self) -> Vec<&str> {
        vec![]
    }
    fn hyperparameters(&self) -> Vec<(&str, f32)> {
        vec![]
    }
    fn measures(&self) -> Vec<&str> {
        vec!["sum"]
    }
    fn factored(&self) -> bool {
        true
    }
    fn wgsl(&self) -> std::borrow::Cow<'_, str> {
        "fn settle_factor(old: f32, mean_sq: f32, hyper: Hyper, scalars: Scalars, t: u32) -> f32 { return mean_sq; }
        fn floor_mean(mean: f32, hyper: Hyper) -> f32 { return mean; }
        fn measure(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Measured { return Measured(grad); }
        fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: Step) -> Element { return old; }"
            .into()
    }
    fn update(&self, _: wgpu_optim::rule::Elements<'_>, _: &wgpu_optim::rule::StepScalars) {}
}

#[test]
fn factors_are_compared_too() {
    assert_eq!(mismatch(Squares).0, "row_var");
}

#[test]
fn every_rule_of_the_crate_passes() {
    for name in wgpu_optim::RuleConfig::NAMES {
        let rule: wgpu_optim::RuleConfig = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
        // What surrounds the rule takes no part.
        let builder = rule.builder().schedule(Schedule::constant(0.5));
        builder.verify(device::gpu()).unwrap_or_else(|error| panic!("{error}"));
    }
}
