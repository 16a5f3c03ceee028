//! Reads a checkpoint, and checks it before an optimizer changes.

#[cfg(not(target_arch = "wasm32"))]
use std::fs::File;
#[cfg(not(target_arch = "wasm32"))]
use std::io::BufReader;
use std::io::{Read, Seek};
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use serde_json::{Map, Value};

use super::difference::Difference;
use super::entries::{CHECKSUMS, Place, bulk_entries};
use super::error::CheckpointError;
use super::header::Header;
use super::options::{LoadOptions, Loaded};
use super::settings::{differences, parse, parsed_precision, settings, with_all_options};
use super::small::SmallState;
use super::tensor_file::{Part, TensorFile, check_dtype, other_shape};
use crate::plan::{HostScale, Mode, PlanSettings, PlanState, StepPlan};
use crate::rule::StateSpec;
use crate::{Lookahead, Stats};

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
    pub(crate) file: TensorFile<R>,
    header: Header,
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
        Self::of(TensorFile::open(path.as_ref())?)
    }
}

impl<R: Read + Seek> Checkpoint<R> {
    /// Reads the header of a stream, such as `std::io::Cursor` over bytes. The stream ends with the checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], [`CheckpointError::NotSafetensors`], [`CheckpointError::NotACheckpoint`],
    /// [`CheckpointError::NewerFormat`], [`CheckpointError::Length`].
    pub fn new(source: R) -> Result<Self, CheckpointError> {
        Self::of(TensorFile::new(source)?)
    }

    fn of(file: TensorFile<R>) -> Result<Self, CheckpointError> {
        let header = Header::parse(&file.metadata)?;
        file.check_len()?;
        check_tensors(&file)?;
        Ok(Self { file, header })
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
        self.file.names.iter().filter_map(|name| Some((name.as_str(), &*self.file.metadata.info(name)?.shape)))
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
        options.check_names(&plan.layout)?;
        if wants_params && !self.file.names.iter().any(|name| name.starts_with("params/")) {
            return Err(CheckpointError::NoParams);
        }
        let saved = &self.header.state;
        let state = plan.loaded_state(saved, options.keeps_schedule)?;
        let (begun, is_replaced) = (self.begun(plan), saved.mode != Mode::Training);
        let mut entries = bulk_entries(plan, wants_params, saved.mode, &options.renamed);
        let from = if is_replaced { "training_params" } else { "params" };
        for entry in entries.iter_mut().filter(|_| wants_params || is_replaced) {
            if let Some(tensor) = begun.iter().find_map(|state| entry.name.strip_prefix(state)) {
                entry.name = format!("{from}/{tensor}");
            }
        }
        // A program that wants no parameters leaves those of the file alone.
        let concerns = |name: &str| {
            let is_needed = ["states/", "training_params/", "segment_states"];
            is_needed.iter().any(|prefix| name.starts_with(prefix)) || wants_params && name.starts_with("params/")
        };
        let entries = self.file.matching(entries, concerns).map_err(|error| match error {
            CheckpointError::Tensors { missing, unknown, .. } if !begun.is_empty() && !wants_params => {
                let remedy = "load the parameters too: an average and Lookahead begin as they are";
                CheckpointError::Tensors { missing, unknown, remedy }
            }
            error => error,
        })?;
        let checksums = self.verify()?;
        let parts = self.file.parts(entries, &checksums)?.into_iter().filter_map(|part| match part.entry.place {
            Place::State(_) => part.within(&plan.share),
            _ => Some(part),
        });
        let parts = parts.collect();
        let mut small = self.small(plan)?;
        if differences.iter().any(|difference| difference.setting.starts_with("rule.")) {
            small.forget_bias_corrections();
        }
        Ok(Contents { state, small, parts, loaded: Loaded { differences } })
    }

    /// The states of transforms that only the program has, as the start of their names. They begin as the parameters.
    fn begun(&self, plan: &StepPlan) -> Vec<String> {
        let begins = |state: &StateSpec| {
            let setting = if state.name == Lookahead::state().name { "lookahead" } else { "average" };
            let (had, start) = (self.header.settings.get(setting), format!("states/{}/", state.name));
            let had = had.is_some_and(|setting| !setting.is_null());
            (!had && !self.file.names.iter().any(|name| name.starts_with(&start))).then_some(start)
        };
        plan.rule.transform_states().iter().filter_map(begins).collect()
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
        let of_file = parsed_precision(&self.header.settings)?;
        let of_program = &plan.settings.precision;
        if of_file.params != of_program.params {
            let [file, program] = [of_file.params, of_program.params].map(|format| format!("{format:?}"));
            let remedy = "build the optimizer with the file's format";
            return Err(CheckpointError::Mismatch { what: "parameters of format", file, program, remedy });
        }
        let file = with_all_options(&self.header.settings);
        let mut differences = differences(&file, &program);
        check_transforms(plan, &file, &differences, self.begun(plan).len())?;
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

    /// Checks all checksums. Returns those of the tensors.
    fn verify(&mut self) -> Result<Vec<u32>, CheckpointError> {
        let checksums = self.file.checksums(self.file.names.len() - 1)?;
        let mut stored = vec![0; 1 + checksums.len()];
        self.file.read_exact(bytemuck::cast_slice_mut(&mut stored))?;
        let names = ["header"].into_iter().chain(self.file.names.iter().map(String::as_str));
        let found = [self.file.header_checksum].into_iter().chain(checksums.iter().copied());
        match names.zip(found).zip(stored).find(|((_, found), stored)| found != stored) {
            Some(((part, _), _)) => Err(CheckpointError::Damaged { part: part.to_owned() }),
            None => Ok(checksums),
        }
    }

    /// The small parts that fit the optimizer; as before the first step where they do not.
    fn small(&mut self, plan: &StepPlan) -> Result<SmallState, CheckpointError> {
        let mut small = SmallState::new(plan, &self.header.stats);
        for entry in small.entries(plan) {
            // Files of other frameworks lack what a step computes anew.
            let Some(info) = self.file.metadata.info(&entry.name).cloned() else { continue };
            check_dtype(&entry, &info)?;
            let is_list = matches!(entry.place, Place::Norms | Place::History);
            // Lists have any length.
            let skipped = usize::from(is_list);
            if info.shape.len() != entry.shape.len() || info.shape.get(skipped..) != entry.shape.get(skipped..) {
                if entry.place.is_optional() {
                    continue;
                }
                return Err(other_shape(entry, &info));
            }
            // The program stores the last values of a longer list.
            let max_len = if is_list { SmallState::max_list_bytes(plan, entry.place) } else { usize::MAX };
            let bytes = self.file.tail(&info, max_len)?;
            small.set(entry.place, bytes)?;
        }
        Ok(small)
    }
}

/// Refuses files whose states of transforms mean something else in the program.
fn check_transforms(
    plan: &StepPlan,
    file: &Map<String, Value>,
    differences: &[Difference],
    begun: usize,
) -> Result<(), CheckpointError> {
    let was_debiased = file.get("average").and_then(|average| average.get("debiased")) == Some(&Value::Bool(true));
    let is_debiased = plan.rule.average_correction().is_some();
    // Elements that were frozen have no average and no slow weights.
    let was_frozen = |difference: &&Difference| {
        let concerns_groups = ["groups", "members"].iter().any(|setting| difference.setting.starts_with(setting));
        concerns_groups && plan.rule.transform_states().len() > begun
    };
    let weighs_otherwise =
        |difference: &&Difference| difference.setting.starts_with("average") && (was_debiased || is_debiased);
    match differences.iter().find(|difference| was_frozen(difference) || weighs_otherwise(difference)) {
        None => Ok(()),
        Some(Difference { setting, file, program }) => Err(CheckpointError::Mismatch {
            what: "other options around the rule",
            file: format!("{setting} = {file}"),
            program: program.clone(),
            remedy: "the states of an average and of Lookahead fit only the groups and the debiased average of the file; one \
                     that begins here is not debiased",
        }),
    }
}

/// Refuses files whose last tensor is not that of the checksums, and elements of other sizes.
fn check_tensors<R>(file: &TensorFile<R>) -> Result<(), CheckpointError> {
    let (names, metadata) = (&file.names, &file.metadata);
    let checksums = names.last().filter(|name| *name == CHECKSUMS).and_then(|name| metadata.info(name));
    if checksums.is_none_or(|info| info.shape != [names.len()]) {
        let problem = format!("its last tensor is not {CHECKSUMS:?}, with a checksum of every other and of the header");
        return Err(CheckpointError::NotACheckpoint { problem });
    }
    if let Some((name, info)) = metadata.tensors().iter().find(|(_, info)| ![8, 16, 32].contains(&info.dtype.bitsize()))
    {
        let problem = format!("its tensor {name:?} is {:?}; elements have 8, 16 or 32 bits", info.dtype);
        return Err(CheckpointError::NotACheckpoint { problem });
    }
    Ok(())
}
