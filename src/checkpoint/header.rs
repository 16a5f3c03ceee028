//! The header of a checkpoint: everything but the tensors, as JSON in the file's metadata.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::entries::{CHECKSUMS, Entry};
use super::error::CheckpointError;
use super::settings::{json, settings};
use crate::Stats;
use crate::plan::{PlanState, SavedPlanState, StepPlan};

/// The newest format that this version reads, and the one that it writes.
const FORMAT: u32 = 1;
/// Key of the header in the file's metadata.
const KEY: &str = "wgpu-optim";
/// Bytes before the file's metadata: their length.
pub(super) const LENGTH_BYTES: u64 = 8;
/// Maximum bytes of the file's metadata, as in the safetensors format.
const MAX_METADATA: u64 = 100_000_000;

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
        let mut end = 0;
        let mut info = |dtype, shape: &[usize], bytes: u64| {
            let start = end;
            end += bytes as usize;
            TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) }
        };
        let mut tensors: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.clone(), info(entry.dtype(), &entry.shape, entry.bytes())))
            .collect();
        let checksums = entries.len() + 1;
        tensors.push((CHECKSUMS.to_owned(), info(Dtype::U32, &[checksums], 4 * checksums as u64)));
        // By way of `Value`, whose numbers are f64: f32 are written with all their digits.
        let metadata = HashMap::from([(KEY.to_owned(), json(self).to_string())]);
        let metadata = Metadata::new(Some(metadata), tensors).map_err(not_a_checkpoint)?;
        let mut text = serde_json::to_vec(&metadata).map_err(not_a_checkpoint)?;
        text.resize(text.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
    }

    /// Bytes of the metadata of a file of `file_len` bytes that begins with `first`.
    pub(super) fn len(first: [u8; LENGTH_BYTES as usize], file_len: u64) -> Result<u64, CheckpointError> {
        let len = u64::from_le_bytes(first);
        if len > MAX_METADATA {
            return Err(not_a_checkpoint(format!("its first 8 bytes announce {len} bytes of metadata")));
        }
        let expected = LENGTH_BYTES + len;
        if expected > file_len {
            return Err(CheckpointError::Length { expected, actual: file_len });
        }
        Ok(len)
    }

    /// Reads the metadata of a file of `file_len` bytes.
    pub(super) fn parse(text: &[u8], file_len: u64) -> Result<(Self, Metadata), CheckpointError> {
        let metadata: Metadata = serde_json::from_slice(text).map_err(not_a_checkpoint)?;
        // Offsets of a few tensors reach 2^64.
        let expected = (LENGTH_BYTES + text.len() as u64).saturating_add(metadata.data_len() as u64);
        let actual = file_len;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.ok_or_else(|| not_a_checkpoint(format!("its metadata have no key {KEY:?}")))?;
        let header: Map<String, Value> = serde_json::from_str(header).map_err(not_a_checkpoint)?;
        let format = header.get("format").and_then(Value::as_u64);
        let format = format.ok_or_else(|| not_a_checkpoint("its header has no format"))?;
        if format > FORMAT.into() {
            return Err(CheckpointError::NewerFormat { format, newest: FORMAT });
        }
        if expected != actual {
            return Err(CheckpointError::Length { expected, actual });
        }
        let header = Self::deserialize(Value::Object(header)).map_err(not_a_checkpoint)?;
        let counts = [header.stats.step, header.stats.skipped, header.stats.consecutive_skipped];
        if counts.iter().chain(&header.stats.first_nonfinite).any(|&count| count > u32::MAX.into()) {
            return Err(not_a_checkpoint("its counts of steps exceed 32 bits"));
        }
        if header.state.recorded > MAX_RECORDED {
            return Err(not_a_checkpoint(format!("its position {} exceeds 2^53", header.state.recorded)));
        }
        Ok((header, metadata))
    }
}
