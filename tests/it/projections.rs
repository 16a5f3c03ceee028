//! Projections of rows after the step: ranges, unit norms, noise.

use crate::common::both::Both;
use crate::common::numbers::{assert_same_bits, random, ulps};
use crate::common::{device, device_with, encoder, rule};
use wgpu_optim::{Adam, Ema, Error, GroupOptions, Layout, Lookahead, NonFinite, Optimizer, Projection, Rows, Sgd};

const ROWS: usize = 300;
const LIVE: usize = 290;
const COLUMNS: [usize; 3] = [7, 1, 4];

fn layout(is_packed: bool) -> Layout {
    let shape = |i: usize| [ROWS, COLUMNS[i]];
    let layout = Layout::builder().tensor("a", &shape(0)).tensor("b", &shape(1)).group("still");
    let layout = layout.tensor("c", &shape(2));
    if is_packed { layout.packed() } else { layout }.build().unwrap()
}

/// The draws of the documented construction, in 64 bits.
fn noise(seed: u32, step: u32, element: usize) -> f32 {
    let mix = |number: u64| {
        let mut hash = number;
        hash = ((hash ^ (hash >> 16)) * 0x85eb_ca6b) & 0xffff_ffff;
        hash = ((hash ^ (hash >> 13)) * 0xc2b2_ae35) & 0xffff_ffff;
        hash ^ (hash >> 16)
    };
    let first = mix(u64::from(seed) ^ mix(u64::from(step) ^ mix(element as u64)));
    let second = mix(first ^ 0x9e37_79b9);
    let sum = [first & 0xffff, first >> 16, second & 0xffff, second >> 16].iter().sum::<u64>();
    (sum as f32 - 131_070.0) * 2.642_903_4e-5
}

#[test]
fn rows_are_projected_after_each_applied_step() {
    for is_packed in [false, true] {
        let layout = layout(is_packed);
        let options = |rows: Rows| {
            let builder = Optimizer::builder(Adam::default().with_lr(0.3)).rows(rows.with_live(LIVE as u32));
            builder.group("still", GroupOptions::default().frozen()).on_nonfinite(NonFinite::Skip)
        };
        let projected = Rows::default()
            .with_projection("a", Projection::noise(0..7, 0.25, 9))
            .with_projection("a", Projection::clamp(5..7, -0.5, 0.75))
            .with_projection("b", Projection::clamp(0..1, 0.0, 0.1))
            .with_projection("c", Projection::unit_norm(0..4));
        let params = random(1, layout.len());
        let mut both = Both::new(&options(projected), &layout, &params);
        for (step, bad) in [(1, false), (1, true), (2, false)] {
            let before = both.params();
            let mut grads = random(10 + u64::from(step), layout.len());
            // A dead row's gradient does not matter, a live one's does.
            grads[LIVE * 7] = f32::NAN;
            grads[0] = if bad { f32::NAN } else { grads[0] };
            both.step(&grads);
            let [on_cpu, on_device] = both.params();
            if bad {
                assert_same_bits(&on_cpu, &before[0], "skipped on the CPU");
                assert_same_bits(&on_device, &before[1], "skipped on the device");
                continue;
            }
            // The step without projections, from the same parameters and states.
            let mut plain = options(Rows::default()).build_cpu(&layout).unwrap();
            let mut expected = params.clone();
            if step == 1 {
                plain.step(&mut expected, &grads).unwrap();
                for (element, value) in expected[..7 * LIVE].iter_mut().enumerate() {
                    *value += 0.25 * noise(9, step, element);
                    *value = if element % 7 >= 5 { value.clamp(-0.5, 0.75) } else { *value };
                }
                for (found, engine) in [(&on_cpu, "CPU"), (&on_device, "device")] {
                    let first = layout.tensor("c").unwrap().range().start;
                    assert_same_bits(&found[..first], &expected[..first], engine);
                    for row in 0..ROWS {
                        let row = first + 4 * row..first + 4 * row + 4;
                        let plain = &expected[row.clone()];
                        let norm = plain.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
                        let is_live = row.start < first + 4 * LIVE;
                        for (found, &plain) in found[row].iter().zip(plain) {
                            let exact = if is_live { f64::from(plain) / norm } else { f64::from(plain) };
                            // Half for each square and sum, root and quotient 2.5 and 4.5 on a device.
                            assert!(ulps(*found, exact, 1.0) <= 8.0, "{engine}: {found} for {exact}");
                        }
                    }
                }
            }
            assert_same_bits(&on_device[..ROWS * 7], &on_cpu[..ROWS * 7], "noise and ranges on both engines");
        }
    }
}

/// A norm of 0, and one whose square leaves f32.
#[test]
fn norms_that_f32_does_not_hold_change_nothing() {
    let layout = Layout::builder().packed().tensor("a", &[4, 2]).build().unwrap();
    let rows = Rows::default().with_projection("a", Projection::unit_norm(0..2));
    let params = [0.0, -0.0, 1e30, 1e30, 3.0, -4.0, 1e-30, 0.0];
    let mut both = Both::new(&Optimizer::builder(Sgd::default().with_lr(0.0)).rows(rows), &layout, &params);
    both.step(&[0.0; 8]);
    for found in both.params() {
        assert_eq!(found[..4], params[..4]);
        assert_eq!(found[6..], params[6..]);
        assert!((found[4] - 0.6).abs() < 1e-6 && (found[5] + 0.8).abs() < 1e-6, "{found:?}");
    }
}

/// Chunks cut rows: ranges and noise do not mind, norms are refused.
#[test]
fn chunks_may_cut_rows() {
    let layout = Layout::builder().packed().tensor("a", &[20_000, 3]).build().unwrap();
    let small = device_with(|limits| limits.max_storage_buffer_binding_size = 64 << 10);
    let rows = || Rows::default().with_projection("a", Projection::noise(0..3, 0.5, 1));
    let builder = |rows: Rows| rule("adamw").rows(rows);
    let (params, grads) = (random(1, layout.len()), random(2, layout.len()));
    let mut expected = params.clone();
    builder(rows()).build_cpu(&layout).unwrap().step(&mut expected, &grads).unwrap();
    let (on_device, of_device) = (device::upload(&small, &params), device::upload(&small, &grads));
    let mut recorded = encoder(&small);
    let mut optimizer = device::build(&small, builder(rows()), &layout).unwrap();
    optimizer.step(&mut recorded, &on_device, &of_device).unwrap();
    small.queue.submit([recorded.finish()]);
    assert_same_bits(&device::download(&small, &on_device), &expected, "chunks");
    let rows = rows().with_projection("a", Projection::unit_norm(0..3));
    let mut optimizer = device::build(&small, builder(rows), &layout).unwrap();
    let message = optimizer.step(&mut encoder(&small), &on_device, &of_device).unwrap_err().to_string();
    assert!(message.contains("a unit norm of rows") && message.contains("slices of whole rows"), "{message}");
}

#[test]
fn mistakes_with_projections_are_errors() {
    let layout = layout(true);
    let message = |rows: Rows| {
        let built = Optimizer::builder(Sgd::default()).rows(rows).build_cpu(&layout);
        built.unwrap_err().to_string()
    };
    let of_a = |projection| message(Rows::default().with_projection("a", projection));
    for (projection, text) in [
        (Projection::clamp(0..8, 0.0, 1.0), "end of the projected columns is 8"),
        (Projection::unit_norm(3..3), "end of the projected columns is 3"),
        (Projection::clamp(0..1, 1.0, 0.0), "max is 0; allowed: finite numbers from min on"),
        (Projection::clamp(0..1, f32::NAN, 0.0), "min is NaN"),
        (Projection::noise(0..1, -1.0, 0), "std is -1; allowed: 0 or greater"),
    ] {
        let message = of_a(projection);
        assert!(message.contains(text), "{message}");
    }
    let unknown = message(Rows::default().with_projection("z", Projection::unit_norm(0..1)));
    assert!(unknown.contains("no tensor \"z\""), "{unknown}");
    let rows = || Rows::default().with_projection("c", Projection::unit_norm(0..4));
    let averaged = Optimizer::builder(Sgd::default()).rows(rows()).average(Ema::new(0.9)).build_cpu(&layout);
    assert!(matches!(averaged, Err(Error::Unsupported { .. })));
    let slow = Optimizer::builder(Sgd::default()).rows(rows()).lookahead(Lookahead::new(5, 0.5)).build_cpu(&layout);
    assert!(matches!(slow, Err(Error::Unsupported { .. })));
}
