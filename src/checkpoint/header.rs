//! The header of a checkpoint: everything but the tensors, as JSON in the file's metadata.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, Metadata};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entries::{CHECKSUMS, Entry};
use super::error::CheckpointError;
use super::settings::{json, settings};
use super::tensor_file::header_bytes;
use crate::Stats;
use crate::plan::{PlanState, SavedPlanState, StepPlan};

/// The newest format that this version reads, and the one that it writes.
const FORMAT: u32 = 1;
/// Key of the header in the file's metadata.
const KEY: &str = "wgpu-optim";

/// Maximum steps recorded: schedules read them as f64, and no count of later ones overflows.
const MAX_RECORDED: u64 = 1 << 53;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(super) format: u32,
    pub(super) settings: Map<String, Value>,
    pub(super) state: SavedPlanState,
    /// Statistics of the last step; without metrics, which [`Place::MetricSums`](super::entries::Place) holds.
    pub(super) stats: Stats,
}

fn not_a_checkpoint(problem: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::NotACheckpoint { problem: problem.to_string() }
}

impl Header {
    /// The header of an optimizer with that state.
    pub(crate) fn new(plan: &StepPlan, state: &PlanState, stats: Stats) -> Self {
        Self { format: FORMAT, settings: settings(plan, &HashMap::new()), state: state.saved(), stats }
    }

    /// The bytes of a file before its tensors.
    pub(super) fn bytes(&self, entries: &[Entry]) -> Result<Vec<u8>, CheckpointError> {
        // By way of `Value`, whose numbers are f64: f32 are written with all their digits.
        let metadata = HashMap::from([(KEY.to_owned(), json(self).to_string())]);
        header_bytes(entries, [(CHECKSUMS, Dtype::U32, entries.len() + 1)], Some(metadata))
    }

    /// Reads the header from the metadata of a file.
    pub(super) fn parse(metadata: &Metadata) -> Result<Self, CheckpointError> {
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.ok_or_else(|| not_a_checkpoint(format!("its metadata have no key {KEY:?}")))?;
        let header: Map<String, Value> = serde_json::from_str(header).map_err(not_a_checkpoint)?;
        let format = header.get("format").and_then(Value::as_u64);
        let format = format.ok_or_else(|| not_a_checkpoint("its header has no format"))?;
        if format > FORMAT.into() {
            return Err(CheckpointError::NewerFormat { format, newest: FORMAT });
        }
        let header = Self::deserialize(Value::Object(header)).map_err(not_a_checkpoint)?;
        let counts = [header.stats.step, header.stats.skipped, header.stats.consecutive_skipped];
        if counts.iter().chain(&header.stats.first_nonfinite).any(|&count| count > u32::MAX.into()) {
            return Err(not_a_checkpoint("its counts of steps exceed 32 bits"));
        }
        if header.state.recorded > MAX_RECORDED {
            return Err(not_a_checkpoint(format!("its position {} exceeds 2^53", header.state.recorded)));
        }
        Ok(header)
    }
}
