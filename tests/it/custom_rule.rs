//! A rule from outside the crate takes the same way as the built-in ones, and its mistakes come back as errors.

use std::borrow::Cow;

use crate::add_sign::AddSign;
use crate::common::numbers::random;
use crate::common::{Trainer, assert_same_decision, device};
use wgpu_optim::rule::{Elements, Reduction, RuleSpec, StepScalars, TensorState, Terms};
use wgpu_optim::wgpu;
use wgpu_optim::{Clip, Error, GroupOptions, Layout, Optimizer, Rule, Schedule};

#[test]
fn a_rule_from_outside_is_clipped_scheduled_grouped_and_skipped() {
    const LEN: usize = 9001;
    let layout = Layout::builder().tensor("p", &[LEN]).packed().range(100..103, "still").build().unwrap();
    let builder = Optimizer::builder(AddSign { lr: 0.1, beta: 0.75 })
        .schedule(Schedule::warmup_cosine(0.5, 1, 9))
        .clip(Clip::global_norm(10.0))
        .group("still", GroupOptions::default().frozen());
    let params = random(1, LEN);
    let mut trainer = Trainer::new(device::gpu(), builder.clone(), &layout, &params);
    let mut reference = builder.build_cpu(&layout).unwrap();
    let mut reference_params = params.clone();
    for t in 0..6 {
        let mut grads = random(10 + t, LEN);
        if t == 3 {
            grads[7] = f32::INFINITY;
        }
        let before = trainer.bits();
        let stats = trainer.step(&grads);
        assert_same_decision(&stats, &reference.step(&mut reference_params, &grads).unwrap());
        // The schedule begins at 0; the bad gradient is refused.
        assert_eq!(trainer.params()[0].to_bits() == before[0], t == 0 || t == 3, "step {t}");
    }
    for (i, (got, reference)) in trainer.params().into_iter().zip(&reference_params).enumerate() {
        // The engines' norms may differ by 2e-6, which each of the four applied steps passes on.
        let moved = (reference - params[i]).abs();
        let tolerance = 4.0 * 2e-6 * moved + 4.0 * f32::EPSILON * params[i].abs();
        assert!((got - reference).abs() <= tolerance, "element {i}: {got} and {reference}");
    }
    assert_eq!(trainer.params()[100..103], params[100..103]);
}

/// A rule of which every part can be made wrong.
#[derive(Debug, Clone)]
struct Odd {
    states: Vec<&'static str>,
    hyperparameters: Vec<(&'static str, f32)>,
    constants: Vec<(&'static str, f64)>,
    betas: Vec<f64>,
    sums: Vec<&'static str>,
    tensor_states: Vec<(&'static str, f32)>,
    wgsl: &'static str,
}

const IDENTITY: &str =
    "fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element { return old; }";

fn odd() -> Odd {
    Odd {
        states: Vec::new(),
        hyperparameters: Vec::new(),
        constants: Vec::new(),
        betas: Vec::new(),
        sums: Vec::new(),
        tensor_states: Vec::new(),
        wgsl: IDENTITY,
    }
}

impl Rule for Odd {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("odd", 0.1)
            .with_states(self.states.clone())
            .with_hyperparameters(self.hyperparameters.clone())
            .with_constants(self.constants.clone())
            .with_bias_corrected(self.betas.clone())
    }
    fn reduction(&self) -> Option<&dyn Reduction> {
        (!self.sums.is_empty()).then_some(self as &dyn Reduction)
    }
    fn wgsl(&self) -> Cow<'_, str> {
        self.wgsl.into()
    }
    fn update(&self, elements: Elements<'_>, _: &StepScalars) {
        match self.states.len() {
            // Wrong for one state.
            0 | 1 => elements.each(|param, _, []| (param, [])),
            2 => elements.each(|param, _, states: [f32; 2]| (param, states)),
            _ => {}
        }
    }
}

impl Reduction for Odd {
    fn sums(&self) -> Vec<&'static str> {
        self.sums.clone()
    }
    fn terms(&self, _: Terms<'_>, _: &StepScalars) {}
    fn tensor_state(&self) -> Option<&dyn TensorState> {
        (!self.tensor_states.is_empty()).then_some(self as &dyn TensorState)
    }
}

impl TensorState for Odd {
    fn initial_tensor_state(&self) -> Vec<(&'static str, f32)> {
        self.tensor_states.clone()
    }
    fn update_tensor_state(&self, _: &mut [f32; 4], _: [f32; 4], _: f32, _: [f32; 4], _: u32, _: bool) {}
}

fn build(rule: Odd) -> Result<Optimizer, Error> {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    Optimizer::builder(rule).build(&device, &queue, &Layout::flat(4).unwrap())
}

#[test]
fn directives_of_the_language_itself_compile() {
    let requires = "requires readonly_and_readwrite_storage_textures, pointer_composite_access;";
    for directive in ["diagnostic(off, derivative_uniformity);", requires] {
        let rule = Odd { wgsl: format!("{directive}\n{IDENTITY}").leak(), ..odd() };
        let layout = Layout::flat(4).unwrap();
        let mut trainer = Trainer::new(device::gpu(), Optimizer::builder(rule), &layout, &[1.0; 4]);
        assert_eq!(trainer.step(&[0.5; 4]).step, 1, "{directive}");
    }
}

#[test]
fn a_mistake_in_the_wgsl_is_an_error_that_shows_the_line() {
    let mistakes = [
        (
            "\nfn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {\n    return oldd;\n}",
            "oldd",
            "3",
        ),
        (
            "fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {\n    return old.param;\n}",
            "",
            "2",
        ),
        ("fn rule(old: Element { return old; }", "", "1"),
        ("// nothing", "rule", ""),
    ];
    for (wgsl, names, line) in mistakes {
        let error = build(Odd { wgsl, ..odd() }).expect_err(wgsl);
        assert!(matches!(error, Error::Shader { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("\"odd\"") && message.contains(names) && message.contains(line), "{message}");
    }
    // Extensions of features that no device of this crate requests.
    for directive in ["enable f16;", "enable dual_source_blending;", "requires imaginary;"] {
        let error = build(Odd { wgsl: format!("{directive}\n{IDENTITY}").leak(), ..odd() }).expect_err(directive);
        assert!(matches!(&error, Error::Shader { message, .. } if message.contains("rule.wgsl:1")), "{error}");
    }
    // A name that the kernel of the update declares.
    let taken = format!("fn update_elements(x: f32) -> f32 {{ return x; }}\n{IDENTITY}").leak();
    let error = build(Odd { wgsl: taken, ..odd() }).unwrap_err();
    assert!(matches!(&error, Error::Shader { message, .. } if message.contains("update_elements")), "{error}");
    let error = build(Odd { wgsl: mistakes[0].0, ..odd() }).unwrap_err().to_string();
    assert!(error.contains("rule.wgsl:3") && error.contains("return oldd;"), "{error}");
}

#[test]
fn an_interface_that_cannot_be_composed_is_refused() {
    let with_states = |states: &[&'static str]| Odd { states: states.to_vec(), ..odd() };
    let with_hyper =
        |hyperparameters: &[(&'static str, f32)]| Odd { hyperparameters: hyperparameters.to_vec(), ..odd() };
    let refused = [
        with_states(&["a", "a"]),
        with_states(&["param"]),
        with_states(&["Momentum"]),
        with_states(&["exp avg"]),
        with_states(&[""]),
        with_states(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]),
        with_hyper(&[("x", f32::NAN)]),
        Odd { constants: vec![("speed", f64::NAN)], ..odd() },
        with_hyper(&[("x", 1.0), ("x", 2.0)]),
        Odd { betas: vec![0.9; 5], ..odd() },
        Odd { sums: vec!["a", "b", "c", "d", "e"], ..odd() },
        Odd { sums: vec!["a", "a"], ..odd() },
        Odd { sums: vec!["Sum"], ..odd() },
        Odd { sums: vec!["a"], tensor_states: vec![("b", 0.0); 2], ..odd() },
        Odd { hyperparameters: vec![("x", 1.0); 61], ..odd() },
    ];
    for rule in refused {
        let error = build(rule.clone()).expect_err("it must be refused");
        assert!(matches!(error, Error::RuleInterface { .. }), "{rule:?}: {error:?}");
        let cpu = Optimizer::builder(rule).build_cpu(&Layout::flat(4).unwrap()).unwrap_err();
        assert_eq!(cpu.to_string(), error.to_string());
    }
    // A rule with sums needs `terms`, one with a state per tensor `update_tensor_state`.
    let sums = Odd { sums: vec!["a"], ..odd() };
    assert!(build(sums.clone()).unwrap_err().to_string().contains("terms"));
    let wgsl = "\
        fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element { return old; }\n\
        fn terms(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> SegmentSums { return SegmentSums(grad); }";
    build(Odd { wgsl, ..sums.clone() }).unwrap();
    let without_update = build(Odd { wgsl, tensor_states: vec![("b", 0.0)], ..sums }).unwrap_err();
    assert!(without_update.to_string().contains("update_tensor_state"), "{without_update}");
    let unknown = build(Odd { constants: vec![("speed", 1.0)], ..odd() }).unwrap_err();
    assert!(unknown.to_string().contains("override speed"), "{unknown}");
    let with = |declaration: &str| -> &'static str { format!("{declaration}\n{IDENTITY}").leak() };
    let fast = |declaration: &str| -> &'static str {
        let rule = IDENTITY.replace("return old;", "var fast = old; fast.param *= f32(speed); return fast;");
        format!("{declaration}\n{rule}").leak()
    };
    let speed = fast("override speed: f32;");
    let spoiled = [
        ("speed", Odd { wgsl: speed, ..odd() }),
        ("speed", Odd { wgsl: fast("@id(3) override speed: f32;"), constants: vec![("speed", 1.0)], ..odd() }),
        ("override", Odd { wgsl: fast("override speed: u32;"), constants: vec![("speed", -1.0)], ..odd() }),
        ("own", Odd { wgsl: with("@group(0) @binding(30) var<storage, read> own: array<u32>;"), ..odd() }),
        ("my_words", Odd { wgsl: with("@group(0) @binding(30) var<storage, read> my_words: array<u32>;"), ..odd() }),
        ("norms", Odd { wgsl: with("@group(2) @binding(0) var<storage, read> norms: array<u32>;"), ..odd() }),
        ("entry point", Odd { wgsl: with("@compute @workgroup_size(1) fn other() {}"), ..odd() }),
    ];
    for (name, rule) in spoiled {
        let error = build(rule).unwrap_err();
        assert!(matches!(error, Error::Shader { .. }) && error.to_string().contains(name), "{error}");
    }
    build(Odd { wgsl: speed, constants: vec![("speed", 1.0)], ..odd() }).unwrap();
    build(with_states(&["element", "words"])).unwrap();
    let arity = build(with_states(&["a"])).unwrap_err();
    assert!(matches!(arity, Error::RuleInterface { .. }) && arity.to_string().contains("takes 0 states"), "{arity}");
    assert!(matches!(build(Odd { betas: vec![1.0], ..odd() }), Err(Error::Hyperparameter { .. })));
    // Parameters, gradients, six states and the next control block: wgpu's default limits allow eight buffers.
    let refused = build(with_states(&["a", "b", "c", "d", "e", "f"])).unwrap_err();
    assert!(matches!(refused, Error::DeviceLimit { required: 9, available: 8, .. }), "{refused}");
    build(odd()).unwrap();
}

/// Kernels differ by how chunks lie and how groups are found. A name that only one of them has taken is found at build, not at
/// the first step over such buffers.
#[test]
fn a_mistake_that_shows_in_one_variant_is_found_at_build() {
    for (name, taken) in [("find_span", "fn find_span"), ("block_at", "fn block_at")] {
        let wgsl: &str = format!("{taken}(x: f32) -> f32 {{ return x; }}\n{IDENTITY}").leak();
        let layout = Layout::builder().tensor("a", &[100]).group("a").tensor("b", &[100]).group("b").build().unwrap();
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let builder = Optimizer::builder(Odd { wgsl, ..odd() });
        let builder = builder.group("a", GroupOptions::default().with_lr_scale(0.5));
        let error = builder.build(&device, &queue, &layout).unwrap_err();
        assert!(matches!(error, Error::Shader { .. }) && error.to_string().contains(name), "{error}");
    }
}
