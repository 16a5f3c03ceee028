//! Checkpoints of the device engine.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};
use std::mem::offset_of;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use wgpu::{Buffer, BufferUsages};

use super::Optimizer;
#[cfg(not(target_arch = "wasm32"))]
use crate::checkpoint::replace_file;
use crate::checkpoint::{
    Checkpoint, CheckpointError, Contents, Entry, Header, LoadOptions, Loaded, Place, SmallState, Writer, bulk_entries,
};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::block_on;
use crate::gpu::{BufferRange, ByteRange, Transfer, check_usage, state_ranges};
use crate::kernels::control::{ControlBlock, NONE};
use crate::plan::{PlanState, StepPlan};
use crate::storage::Dtype;
use crate::{BufferSlices, Error};

/// The buffers whose contents a checkpoint holds.
struct Source<'a> {
    params: Option<&'a [BufferRange]>,
    training_params: &'a [BufferRange],
    states: Vec<&'a [BufferRange]>,
    control: &'a Buffer,
    factors: Option<&'a Buffer>,
    segments: Option<&'a Buffer>,
    norms: Option<&'a Buffer>,
    metric_table: Option<&'a Buffer>,
    ring: Option<&'a Buffer>,
}

impl Source<'_> {
    /// The bytes of an entry in the device's memory.
    fn bytes_of(&self, plan: &StepPlan, entry: &Entry) -> Vec<ByteRange> {
        let elements = entry.range.start as u64..entry.range.end as u64;
        let of_flat = |ranges: &[BufferRange]| {
            let part = |range: &BufferRange| {
                let (start, end) = (elements.start.max(range.start), elements.end.min(range.end()));
                let size = 4 * end.saturating_sub(start);
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
        let factors = plan.factors.as_ref().map(|factors| factors.table_bytes());
        let [values, means] = [0, 1].map(|part| factors.as_ref().map(|factors| factors[part].start));
        let states = plan.segments.as_ref().map(|segments| segments.state_bytes());
        match entry.place {
            Place::Params => of_flat(self.params.unwrap_or_default()),
            Place::TrainingParams => of_flat(self.training_params),
            Place::State(number) => of_flat(self.states[number]),
            Place::Factors => of_table(self.factors, values),
            Place::FactorMeans => of_table(self.factors, means),
            Place::SegmentStates => of_table(self.segments, states.map(|states| states.start)),
            // The sums follow the states.
            Place::SegmentSums => of_table(self.segments, states.map(|states| states.end)),
            Place::ScalarStates | Place::BiasCorrections | Place::Norms | Place::MetricSums | Place::History => {
                Vec::new()
            }
        }
    }

    /// Writes a checkpoint of an optimizer with that state on the host.
    async fn save(
        &self,
        transfer: Transfer<'_>,
        plan: &StepPlan,
        state: &PlanState,
        out: impl Write,
    ) -> Result<(), CheckpointError> {
        let small = self.small(transfer, plan).await?;
        let mut entries = bulk_entries(plan, self.params.is_some(), *state.evaluating, &HashMap::new());
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

    async fn small(&self, transfer: Transfer<'_>, plan: &StepPlan) -> Result<SmallState, CheckpointError> {
        let whole = |buffer: &Buffer| 0..buffer.size();
        let record = plan.sampler.as_ref().map(|sampler| sampler.record_bytes());
        let parts = [
            Some((self.control, 0..size_of::<ControlBlock>() as u64)),
            self.norms.map(|norms| (norms, whole(norms))),
            self.metric_table.zip(record),
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
        let [control, norms, metrics, ring] = sizes.map(|size| {
            let part;
            (part, rest) = rest.split_at(size);
            part
        });
        let norms: Vec<u32> = bytemuck::pod_collect_to_vec(norms);
        Ok(SmallState::of(plan, &bytemuck::pod_read_unaligned(control), &norms, metrics, ring))
    }
}

impl Optimizer {
    /// Saves the optimizer, and `params` if they are given, to a file: see [`checkpoint`](crate::checkpoint). Saves the state
    /// after all submitted work; submit the encoders of earlier calls before. Waits for the device. An error or an
    /// interruption leaves an older file as it is.
    ///
    /// Takes two windows of [`OptimizerBuilder::checkpoint_window`](crate::OptimizerBuilder::checkpoint_window) on the host.
    /// [`Snapshot::save`](crate::Snapshot::save) saves while training goes on.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::Device`], and [`CheckpointError::Optimizer`] with the errors of
    /// [`Optimizer::step`] that concern `params`, which also need `COPY_SRC`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<Path>, params: Option<BufferSlices<'_>>) -> Result<(), CheckpointError> {
        replace_file(path.as_ref(), |file| block_on(&self.device, self.save_to(file, params)))
    }

    /// As [`Optimizer::save`], into a stream. The device must be polled while the future is pending; browsers do that by
    /// themselves. Submit no step in the meantime: it would change the second half of the file.
    ///
    /// # Errors
    /// [`CheckpointError::Stream`], and those of [`Optimizer::save`].
    pub async fn save_to(&self, out: impl Write, params: Option<BufferSlices<'_>>) -> Result<(), CheckpointError> {
        let params = self.loadable(params, BufferUsages::COPY_SRC, ", because `save` copies the parameters")?;
        let state = self.host_state().plan;
        self.source(params.as_deref()).save(self.transfer(), &self.plan, &state, out).await
    }

    /// Continues from a file: the optimizer, and `params` if they are given. Tensors are matched by their names. The file is
    /// checked before anything changes. Takes effect with the next submission, for steps recorded from now on: first submit
    /// encoders with earlier steps.
    ///
    /// A gradient scale that a buffer holds stays bound.
    ///
    /// # Errors
    /// Those of [`CpuOptimizer::load`](crate::CpuOptimizer::load), and [`CheckpointError::Device`]. `params` also need
    /// `COPY_DST`.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(
        &mut self,
        path: impl AsRef<Path>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        self.load_from(&mut Checkpoint::open(path)?, params, options)
    }

    /// As [`Optimizer::load`], from an open checkpoint.
    ///
    /// # Errors
    /// Those of [`Optimizer::load`].
    pub fn load_from<R: Read + Seek>(
        &mut self,
        checkpoint: &mut Checkpoint<R>,
        params: Option<BufferSlices<'_>>,
        options: &LoadOptions,
    ) -> Result<Loaded, CheckpointError> {
        self.undo_dropped_calls()?;
        let params = self.loadable(params, BufferUsages::COPY_DST, ", because `load` writes the parameters")?;
        let Contents { state, small, parts, loaded } = checkpoint.check(&self.plan, params.is_some(), options)?;
        if *state.evaluating && self.training_params.is_empty() {
            self.training_params = state_ranges(&self.device, "training params", 0.0, self.plan.layout.len() as u64);
        }
        let (source, transfer, mut written) = (self.source(params.as_deref()), self.transfer(), None);
        for part in &parts {
            let mut targets = source.bytes_of(&self.plan, &part.entry).into_iter();
            let mut target = targets.next();
            checkpoint.read(part, transfer.window as usize, |bytes| {
                let mut rest = bytes;
                while let Some(to) = target.as_mut().filter(|_| !rest.is_empty()) {
                    let (now, later) = rest.split_at(rest.len().min(to.size as usize));
                    transfer.write(&to.buffer, to.offset, now, &mut written)?;
                    (to.offset, to.size, rest) = (to.offset + now.len() as u64, to.size - now.len() as u64, later);
                    if to.size == 0 {
                        target = targets.next();
                    }
                }
                Ok(())
            })?;
        }
        self.plan.restore(&state)?;
        self.load_small(&small);
        Ok(loaded)
    }

    /// Writes the control block and the small tables.
    fn load_small(&mut self, small: &SmallState) {
        let write = |buffer: Option<&Buffer>, offset: u64, bytes: Option<&[u8]>| {
            if let (Some(buffer), Some(bytes)) = (buffer, bytes) {
                self.queue.write_buffer(buffer, offset, bytes);
            }
        };
        let resources = &self.resources;
        write(Some(&resources.control), 0, Some(bytemuck::bytes_of(&small.block(&self.plan))));
        // A step expects the word of its parity to be free.
        let first_nonfinite = offset_of!(ControlBlock, first_nonfinite) as u64;
        write(Some(&resources.next), first_nonfinite, Some(bytemuck::bytes_of(&[NONE; 2])));
        let norms = self.plan.norm_window().map(|window| small.norms_table(window));
        write(resources.norms.as_ref(), 0, norms.as_deref().map(bytemuck::cast_slice));
        let sums = self.plan.sampler.as_ref().map_or(0, |sampler| sampler.record_bytes().start);
        write(resources.metric_table.as_ref(), sums, Some(&small.metrics));
        let ring = small.ring(&self.plan, self.plan.state.recorded);
        write(self.history.as_ref().map(|history| &history.ring), 0, ring.as_deref());
    }

    /// The parameters, if they have the usage.
    fn loadable(
        &self,
        params: Option<BufferSlices<'_>>,
        needed: BufferUsages,
        reason: &'static str,
    ) -> Result<Option<Vec<BufferRange>>, Error> {
        let Some(params) = params else { return Ok(None) };
        let ranges = params.ranges("params", Dtype::F32, &self.space)?;
        for range in &ranges {
            check_usage("params", &range.buffer, needed, reason)?;
        }
        Ok(Some(ranges))
    }

    fn transfer(&self) -> Transfer<'_> {
        let window = self.options.checkpoint_window.min(self.device.limits().max_buffer_size) / 4 * 4;
        Transfer { device: &self.device, queue: &self.queue, window }
    }

    fn source<'a>(&'a self, params: Option<&'a [BufferRange]>) -> Source<'a> {
        let resources = &self.resources;
        Source {
            params,
            training_params: &self.training_params,
            states: resources.states.iter().map(Vec::as_slice).collect(),
            control: &resources.control,
            factors: resources.factors.as_ref(),
            segments: resources.segments.as_ref(),
            norms: resources.norms.as_ref(),
            metric_table: resources.metric_table.as_ref(),
            ring: self.history.as_ref().map(|history| &history.ring),
        }
    }
}
