//! The buffers that a checkpoint is read from, of an optimizer or of a snapshot.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use wgpu::{Buffer, Device, Queue};

use crate::checkpoint::{CheckpointError, Entry, Header, Place, SmallState, Writer, bulk_entries};
use crate::factors::Factors;
use crate::gpu::{BufferRange, ByteRange, PersistentBuffers, Transfer};
use crate::kernels::control::ControlBlock;
use crate::plan::{PlanState, StepPlan};
use crate::rows::RowTable;
use crate::segments::Segments;

/// The buffers whose contents a checkpoint holds.
pub(super) struct Source<'a> {
    pub(super) params: Option<&'a [BufferRange]>,
    pub(super) training_params: &'a [BufferRange],
    pub(super) accumulated: &'a [BufferRange],
    pub(super) persistent: &'a PersistentBuffers,
    pub(super) ring: Option<&'a Buffer>,
}

/// The parts of an optimizer that its snapshots need to be saved without it.
#[derive(Debug)]
pub(super) struct SavingContext {
    pub(super) device: Device,
    pub(super) queue: Queue,
    /// The optimizer's plan at its first snapshot. A file needs nothing of it that changes later.
    pub(super) plan: Arc<StepPlan>,
    pub(super) window: u64,
}

impl Source<'_> {
    /// The bytes of an entry in the device's memory.
    pub(super) fn bytes_of(&self, plan: &StepPlan, entry: &Entry) -> Vec<ByteRange> {
        let elements = entry.range.start as u64..entry.range.end as u64;
        let of_flat = |ranges: &[BufferRange]| {
            let part = |range: &BufferRange| {
                let (start, end) = (elements.start.max(range.start), elements.end.min(range.end()));
                let size = range.dtype.bytes(end.saturating_sub(start));
                (size > 0).then(|| ByteRange { buffer: range.buffer.clone(), offset: range.offset_of(start), size })
            };
            ranges.iter().filter_map(part).collect()
        };
        let of_table = |buffer: Option<&Buffer>, first: Option<u64>| {
            let size = 4 * (elements.end - elements.start);
            let range = |(buffer, first): (&Buffer, u64)| ByteRange {
                buffer: buffer.clone(),
                offset: first + 4 * elements.start,
                size,
            };
            buffer.zip(first).map(range).into_iter().collect()
        };
        let factors = plan.factors.as_ref().map(Factors::table_bytes);
        let [values, means] = [0, 1].map(|part| factors.as_ref().map(|factors| factors[part].start));
        let states = plan.segments.as_ref().map(Segments::state_bytes);
        let [row_steps, row_corrections] = plan
            .groups
            .rows()
            .and_then(RowTable::step_bytes)
            .map_or([None; 2], |bytes| bytes.map(|bytes| Some(bytes.start)));
        let own = self.persistent;
        match entry.place {
            Place::Params => of_flat(self.params.unwrap_or_default()),
            Place::TrainingParams => of_flat(self.training_params),
            Place::Accumulated => of_flat(self.accumulated),
            Place::State(number) => of_flat(&own.states[number]),
            Place::Factors => of_table(own.factors.as_ref(), values),
            Place::FactorMeans => of_table(own.factors.as_ref(), means),
            Place::RowSteps => of_table(own.row_table.as_ref(), row_steps),
            Place::RowBiasCorrections => of_table(own.row_table.as_ref(), row_corrections),
            Place::SegmentStates => of_table(own.segments.as_ref(), states.map(|states| states.start)),
            Place::TensorSteps => of_table(own.tensor_steps.as_ref(), Some(0)),
            // The sums follow the states.
            Place::SegmentSums => of_table(own.segments.as_ref(), states.map(|states| states.end)),
            Place::ScalarStates
            | Place::BiasCorrections
            | Place::Norms
            | Place::LossScale
            | Place::MetricSums
            | Place::History => Vec::new(),
        }
    }

    /// Writes a checkpoint of an optimizer with that state on the host.
    pub(super) async fn save(
        &self,
        transfer: Transfer<'_>,
        plan: &StepPlan,
        state: &PlanState,
        out: impl Write,
    ) -> Result<(), CheckpointError> {
        let small = self.small(transfer, plan).await?;
        let mut entries = bulk_entries(plan, self.params.is_some(), *state.mode, &HashMap::new());
        let small_entries = small.entries(plan);
        let ranges: Vec<ByteRange> = entries.iter().flat_map(|entry| self.bytes_of(plan, entry)).collect();
        entries.extend_from_slice(&small_entries);
        let mut writer = Writer::new(out, &Header::new(plan, state, small.stats), &entries)?;
        transfer.read(&ranges, |bytes| writer.write(bytes)).await?;
        for entry in small_entries {
            writer.write(small.bytes(entry.place))?;
        }
        writer.finish()
    }

    pub(super) async fn small(&self, transfer: Transfer<'_>, plan: &StepPlan) -> Result<SmallState, CheckpointError> {
        let (own, whole) = (self.persistent, |buffer: &Buffer| 0..buffer.size());
        let record = plan.sampler.as_ref().map(|sampler| sampler.record_bytes());
        let parts = [
            Some((&own.control, 0..size_of::<ControlBlock>() as u64)),
            own.norms.as_ref().map(|norms| (norms, whole(norms))),
            own.loss_scale.as_ref().map(|scale| (scale, 0..8)),
            own.metric_table.as_ref().zip(record),
            self.ring.map(|ring| (ring, whole(ring))),
        ];
        let sizes =
            parts.each_ref().map(|part| part.as_ref().map_or(0, |(_, bytes)| (bytes.end - bytes.start) as usize));
        let range = |(buffer, bytes): (&Buffer, std::ops::Range<u64>)| ByteRange {
            buffer: buffer.clone(),
            offset: bytes.start,
            size: bytes.end - bytes.start,
        };
        let ranges: Vec<ByteRange> = parts.into_iter().flatten().map(range).collect();
        let mut bytes = Vec::new();
        let read = |window: &[u8]| {
            bytes.extend_from_slice(window);
            Ok(())
        };
        transfer.read(&ranges, read).await?;
        let mut rest = &bytes[..];
        let [control, norms, loss_scale, metrics, ring] = sizes.map(|size| {
            let part;
            (part, rest) = rest.split_at(size);
            part
        });
        let [norms, loss_scale]: [Vec<u32>; 2] = [norms, loss_scale].map(bytemuck::pod_collect_to_vec);
        Ok(SmallState::of(plan, &bytemuck::pod_read_unaligned(control), (&norms, &loss_scale), metrics, ring))
    }
}
