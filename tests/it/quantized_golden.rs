//! 8-bit states against bitsandbytes: its maps, its codes, its steps, and how far they drift from f32.

use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::repository;
use crate::quantized::{Coding, FIRST_MOMENT, PLAIN_SIGNED, SECOND_MOMENT, SIGNED, UNSIGNED, scale_of};

pub struct File {
    bytes: Vec<u8>,
    pub metadata: Value,
}

impl File {
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(repository().join("tests/golden").join(name)).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = serde_json::from_str(&metadata.metadata().as_ref().unwrap()["cases"]).unwrap();
        Self { bytes, metadata }
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().data().to_vec()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes(name))
    }
}

pub fn option(options: &Value, name: &str) -> f64 {
    options[name].as_f64().unwrap_or_else(|| panic!("no {name}"))
}

pub fn betas(options: &Value) -> Vec<f64> {
    options["betas"].as_array().unwrap().iter().map(|beta| beta.as_f64().unwrap()).collect()
}

fn map(coding: &Coding) -> Vec<f32> {
    (0..256).map(|code| coding.decode(code, 1.0)).collect()
}

/// The codes of bitsandbytes' CPU kernels: of a table with 65,536 values from -1 to 1.
struct CpuCodes(Vec<u8>);

impl CpuCodes {
    fn new(map: &[f32]) -> Self {
        let middles: Vec<f32> = map.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
        let code = |at: u32| middles.partition_point(|&middle| middle < -1.0 + (2.0 * at as f32) / 65_535.0) as u8;
        Self((0..65_536).map(code).collect())
    }

    fn code(&self, value: f32, scale: f32) -> u8 {
        if scale == 0.0 { 0 } else { self.of_quotient(value * (1.0 / scale)) }
    }

    fn of_quotient(&self, quotient: f32) -> u8 {
        self.0[((quotient.clamp(-1.0, 1.0) + 1.0) * 0.5 * 65_535.0 + 0.5) as usize]
    }
}

#[test]
fn maps_are_those_of_bitsandbytes() {
    let file = File::read("bitsandbytes_8bit.safetensors");
    for coding in [SIGNED, UNSIGNED] {
        let expected = file.floats(&format!("map/{}", coding.name));
        for (code, (level, expected)) in map(&coding).into_iter().zip(expected).enumerate() {
            assert_eq!(level.to_bits(), expected.to_bits(), "{} {code}: {level:e} for {expected:e}", coding.name);
        }
    }
}

/// Equal codes but for numbers in the middle of two, zeros below second moments, and scales below the normal range, whose
/// inverse bitsandbytes cannot take.
#[test]
fn codes_are_the_nearest_ones_of_bitsandbytes() {
    let file = File::read("bitsandbytes_8bit.safetensors");
    let kinds: Vec<_> = file.metadata["blocks"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap()).collect();
    let (values, absmax) = (file.floats("blocks/values"), file.floats("blocks/absmax"));
    let dequantized = file.floats("blocks/dequantized");
    let (mut ties, mut raised) = (0, 0);
    for coding in [SIGNED, UNSIGNED] {
        let map = map(&coding);
        let nearest = file.bytes(&format!("blocks/{}/nearest", coding.name));
        for (i, kind) in kinds.iter().enumerate() {
            let block = 256 * i..256 * (i + 1);
            let values: Vec<f32> =
                values[block.clone()].iter().map(|value| if coding.is_signed { *value } else { value.abs() }).collect();
            let scale = scale_of(&values);
            assert_eq!(scale, absmax[i], "{kind}");
            for (value, at) in values.into_iter().zip(block) {
                let (code, expected) = (coding.encode(value, scale), u32::from(nearest[at]));
                let what = format!("{} {kind}: {value:e} of {scale:e}", coding.name);
                if scale.is_normal() && code != expected {
                    let quotient = f64::from(value) / f64::from(scale);
                    let middle = f64::midpoint(f64::from(map[code as usize]), f64::from(map[expected as usize]));
                    let is_tie = code.abs_diff(expected) == 1 && (quotient / middle - 1.0).abs() < 2e-7;
                    let is_raised = !coding.is_signed && value != 0.0 && (code, expected) == (1, 0);
                    assert!(is_tie || is_raised, "{what}: {code} for {expected}");
                    ties += u32::from(is_tie);
                    raised += u32::from(is_raised);
                }
                if coding.is_signed {
                    let (decoded, expected) = (coding.decode(expected, scale), dequantized[at]);
                    let is_near = expected.is_subnormal() && (decoded - expected).abs() <= f32::from_bits(1);
                    assert!(decoded.to_bits() == expected.to_bits() || is_near, "{what}: {decoded:e} for {expected:e}");
                }
            }
        }
    }
    assert!(ties > 50 && raised > 20, "{ties} ties, {raised} raised");
}

/// The CPU's kernels of bitsandbytes choose other codes: 0 does not stay 0.
#[test]
fn cpu_codes_of_bitsandbytes_come_from_a_table() {
    let file = File::read("bitsandbytes_8bit.safetensors");
    let values = file.floats("blocks/values");
    for coding in [SIGNED, UNSIGNED] {
        let (table, codes) = (CpuCodes::new(&map(&coding)), file.bytes(&format!("blocks/{}/cpu", coding.name)));
        let mut others = 0;
        for (i, values) in values.chunks(256).enumerate() {
            let scale = scale_of(values);
            // The inverse of a scale below 2^-128 is infinite.
            for (value, code) in values.iter().zip(&codes[256 * i..]).filter(|_| scale == 0.0 || scale > 3e-39) {
                let value = if coding.is_signed { *value } else { value.abs() };
                assert_eq!(table.code(value, scale), *code, "{} {value:e} of {scale:e}", coding.name);
                others += u32::from(coding.encode(value, scale) != u32::from(*code));
            }
        }
        assert!(others > 300, "{others}");
        assert!(coding.decode(table.code(0.0, 1.0).into(), 1.0) > 1.5e-5);
    }
}

/// The moments of a step in f32, from moments before it.
pub fn moments(rule: &str, betas: &[f64], grad: f32, before: &[f32]) -> Vec<f32> {
    let lerp = |beta: f64, state: f32, to: f32| state * beta as f32 + to * (1.0 - beta) as f32;
    match rule {
        "lion" => vec![lerp(betas[1], before[0], grad)],
        "adamw" => vec![lerp(betas[0], before[0], grad), lerp(betas[1], before[1], grad * grad)],
        _ => vec![
            lerp(betas[0], before[0], grad),
            lerp(betas[1], before[1], grad * grad),
            lerp(betas[2], before[2], grad),
        ],
    }
}

/// The parameter after a step, from moments before and after it, in f64. Decay comes before the update.
fn updated(rule: &str, options: &Value, step: i32, param: f64, grad: f64, before: &[f32], after: &[f32]) -> f64 {
    let (lr, betas) = (option(options, "lr"), betas(options));
    let decayed = param * (1.0 - lr * option(options, "weight_decay"));
    if rule == "lion" {
        return decayed - lr * (f64::from(before[0]) * betas[0] + grad * (1.0 - betas[0])).signum();
    }
    let corrections = [betas[0], betas[1]].map(|beta| 1.0 - beta.powi(step));
    let first = f64::from(after[0]) / corrections[0];
    let slow = after.get(2).map_or(0.0, |slow| option(options, "alpha") * f64::from(*slow));
    decayed - lr * (first + slow) / (f64::from(after[1]).sqrt() / corrections[1].sqrt() + option(options, "eps"))
}

/// Steps of bitsandbytes: numbers from its codes, moments in f32, its codes again, parameters from the moments before
/// they become codes.
#[test]
fn steps_are_those_of_bitsandbytes() {
    let file = File::read("bitsandbytes_8bit_runs.safetensors");
    let (start, grads) = (file.floats("start"), file.floats("grads"));
    let len = start.len();
    for (rule, count) in [("adamw", 2), ("lion", 1), ("ademamix", 3)] {
        let options = &file.metadata["runs"][rule];
        let betas = betas(options);
        let codes: Vec<_> = (1..=count).map(|k| file.bytes(&format!("{rule}/state{k}"))).collect();
        let absmax: Vec<_> = (1..=count).map(|k| file.floats(&format!("{rule}/absmax{k}"))).collect();
        let codings = [SIGNED, UNSIGNED, SIGNED];
        let tables = codings.map(|coding| CpuCodes::new(&map(&coding)));
        let mut params: Vec<f64> = start.iter().map(|param| f64::from(*param)).collect();
        for step in 0..20 {
            let mut largest = vec![[0.0f32; 2]; count];
            for i in 0..len {
                let grad = grads[len * (step % 5) + i];
                let before: Vec<f32> = (0..count)
                    .map(|k| {
                        let last = step.checked_sub(1)?;
                        Some(codings[k].decode(codes[k][len * last + i].into(), absmax[k][2 * last + i / 256]))
                    })
                    .map(Option::unwrap_or_default)
                    .collect();
                let after = moments(rule, &betas, grad, &before);
                params[i] = updated(rule, options, step as i32 + 1, params[i], grad.into(), &before, &after);
                for (k, &value) in after.iter().enumerate() {
                    largest[k][i / 256] = largest[k][i / 256].max(value.abs());
                    let quotient = value / absmax[k][2 * step + i / 256];
                    let [low, high] = [-1e-6, 1e-6]
                        .map(|shift: f32| tables[k].of_quotient(quotient + shift * (1.0 + quotient.abs())));
                    let code = codes[k][len * step + i];
                    let what = format!("{rule}, step {step}, state {k}, element {i}");
                    assert!((low..=high).contains(&code), "{what}: {code}, {low} to {high}");
                }
            }
            for (k, largest) in largest.iter().enumerate() {
                for (largest, absmax) in largest.iter().zip(&absmax[k][2 * step..]) {
                    assert!((largest / absmax - 1.0).abs() < 3e-7, "{rule}, step {step}: {largest} for {absmax}");
                }
            }
        }
        for (i, (param, expected)) in params.iter().zip(file.floats(&format!("{rule}/params"))).enumerate() {
            // Decay and update round to within half an ULP in each step.
            let rounding = 2.0 * 20.0 * 2f64.powi(-24) * param.abs() + 1e-7;
            assert!((param - f64::from(expected)).abs() <= rounding, "{rule} {i}: {param} for {expected}");
        }
    }
}

/// A problem of `bitsandbytes_8bit.py`. Its curvatures and gradients spread over four decades.
pub struct Drift {
    pub options: Value,
    curvature: Vec<f32>,
    target: Vec<f32>,
    pub start: Vec<f32>,
    noise: Vec<f32>,
}

impl Drift {
    pub fn read(file: &File) -> Self {
        let of = |name: &str| file.floats(&format!("drift/{name}"));
        let options = file.metadata["drift"].clone();
        Self { options, curvature: of("curvature"), target: of("target"), start: of("start"), noise: of("noise") }
    }

    /// The parameters after the steps of the checkpoints. `store` makes codes of the moments and reads them again.
    fn run(&self, store: impl Fn(&mut [f32], &mut [f32])) -> Vec<Vec<f32>> {
        let (lr, betas) = (option(&self.options, "lr"), betas(&self.options));
        let (decay, eps) =
            ((1.0 - lr * option(&self.options, "weight_decay")) as f32, option(&self.options, "eps") as f32);
        let checkpoints: Vec<_> =
            self.options["checkpoints"].as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect();
        let len = self.start.len();
        let (mut params, mut m, mut v) = (self.start.clone(), vec![0.0; len], vec![0.0; len]);
        let mut rows = Vec::new();
        for step in 1..=*checkpoints.last().unwrap() {
            let corrections = [betas[0], betas[1]].map(|beta| 1.0 - beta.powi(step as i32));
            let noise = &self.noise[len * ((step as usize - 1) % 8)..];
            for i in 0..len {
                let grad = self.curvature[i] * (params[i] - self.target[i]) + noise[i];
                let moments = moments("adamw", &betas, grad, &[m[i], v[i]]);
                (m[i], v[i]) = (moments[0], moments[1]);
                let denom = v[i].sqrt() / corrections[1].sqrt() as f32 + eps;
                params[i] = params[i] * decay - (lr / corrections[0]) as f32 * (m[i] / denom);
            }
            store(&mut m, &mut v);
            if checkpoints.contains(&step) {
                rows.push(params.clone());
            }
        }
        rows
    }

    /// The gradients of a step, which counts from 0.
    pub fn grads(&self, step: usize, params: &[f32]) -> Vec<f32> {
        let noise = &self.noise[params.len() * (step % 8)..];
        (0..params.len()).map(|i| self.curvature[i] * (params[i] - self.target[i]) + noise[i]).collect()
    }

    fn loss(&self, params: &[f32]) -> f32 {
        params
            .iter()
            .zip(&self.curvature)
            .zip(&self.target)
            .map(|((param, curvature), target)| curvature * (param - target).powi(2))
            .sum()
    }
}

/// Largest and root mean square difference.
pub fn apart(left: &[f32], right: &[f32]) -> (f32, f32) {
    let squares = left.iter().zip(right).map(|(left, right)| (left - right).powi(2));
    let (sum, largest) = squares.fold((0.0, 0.0f32), |(sum, largest), square| (sum + square, largest.max(square)));
    (largest.sqrt(), (sum / left.len() as f32).sqrt())
}

/// The nearest code, 0 included.
fn plainly_rounded(coding: &Coding, bits: u32, scale: u32) -> u32 {
    let code = (coding.code)(bits, scale);
    let share = f64::from(f32::from_bits(bits)) / f64::from(f32::from_bits(scale));
    let middle = f64::midpoint(0.0, (coding.compand)(f64::from(coding.decode(1, 1.0))));
    if code == 1 && (coding.compand)(share) < middle { 0 } else { code }
}

const PLAIN_UNSIGNED: Coding = Coding { code: |bits, scale| plainly_rounded(&UNSIGNED, bits, scale), ..UNSIGNED };
const PLAIN_SECOND_MOMENT: Coding =
    Coding { code: |bits, scale| plainly_rounded(&SECOND_MOMENT, bits, scale), ..SECOND_MOMENT };

/// 1,000 steps whose states are codes in between: largest and root mean square distance of the parameters from those of
/// f32, after 20, 200 and 1,000.
#[test]
fn states_of_8_bits_stay_near_those_of_f32() {
    let file = File::read("bitsandbytes_8bit.safetensors");
    let drift = Drift::read(&file);
    let exact = drift.run(|_, _| {});
    let golden = |name: &str| -> Vec<Vec<f32>> {
        file.floats(&format!("drift/{name}")).chunks(exact[0].len()).map(<[f32]>::to_vec).collect()
    };
    let distances =
        |rows: &[Vec<f32>]| -> Vec<_> { rows.iter().zip(&exact).map(|(row, exact)| apart(row, exact)).collect() };
    let run = |first: Coding, second: Coding| {
        drift.run(move |m, v| {
            first.store(m);
            second.store(v);
        })
    };
    assert!(distances(&golden("float32")).iter().all(|distance| distance.0 < 1e-4));

    let of_cpu = distances(&golden("cpu"));
    let (dynamic, companded) = (run(SIGNED, UNSIGNED), run(FIRST_MOMENT, SECOND_MOMENT));
    for rows in [&dynamic, &companded] {
        assert!(drift.loss(&rows[2]) < 1.01 * drift.loss(&exact[2]), "{}", drift.loss(&rows[2]));
    }
    for ((ours, theirs), bound) in distances(&dynamic).iter().zip(&of_cpu).zip([0.06, 0.2, 0.01]) {
        assert!(ours.1 < bound && ours.1 < theirs.1, "{ours:?} for {theirs:?}");
    }
    for (distance, bound) in distances(&companded).iter().zip([0.1, 0.45, 0.25]) {
        assert!(distance.1 < bound, "{distance:?}");
    }

    // A second moment of 0 beside a momentum: bitsandbytes leaves the problem with the nearest codes, as both codings
    // would.
    let of_nearest = distances(&golden("nearest"));
    let plain = run(PLAIN_SIGNED, PLAIN_UNSIGNED);
    assert!(apart(&plain[0], &golden("nearest")[0]).1 < 1e-2, "{:?}", apart(&plain[0], &golden("nearest")[0]));
    for distances in [of_nearest, distances(&plain), distances(&run(FIRST_MOMENT, PLAIN_SECOND_MOMENT))] {
        assert!(distances[2].0 > 10.0, "{distances:?}");
    }
}
