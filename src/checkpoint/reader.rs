//! Reads a checkpoint, and checks it before an optimizer changes.

use std::collections::{HashMap, HashSet};
#[cfg(not(target_arch = "wasm32"))]
use std::fs::File;
#[cfg(not(target_arch = "wasm32"))]
use std::io::BufReader;
use std::io::{Read, Seek, SeekFrom};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value};

use super::difference::Difference;
use super::entries::{CHECKSUMS, Entry, Place, bulk_entries};
use super::error::CheckpointError;
use super::header::{Header, LENGTH_BYTES};
use super::options::{LoadOptions, Loaded};
use super::settings::{differences, parse, settings, with_all_options};
use super::small::SmallState;
use crate::Stats;
use crate::plan::{HostScale, PlanSettings, PlanState, StepPlan};

/// Bytes that are read at a time.
pub(crate) const WINDOW: usize = 1 << 20;

/// An open checkpoint: the header of a file, read and checked.
///
/// ```no_run
/// use wgpu_optim::checkpoint::Checkpoint;
/// let checkpoint = Checkpoint::open("run.safetensors")?;
/// println!("step {}, {} tensors", checkpoint.stats().step, checkpoint.tensors().count());
/// # Ok::<(), wgpu_optim::checkpoint::CheckpointError>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint<R> {
    source: R,
    header: Header,
    header_checksum: u32,
    /// First byte of the tensors.
    start: u64,
    /// Names in the order of the file.
    names: Vec<String>,
    tensors: HashMap<String, TensorInfo>,
}

/// A part of a file that belongs into an optimizer.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) entry: Entry,
    /// Checksum of its bytes.
    checksum: u32,
}

/// The checked contents of a file, for one optimizer.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) state: PlanState,
    pub(crate) small: SmallState,
    /// Large parts, in the order of the optimizer.
    pub(crate) parts: Vec<Part>,
    pub(crate) loaded: Loaded,
}

#[cfg(not(target_arch = "wasm32"))]
impl Checkpoint<BufReader<File>> {
    /// Opens a file, and reads its header.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], and those of [`Checkpoint::new`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let failed = |source| CheckpointError::Io { action: "reading", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        Self::new(BufReader::with_capacity(WINDOW, file)).map_err(|error| match error {
            CheckpointError::Stream(source) => failed(source),
            error => error,
        })
    }
}

impl<R: Read + Seek> Checkpoint<R> {
    /// Reads the header of a stream, such as `std::io::Cursor` over bytes. The stream ends with the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], [`CheckpointError::NotACheckpoint`], [`CheckpointError::NewerFormat`],
    /// [`CheckpointError::Length`].
    pub fn new(mut source: R) -> Result<Self, CheckpointError> {
        let file_len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut first = [0; LENGTH_BYTES as usize];
        if file_len < LENGTH_BYTES {
            return Err(CheckpointError::Length { expected: LENGTH_BYTES, actual: file_len });
        }
        source.read_exact(&mut first)?;
        let mut text = vec![0; Header::len(first, file_len)? as usize];
        source.read_exact(&mut text)?;
        let (header, metadata) = Header::parse(&text, file_len)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&first);
        hasher.update(&text);
        let start = LENGTH_BYTES + text.len() as u64;
        let (names, tensors) = tensors_of(&metadata)?;
        Ok(Self { source, header, header_checksum: hasher.finalize(), start, names, tensors })
    }

    /// The version of the file's format.
    pub fn format(&self) -> u32 {
        self.header.format
    }

    /// The statistics of the last step before the file was written.
    pub fn stats(&self) -> &Stats {
        &self.header.stats
    }

    /// Name and shape of every tensor in the file, in the order of the file.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.names.iter().filter_map(|name| Some((name.as_str(), &*self.tensors.get(name)?.shape)))
    }

    /// The settings of the optimizer that wrote the file.
    pub(crate) fn plan_settings(&self) -> Result<PlanSettings, CheckpointError> {
        let mut settings = parse(&self.header.settings)?;
        settings.schedule.clone_from(&self.header.state.schedule);
        settings.momentum = self.header.state.momentum;
        Ok(settings)
    }

    /// Checks the file against its checksums, and against an optimizer. Returns what the optimizer needs.
    pub(crate) fn check(
        &mut self,
        plan: &StepPlan,
        wants_params: bool,
        options: &LoadOptions,
    ) -> Result<Contents, CheckpointError> {
        let differences = self.differences(plan, options)?;
        if options.is_exact && !differences.is_empty() {
            return Err(CheckpointError::Settings(differences));
        }
        for tensor in options.renamed.keys() {
            if plan.layout.tensor(tensor).is_none() {
                return Err(CheckpointError::UnknownTensor { tensor: tensor.clone() });
            }
        }
        if wants_params && !self.names.iter().any(|name| name.starts_with("params/")) {
            return Err(CheckpointError::NoParams);
        }
        let saved = &self.header.state;
        let state = plan.loaded_state(saved, options.keeps_schedule)?;
        let entries = bulk_entries(plan, wants_params, saved.mode, &options.renamed);
        let entries = self.matching(entries, wants_params)?;
        let checksums = self.verify()?;
        let part = |entry: Entry| {
            let checksum = checksums.get(&entry.name).copied();
            let checksum = checksum.ok_or_else(|| CheckpointError::Damaged { part: entry.name.clone() })?;
            Ok(Part { entry, checksum })
        };
        let parts = entries.into_iter().map(part).collect::<Result<_, CheckpointError>>()?;
        let mut small = self.small(plan)?;
        if differences.iter().any(|difference| difference.setting.starts_with("rule.")) {
            small.forget_bias_corrections();
        }
        Ok(Contents { state, small, parts, loaded: Loaded { differences } })
    }

    /// The differences of settings that an optimizer can continue with.
    fn differences(&self, plan: &StepPlan, options: &LoadOptions) -> Result<Vec<Difference>, CheckpointError> {
        let program = settings(plan, &options.renamed);
        let name = |settings: &Map<String, Value>| match settings.get("rule").and_then(|rule| rule.get("name")) {
            Some(Value::String(name)) => name.clone(),
            _ => "none".to_owned(),
        };
        let (file_rule, program_rule) = (name(&self.header.settings), name(&program));
        if file_rule != program_rule {
            return Err(CheckpointError::Mismatch {
                what: "the rule",
                file: file_rule,
                program: program_rule,
                remedy: "states of one rule mean nothing to another; build the optimizer with the file's rule",
            });
        }
        let file = with_all_options(&self.header.settings);
        let mut differences = differences(&file, &program);
        check_transforms(plan, &file, &differences)?;
        // Learning rates are the schedule's.
        differences.retain(|difference| difference.setting != "rule.lr");
        let (file, program) = (&self.header.state.schedule, &*plan.state.schedule);
        if file.is_none() || (options.keeps_schedule && file.as_ref() != Some(program)) {
            let file = file.as_ref().map_or_else(|| "a function, which no file holds".to_owned(), ToString::to_string);
            differences.push(Difference { setting: "schedule".to_owned(), file, program: program.to_string() });
        }
        // A file holds no buffer, and a bound buffer stays bound.
        let (file, program) = (self.header.state.grad_scale, *plan.state.grad_scale);
        if file != program && [file, program].contains(&Some(HostScale::Buffer)) {
            let [file, program] = [file, program].map(|scale| format!("{scale:?}"));
            differences.push(Difference { setting: "grad_scale".to_owned(), file, program });
        }
        Ok(differences)
    }

    /// The expected entries that the file has. Refuses missing and unknown ones, and other shapes.
    fn matching(&self, expected: Vec<Entry>, wants_params: bool) -> Result<Vec<Entry>, CheckpointError> {
        let names: HashSet<&str> = expected.iter().map(|entry| entry.name.as_str()).collect();
        // A program that wants no parameters leaves those of the file alone.
        let concerns = |name: &str| {
            let is_needed = ["states/", "training_params/", "segment_states"];
            is_needed.iter().any(|prefix| name.starts_with(prefix)) || wants_params && name.starts_with("params/")
        };
        let unknown = self.names.iter().filter(|name| concerns(name) && !names.contains(name.as_str()));
        let unknown: Vec<String> = unknown.cloned().collect();
        let lacks = |entry: &&Entry| !entry.place.is_optional() && !self.tensors.contains_key(&entry.name);
        let missing: Vec<String> = expected.iter().filter(lacks).map(|entry| entry.name.clone()).collect();
        if !unknown.is_empty() || !missing.is_empty() {
            return Err(CheckpointError::Tensors { missing, unknown });
        }
        let mut matching = Vec::new();
        for entry in expected {
            let Some(info) = self.tensors.get(&entry.name) else { continue };
            check_dtype(&entry, info)?;
            if info.shape == entry.shape {
                matching.push(entry);
            } else if !entry.place.is_optional() {
                return Err(other_shape(entry, info));
            }
        }
        Ok(matching)
    }

    /// Checks all checksums. Returns those of the tensors.
    fn verify(&mut self) -> Result<HashMap<String, u32>, CheckpointError> {
        self.source.seek(SeekFrom::Start(self.start))?;
        let mut checksums = vec![("header".to_owned(), self.header_checksum)];
        let names = self.names.split_last().map_or(&[][..], |(_, names)| names);
        for (name, info) in names.iter().filter_map(|name| Some((name, self.tensors.get(name)?))) {
            let checksum = read_windows(&mut self.source, len(info), WINDOW, |_| Ok::<_, CheckpointError>(()))??;
            checksums.push((name.clone(), checksum));
        }
        let mut stored = vec![0; checksums.len()];
        self.source.read_exact(bytemuck::cast_slice_mut(&mut stored))?;
        for ((part, checksum), stored) in checksums.iter().zip(stored) {
            if *checksum != stored {
                return Err(CheckpointError::Damaged { part: part.clone() });
            }
        }
        Ok(checksums.into_iter().collect())
    }

    /// The small parts that fit the optimizer; as before the first step where they do not.
    fn small(&mut self, plan: &StepPlan) -> Result<SmallState, CheckpointError> {
        let mut small = SmallState::new(plan, &self.header.stats);
        for entry in small.entries(plan) {
            // Files of other frameworks lack what a step computes anew.
            let Some(info) = self.tensors.get(&entry.name) else { continue };
            check_dtype(&entry, info)?;
            let is_list = matches!(entry.place, Place::Norms | Place::History);
            // Lists have any length.
            let skipped = usize::from(is_list);
            if info.shape.len() != entry.shape.len() || info.shape.get(skipped..) != entry.shape.get(skipped..) {
                if entry.place.is_optional() {
                    continue;
                }
                return Err(other_shape(entry, info));
            }
            let (_, end) = info.data_offsets;
            // The program stores the last values of a longer list.
            let bytes = len(info).min(if is_list { SmallState::max_list_bytes(plan, entry.place) } else { usize::MAX });
            let mut bytes = vec![0; bytes];
            self.source.seek(SeekFrom::Start(self.start.saturating_add((end - bytes.len()) as u64)))?;
            self.source.read_exact(&mut bytes)?;
            small.set(entry.place, bytes)?;
        }
        Ok(small)
    }

    /// Reads a part in windows of at most so many bytes.
    pub(crate) fn read(
        &mut self,
        part: &Part,
        window: usize,
        put: impl FnMut(&[u8]) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let changed = || CheckpointError::ChangedWhileRead;
        let info = self.tensors.get(&part.entry.name).ok_or_else(changed)?;
        let start = self.start.saturating_add(info.data_offsets.0 as u64);
        self.source.seek(SeekFrom::Start(start)).map_err(|_| changed())?;
        let checksum = read_windows(&mut self.source, len(info), window, put).map_err(|_| changed())??;
        if checksum == part.checksum { Ok(()) } else { Err(changed()) }
    }
}

/// Reads so many bytes in windows. Returns their checksum, or the first error of `put`.
fn read_windows<E>(
    source: &mut impl Read,
    len: usize,
    window: usize,
    mut put: impl FnMut(&[u8]) -> Result<(), E>,
) -> std::io::Result<Result<u32, E>> {
    let (mut hasher, mut bytes, mut left) = (crc32fast::Hasher::new(), Vec::new(), len);
    while left > 0 {
        bytes.resize(left.min(window.max(1)), 0);
        source.read_exact(&mut bytes)?;
        hasher.update(&bytes);
        if let Err(error) = put(&bytes) {
            return Ok(Err(error));
        }
        left -= bytes.len();
    }
    Ok(Ok(hasher.finalize()))
}

/// Bytes of a tensor.
fn len(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

fn other_shape(entry: Entry, info: &TensorInfo) -> CheckpointError {
    CheckpointError::Shape { tensor: entry.name, file: info.shape.clone(), program: entry.shape }
}

/// Refuses integers in place of floats, and floats in place of integers.
fn check_dtype(entry: &Entry, info: &TensorInfo) -> Result<(), CheckpointError> {
    let expected = entry.dtype();
    if info.dtype == expected {
        return Ok(());
    }
    let problem = format!("its tensor {:?} is {:?} in place of {expected:?}", entry.name, info.dtype);
    Err(CheckpointError::NotACheckpoint { problem })
}

/// Refuses files whose states of transforms mean something else in the program.
fn check_transforms(
    plan: &StepPlan,
    file: &Map<String, Value>,
    differences: &[Difference],
) -> Result<(), CheckpointError> {
    let was_debiased = file.get("average").and_then(|average| average.get("debiased")) == Some(&Value::Bool(true));
    let is_debiased = plan.rule.average_correction().is_some();
    // Elements that were frozen have no average and no slow weights.
    let was_frozen = |difference: &&Difference| {
        let concerns_groups = ["groups", "members"].iter().any(|setting| difference.setting.starts_with(setting));
        concerns_groups && !plan.rule.transform_states().is_empty()
    };
    let weighs_otherwise =
        |difference: &&Difference| difference.setting.starts_with("average") && (was_debiased || is_debiased);
    match differences.iter().find(|difference| was_frozen(difference) || weighs_otherwise(difference)) {
        None => Ok(()),
        Some(Difference { setting, file, program }) => Err(CheckpointError::Mismatch {
            what: "other options around the rule",
            file: format!("{setting} = {file}"),
            program: program.clone(),
            remedy: "the states of an average and of Lookahead fit only the groups and the debiased average of the file",
        }),
    }
}

/// Names in the order of the file, the checksums last; the tensors by their names.
fn tensors_of(metadata: &Metadata) -> Result<(Vec<String>, HashMap<String, TensorInfo>), CheckpointError> {
    let names = metadata.offset_keys();
    let tensors: HashMap<_, _> = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    let checksums = names.last().filter(|name| *name == CHECKSUMS).and_then(|name| tensors.get(name));
    if checksums.is_none_or(|info| info.shape != [names.len()]) {
        let problem = format!("its last tensor is not {CHECKSUMS:?}, with a checksum of every other and of the header");
        return Err(CheckpointError::NotACheckpoint { problem });
    }
    if let Some((name, info)) = tensors.iter().find(|(_, info)| info.dtype.bitsize() != 32) {
        let problem = format!("its tensor {name:?} is {:?}; elements have 32 bits", info.dtype);
        return Err(CheckpointError::NotACheckpoint { problem });
    }
    Ok((names, tensors))
}
