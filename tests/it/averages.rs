//! Averages of the parameters (EMA, SWA) and Lookahead, around any rule.

use crate::common::both::Both;
use crate::common::numbers::{assert_close, random};
use crate::common::{cpu_bits, device, repository, rule};
use serde::Deserialize;
use wgpu_optim::rule::{Elements, RuleSpec, StepScalars};
use wgpu_optim::{
    Average, Clip, Ema, Error, GroupOptions, Layout, Lookahead, NonFinite, Optimizer, OptimizerBuilder, Rule, Sgd, Swa,
};

#[derive(Deserialize)]
struct Vectors {
    lr: f64,
    start: Vec<f32>,
    grads: Vec<Vec<f32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    average: Option<Average>,
    lookahead: Option<Lookahead>,
    params: Vec<f64>,
    averaged: Option<Vec<f64>>,
}

#[test]
fn both_engines_follow_torch_and_optax() {
    let text = std::fs::read_to_string(repository().join("tests/golden/averages.json")).unwrap();
    let Vectors { lr, start, grads, cases } = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 8);
    for Case { average, lookahead, params, averaged } in cases {
        let what = format!("{average:?} {lookahead:?}");
        let mut builder = Optimizer::builder(Sgd::default().with_lr(lr));
        if let Some(average) = average {
            builder = builder.average(average);
        }
        if let Some(lookahead) = lookahead {
            builder = builder.lookahead(lookahead);
        }
        let mut both = Both::new(&builder, &Layout::flat(start.len()).unwrap(), &start);
        for grads in &grads {
            both.step(grads);
        }
        let trained = both.params();
        for found in &trained {
            assert_close(&what, found, &params, 1e-6);
        }
        if let Some(averaged) = averaged {
            both.eval();
            for found in &both.params() {
                assert_close(&what, found, &averaged, 2e-6);
            }
            both.train();
            assert_eq!(both.params(), trained, "{what}: eval and train changed the parameters");
        }
    }
}

/// Two matrices, a vector, an empty tensor, odd lengths; elements in groups, some of them frozen.
fn layout() -> Layout {
    let builder = Layout::builder().packed().tensor("a", &[17, 30]).tensor("b", &[31]).group("slow");
    let builder = builder.tensor("none", &[0]).tensor("c", &[91, 93]).tensor("still", &[50]).group("still");
    builder.build().unwrap()
}

fn grouped(builder: OptimizerBuilder) -> OptimizerBuilder {
    let builder = builder.group("slow", GroupOptions::default().with_lr_scale(0.5));
    builder.group("still", GroupOptions::default().frozen())
}

/// The average of the parameters that training passes through, in f64, whatever the rule, its sums and factors.
fn the_average_is_that_of_the_parameters(name: &str) {
    let layout = layout();
    let averages: [Average; 3] = [Ema::new(0.75).into(), Ema::new(0.9).with_warmup().into(), Swa::new(2, 2).into()];
    for average in averages {
        let builder = grouped(rule(name)).average(average).clip(Clip::global_norm(1.0));
        let mut both = Both::new(&builder, &layout, &random(1, layout.len()));
        let mut expected: [Vec<f64>; 2] = Default::default();
        for t in 1..=5u32 {
            let mut grads = random(10 + u64::from(t), layout.len());
            if t == 3 {
                // A skipped step leaves the average as it is, and is no step.
                grads[7] = f32::NAN;
                let before =
                    both.state("average").map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                both.step(&grads);
                let after =
                    both.state("average").map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>());
                assert!(before == after, "{name}: a skipped step changed the average");
                grads[7] = 0.5;
            }
            both.step(&grads);
            for (expected, params) in expected.iter_mut().zip(both.params()) {
                let weight = match average {
                    _ if t == 1 => 1.0,
                    Average::Ema(Ema { decay, warmup, .. }) => {
                        let warm = f64::from(1 + t) / f64::from(10 + t);
                        1.0 - if warmup { decay.min(warm) } else { decay }
                    }
                    Average::Swa(_) if t % 2 == 1 => 0.0,
                    Average::Swa(_) => 1.0 / f64::from(t / 2),
                    _ => unreachable!("another kind"),
                };
                expected.resize(params.len(), 0.0);
                for (expected, param) in expected.iter_mut().zip(params) {
                    *expected += weight * (f64::from(param) - *expected);
                }
            }
        }
        let active = layout.tensor("still").unwrap().range().start;
        for (found, expected) in both.state("average").iter().zip(&expected) {
            assert_close(&format!("{name} {average:?}"), &found[..active], &expected[..active], 2e-6);
            assert!(found[active..].iter().all(|value| *value == 0.0), "{name}: a frozen element has an average");
        }
    }
}

/// The rule is not disturbed: an average changes no bit of parameters and states.
fn an_average_changes_nothing_else(name: &str) {
    let layout = layout();
    let mut with = Both::new(&grouped(rule(name)).average(Ema::new(0.9)), &layout, &random(1, layout.len()));
    let mut without = Both::new(&grouped(rule(name)), &layout, &random(1, layout.len()));
    for seed in 0..3 {
        with.step(&random(10 + seed, layout.len()));
        without.step(&random(10 + seed, layout.len()));
    }
    assert!(with.params() == without.params(), "{name}: other parameters");
    for state in without.on_device.optimizer.state_names() {
        assert!(with.state(state) == without.state(state), "{name}: another {state}");
    }
}

/// Lookahead by hand around the rule's own steps.
fn lookahead_goes_back_part_of_the_way(name: &str) {
    let (layout, params) = (layout(), random(1, layout().len()));
    let lookahead = Lookahead::new(2, 0.75);
    let mut both = Both::new(&grouped(rule(name)).lookahead(lookahead), &layout, &params);
    let mut by_hand = Both::new(&grouped(rule(name)), &layout, &params);
    let mut slow = [params.clone(), params.clone()];
    let active = layout.tensor("still").unwrap().range().start;
    for t in 1..=5 {
        let grads = random(10 + t, layout.len());
        both.step(&grads);
        by_hand.step(&grads);
        if t % 2 == 0 {
            let fast = by_hand.params();
            for (slow, fast) in slow.iter_mut().zip(&fast) {
                for (slow, fast) in slow[..active].iter_mut().zip(fast) {
                    // 0.75 and 0.25 are exact: one rounding less than with other shares.
                    *slow = 0.25 * *slow + 0.75 * fast;
                }
            }
            by_hand.params.copy_from_slice(&slow[0]);
            let gpu = by_hand.on_device.gpu;
            gpu.queue.write_buffer(&by_hand.on_device.params, 0, bytemuck::cast_slice(&slow[1]));
        }
        for (found, expected) in both.params().iter().zip(by_hand.params()) {
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            assert_close(&format!("{name} at step {t}"), found, &expected, 2e-6);
        }
    }
}

const RULES_WITH_SUMS_FACTORS_AND_SCALARS: [&str; 7] =
    ["sgd", "adamw", "lamb", "nadam", "adafactor", "stable_adamw", "sophia"];

#[test]
fn averages_follow_every_kind_of_rule() {
    for name in RULES_WITH_SUMS_FACTORS_AND_SCALARS {
        the_average_is_that_of_the_parameters(name);
    }
}

#[test]
fn rules_do_not_notice_averages() {
    for name in RULES_WITH_SUMS_FACTORS_AND_SCALARS {
        an_average_changes_nothing_else(name);
    }
}

#[test]
fn lookahead_follows_every_kind_of_rule() {
    for name in RULES_WITH_SUMS_FACTORS_AND_SCALARS {
        lookahead_goes_back_part_of_the_way(name);
    }
}

/// Both at once, in one dispatch: the average is of the parameters after Lookahead.
#[test]
fn the_average_is_taken_after_lookahead() {
    let layout = Layout::flat(300).unwrap();
    for single_pass in [true, false] {
        let builder = Optimizer::builder(Sgd::default()).lookahead(Lookahead::new(2, 0.5)).average(Ema::new(0.5));
        let policy = if single_pass { NonFinite::Propagate } else { NonFinite::Skip };
        let mut both = Both::new(&builder.on_nonfinite(policy), &layout, &random(1, 300));
        let mut expected = vec![0.0; 300];
        for t in 1..=4 {
            both.step(&random(10 + t, 300));
            for (expected, param) in expected.iter_mut().zip(&both.params) {
                let weight = if t == 1 { 1.0 } else { 0.5 };
                *expected += weight * (f64::from(*param) - *expected);
            }
        }
        for found in &both.state("average") {
            assert_close("average", found, &expected, 2e-6);
        }
        assert!(both.params()[0] == both.params()[1] && both.state("slow")[0] == both.state("slow")[1]);
    }
}

#[test]
fn an_average_before_the_first_step_is_the_parameters() {
    let mut both = Both::new(&rule("sgd").average(Ema::new(0.5)), &Layout::flat(5).unwrap(), &random(1, 5));
    let before = both.params();
    both.eval();
    assert_eq!(both.params(), before);
    both.train();
    assert_eq!(both.params(), before);
}

#[derive(Debug)]
struct Own;

impl Rule for Own {
    fn spec(&self) -> RuleSpec {
        RuleSpec::new("own", 1.0).with_states(["average"])
    }

    fn wgsl(&self) -> std::borrow::Cow<'_, str> {
        "fn rule(old: Element, grad: vec4<f32>, hyper: Hyper, step: StepScalars) -> Element {\n    return Element(old.param \
         - step.lr * grad, old.average);\n}\n"
            .into()
    }

    fn update(&self, elements: Elements<'_>, step: &StepScalars) {
        let step = *step;
        elements.each(move |param, grad, [average]| (param - step.lr * grad, [average]));
    }
}

/// A rule may construct its `Element` from its own fields alone.
#[test]
fn own_rules_know_nothing_of_the_states_around_them() {
    let builder = Optimizer::builder(Own).lookahead(Lookahead::new(2, 0.5));
    let mut both = Both::new(&builder, &Layout::flat(70).unwrap(), &random(1, 70));
    both.step(&random(2, 70));
    both.step(&random(3, 70));
    let (start, grads) = (random(1, 70), [random(2, 70), random(3, 70)]);
    let fast: Vec<f32> = (0..70).map(|i| start[i] - grads[0][i] - grads[1][i]).collect();
    let expected: Vec<f64> = (0..70).map(|i| 0.5 * f64::from(start[i]) + 0.5 * f64::from(fast[i])).collect();
    for found in &both.params() {
        assert_close("Lookahead around an own rule", found, &expected, 1e-6);
    }
    let clash = Optimizer::builder(Own).average(Ema::new(0.5)).build_cpu(&Layout::flat(1).unwrap());
    assert!(matches!(clash, Err(Error::RuleInterface { problem, .. }) if problem.contains("\"average\"")));
}

#[test]
fn wrong_options_are_refused() {
    let layout = Layout::flat(3).unwrap();
    let refused = |builder: OptimizerBuilder| {
        let on_cpu = builder.clone().build_cpu(&layout).unwrap_err().to_string();
        assert_eq!(on_cpu, device::build(device::gpu(), builder, &layout).unwrap_err().to_string());
        on_cpu
    };
    for (builder, found) in [
        (rule("sgd").average(Ema::new(1.0)), "ema: decay is 1; allowed: 0 <= beta < 1"),
        (rule("sgd").average(Ema::new(-0.1)), "ema: decay is -0.1"),
        (rule("sgd").average(Ema::new(f64::NAN)), "ema: decay is NaN"),
        (rule("sgd").average(Ema::new(0.9).with_warmup().debiased()), "does not work with a warm-up"),
        (rule("sgd").average(Swa::new(0, 1)), "swa: start is 0; allowed: 1 or more"),
        (rule("sgd").average(Swa::new(1, 0)), "swa: every is 0; allowed: 1 or more"),
        (rule("sgd").lookahead(Lookahead::new(0, 0.5)), "lookahead: k is 0; allowed: 1 or more"),
        (rule("sgd").lookahead(Lookahead::new(1, 1.5)), "lookahead: alpha is 1.5; allowed: 0 to 1"),
        (rule("schedule_free_adamw").average(Ema::new(0.9)), "does not work with rule \"schedule_free_adamw\""),
    ] {
        let message = refused(builder);
        assert!(message.contains(found), "{message}");
    }
    // A rule with an auxiliary update of its own keeps it.
    let mut sophia = rule("sophia").average(Ema::new(0.9)).build_cpu(&layout).unwrap();
    sophia.update_hessian(&mut [1.0; 3], &[1.0; 3]).unwrap();
    sophia.eval(&mut [1.0; 3]).unwrap();
    let mut plain = rule("adam").build_cpu(&layout).unwrap();
    assert!(matches!(plain.eval(&mut [1.0; 3]), Err(Error::UnknownAuxiliaryUpdate { .. })));
    assert_eq!(cpu_bits(&plain, &[]).len(), 6);
}
