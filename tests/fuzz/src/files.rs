//! Checkpoints with absurd contents and right checksums, loaded on the CPU.

use std::io::Cursor;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use wgpu_optim::checkpoint::{Checkpoint, LoadOptions};
use wgpu_optim::clip::Percentile;
use wgpu_optim::history::HistoryOptions;
use wgpu_optim::schedule::{Exponential, OneCycle};
use wgpu_optim::{Clip, CpuOptimizer, GroupOptions, HostSlice, NonFinite, OptimizerBuilder, RuleConfig, Schedule};

use super::configs::{layout, use_optimizer};
use super::mutate::{Change, apply, chance, change, fewest, object, odd, panic_of, pick};

/// The crate's key in the metadata.
const KEY: &str = "wgpu-optim";
/// Maximum words of a tensor that is given another shape.
const MAX_WORDS: u64 = 1 << 16;
/// Kinds of settings beside the rule.
const FLAVORS: u32 = 5;

/// A checkpoint, the changes to it, and the program that loads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    pub rule: String,
    pub flavor: u32,
    /// Flavor of the program that loads it.
    pub program: u32,
    #[serde(default)]
    pub keeps_schedule: bool,
    #[serde(default)]
    pub without_params: bool,
    pub edits: Vec<Edit>,
}

/// A change of a file. Checksums are made anew after all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Edit {
    /// In the crate's own header.
    Header(Change),
    /// In the metadata of safetensors, once offsets are there.
    Metadata(Change),
    /// Text before the last brace of the metadata.
    Text(String),
    /// The words of a tensor, repeated.
    Words(String, Vec<u32>),
    /// The shape of a tensor, and as many words as it needs.
    Shape(String, Vec<u64>),
    Dtype(String, String),
    Rename(String, String),
    Drop(String),
    /// A copy of a tensor under another name.
    Copy(String, String),
    /// The first eight bytes.
    Length(u64),
    /// Bytes to leave out at the end.
    Cut(usize),
    Append(usize),
    /// Tensors whose announced bytes end just below 2^64.
    Huge,
}

struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    words: Vec<u32>,
}

/// File `number` of a seed.
pub fn file(seed: u64, number: u64) -> File {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let rng = &mut rng;
    let rule = pick(rng, RuleConfig::NAMES).to_owned();
    let flavor = rng.random_range(0..FLAVORS);
    let program = if chance(rng, 0.8) { flavor } else { rng.random_range(0..FLAVORS) };
    let (keeps_schedule, without_params) = (chance(rng, 0.15), chance(rng, 0.15));
    let mut file = File { rule, flavor, program, keeps_schedule, without_params, edits: Vec::new() };
    let bytes = written(&file);
    let (metadata, tensors) = parts(&bytes);
    let mut header: Value = header_of(&metadata);
    for _ in 0..rng.random_range(1..4) {
        let edit = edit(rng, &mut header, &metadata, &tensors);
        file.edits.push(edit);
    }
    if chance(rng, 0.05) {
        let mode = pick(rng, &["training", "evaluation", "perturbed"]);
        file.edits.push(Edit::Header(Change::Set("/state/mode".to_owned(), json!(mode))));
        let names = ["a", "b", "none", "c"];
        file.edits.extend(names.map(|name| Edit::Copy(format!("params/{name}"), format!("training_params/{name}"))));
    }
    file
}

fn edit(rng: &mut StdRng, header: &mut Value, metadata: &Value, tensors: &[Tensor]) -> Edit {
    let tensor = tensors[rng.random_range(0..tensors.len())].name.clone();
    let small = ["scalar_states", "bias_corrections", "norms", "metric_sums", "history"];
    let tensor = if chance(rng, 0.5) { pick(rng, &small).to_owned() } else { tensor };
    let number = |rng: &mut StdRng| odd(rng).as_u64().unwrap_or(7);
    match rng.random_range(0..20) {
        0..9 => {
            // The state of the host comes before settings, which are many.
            let part = pick(rng, &["/state", "/stats", "/state", "/stats", "/settings", ""]);
            let Some(inner) = header.pointer(part) else { return Edit::Length(0) };
            if chance(rng, 0.1) {
                let count = pick(rng, &["skipped", "step", "consecutive_skipped", "first_nonfinite"]);
                let change = Change::Set(format!("/stats/{count}"), json!(u32::MAX - rng.random_range(0..3)));
                apply(header, &change);
                return Edit::Header(change);
            }
            let change = match change(rng, inner) {
                Change::Set(place, value) => Change::Set(format!("{part}{place}"), value),
                Change::Remove(place) => Change::Remove(format!("{part}{place}")),
            };
            apply(header, &change);
            Edit::Header(change)
        }
        9 => Edit::Metadata(change(rng, metadata)),
        10 => Edit::Text(format!(r#","{tensor}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)),
        11..14 => {
            let words = [0, 1, u32::MAX, 0x7fc0_0000, 0x7f80_0000, 0xff80_0000, 0x8000_0000, 0x7f7f_ffff, 0xbf80_0000];
            Edit::Words(tensor, (0..rng.random_range(1..9)).map(|_| pick(rng, &words)).collect())
        }
        14..17 => {
            let old = tensors.iter().find(|known| known.name == tensor).map_or(Vec::new(), |known| known.shape.clone());
            let mut shape = old;
            match rng.random_range(0..5) {
                0 => shape.reverse(),
                1 => shape.push(number(rng)),
                2 => drop(shape.pop()),
                _ if !shape.is_empty() => {
                    let at = rng.random_range(0..shape.len());
                    shape[at] = if chance(rng, 0.5) { rng.random_range(0..50) } else { number(rng) };
                }
                _ => shape = vec![1 << 40, 1 << 40],
            }
            Edit::Shape(tensor, shape)
        }
        17 => {
            let names =
                ["", "a/b", "params/", "header", "checksums", "norms", "history", "training_params/a", "params/a"];
            let name = pick(rng, &names).to_owned();
            match rng.random_range(0..3) {
                0 => Edit::Rename(tensor, name),
                1 => Edit::Copy(tensor, name),
                _ => Edit::Dtype(tensor, pick(rng, &["I32", "U32", "F32", "F64", "BOOL", "F4"]).to_owned()),
            }
        }
        18 => Edit::Drop(tensor),
        _ => match rng.random_range(0..3) {
            0 => Edit::Length(number(rng)),
            1 if chance(rng, 0.2) => Edit::Huge,
            1 => Edit::Cut(rng.random_range(0..300)),
            _ => Edit::Append(rng.random_range(1..300)),
        },
    }
}

/// Whether the file is refused and changes nothing, or gives an optimizer that works. Returns whether it was loaded.
///
/// # Errors
/// Everything else.
pub fn check(file: &File) -> Result<bool, String> {
    panic_of(|| {
        let bytes = bytes_of(file);
        if let Ok(checkpoint) = Checkpoint::new(Cursor::new(&bytes)) {
            from_settings(file, &checkpoint, &bytes)?;
        }
        loaded(file, &bytes)
    })?
}

/// The fewest edits that still fail.
pub fn shrink(file: &File) -> File {
    let with = |edits: &[Edit]| File { edits: edits.to_vec(), ..file.clone() };
    with(&fewest(file.edits.clone(), |edits| check(&with(edits)).is_err()))
}

/// Builds an optimizer from the file's own settings, and loads the file.
fn from_settings(file: &File, checkpoint: &Checkpoint<Cursor<&Vec<u8>>>, bytes: &Vec<u8>) -> Result<(), String> {
    let Ok(builder) = OptimizerBuilder::from_checkpoint(checkpoint) else { return Ok(()) };
    // A long history is memory, which its settings announce.
    let header = header_of(&parts_of_metadata(bytes));
    if header.pointer("/settings/history/steps").and_then(Value::as_u64).is_some_and(|steps| steps > 10_000) {
        return Ok(());
    }
    let Ok(optimizer) = builder.build_cpu(&layout()) else { return Ok(()) };
    let without = File { without_params: false, ..file.clone() };
    load(optimizer, bytes, &without, || None).map(drop)
}

fn loaded(file: &File, bytes: &Vec<u8>) -> Result<bool, String> {
    load(program(file).0, bytes, file, || Some(optimizer(&file.rule, file.program)))
}

/// The program's optimizer in another state than the file's, and its parameters.
pub fn program(file: &File) -> (CpuOptimizer, Vec<f32>) {
    let mut optimizer = optimizer(&file.rule, file.program);
    let (mut params, grads) = (vec![0.75; layout().len()], vec![0.125; layout().len()]);
    let _ = optimizer.step(&mut params, HostSlice::from(&grads[..]));
    (optimizer, params)
}

/// Loads into an optimizer, and uses it. The file that it then saves must be one that `another` loads.
fn load(
    mut optimizer: CpuOptimizer,
    bytes: &Vec<u8>,
    file: &File,
    another: impl Fn() -> Option<CpuOptimizer>,
) -> Result<bool, String> {
    let layout = layout();
    let mut params = vec![0.25; layout.len()];
    let before = image(&optimizer, &params);
    let options = LoadOptions::default();
    let options = if file.keeps_schedule { options.keep_schedule() } else { options };
    let wanted = (!file.without_params).then_some((&mut params).into());
    let result = Checkpoint::new(Cursor::new(bytes))
        .and_then(|mut checkpoint| optimizer.load_from(&mut checkpoint, wanted, &options));
    if let Err(error) = result {
        let _ = error.to_string();
        let same = image(&optimizer, &params) == before;
        return if same { Ok(false) } else { Err(format!("changed by a refused file: {error}")) };
    }
    let after = image(&optimizer, &params);
    if let Some(mut other) = another() {
        let mut others = vec![0.0; layout.len()];
        let options = LoadOptions::default();
        let _ = Checkpoint::new(Cursor::new(&after))
            .and_then(|mut again| other.load_from(&mut again, Some((&mut others).into()), &options))
            .map_err(|error| format!("a loaded optimizer saved a file that is refused: {error}"))?;
        // Records of an altered history may claim to be of the same step: they have no order.
        let is_history = |edit: &Edit| format!("{edit:?}").contains("\"history\"");
        if image(&other, &others) != after && !file.edits.iter().any(is_history) {
            return Err("a loaded optimizer, saved and loaded again, is another".to_owned());
        }
    }
    let grads = vec![0.5; layout.len()];
    if let Err(wgpu_optim::Error::EvaluationMode { .. }) = optimizer.step(&mut params, HostSlice::from(&grads[..])) {
        optimizer.train(&mut params).map_err(|error| format!("evaluation without a way back: {error}"))?;
    }
    use_optimizer(&mut optimizer, &mut params, &layout);
    Ok(true)
}

/// Everything that the next step depends on.
pub fn image(optimizer: &CpuOptimizer, params: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    optimizer.save_to(&mut bytes, Some(params.into())).unwrap_or_else(|error| panic!("saving: {error}"));
    bytes
}

fn optimizer(rule: &str, flavor: u32) -> CpuOptimizer {
    let builder = |cycles: bool| {
        let rule = serde_json::from_value::<RuleConfig>(json!({"name": rule}));
        let builder = rule.unwrap_or_else(|error| panic!("the rule: {error}")).builder();
        match flavor {
            1 => builder
                .schedule(Schedule::warmup_cosine(0.125, 2, 20))
                .clip(Clip::global_norm(0.5))
                .history(HistoryOptions::steps(4).with_norms_every(2).per_group()),
            2 => builder
                .schedule(OneCycle::new(0.5, 30).with_cycle_momentum(cycles))
                .clip(Percentile::new(50.0).with_window(3)),
            3 => builder
                .group("own", GroupOptions::default().with_schedule(Exponential::new(0.25, 0.5)))
                .on_nonfinite(NonFinite::Stop)
                .history(3),
            _ => builder,
        }
        .build_cpu(&layout())
    };
    let built = builder(true).or_else(|_| builder(false));
    let mut optimizer = built.unwrap_or_else(|error| panic!("flavor {flavor} of {rule}: {error}"));
    if flavor == 3 {
        let _ = optimizer.set_grad_scale(2.0);
    }
    optimizer
}

/// The file before its edits.
fn written(file: &File) -> Vec<u8> {
    let mut optimizer = optimizer(&file.rule, file.flavor);
    let mut params = vec![0.5; layout().len()];
    for grad in [0.25, -0.5, 1.0] {
        let grads = vec![grad; params.len()];
        optimizer.step(&mut params, HostSlice::from(&grads[..])).unwrap_or_else(|error| panic!("a step: {error}"));
    }
    if file.flavor == 4 {
        let _ = optimizer.eval(&mut params);
    }
    image(&optimizer, &params)
}

fn parts_of_metadata(bytes: &[u8]) -> Value {
    let (first, rest) = bytes.split_at(8);
    let len = first.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
    serde_json::from_slice(&rest[..len]).unwrap_or_default()
}

fn parts(bytes: &[u8]) -> (Value, Vec<Tensor>) {
    let metadata = parts_of_metadata(bytes);
    let len: usize = metadata_len(bytes);
    let data = &bytes[8 + len..];
    let mut tensors = Vec::new();
    for (name, info) in object(&metadata) {
        if name == "__metadata__" || name == "checksums" {
            continue;
        }
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let [start, end] = [0, 1].map(|i| number(&info["data_offsets"][i]) as usize);
        let words =
            data[start..end].chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let dtype = info["dtype"].as_str().unwrap_or_default().to_owned();
        let shape = info["shape"].as_array().map_or(Vec::new(), |shape| shape.iter().map(number).collect());
        tensors.push((start, Tensor { name, dtype, shape, words: words.collect() }));
    }
    tensors.sort_by_key(|(start, tensor)| (*start, tensor.words.len()));
    (metadata, tensors.into_iter().map(|(_, tensor)| tensor).collect())
}

fn metadata_len(bytes: &[u8]) -> usize {
    bytes[..8].iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte))
}

fn header_of(metadata: &Value) -> Value {
    let text = metadata.pointer("/__metadata__/wgpu-optim").and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Tensors after byte `at`: nine large ones, then as many checksums as there are tensors.
fn add_huge(fields: &mut Map<String, Value>, at: u64) {
    let (mut at, checksums) = (at, fields.len() as u64 + 9);
    let mut left = u64::MAX / 4 - at / 4 - checksums;
    for i in 0..8 {
        let words = left.min(1 << 58 << 1).min((1 << 59) - 1);
        fields.insert(format!("z{i}"), json!({"dtype": "F32", "shape": [words], "data_offsets": [at, at + 4 * words]}));
        (at, left) = (at + 4 * words, left - words);
    }
    let checksums = fields.len() as u64;
    let end = at + 4 * checksums;
    fields.insert("checksums".to_owned(), json!({"dtype": "U32", "shape": [checksums], "data_offsets": [at, end]}));
}

/// The file with its edits, and right checksums.
pub fn bytes_of(file: &File) -> Vec<u8> {
    let (metadata, mut tensors) = parts(&written(file));
    let mut header = header_of(&metadata);
    for edit in &file.edits {
        edit_tensors(edit, &mut tensors);
        if let Edit::Header(change) = edit {
            apply(&mut header, change);
        }
    }
    let mut fields = Map::from_iter([("__metadata__".to_owned(), json!({KEY: header.to_string()}))]);
    let (mut at, checksums) = (0, tensors.len() + 1);
    let mut add = |name: &str, dtype: &str, shape: &[u64], words: usize| {
        let end = at + 4 * words;
        fields.insert(name.to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    };
    for tensor in &tensors {
        add(&tensor.name, &tensor.dtype, &tensor.shape, tensor.words.len());
    }
    if file.edits.contains(&Edit::Huge) {
        add_huge(&mut fields, at as u64);
    } else {
        add("checksums", "U32", &[checksums as u64], checksums);
    }
    let mut metadata = Value::Object(fields);
    for edit in &file.edits {
        if let Edit::Metadata(change) = edit {
            apply(&mut metadata, change);
        }
    }
    let mut text = metadata.to_string();
    for edit in &file.edits {
        if let (Edit::Text(more), Some(end)) = (edit, text.rfind('}')) {
            text.insert_str(end, more);
        }
    }
    let length = file.edits.iter().find_map(|edit| if let Edit::Length(len) = edit { Some(*len) } else { None });
    let mut bytes = length.unwrap_or(text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.bytes());
    let mut sums = vec![crc32fast::hash(&bytes)];
    for tensor in &tensors {
        let words: Vec<u8> = tensor.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        sums.push(crc32fast::hash(&words));
        bytes.extend(words);
    }
    bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    for edit in &file.edits {
        match edit {
            Edit::Cut(count) => bytes.truncate(bytes.len().saturating_sub(*count).max(8)),
            Edit::Append(count) => bytes.extend(std::iter::repeat_n(0, *count)),
            _ => {}
        }
    }
    bytes
}

fn edit_tensors(edit: &Edit, tensors: &mut Vec<Tensor>) {
    fn of<'a>(tensors: &'a mut [Tensor], name: &String) -> Option<&'a mut Tensor> {
        tensors.iter_mut().find(|tensor| tensor.name == *name)
    }
    match edit {
        Edit::Words(name, words) => {
            if let Some(tensor) = of(tensors, name) {
                let len = tensor.words.len();
                tensor.words = words.iter().copied().cycle().take(len).collect();
            }
        }
        Edit::Shape(name, shape) => {
            if let Some(tensor) = of(tensors, name) {
                let words = shape.iter().try_fold(1u64, |product, len| product.checked_mul(*len));
                let words = words.filter(|words| *words <= MAX_WORDS).unwrap_or(3) as usize;
                let old = if tensor.words.is_empty() { vec![1] } else { tensor.words.clone() };
                tensor.words = old.into_iter().cycle().take(words).collect();
                tensor.shape.clone_from(shape);
            }
        }
        Edit::Dtype(name, dtype) => {
            if let Some(tensor) = of(tensors, name) {
                tensor.dtype.clone_from(dtype);
            }
        }
        Edit::Rename(name, new) => {
            if let Some(tensor) = of(tensors, name) {
                tensor.name.clone_from(new);
            }
        }
        Edit::Drop(name) => tensors.retain(|tensor| tensor.name != *name),
        Edit::Copy(name, new) => {
            if let Some(Tensor { dtype, shape, words, .. }) = of(tensors, name) {
                let copy =
                    Tensor { name: new.clone(), dtype: dtype.clone(), shape: shape.clone(), words: words.clone() };
                tensors.push(copy);
            }
        }
        _ => {}
    }
}
