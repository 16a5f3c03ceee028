//! Properties of random layouts, groups, slices, schedules and configurations.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use wgpu_optim::schedule::{Cosine, CosineWarmRestarts, Cyclic, Exponential, OneCycle, Polynomial, Sequential, Step};
use wgpu_optim::wgpu::{Buffer, BufferSlice};
use wgpu_optim::{Error, Gpu, GroupOptions, Layout, OptimizerBuilder, RuleConfig, Schedule};

use crate::common::numbers::{assert_same_bits, random};
use crate::common::{device, device_with, encoder, finish, rule};

const GROUPS: [&str; 3] = ["frozen", "half", "double"];

#[derive(Debug, Clone)]
struct Space {
    tensors: Vec<(Vec<usize>, Option<usize>)>,
    ranges: Vec<(Range<usize>, usize)>,
    packed: bool,
}

impl Space {
    fn layout(&self) -> Result<Layout, Error> {
        let mut builder = Layout::builder();
        for (number, (shape, group)) in self.tensors.iter().enumerate() {
            builder = builder.tensor(number.to_string(), shape);
            if let Some(group) = group {
                builder = builder.group(GROUPS[*group]);
            }
        }
        for (range, group) in &self.ranges {
            builder = builder.range(range.clone(), GROUPS[*group]);
        }
        if self.packed { builder.packed() } else { builder }.build()
    }

    /// The start of each tensor, and the end of all.
    fn starts(&self) -> (Vec<usize>, usize) {
        let (mut starts, mut len) = (Vec::new(), 0usize);
        for (shape, _) in &self.tensors {
            starts.push(len);
            len += shape.iter().product::<usize>();
            if !self.packed {
                len = len.next_multiple_of(64);
            }
        }
        (starts, len)
    }

    fn has_bad_ranges(&self) -> bool {
        let len = self.starts().1;
        let is_bad = |(range, _): &(Range<usize>, usize)| range.start > range.end || range.end > len;
        let mut elements = BTreeSet::new();
        let overlaps = || self.ranges.iter().flat_map(|(range, _)| range.clone()).any(|at| !elements.insert(at));
        self.ranges.iter().any(is_bad) || { overlaps }()
    }

    /// The factor of the learning rate for each element; `None` for padding.
    fn factors(&self) -> Vec<Option<f32>> {
        let (starts, len) = self.starts();
        let factor = |group: usize| [0.0, 0.5, 2.0][group];
        let mut factors = vec![None; len];
        for ((shape, group), start) in self.tensors.iter().zip(starts) {
            let end = start + shape.iter().product::<usize>();
            factors[start..end].fill(Some(group.map_or(1.0, factor)));
        }
        for (range, group) in &self.ranges {
            for known in factors[range.clone()].iter_mut().flatten() {
                *known = factor(*group);
            }
        }
        factors
    }
}

fn grouped(builder: OptimizerBuilder, layout: &Layout) -> OptimizerBuilder {
    let options = GroupOptions::default();
    let all = [options.clone().frozen(), options.clone().with_lr_scale(0.5), options.with_lr_scale(2.0)];
    let known = GROUPS.into_iter().zip(all).filter(|(name, _)| layout.groups().iter().any(|group| group == name));
    known.fold(builder, |builder, (name, options)| builder.group(name, options))
}

fn space() -> impl Strategy<Value = Space> {
    let dims = prop_oneof![Just(0usize), 1usize..8, Just(63), Just(64), Just(65), Just(130)];
    let shape = prop_oneof![
        4 => vec(dims, 0..3),
        1 => prop_oneof![Just(vec![8_191]), Just(vec![8_192]), Just(vec![20_003])],
    ];
    // Ends meet starts, or lie one element apart.
    let len = prop_oneof![Just(0usize), Just(1), Just(99), Just(100), Just(101), 0usize..900];
    let range = (0usize..60, len, 0usize..3).prop_map(|(start, len, group)| (100 * start..100 * start + len, group));
    (vec((shape, option::of(0usize..3)), 1..6), vec(range, 0..3), any::<bool>())
        .prop_map(|(tensors, ranges, packed)| Space { tensors, ranges, packed })
}

/// Slices of a list: where it is cut, as shares of the whole, and words before each.
fn cuts() -> impl Strategy<Value = (Vec<f64>, usize)> {
    (vec(0.0..1.0, 0..5), 0usize..5)
}

/// A device whose bindings hold few tiles.
static SMALL: LazyLock<Gpu> = LazyLock::new(|| {
    device_with(|limits| {
        limits.max_buffer_size = 1 << 16;
        limits.max_storage_buffer_binding_size = 1 << 16;
    })
});

/// Uploads values in slices, each after so many words of its own buffer.
fn upload(gpu: &Gpu, values: &[f32], cuts: &[f64], ahead: usize) -> Vec<Buffer> {
    let mut at: Vec<usize> = cuts.iter().map(|share| (share * values.len() as f64) as usize).collect();
    // No buffer of the small device holds more.
    at.extend((0..values.len()).step_by(15_000).chain([values.len()]));
    at.sort_unstable();
    at.dedup();
    let parts = at.windows(2).map(|cut| [&vec![7.0; ahead], &values[cut[0]..cut[1]]].concat());
    parts.map(|part| device::upload(gpu, &part)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Tensors follow each other as the documentation says; bad ranges are refused, and nothing else is.
    #[test]
    fn layouts_place_tensors_in_order(space in space()) {
        let layout = match space.layout() {
            Ok(layout) => layout,
            Err(Error::RangeOutOfBounds { .. } | Error::OverlappingRanges { .. }) => {
                prop_assert!(space.has_bad_ranges());
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert!(!space.has_bad_ranges());
        let (starts, len) = space.starts();
        prop_assert_eq!(layout.len(), len);
        for (tensor, ((shape, _), start)) in layout.tensors().iter().zip(space.tensors.iter().zip(starts)) {
            prop_assert_eq!(tensor.range(), start..start + shape.iter().product::<usize>());
            prop_assert_eq!(tensor.shape(), &shape[..]);
        }
    }

    /// Each element has the options of its last range, else of its tensor; padding stays.
    #[test]
    fn groups_are_those_of_their_elements(space in space()) {
        prop_assume!(!space.has_bad_ranges());
        let layout = space.layout().unwrap();
        let mut optimizer = grouped(rule("sgd"), &layout).schedule(Schedule::constant(1.0)).build_cpu(&layout).unwrap();
        let mut params = vec![0.0; layout.len()];
        let _ = optimizer.step(&mut params, &vec![-1.0; layout.len()]).unwrap();
        let expected: Vec<f32> = space.factors().iter().map(|factor| factor.unwrap_or(0.0)).collect();
        prop_assert_eq!(params, expected);
    }

    /// A rate is a number from 0 on, or an error; its JSON gives the same rates.
    #[test]
    fn schedules_have_rates_or_errors(schedule in schedule(rate(), count()), steps in vec(any::<u64>(), 4)) {
        let text = serde_json::to_string(&schedule).unwrap();
        let again: Schedule = serde_json::from_str(&text).unwrap();
        let is_valid = rule("sgd").schedule(schedule.clone()).build_cpu(&Layout::flat(1).unwrap()).is_ok();
        for step in steps.into_iter().chain([0, 1, 2, 1_000, u64::MAX]) {
            let lr = schedule.lr(step);
            if let Ok(lr) = lr {
                prop_assert!(lr >= 0.0 && (lr as f32).is_finite() && is_valid, "{text}: {lr} at step {step}");
            }
            let bits = |lr: Result<f64, Error>| lr.map(f64::to_bits).map_err(|error| error.to_string());
            prop_assert_eq!(bits(lr), bits(again.lr(step)), "{}", text);
        }
    }

    /// A schedule of usual numbers that an optimizer accepts has a rate for every step.
    #[test]
    fn usual_schedules_have_rates(schedule in schedule(0.0..2.0, 1u64..50), steps in vec(0u64..100, 8)) {
        let is_valid = rule("sgd").schedule(schedule.clone()).build_cpu(&Layout::flat(1).unwrap()).is_ok();
        let ends = serde_json::to_string(&schedule).unwrap().contains("one_cycle");
        for step in steps.into_iter().filter(|_| is_valid && !ends) {
            let lr = schedule.lr(step);
            prop_assert!(lr.as_ref().is_ok_and(|lr| *lr >= 0.0), "{}: {:?} at step {}", schedule, lr, step);
        }
    }

    /// Any number in any field is refused by name, or is in the JSON of the rule again.
    #[test]
    fn rules_are_read_as_they_are_written(
        name in prop::sample::select(RuleConfig::NAMES),
        numbers in vec((any::<prop::sample::Index>(), number()), 0..4),
    ) {
        let defaults: RuleConfig = serde_json::from_value(json!({"name": name})).unwrap();
        let Value::Object(mut fields) = serde_json::to_value(&defaults).unwrap() else { unreachable!() };
        let keys: Vec<String> = fields.iter().filter(|(_, value)| value.is_number()).map(|(key, _)| key.clone()).collect();
        for (index, number) in numbers {
            fields.insert(keys[index.index(keys.len())].clone(), number);
        }
        let Ok(config) = serde_json::from_value::<RuleConfig>(Value::Object(fields.clone())) else { return Ok(()) };
        let written = serde_json::to_value(&config).unwrap();
        let again: RuleConfig = serde_json::from_value(written.clone()).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{config:?}"));
        if let Err(error) = config.builder().build_cpu(&Layout::flat(2).unwrap()) {
            let is_named = matches!(error, Error::Hyperparameter { .. } | Error::RuleInterface { .. } | Error::Unsupported { .. });
            prop_assert!(is_named, "{}", error);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// However parameters and gradients are cut, and however small the bindings are, the bits are those of the CPU engine.
    #[test]
    fn chunks_and_slices_change_no_bit(space in space(), params in cuts(), grads in cuts(), clips in any::<bool>()) {
        prop_assume!(!space.has_bad_ranges());
        let layout = space.layout().unwrap();
        prop_assume!(!layout.is_empty());
        let mut builder = grouped(rule("sgd"), &layout);
        if clips {
            builder = builder.clip(wgpu_optim::Clip::global_norm(0.5));
        }
        let (start, of_loss) = (random(1, layout.len()), random(2, layout.len()));
        let mut expected = start.clone();
        let _ = builder.clone().build_cpu(&layout).unwrap().step(&mut expected, &of_loss).unwrap();
        for gpu in [device::gpu(), &SMALL] {
            let buffers = upload(gpu, &start, &params.0, params.1);
            let of_grads = upload(gpu, &of_loss, &grads.0, grads.1);
            let slices: Vec<BufferSlice<'_>> = buffers.iter().map(|one| one.slice(4 * params.1 as u64..)).collect();
            let of_grads: Vec<BufferSlice<'_>> = of_grads.iter().map(|one| one.slice(4 * grads.1 as u64..)).collect();
            let mut optimizer = device::build(gpu, builder.clone(), &layout).unwrap();
            let mut recorded = encoder(gpu);
            optimizer.step(&mut recorded, &slices, &of_grads).unwrap();
            finish(gpu, &optimizer, recorded);
            let found: Vec<f32> = slices.iter().flat_map(|slice| device::download_slice(gpu, *slice)).collect();
            assert_same_bits(&found, &expected, &format!("{space:?}, {params:?}, {grads:?}"));
        }
    }
}

fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        (-2i32..3).prop_map(|number| json!(number)),
        prop::sample::select(vec!["inf", "-inf", "nan"]).prop_map(|word| json!(word)),
    ]
}

fn rate() -> impl Strategy<Value = f64> + Clone {
    prop_oneof![4 => 0.0..2.0, 1 => any::<f64>()]
}

fn count() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![4 => 0u64..50, 1 => any::<u64>()]
}

fn schedule<R, C>(rate: R, count: C) -> impl Strategy<Value = Schedule>
where
    R: Strategy<Value = f64> + Clone,
    C: Strategy<Value = u64> + Clone,
{
    let (rate, count) = (|| rate.clone(), || count.clone());
    let simple = prop_oneof![
        rate().prop_map(Schedule::constant),
        (rate(), count(), count()).prop_map(|(lr, warmup, total)| Schedule::warmup_cosine(lr, warmup, total)),
        (rate(), count()).prop_map(|(lr, t_max)| Cosine::new(lr, t_max).into()),
        (rate(), count(), count())
            .prop_map(|(lr, t_0, t_mult)| CosineWarmRestarts::new(lr, t_0).with_t_mult(t_mult).into()),
        (rate(), rate()).prop_map(|(lr, gamma)| Exponential::new(lr, gamma).into()),
        (rate(), count(), rate()).prop_map(|(lr, size, gamma)| Step::new(lr, size).with_gamma(gamma).into()),
        (rate(), rate()).prop_map(|(lr, power)| Polynomial::new(lr).with_power(power).into()),
        (rate(), count()).prop_map(|(lr, total)| OneCycle::new(lr, total).with_cycle_momentum(false).into()),
        (rate(), rate()).prop_map(|(low, high)| Cyclic::new(low, high).with_cycle_momentum(false).into()),
    ];
    (vec(simple, 1..4), vec(count(), 0..3), count()).prop_map(|(mut schedules, milestones, warmup)| {
        if schedules.len() > 1 {
            Sequential::new(schedules, milestones).into()
        } else {
            schedules.remove(0).with_warmup(warmup)
        }
    })
}
